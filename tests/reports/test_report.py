"""The report: right numbers, grammatical for every count, honest about what was measured, and nothing injected."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from atlases import IMPORTED, make_atlas, with_manifest, with_model, with_settings
from headatlas.atlas import Atlas, build_dataset
from headatlas.atlas.manifest import (
    FileFacts,
    ModelFacts,
    RelationFacts,
    RelationsFacts,
    RunFacts,
    SettingsFacts,
    ToolFacts,
)
from headatlas.measuring.import_scores import import_scores
from headatlas.reports.report import write_report

PYTHIA = Path(__file__).parents[3] / "shared" / "reference" / "pythia-6.9b-scores.csv"
HEADINGS = ["In short", "Heads per category", "How far it could be chance",
            "How far it could be copying", "Where in the layers", "Early and late",
            "Which categories meet",
            "Layers or heads", "Rare and exceptional", "Strongest heads of each relation", "Suppression",
            "Where heads look", "Which heads feed which", "Coverage", "Validity",
            "Settings and versions", "How to cite", "Limits"]  # fmt: skip


def with_hits(hits, categories=("Knowledge",), suppression_hits=None, n_kv_heads=None) -> Atlas:
    """An atlas with these hits of 40 pairs, a relation (r0, r1, ...) for each category."""
    hits = np.asarray(hits, dtype="int32")
    names = tuple(f"r{number}" for number in range(len(categories)))
    base = make_atlas(*hits.shape[1:], categories=categories, relations=names)
    base = with_model(base, n_kv_heads=n_kv_heads)
    labels = [(name, category, 10, 40) for name, category in zip(names, categories, strict=True)]
    suppressed = hits * 0 if suppression_hits is None else np.asarray(suppression_hits, dtype="int32")
    return Atlas(build_dataset(labels, {"hits": hits, "suppression_hits": suppressed}), base.manifest)


def scores_only(**manifest) -> Atlas:
    atlas = with_hits(np.zeros((1, 2, 2)))
    data = build_dataset([("r0", "Knowledge", 0, 0)], {"score": np.full((1, 2, 2), 0.5)})
    return with_manifest(replace(atlas, data=data), **manifest)


def section(report: str, heading: str) -> str:
    return report[report.index(f"## {heading}\n") :].split("\n## ")[0]


# The whole


@pytest.mark.skipif(not PYTHIA.exists(), reason="the published scores are not part of the project")
def test_the_published_counts_of_pythia():
    report = write_report(import_scores(PYTHIA, "attention-fixed", name="Pythia 6.9B"))
    for expected in (
        "176 of 1,024 heads (17.2 %) implement at least one of 15 measured relations: Linguistic 88, Algorithmic 68 "
        "and Knowledge 62",
        "| Algorithmic | 68 | 6.6 % | 38 |",
        "| Knowledge | 62 | 6.1 % | 37 |",
        "| Linguistic | 88 | 8.6 % | 67 |",
        "In several categories: 26 heads in 2 categories and 8 heads in 3 categories.",
        "attention-fixed",
        "k and pairs are not known",
        "These are scores of a running model, averaged over templates.",
        "Their pairs are not known.",
        "| model: note | not known |",
    ):
        assert expected in report
    assert "from the weights" not in report and "the weights alone" not in report and "not measurable" not in report


def test_all_parts_are_there_in_order():
    report = write_report(make_atlas(), figure="figure.png", suppression_figure="suppression.png")
    assert re.findall(r"^## (.*)$", report, re.M) == HEADINGS
    assert report.index("(figure.png)") < report.index("## In short") < report.index("Measured: the weights alone")
    assert report.index("## Suppression") < report.index("(suppression.png)") < report.index("## Coverage")
    assert "arXiv:2412.11965" in report and "@software{headatlas" in report


def test_names_of_pictures_are_addresses():
    assert "(my%20map%29.png)" in write_report(make_atlas(3, 3), figure="my map).png")


@pytest.mark.parametrize("seed", range(2))
def test_every_p_value_names_its_test(seed):
    above = np.random.default_rng(seed).random((3, 24, 9)) < 0.2
    above[:, :8] = False
    above[1, :, 3] = True
    report = write_report(with_hits(above * 40, ("Algorithmic", "Knowledge", "Linguistic"), n_kv_heads=3))
    lines = [line for line in report.split("\n") if re.search(r"\bp [=<] \d", line) and not line.startswith("|")]
    assert len(lines) > 8
    for line in lines:
        for phrase in re.split(r"(?<=\d\d\d)[;).,]", line)[:-1]:
            if re.search(r"\bp [=<] \d", phrase):
                assert re.search(r"test|permuted layers", phrase), line
    for line in report.split("\n## "):
        if re.search(r"^\|.*\bp [=<] \d", line, re.M):
            header = next(row for row in line.split("\n") if row.startswith("|"))
            assert header.count("test") == len(
                re.findall(r"\bp [=<] \d|not testable", line[line.index("---") :].split("\n")[1])
            )


GRIDS = {
    "none": np.zeros((1, 5, 3)),
    "all": np.full((1, 5, 3), 40),
    "one head": np.full((1, 1, 1), 40),
    "one head without": np.zeros((1, 1, 1)),
    "diagonal": np.eye(5)[None] * 40,
    "corner": np.pad([[[40]]], ((0, 0), (0, 5), (0, 2))),
    "one layer": np.array([[[40, 0, 40]]]),
    "weak": np.full((1, 4, 4), 1),
    "two categories, one head": np.pad(np.full((2, 1, 1), 40), ((0, 0), (0, 4), (0, 4))),
    "two categories, apart": np.array([np.tri(6, 6, -4), np.tri(6, 6, -4)[::-1, ::-1].T]) * 40,
    "two categories, one empty": np.array([np.eye(6), np.zeros((6, 6))]) * 40,
    "two categories, one full": np.array([np.eye(6), np.ones((6, 6))]) * 40,
}


@pytest.mark.parametrize("grid", GRIDS)
def test_every_count_is_grammatical(grid):
    hits, side = GRIDS[grid], "suppression" if grid in ("all", "corner", "one layer") else "score"
    atlas = with_hits(hits, ("Knowledge", "Linguistic")[: len(hits)], suppression_hits=hits)
    report = write_report(atlas, side=side)
    report = report[: report.index("## How to cite")]
    assert not re.search(r"(?<!of )\b1 (heads|relations|layers|pairs|tests|measured relations|more heads)\b", report)
    assert not re.search(r"\b(0|[2-9]|\d\d+) (head|relation|layer|pair|test) \b", report)
    assert not re.search(r"\b1 heads? (have|implement|suppress)\b|\b[02-9] heads (has|implements|suppresses)\b", report)
    assert not re.search(r"(?<!\|)  (?!\|)|None|\bnan\b|\binf\b|<NA>|suppresss|suppressses|np\.", report)
    sentences = section(report, "In short").split("\n- ")[1:]
    assert 2 <= len(sentences) <= 6 and all(re.search(r"\d", sentence) for sentence in sentences)
    assert all(line[-1] == "." for line in report.split("\n") if line.startswith("- "))


def test_one_head_is_in_the_singular():
    corner = GRIDS["corner"]
    report = write_report(with_hits(corner, suppression_hits=corner))
    assert "1 of 18 heads (5.6 %) implements at least one of 1 measured relation." in report
    assert "The highest score, 1.00 (40 of 40 pairs), is that of L0H0 for `r0`." in report
    assert "1 head has the targets of at least one relation among its lowest logits" in report
    assert "Heads that both promote and suppress targets of one relation: L0H0 (`r0`)." in report
    assert "1 of 18 heads (5.6 %) suppresses at" in write_report(
        with_hits(corner, suppression_hits=corner), side="suppression"
    )


def test_without_heads_nothing_is_claimed():
    report = write_report(with_hits(np.zeros((1, 5, 3))))
    assert "0 of 15 heads (0.0 %) implement" in report and "No head has a score above 0." in report
    assert (
        "No head has a category: nothing can be tested." in report and "not testable, there is no such head." in report
    )
    assert "1 measured relation is implemented by no head: `r0`." in report


# What was found


def planted(band=False, row=False, together=False):
    """Two categories in 24 layers x 9 heads: in late layers only, or in one head number, or in the same heads."""
    generator = np.random.default_rng(3)
    first, second = generator.random((2, 24, 9)) < 0.25
    if band:
        first[:12] = False
    if row:
        first[:] = False
        first[:, 4] = True
    if together:
        second = first.copy()
    return with_hits(np.array([first, second]) * 40, ("Knowledge", "Linguistic"))


def test_a_band_is_reported():
    report = write_report(planted(band=True))
    assert "- Knowledge: best divided before layer 12, with 0.0 % of the heads in layers 0 to 11 and " in report
    assert re.search(r"- Knowledge: depends on layers \(permutation test, p < 0\.001\); no clear dependence on", report)
    assert re.search(r"- Linguistic: no clear boundary; the best is before layer \d+", report)
    assert "Layers explain more of the deviance than chance for Knowledge (" in section(report, "In short")


def test_a_row_is_reported():
    report = write_report(planted(row=True))
    assert re.search(
        r"- Knowledge: no clear dependence on layers \(.*\); depends on head numbers \(permutation test, p < 0", report
    )
    assert "- Knowledge: not testable, all layers have the same number of such heads." in report
    assert "Head numbers explain more of the deviance than chance for Knowledge (" in section(report, "In short")
    assert "Head numbers carry no order" in report


def test_forced_meetings_are_reported():
    report = write_report(planted(together=True))
    assert (
        "- Knowledge and Linguistic meet more often than expected over the whole model, and within layers too" in report
    )
    assert "Beyond sharing layers, these meet: Knowledge and Linguistic in more heads (" in section(report, "In short")


@pytest.mark.parametrize(
    ("observed", "expected", "p", "expected_in_layers", "p_in_layers", "sentence"),
    [
        (9, 4.0, 0.01, 5.0, 0.01, "meet more often than expected over the whole model, and within layers too"),
        (1, 4.0, 0.01, 5.0, 0.01, "meet less often than expected over the whole model, and within layers too"),
        (9, 4.0, 0.01, 15.0, 0.01, "meet more often than expected over the whole model, but less often within layers"),
        (9, 4.0, 0.01, 8.0, 0.5, "meet more often than expected over the whole model; within layers there is no clear "
                                 "departure, so sharing layers may be the reason"),
        (1, 4.0, 0.01, 1.5, 0.5, "so keeping to different layers may be the reason"),
        (9, 8.0, 0.5, 4.0, 0.01, "meet more often than expected within layers, not clearly over the whole model"),
        (9, 8.0, 0.05, 8.0, 0.05, "no clear departure from chance"),
        (0, 8.0, 0.01, 0.0, None, "within layers this cannot be tested"),
        (9, 9.0, None, 9.0, None, "not testable, only one number of meetings is possible"),
    ],
)  # fmt: skip
def test_no_direction_that_the_tests_do_not_support(observed, expected, p, expected_in_layers, p_in_layers, sentence):
    from headatlas.analysis.meetings import Meeting
    from headatlas.reports.findings import _meeting

    found = _meeting(Meeting(("a", "b"), observed, expected, p, p, expected_in_layers, p_in_layers, p_in_layers))
    assert sentence in found and found.endswith(".")
    if "no clear departure from" in sentence:
        assert "more" not in found and "less" not in found


def test_no_direction_without_a_clear_test():
    report = write_report(make_atlas(seed=3))
    assert "no clear boundary" in report and "no clear departure from chance" in report
    assert "divide best" not in report and "No clear boundary divides early from late layers (" in report
    assert "Layers explain more" not in report


def test_ties_of_boundaries_are_reported():
    has = np.zeros((1, 3, 7))
    has[0, [0, 2], 1] = 40
    assert "as good before layer 2)" in section(write_report(with_hits(has)), "Early and late")


def test_key_value_groups_are_reported_if_they_are_known():
    has = np.zeros((1, 24, 12))
    has[0, ::2, 3:6] = 40
    report = write_report(with_hits(has, n_kv_heads=4))
    assert "Here 3 neighbouring heads share one key-value head." in report
    assert re.search(
        r"Knowledge: clusters in the groups \(36 pairs, 6\.5 expected; permutation test, p < 0\.001\)", report
    )
    assert "key-value head." not in write_report(with_hits(has))


def test_rare_heads_are_named():
    hits = np.zeros((3, 12, 5))
    hits[0, 2, 3] = hits[1, 2, 3] = hits[1, 9, 1] = 40
    report = section(write_report(with_hits(hits, ("Algorithmic", "Knowledge", "Linguistic"))), "Rare and exceptional")
    assert "1 relation is implemented by exactly one head: `r0` (L2H3)." in report
    assert "1 relation is implemented by exactly two heads: `r1` (L2H3 and L9H1)." in report
    assert "1 measured relation is implemented by no head: `r2`." in report
    assert "Heads that implement most relations: L2H3 (2)." in report
    hits[0, 6, :2] = hits[0, 7, 0] = 40
    report = section(write_report(with_hits(hits, ("Algorithmic", "Knowledge", "Linguistic"))), "Rare and exceptional")
    assert "L2H3 is the first head with Algorithmic, 4 layers before the next." in report


def test_suppression_and_another_threshold_are_named():
    atlas = make_atlas()
    report = write_report(atlas, side="suppression")
    assert report.startswith("# Suppression of demo-135M") and "suppress at least one" in report
    assert "\n## Suppression" not in report
    report = write_report(atlas, threshold="0.5")
    assert "maps, shown at threshold 0.5" in report and "its score is above 0.5." in report
    # Suppression is 20 of 40 at most: not above 0.5.
    assert (
        "0 heads have the targets of at least one relation among their lowest logits (suppression above 0.5)" in report
    )
    assert "shown at" not in write_report(atlas, threshold="0.150")


# What was measured


def test_what_was_not_measured_reads_so():
    report = write_report(make_atlas(categories=("Knowledge",), unmeasured=("Translation",)))
    assert "| Translation | not measurable |  |  |" in report
    assert "| `translation_words` | Translation | not measurable |  |" in report
    assert "1 of 2 relations was measured. Not measurable: `translation_words`." in report
    assert (
        "| `translation_words` | Translation | 10 | not known | 3 | not known | not known | not known | no |" in report
    )
    assert "Not known: these scores came without it." in write_report(scores_only())


def test_the_note_on_quantised_weights_is_shown():
    report = write_report(make_atlas(note="Weights are quantised (Q4_1)."))
    assert "Weights are quantised (Q4\\_1)." in section(report, "In short")
    assert "| model: note | none |" in write_report(make_atlas())


def test_the_limits_are_those_of_the_measure():
    def limits(atlas):
        return section(write_report(atlas), "Limits")

    weights = limits(make_atlas(3, 3))
    assert "the attention pattern is left out" in weights and "the first MLP's output" in weights
    assert "single token" in weights and "a capability, not a role" in weights and "template" not in weights
    plain = with_settings(make_atlas(3, 3), contextualize="embedding")
    assert "the plain embedding" in limits(plain) and "first MLP" not in limits(plain)
    imported = limits(scores_only(imported=IMPORTED))
    assert "k, the pairs, the model's weights" in imported and "first MLP" not in imported
    for measure, expected in (("attention-fixed", "was fixed on the source"), ("in-context", "where it looks")):
        text = limits(scores_only(measure=measure, imported=IMPORTED))
        assert expected in text and "scores of a running model, averaged over templates" in text
        assert "k, the pairs, the templates" in text and "MLP" not in text


def test_everything_in_the_manifest_is_shown():
    run = RunFacts(0, 3, 7, "ray", "cuda:0", 2)
    atlas = with_manifest(
        make_atlas(3, 3),
        packages={"torch": "2.13.0+cpu"},
        run=run,
        identity={"model": "hidden"},
        files={"scores.parquet": FileFacts("b" * 64)},
    )
    table = section(write_report(atlas), "Settings and versions")
    for row in ("packages: torch | 2.13.0+cpu", "run: seconds | 0", "run: engine | ray", "run: threads | 2",
                "settings: value bias | not known", "relations: set | test", "settings: k | 10",
                "model: fingerprint | " + "f" * 64, "this report: seed of the permutation tests | 0"):  # fmt: skip
        assert f"| {row} |" in table
    assert "hidden" not in table and "items" not in table and "b" * 64 not in table


def test_a_manifest_with_little_in_it():
    atlas = with_hits(GRIDS["diagonal"])
    atlas = with_manifest(
        atlas,
        model=ModelFacts("m", "m", atlas.n_layers, atlas.n_heads),
        settings=SettingsFacts("0.15"),
        relations=RelationsFacts("test", (RelationFacts("r0", "Knowledge", measurable=True),)),
    )
    report = write_report(atlas)
    assert (
        "| `r0` | Knowledge | not known | not known | not known | not known | not known | not known | yes |" in report
    )


# Nothing injected


def test_names_from_files_change_no_structure():
    text = "a|b`<script>x</script>\n# h *c* [d](http://e) ![f](g)\x1b[31m\u202e"
    hostile = "```\n\n# x\n<b>"
    plain, hostile = make_atlas(12, 5, categories=("Knowledge", "Other")), make_atlas(
        12, 5, categories=(hostile, text), relations=(text, hostile), name=text, note=text
    )  # fmt: skip
    plain = with_manifest(plain, tool=ToolFacts("headatlas", "1"), packages={"a": "b", "c": "d"}, created="d")
    hostile = with_manifest(
        hostile, tool=ToolFacts(text, "1}\n```\n# x"), packages={text: text, "list": text}, created=text
    )
    plain = with_model(plain, note="note")

    def structure(atlas):
        report = write_report(atlas)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", report)
        tokens = MarkdownIt("commonmark").enable("table").parse(report)
        inner = [child.type for token in tokens for child in token.children or []]
        assert not {"html_inline", "link_open", "image", "em_open"} & set(inner)
        return [token.type for token in tokens]

    assert structure(hostile) == structure(plain)


@pytest.mark.parametrize("side", ["score", "suppression"])
@pytest.mark.parametrize("rule", ["plain", "calibrated"])
def test_measured_chance_levels_are_not_denied(side, rule):
    atlas = make_atlas(3, 3, chance=True)
    text = section(write_report(atlas, None, side, rule), "Limits")
    assert "not measured" not in text and "not compared" not in text
    assert ("beyond chance" in text) == (rule == "calibrated") != ("counts heads by their" in text)
    assert "copying" in text


def test_limits_say_when_chance_levels_were_not_measured():
    text = section(write_report(make_atlas(3, 3)), "Limits")
    assert "Chance levels were not measured, so no score is compared with chance: a head that always" in text
