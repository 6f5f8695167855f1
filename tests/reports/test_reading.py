"""What the report says about where heads look."""

import numpy as np

from atlases import make_atlas, make_attention, make_removal
from headatlas.analysis.categories import classify
from headatlas.analysis.sentences import Sentences
from headatlas.atlas import SIDES
from headatlas.atlas.evidence import RemovedTogether
from headatlas.reports.report import write_report

SHARES = {
    "induction": {(2, 3): 0.83, (3, 4): 0.31},
    "sink": {(2, 3): 0.6, (3, 0): 0.51, (1, 0): 0.45},
}


def section(report: str) -> str:
    return report.split("## Where heads look\n")[1].split("\n## ")[0]


def test_what_was_not_measured_reads_so():
    report = write_report(make_atlas(4, 5))
    assert section(report).strip() == "Not measured; `headatlas attention` runs the model and measures it."
    assert "named function" not in report


def test_shares_layers_and_limits():
    text = section(write_report(make_attention(make_atlas(4, 5), SHARES)))
    assert "| Induction | 0.3 | 2 | 10.0 % | 2 | 2 | 3 | L2H3 (0.83), L3H4 (0.31) |" in text
    assert "| Sink | 0.5 | 2 | 10.0 % | 2 | 2 | 3 | L2H3 (0.60), L3H0 (0.51) |" in text
    assert "| Local | 0.5 | 0 | 0.0 % | - | - | - | - |" in text
    assert "| Any |  | 3 | 15.0 % |" in text
    assert "Induction 2, 2, 1; " in text and "Sink 3, 2, 0; " in text
    assert "8 sequences of random tokens" in text and "4,131 tokens of the package's text" in text


def test_the_headline_counts_writing_and_reading():
    atlas = make_atlas(4, 5, ("Knowledge",))
    report = write_report(make_attention(atlas, SHARES))
    promotes, suppresses = (classify(atlas, side=side).count > 0 for side in SIDES)
    writes, only = int((promotes | suppresses).sum()), int((suppresses & ~promotes).sum())
    first = report.split("## In short\n")[1].strip().splitlines()[0]
    assert f"have a named function: {writes} by what they write (not compared with chance; {only} of them only" in first
    assert ", 3 by where they look" in first
    assert first.endswith("only a sink.")
    calibrated = write_report(make_attention(make_atlas(4, 5, chance=True), SHARES))
    assert "by what they write (beyond chance and copying" in calibrated


def test_meetings_beyond_layers():
    atlas = make_atlas(9, 8, ("Knowledge", "Linguistic"), share=0.4)
    knows = np.argwhere(classify(atlas).of("Knowledge"))
    text = section(write_report(make_attention(atlas, {"self": {tuple(map(int, place)): 0.6 for place in knows}})))
    assert (
        f"- Self and Knowledge: {len(knows)} heads, more than " in text
        and "exact test within layers, p < 0.001" in text
    )
    text = section(write_report(make_attention(make_atlas(4, 5), SHARES)))
    assert "No way of reading clearly meets a category" in text
    assert "cannot be tested" in section(write_report(make_attention(make_atlas(4, 5), {})))


def test_the_suppression_report_leaves_it_out():
    assert "Where heads look" not in write_report(make_attention(make_atlas(4, 5), SHARES), side="suppression")


def test_the_strongest_head_of_each_way_in_a_sentence():
    atlas = make_attention(make_atlas(4, 5), SHARES)
    text = section(write_report(atlas))
    lines = [each.replace("\\_", "_") for each in text.splitlines() if each.startswith("- **L")]
    # The same head is the strongest for both.
    assert lines == [f"- **L2H3**: {Sentences(atlas).of(2, 3)}"]


def test_copying_without_heads():
    atlas = make_attention(make_atlas(4, 5), SHARES)
    assert "What in-context copying loses without these heads: not measured." in section(write_report(atlas))
    together = (RemovedTogether("induction", 2, 1, 0.12, 0.1, 0.9, 0.79, 0.7, 0.65, 0.75),)
    falls = {(2, 3): 0.4, (3, 4): 0.02}
    text = section(write_report(make_removal(atlas, falls, {(2, 0): 0.05}, together=together)))
    assert "a mean probability of 0.80 and predicts 90.0 % of them" in text and "(the largest: 0.05)." in text
    assert "| Induction | 2 | 0.10 | 12.0 % | 0.65 to 0.75 | 0.79 (1) | L2H3 (0.40) |" in text
    text = section(write_report(make_removal(atlas, falls, together=together, probability=0.01)))
    assert "too few to tell" in text and "0.65 to 0.75" not in text
