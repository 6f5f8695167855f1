"""The committed marks of descriptions: complete, by the criterion's words, and counted as the docs say."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from headatlas.analysis.descriptions.description import NOTHING

DOCS = Path(__file__).parents[3] / "docs"
MARKS = ("useful", "borderline", "noise", "silent")


@pytest.mark.parametrize(("model", "heads", "title"), [("demo", 270, "all"), ("gemma", 72, "Gemma")])
def test_the_docs_count_the_marks(model, heads, title):
    with (DOCS / "descriptions" / f"{model}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == len(rows) == heads
    page = (DOCS / "descriptions.md").read_text(encoding="utf-8")
    for reading in ("first", "second"):
        counts = Counter(row[reading] for row in rows)
        assert set(counts) <= set(MARKS)
        assert f"| {title}, {reading} reading | " + " | ".join(str(counts[mark]) for mark in MARKS) + " |" in page
        assert all((row[reading] == "silent") == (row["sentence"] == NOTHING) for row in rows)
    if model == "demo":
        assert f"{sum(row['first'] == row['second'] for row in rows)} of 270 marks are the same" in page
