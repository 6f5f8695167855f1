"""The committed marks of descriptions: complete, by the criterion's words, and counted as the docs say."""

import csv
from collections import Counter
from pathlib import Path

from headatlas.analysis.descriptions.description import NOTHING

DOCS = Path(__file__).parents[3] / "docs"
MARKS = ("useful", "borderline", "noise", "silent")


def test_the_docs_count_the_marks():
    with (DOCS / "descriptions" / "demo.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == len(rows) == 270
    page = (DOCS / "descriptions.md").read_text(encoding="utf-8")
    for reading in ("first", "second"):
        counts = Counter(row[reading] for row in rows)
        assert set(counts) <= set(MARKS)
        assert f"| all, {reading} reading | " + " | ".join(str(counts[mark]) for mark in MARKS) + " |" in page
        assert all((row[reading] == "silent") == (row["sentence"] == NOTHING) for row in rows)
    assert f"{sum(row['first'] == row['second'] for row in rows)} of 270 marks are the same" in page
