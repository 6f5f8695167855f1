"""What each table of an atlas may contain: columns, types, ranges, and which rows are one and the same.

docs/folder.md describes the same to people. Knows no file and no table, only the manifest's sizes and names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from headatlas.atlas.headvis import METRICS
from headatlas.atlas.table import CHANCE_VARIABLES, COPYING_VARIABLES, HITS_SIDES, HITS_VARIABLES, SIDES

if TYPE_CHECKING:
    from headatlas.atlas.manifest import Manifest

MOST_ROWS, MOST_COLUMNS = 50_000_000, 64
MOST_ID = 2**31 - 1
HUGE = 1e300
SINGLE = 3e38
"""What float32 can hold."""


class Kind(StrEnum):
    """The type of a column's values."""

    TEXT = "texts"
    WHOLE = "whole numbers"
    NUMBER = "numbers"
    FLAG = "true or false"


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        kind: of its values.
        low, high: range of numbers.
        of: `layer`, `head` or `relation`, if the values are those of the model or of the measured relations.
        one_of: the only texts; None: any.
        may_be_empty: whether a value may be missing.
        optional: whether the column may be absent.
        counted: kept as pandas' `Int64`, in which a count may be missing.
    """

    kind: Kind
    low: float = -HUGE
    high: float = HUGE
    of: str | None = None
    one_of: tuple[str, ...] | None = None
    may_be_empty: bool = False
    optional: bool = False
    counted: bool = False


@dataclass(frozen=True)
class Schema:
    """One table.

    Args:
        columns: by name.
        key: columns whose values together occur once; none: rows may repeat.
        together: columns of which all are there, or none.
        numbered: columns that count from 0 without large gaps, so that an array of their values has few empty cells.
    """

    columns: Mapping[str, Column]
    key: tuple[str, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    numbered: tuple[str, ...] = ()


def _whole(high: float = MOST_ID, low: float = 0, **options: Any) -> Column:
    return Column(Kind.WHOLE, low, high, **options)


def _number(low: float = -HUGE, high: float = HUGE, **options: Any) -> Column:
    return Column(Kind.NUMBER, low, high, **options)


def _one_of(*texts: str) -> Column:
    return Column(Kind.TEXT, one_of=texts)


def _shares(*names: str, low: float = 0, **options: Any) -> dict[str, Column]:
    return {name: _number(low, 1, **options) for name in names}


def _wholes(*names: str) -> dict[str, Column]:
    return {name: _whole() for name in names}


def _numbers(*names: str) -> dict[str, Column]:
    """Means and ends of intervals, which rounding can lead out of any range; empty where nothing was measured."""
    return {name: _number(may_be_empty=True) for name in names}


LAYER, HEAD = Column(Kind.WHOLE, of="layer"), Column(Kind.WHOLE, of="head")
RELATION, TEXT = Column(Kind.TEXT, of="relation"), Column(Kind.TEXT)
PLACE = {"layer": LAYER, "head": HEAD}
SENDER = {"sender_layer": LAYER, "sender_head": HEAD}
PAIR = {"relation": RELATION, "source": TEXT, "target": TEXT, "source_id": _whole(), "target_id": _whole()}
SIDE = _one_of(*HITS_SIDES.values())
CHANGES = tuple(f"{what}{end}" for what in ("share_change", "copying_change") for end in ("", "_low", "_high"))
FALLS = tuple(f"{what}{end}" for what in ("accuracy", "probability") for end in ("_fall", "_low", "_high"))

_CHANCE = tuple(name for names in CHANCE_VARIABLES.values() for name in names)
_UNCOPIED = ("copied", *(name for names in COPYING_VARIABLES.values() for name in names))


def _count(**options: Any) -> Column:
    return Column(Kind.WHOLE, 0, MOST_ID, may_be_empty=True, counted=True, **options)


def _levels(names: tuple[str, str, str]) -> dict[str, Column]:
    level, exact, p_value = names
    options = {"optional": True, "may_be_empty": True}
    return _shares(level, p_value, **options) | {exact: Column(Kind.FLAG, may_be_empty=True, optional=True)}


SCHEMAS: dict[str, Schema] = {
    "scores": Schema(
        {"relation": RELATION, "category": TEXT, **PLACE}
        | {name: _count(optional=True) for name in ("k", "pairs")}
        | {name: _count() for name in HITS_VARIABLES.values()}
        | _shares(*SIDES, may_be_empty=True)
        | {name: each for names in CHANCE_VARIABLES.values() for name, each in _levels(names).items()}
        | {name: _count(optional=True) for name in ("copied", *(each[0] for each in COPYING_VARIABLES.values()))}
        | _shares(
            *(name for each in COPYING_VARIABLES.values() for name in each[1:]), optional=True, may_be_empty=True
        )
        | {"validity": TEXT},
        (),  # the grid is checked when it is made
        (_CHANCE, _UNCOPIED),
    ),
    "hits": Schema({**PAIR, **PLACE, "side": SIDE, "rank": _whole(optional=True)}),
    "pairs": Schema(PAIR),
    "salient": Schema(
        {**PLACE, "rank": _whole(), "token_id": _whole(), "token": TEXT, "amplification": _number(0, SINGLE),
         "side": SIDE, "to_rank": _whole(), "to_id": _whole(), "to_token": TEXT},
        ("layer", "head", "rank", "side", "to_rank"),
        numbered=("rank", "to_rank"),
    ),
    "similar": Schema(
        {**PLACE, "rank": _whole(), "other_layer": LAYER, "other_head": HEAD, **_shares("similarity", low=-1)},
        ("layer", "head", "rank"),
        numbered=("rank",),
    ),
    "descriptions": Schema({**PLACE, "description": TEXT, "rule": TEXT, **_shares("confidence")}, ("layer", "head")),
    "validation": Schema(
        {"relation": RELATION, **PLACE, "condition": _one_of("attention-fixed", "in-context", "total-effect"),
         "tokens": _one_of("one", "several"), "pairs": _whole(), "prompts": _whole(optional=True),
         **{name: _whole() for name in HITS_VARIABLES.values()}, **_shares(*SIDES)},
        ("relation", "layer", "head", "condition", "tokens"),
    ),
    "ablation": Schema(
        {"relation": RELATION, "task": TEXT, "order": TEXT, "removed": _whole(), "correct": _whole(),
         "prompts": _whole(), "log_probability": _number(may_be_empty=True)},
        ("relation", "task", "order", "removed"),
    ),
    "attention": Schema(
        {**PLACE, "input": _one_of("random", "text"), "behaviour": TEXT,
         "value": _number(may_be_empty=True), "low": _number(may_be_empty=True), "high": _number(may_be_empty=True),
         "chance": _number(may_be_empty=True), **_shares("p_value", "q_value", may_be_empty=True),
         "predicted": _number(may_be_empty=True), "rows": _whole(2**53)},
        ("layer", "head", "input", "behaviour"),
    ),
    "removal": Schema(
        {**PLACE, "kind": _one_of("named", "control"), **_shares("accuracy"), **_numbers("probability", *FALLS)},
        ("layer", "head"),
    ),
    "reading_words": Schema(
        {**PLACE, "kind": _one_of("any", "pair"), "rank": _whole(), "query_id": _whole(low=-1), "query": TEXT,
         "key_rank": _whole(), "key_id": _whole(), "key": TEXT, "score": _number(), "real": _number(may_be_empty=True),
         "seen": _whole(2**53)},
        ("layer", "head", "kind", "rank", "key_rank"),
        numbered=("rank", "key_rank"),
    ),
    "written": Schema(
        {**PLACE, "sentence": TEXT, "kind": TEXT, **_wholes("questions", "correct", "answered"),
         "rules_sentence": TEXT, **_wholes("rules_correct", "rules_answered")},
        ("layer", "head"),
    ),
    "headvis": Schema(
        {**PLACE}
        | _numbers(*METRICS),
        ("layer", "head"),
    ),
    "composition": Schema(
        {**PLACE, **_numbers("previous", "share", "low", "high", "alone", "by_keys", "score", "chance", "measured"),
         **_shares("p_value", "q_value", may_be_empty=True)},
        ("layer", "head"),
    ),
    "edges": Schema(
        {"about": _one_of("previous", "induction"), **SENDER, **PLACE, "kind": _one_of("key", "query", "value"),
         "strength": _number(), "chance": _number(), **_shares("p_value", "q_value")},
        ("about", "sender_layer", "sender_head", "layer", "head", "kind"),
    ),
    "paths": Schema(
        {**SENDER, **PLACE, "kind": _one_of("key", "query", "value"), "edge": _whole(100_000), "draw": _whole(1_000),
         **_numbers("share", *CHANGES)},
        ("edge", "draw"),
    ),
}  # fmt: skip
"""By the name of the file, without `.parquet`."""


def rows_of(name: str, manifest: Manifest) -> tuple[int, int]:
    """Fewest and most rows that a table can have, from the manifest alone."""
    heads = manifest.model.n_layers * manifest.model.n_heads
    measured = [item for item in manifest.relations.items if item.measurable]
    pairs = None if any(item.pairs is None for item in measured) else sum(item.pairs or 0 for item in measured)
    fewest, most = 0, MOST_ROWS
    if name == "scores":
        fewest = most = heads * len(measured)
    elif name == "pairs" and pairs is not None:
        fewest = most = pairs
    elif name == "hits" and pairs is not None:
        most = 2 * heads * pairs
    elif name in ("descriptions", "removal", "headvis", "composition", "written"):
        most = heads
    elif name == "similar" and manifest.evidence.similar is not None:
        most = heads * min(manifest.evidence.similar.heads, heads)
    elif name == "salient" and manifest.evidence.salient is not None:
        most = 2 * heads * manifest.evidence.salient.tokens * manifest.evidence.salient.mapped
    return fewest, min(most, MOST_ROWS)


def limits_of(column: Column, manifest: Manifest) -> tuple[float, float]:
    """The range of a column of numbers in the atlas of a manifest."""
    if column.of == "layer":
        return 0, manifest.model.n_layers - 1
    if column.of == "head":
        return 0, manifest.model.n_heads - 1
    return column.low, column.high


def missing_columns(schema: Schema, there: set[str]) -> Iterator[str]:
    """Columns that a table with these lacks."""
    for name, column in schema.columns.items():
        if name not in there and not column.optional:
            yield name
    for group in schema.together:
        if 0 < len(there & set(group)) < len(group):
            yield from (name for name in group if name not in there)


def plain(number: float) -> str:
    """A limit, for messages."""
    return (
        f"{number:,.0f}" if math.isfinite(number) and number == int(number) and abs(number) < 2**53 else f"{number:g}"
    )
