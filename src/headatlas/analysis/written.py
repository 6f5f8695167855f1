"""The table `written`: sentences that a language model wrote about heads, with their scores, checked as it is read.

A score is the share of questions that were answered right from the sentence alone; one in five by chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.analysis.descriptions.description import UNCLEAR
from headatlas.atlas import Atlas
from headatlas.atlas.statistics import wilson_interval
from headatlas.errors import AtlasError
from headatlas.printable import printable

if TYPE_CHECKING:
    from headatlas.atlas.columns import Columns

OPTIONS = 5
CHANCE = 1 / OPTIONS
MOST_QUESTIONS = 3
"""About a sentence."""

MOST_SENTENCE = 300
"""Characters that are kept of a sentence."""

COLUMNS = (
    "layer", "head", "sentence", "kind", "questions", "correct", "answered", "rules_sentence", "rules_correct",
    "rules_answered",
)  # fmt: skip
KINDS = ("relation", "salient")
DRAWS, SEED = 2000, 41
"""Bootstrap draws of heads, and their seed."""

Place = tuple[int, int]


@dataclass(frozen=True)
class Written:
    """A row of the table `written`: a sentence, and how many questions were answered, and right, with it and with the
    sentence of the rules."""

    sentence: str
    kind: str
    questions: int
    correct: int
    answered: int
    rules_sentence: str
    rules_correct: int
    rules_answered: int

    def as_dict(self) -> dict[str, Any]:
        """JSON types, with shares and Wilson's 95 % intervals."""
        low, high = wilson_interval(self.correct / self.questions, self.questions)
        return {name: getattr(self, name) for name in COLUMNS[2:]} | {
            "score": self.correct / self.questions,
            "interval": [float(low), float(high)],
            "chance": CHANCE,
            "rules_score": self.rules_correct / self.questions,
        }


@dataclass(frozen=True)
class Summary:
    """Mean share of right answers over heads, with a 95 % bootstrap interval over heads; the same for the sentences of
    the rules, and for the difference. `unanswered`: questions without a usable answer, which count as wrong."""

    heads: int
    questions: int
    unanswered: int
    score: tuple[float, float, float]
    rules: tuple[float, float, float]
    difference: tuple[float, float, float]


def read_written(atlas: Atlas) -> dict[Place, Written] | None:
    """The table `written` by head, checked; None if no sentences were written.

    Raises:
        AtlasError: the table holds something else.
    """
    table = atlas.evidence_columns("written")
    return None if table is None else _checked(table, atlas)


def _checked(table: Columns, atlas: Atlas) -> dict[Place, Written]:
    def refuse(what: str) -> AtlasError:
        return AtlasError(
            f"{atlas.folder or atlas.name}: written.parquet: expected {what}. Run `headatlas describe --overwrite`."
        )

    if missing := [name for name in COLUMNS if name not in table]:
        raise refuse(f"the column {missing[0]!r}, found none")
    found: dict[Place, Written] = {}
    for row in table.rows():
        numbers = [row[name] for name in COLUMNS if name not in ("sentence", "kind", "rules_sentence")]
        if not all(isinstance(each, int) and 0 <= each < 2**31 for each in numbers):
            raise refuse("whole numbers of at least 0, found others")
        place = row["layer"], row["head"]
        if place[0] >= atlas.n_layers or place[1] >= atlas.n_heads or place in found:
            raise refuse("each head of the model once at most, found others")
        if row["kind"] not in KINDS or not 1 <= row["questions"] <= 1000:
            raise refuse("questions of a known kind, found others")
        for name in ("", "rules_"):
            if not row[f"{name}correct"] <= row[f"{name}answered"] <= row["questions"]:
                raise refuse("at most as many right answers as questions, found more")
        texts: dict[str, Any] = {
            name: clean_sentence(str(row[name])) or UNCLEAR for name in ("sentence", "rules_sentence")
        }
        found[place] = Written(**{name: row[name] for name in COLUMNS[2:]} | texts)
    return found


def best_first(rows: Mapping[Place, Written]) -> list[tuple[Place, Written]]:
    """Rows by their share of right answers, then by the number of questions."""
    return sorted(rows.items(), key=lambda item: (-item[1].correct / item[1].questions, -item[1].questions, item[0]))


def summarise(rows: Iterable[Written]) -> Summary:
    """The mean over heads, with intervals over heads.

    Args:
        rows: at least one.
    """
    import numpy as np

    rows = list(rows)
    if len(rows) == 1:  # over its questions; a difference of so few is not known
        (row,) = rows
        n, score, rules = row.questions, row.correct / row.questions, row.rules_correct / row.questions
        (low, high), (rules_low, rules_high) = (map(float, wilson_interval(each, n)) for each in (score, rules))
        difference = (score - rules, -1.0, 1.0)
        return Summary(1, n, n - row.answered, (score, low, high), (rules, rules_low, rules_high), difference)
    shares = np.array([[each.correct / each.questions, each.rules_correct / each.questions] for each in rows])
    drawn = np.random.default_rng(SEED).integers(len(rows), size=(DRAWS, len(rows)))
    means = shares[drawn].mean(1)

    def with_interval(column: Any, draws: Any) -> tuple[float, float, float]:
        low, high = np.quantile(draws, (0.025, 0.975))
        return float(column.mean()), float(low), float(high)

    return Summary(
        heads=len(rows),
        questions=sum(each.questions for each in rows),
        unanswered=sum(each.questions - each.answered for each in rows),
        score=with_interval(shares[:, 0], means[:, 0]),
        rules=with_interval(shares[:, 1], means[:, 1]),
        difference=with_interval(shares[:, 0] - shares[:, 1], means[:, 0] - means[:, 1]),
    )


def clean_sentence(answer: str) -> str | None:
    """A language model's answer as one line of printable text of bounded length; None if nothing is left.

    >>> clean_sentence('<think>hm</think> "Maps countries\\nto capitals."')
    'Maps countries to capitals.'
    """
    text = re.sub(r"(?s)<think>.*?(</think>|\Z)", " ", answer)
    text = printable(" ".join(text.split())).strip(" \"'`*")
    if len(text) > MOST_SENTENCE:
        text = text[: MOST_SENTENCE - 1].rstrip() + "…"
    return text if any(letter.isalnum() for letter in text) else None
