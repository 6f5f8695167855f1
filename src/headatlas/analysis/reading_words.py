"""The words that heads look for, from their weights, with how far that agrees with attention on text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

LEAST_SCORE = math.log(2)
"""Words are named from this score on: they get twice as much attention as an ordinary word would."""

CERTAIN = 0.3
"""Agreement with text above which the words of a head are not called uncertain."""

MOST_NATS = 709.0
"""The exponential of more is above the largest number of 64 bits."""

KINDS = {"any": "agreement_keys", "pair": "agreement_pairs"}
"""Kinds of rows of the table `reading_words`, and the row of `attention` with their agreement."""


@dataclass(frozen=True)
class Agreement:
    """How far words agree with attention on text: correlations, None if they are not known.

    Args:
        value: -1 to 1; `low`, `high`: 95 % interval over pieces of text.
        control: that of the scores of other words.
    """

    value: float | None
    low: float | None
    high: float | None
    control: float | None

    @property
    def certain(self) -> bool:
        return self.value is not None and self.value > CERTAIN


@dataclass(frozen=True)
class HeadWords:
    """The words that one head looks for.

    Args:
        keys: looked for whoever asks, the strongest first; rows of the table `reading_words`.
        pairs: the same for the words that look for something most, strongest first, each with what it looks for.
        of_keys, of_pairs: their agreement with text.
    """

    keys: list[dict[str, Any]]
    pairs: list[tuple[str, list[dict[str, Any]]]]
    of_keys: Agreement
    of_pairs: Agreement

    def as_dict(self) -> dict[str, Any]:
        """In JSON types; `times` is how many times as much attention a word gets as an ordinary one."""
        return {
            "keys": _as_dict(self.of_keys) | {"words": [_word(row) for row in self.keys]},
            "pairs": _as_dict(self.of_pairs)
            | {"queries": [{"token": query, "looks_for": [_word(row) for row in rows]} for query, rows in self.pairs]},
        }


def _as_dict(found: Agreement) -> dict[str, Any]:
    return {
        "agreement": found.value,
        "interval": None if found.low is None else [found.low, found.high],
        "control": found.control,
        "certain": found.certain,
    }


def times_as_much(score: float) -> float:
    """How many times as much attention a difference of scores gives; at most what a number of 64 bits holds.

    >>> times_as_much(0.0), times_as_much(5000.0) > 1e304
    (1.0, True)
    """
    return math.exp(min(score, MOST_NATS))


def _word(row: dict[str, Any]) -> dict[str, Any]:
    score = {"token": row["key"], "score": row["score"], "times": times_as_much(row["score"])}
    return score | {"real": row["real"], "seen": row["seen"]}


def words_of(atlas: Atlas, layer: int, head: int) -> HeadWords | None:
    """The words that a head looks for; None if that was not measured."""
    table, attention = atlas.evidence_columns("reading_words"), atlas.evidence_columns("attention")
    if table is None or attention is None:
        return None
    own = attention.of_head(layer, head).rows()
    of_keys, of_pairs = (_agreement(own, behaviour) for behaviour in KINDS.values())
    rows = table.of_head(layer, head).rows()
    pairs: dict[int, tuple[str, list[dict[str, Any]]]] = {}
    for row in rows:
        if row["kind"] == "pair":
            pairs.setdefault(row["rank"], (row["query"], []))[1].append(row)
    return HeadWords([row for row in rows if row["kind"] == "any"], list(pairs.values()), of_keys, of_pairs)


def _agreement(rows: list[dict[str, Any]], behaviour: str) -> Agreement:
    row = next((row for row in rows if row["behaviour"] == behaviour), {})
    return Agreement(*(row.get(name) for name in ("value", "low", "high", "chance")))


@dataclass(frozen=True)
class AllWords:
    """What the words of all heads of an atlas say together.

    Args:
        n_heads: heads whose words were compared with text.
        mean, control: mean agreement over heads, by kind (`any`, `pair`).
        certain: heads whose words are not called uncertain, by kind.
        real, seen: by kind, how much more attention on text the named words get than the row, the distance and the key
            explain, as the mean natural logarithm over occurrences; and the number of those.
    """

    n_heads: int
    mean: dict[str, float]
    control: dict[str, float]
    certain: dict[str, int]
    real: dict[str, float]
    seen: dict[str, int]


def summarise_words(atlas: Atlas) -> AllWords | None:
    """The agreement of all heads; None if it was not measured."""
    import numpy as np

    table: Any = atlas.evidence("reading_words")
    attention: Any = atlas.evidence("attention")
    if table is None or attention is None:
        return None
    rows = {kind: attention[attention["behaviour"] == behaviour] for kind, behaviour in KINDS.items()}
    known = {kind: each[each["value"].notna()] for kind, each in rows.items()}
    if any(each.empty for each in known.values()):
        return None
    named = {kind: table[(table["kind"] == kind) & (table["seen"] > 0)] for kind in KINDS}
    return AllWords(
        n_heads=len(known["any"]),
        mean={kind: float(each["value"].mean()) for kind, each in known.items()},
        control={kind: float(each["chance"].mean()) for kind, each in known.items()},
        certain={kind: int((each["value"] > CERTAIN).sum()) for kind, each in known.items()},
        real={
            kind: float(np.average(each["real"], weights=each["seen"])) if len(each) else math.nan
            for kind, each in named.items()
        },
        seen={kind: int(each["seen"].sum()) for kind, each in named.items()},
    )
