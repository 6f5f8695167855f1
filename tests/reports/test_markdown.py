"""The report: right numbers, grammatical for every count, honest about what was measured, and nothing injected."""

import re
from pathlib import Path

import numpy as np
import pytest

from atlases import make_atlas
from headatlas.atlas import Atlas, build_dataset
from headatlas.importing import import_scores
from headatlas.reports import category_rows, strongest_rows, write_report
from headatlas.reports.markdown import code, escape

PYTHIA = Path(__file__).parents[3] / "shared" / "reference" / "pythia-6.9b-scores.csv"
HEADINGS = ["In short", "Heads per category", "Where in the layers", "Which categories meet", "Layers or heads",
            "Rare and exceptional", "Strongest heads of each relation", "Suppression", "Coverage",
            "Settings and versions", "How to cite", "Limits"]  # fmt: skip


def with_hits(hits, categories=("Knowledge",)) -> Atlas:
    hits = np.asarray(hits, dtype="int32")
    base = make_atlas(*hits.shape[1:], categories=categories)
    labels = [(f"r{number}", category, 10, 40) for number, category in enumerate(categories)]
    for item, (name, *_) in zip(base.manifest["relations"]["items"], labels, strict=True):
        item["relation"] = name
    return Atlas(build_dataset(labels, {"hits": hits, "suppression_hits": hits * 0}), base.manifest)


@pytest.mark.skipif(not PYTHIA.exists(), reason="the published scores are not part of the project")
def test_the_published_counts_of_pythia():
    report = write_report(import_scores(PYTHIA, "attention-fixed", name="Pythia 6.9B"))
    for expected in (
        "176 of 1,024 heads (17.2 %) implement at least one of 15 measured relations",
        "| Algorithmic | 68 | 6.6 % | 38 |",
        "| Knowledge | 62 | 6.1 % | 37 |",
        "| Linguistic | 88 | 8.6 % | 67 |",
        "26 heads have exactly 2 categories.",
        "8 heads have exactly 3 categories.",
        "attention-fixed",
        "not known",
        "These scores were measured by running the model",
    ):
        assert expected in report
    assert "from the weights" not in report and "scores of the weights alone" not in report


def test_all_parts_are_there_in_order():
    report = write_report(make_atlas(), figure="figure.png", suppression_figure="suppression.png")
    assert re.findall(r"^## (.*)$", report, re.M) == HEADINGS
    assert "![Map of the heads by category](figure.png)" in report and "(suppression.png)" in report
    assert "arXiv:2412.11965" in report and "@software{headatlas" in report


@pytest.mark.parametrize(
    "hits",
    [
        np.zeros((1, 5, 3)),
        np.full((1, 5, 3), 40),
        np.full((1, 1, 1), 40),
        np.zeros((1, 1, 1)),
        np.eye(5)[None] * 40,
        np.pad([[[40]]], ((0, 0), (0, 5), (0, 2))),
    ],
)
def test_every_count_is_grammatical(hits):
    report = write_report(with_hits(hits))
    report = report[: report.index("## How to cite")]
    assert not re.search(r"(?<!of )\b1 (heads|relations|layers|pairs|measured relations)\b", report)
    assert not re.search(r"\b(0|[2-9]|\d\d+) (head|relation|layer|pair) \b", report)
    assert not re.search(r"\b1 heads? have\b|\b[02-9] heads has\b|(?<!\|)  (?!\|)|None|nan|<NA>", report)


def test_one_head_is_told_in_the_singular():
    report = write_report(with_hits(np.pad([[[40]]], ((0, 0), (0, 5), (0, 2)))))
    assert "1 of 18 heads (5.6 %) implements at least one of 1 measured relation (" in report
    assert "The highest score is that of L0H0 for `r0`: 40 of 40 pairs." in report


def test_no_direction_without_a_clear_test():
    report = write_report(make_atlas(seed=3))
    assert "no clear boundary" in report and "no clear departure from chance" in report
    assert "The layers divide best" not in report


def test_what_was_not_measured_reads_so():
    report = write_report(make_atlas(categories=("Knowledge",), unmeasured=("Translation",)))
    assert "| Translation | not measurable |  |  |" in report
    assert "| `translation_words` | Translation | not measurable |  |" in report
    assert "1 of 2 relations is measurable." in report
    scores = Atlas(
        build_dataset([("r0", "Knowledge", 0, 0)], {"score": np.full((1, 2, 2), 0.5)}),
        with_hits(np.zeros((1, 2, 2))).manifest,
    )
    assert "Not known: these scores came without it." in write_report(scores)


def test_suppression_and_another_threshold_are_named():
    atlas = make_atlas()
    report = write_report(atlas, kind="suppression")
    assert report.startswith("# Suppression of demo-135M") and "suppress at least one" in report
    assert "maps, shown at threshold 0.5, above 0.5" in write_report(atlas, threshold="0.5")


def test_the_note_on_quantised_weights_is_told():
    report = write_report(make_atlas(note="Weights are quantised (Q4_1)."))
    in_short = report[: report.index("## Heads per category")]
    assert "above 0.15). Weights are quantised (Q4\\_1)." in in_short
    assert "| model: note | none |" in write_report(make_atlas())


HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "`x` | `y`",
    "[x](http://x)",
    "a\x1b[31m\nb\u202e",
    "# h",
    "*b*",
    "&lt;",
    "![x](y)",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_from_files_are_only_shown(text):
    shown = escape(text)
    assert not re.search(r"[<>\n\x1b\u202e]", shown)
    assert not re.search(r"(?<!\\)[`*_\[\]|#!]", shown)
    span = code(text)
    assert span.count("`") == 2 and not re.search(r"[\n\x1b\u202e]", span) and not re.search(r"(?<!\\)\|", span)
    report = write_report(make_atlas(name=text, categories=(text,), relations=(text,)))
    assert "\x1b" not in report and "\u202e" not in report
    assert "<script" not in re.sub(r"`[^`\n]*`", "", report)


def test_rows_for_the_terminal():
    atlas = make_atlas(seed=1, unmeasured=("Rare",))
    rows = category_rows(atlas)
    assert [row[0] for row in rows] == [
        *sorted(["Algorithmic", "Knowledge", "Linguistic", "Translation"]),
        "Rare",
        "Any",
        "Unclassified",
    ]
    assert int(rows[-1][1]) + int(rows[-2][1]) == 270
    best = {row[0]: row for row in strongest_rows(atlas)}
    scores = atlas.scores.sel(relation="knowledge_relation").values
    name, share = best["knowledge_relation"][2:]
    layer, head = (int(part) for part in name[1:].split("H"))
    assert scores[layer, head] == scores.max() and share == f"{scores.max():.2f}"
    assert best["rare_words"][2] == "not measurable"
    assert len(strongest_rows(atlas, most=3)[0][2].split(", ")) == 3
