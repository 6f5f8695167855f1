"""What the report says about the running model."""

from dataclasses import replace

import pandas as pd

from atlases import VALIDATION, make_atlas, make_evidence
from headatlas.atlas.evidence import Ablation, AblationFacts, Against, Control, Correlation, RemovedBy, Status
from headatlas.reports.report import write_report


def test_nothing_is_said_of_what_was_not_measured():
    report = write_report(make_atlas(4, 5))
    assert "Agreement with the running model" not in report and "Removing heads" not in report


def test_agreement_has_means_and_intervals():
    atlas = make_evidence(make_atlas(4, 5))
    rows = tuple(
        Correlation("score", "in-context", counted, "one", name, 9, 20, value, None, value)
        for counted in ("own", "none")
        for name, value in (("a", 0.25), ("b", 0.75))
    )
    table = atlas.evidence("validation")
    report = write_report(atlas.with_evidence({"validation": (table, replace(VALIDATION, correlations=rows))}))
    interval = "0.50 (0.25 to 0.75)"
    assert f"in-context | as in this atlas | score | one | 2 | {interval} | {interval} | not defined" in report
    assert "none, as in the paper" in report
    words = "writes in texts: 0.50 (0.25 to 0.75) where it looks where it likes; Pearson, mean over 2 relations, in"
    assert words in report
    # The manifest's own tables are not printed as Python's dictionaries.
    assert "evidence: validation: correlations | 4 entries in atlas.json" in report and "{'" not in report
    # Fewer relations have a total effect.
    rows += (Correlation("score", "total-effect", "own", "one", "a", 9, 4, 0.5, None, 0.5),)
    report = write_report(atlas.with_evidence({"validation": (table, replace(VALIDATION, correlations=rows))}))
    assert "0.50 by its total effect on the model's logits (over 1 relation); Pearson, mean over 2 relations" in report


def test_removal_shows_both_orders_and_other_tasks():
    atlas = make_evidence(make_atlas(4, 5))
    first, other, *_ = atlas.relations
    points = [
        (first, "score", 0, 9, -0.5), (first, "score", 2, 1, -4.0),
        (first, "other score", 0, 9, -0.5), (first, "other score", 2, 8, -0.75),
        (first, "random 1", 0, 9, -0.5), (first, "random 1", 2, 9, -0.5),
        (other, "score", 0, 8, -0.5), (other, "score", 2, 4, -1.0),
        (other, "other score", 0, 8, -0.5), (other, "other score", 2, 7, -1.0),
    ]  # fmt: skip
    columns = ["relation", "task", "order", "removed", "correct", "prompts", "log_probability"]
    table = pd.DataFrame([(first, *row[:4], 10, row[4]) for row in points], columns=columns)
    found = Ablation(
        relation=first, prompt="{source} is", shots=4, base=0.9, heads=("L0H1",), controls=(Control(other, 0.8, 0.1),),
        status=Status.TESTED, seconds=1.0, prompts=10, most_heads=8, removed_by=RemovedBy.ZERO, seed=0, device="cpu",
        against=Against("older", "maps", "alone", ("L1H1",)),
    )  # fmt: skip
    report = write_report(atlas.with_evidence({"ablation": (table, AblationFacts({first: found}))}))
    lines = [row for row in report.splitlines() if f"`{first}`" in row and " to " in row]
    assert any("by score, alone | 2 | 0.90 to 0.10 | -0.50 to -4.00 | 0.80 to 0.40" in row for row in lines), lines
    assert any("by score, maps | 2 | 0.90 to 0.80 | -0.50 to -0.75 | 0.80 to 0.70" in row for row in lines)
    assert any("random | 2 | 0.90 to 0.90" in row and "not measured" in row for row in lines)
