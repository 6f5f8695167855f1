"""The strongest heads of an atlas, each with the relations that it implements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.analysis.categories import classify
from headatlas.atlas import HITS_SIDES, HITS_VARIABLES, Atlas, head_name

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class HeadRelation:
    """A relation of a head.

    Args:
        relation, category: of the relation.
        score: share of its pairs, 0 to 1.
        hits, pairs: the score as whole numbers; None if they are not known.
        chance: hits by chance, if targets were paired anew; None if that was not measured.
        example: a pair that the head hits; None if pairs are not known.
    """

    relation: str
    category: str
    score: float
    hits: int | None
    pairs: int | None
    chance: float | None
    example: tuple[str, str] | None


@dataclass(frozen=True)
class StrongHead:
    """A head, and what it does most.

    Args:
        layer, head: its place, counted from 0.
        categories: those of its relations.
        best: one of its strongest relations.
        more: number of its other relations.
    """

    layer: int
    head: int
    categories: tuple[str, ...]
    best: HeadRelation
    more: int

    @property
    def name(self) -> str:
        return head_name(self.layer, self.head)


def strictest_rule(atlas: Atlas) -> str:
    """`calibrated` if the atlas knows chance and copying, otherwise `plain`."""
    return "calibrated" if atlas.has_copying and atlas.chance() is not None else "plain"


def strong_heads(atlas: Atlas, most: int, side: str = "score", rule: str | None = None) -> list[StrongHead]:
    """The heads whose scores exceed chance by most, each with another relation, the strongest first.

    Many heads are strongest for the same one or two relations; each relation is therefore named once, for its strongest
    head that is not yet in the list. Where chance is not known, the scores themselves are compared.

    Args:
        most: number of heads.
        side: `score` or `suppression`.
        rule: which relations count, by `plain` or `calibrated`; default: `calibrated` if the atlas knows chance and
            copying.
    """
    import numpy as np

    found = classify(atlas, None, side, strictest_rule(atlas) if rule is None else rule)
    if not found.implements.any():
        return []
    chance = atlas.chance(side)
    excess = atlas.share(side).values - (0.0 if chance is None else chance.values)
    places = np.argwhere(found.implements)
    counts = found.implements.sum(0)
    # Of equal excesses, the head with more relations, then the earlier one.
    order = np.lexsort((-counts[places[:, 1], places[:, 2]], -excess[found.implements]))
    rows: list[StrongHead] = []
    relations, heads = set(), set()
    for relation, layer, head in places[order].tolist():
        if len(rows) == most:
            break
        if relation in relations or (layer, head) in heads:
            continue
        relations.add(relation)
        heads.add((layer, head))
        categories = tuple(name for name in found.categories if found.of(name)[layer, head])
        best = _relation(atlas, relation, layer, head, side)
        rows.append(StrongHead(layer, head, categories, best, int(counts[layer, head]) - 1))
    return rows


def _relation(atlas: Atlas, at: int, layer: int, head: int, side: str) -> HeadRelation:
    name, chance = atlas.relations[at], atlas.chance(side)
    pairs = int(atlas.data["pairs"].values[at]) or None
    counted = atlas.counts_known and pairs is not None
    return HeadRelation(
        name,
        str(atlas.data["category"].values[at]),
        float(atlas.share(side).values[at, layer, head]),
        int(atlas.data[HITS_VARIABLES[side]].values[at, layer, head]) if counted else None,
        pairs if counted else None,
        None if chance is None or pairs is None else float(chance.values[at, layer, head]) * pairs,
        _example(atlas, name, layer, head, side),
    )


def _example(atlas: Atlas, relation: str, layer: int, head: int, side: str) -> tuple[str, str] | None:
    hits: Any = atlas.pair_hits
    if hits is None:
        return None
    own = (hits["layer"].to_numpy() == layer) & (hits["head"].to_numpy() == head)
    rows: Any = hits.loc[own]
    rows = rows.loc[(rows["relation"] == relation) & (rows["side"] == HITS_SIDES[side])]
    if rows.empty:
        return None
    # Tokenizers number frequent words first: of the pairs, one that most readers know.
    at = int(rows[["source_id", "target_id"]].to_numpy().max(1).argmin())
    return str(rows["source"].iloc[at]), str(rows["target"].iloc[at])


def only_suppressing(atlas: Atlas, rule: str | None = None) -> np.ndarray | None:
    """Heads that implement no relation but suppress one: Bool[ndarray, "layer head"]; None if that is not known.

    Args:
        rule: `plain` or `calibrated`; default: the atlas's own.
    """
    if not atlas.has_suppression:
        return None
    return (classify(atlas, None, "suppression", rule).count > 0) & (classify(atlas, rule=rule).count == 0)
