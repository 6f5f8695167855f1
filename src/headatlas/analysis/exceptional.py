"""Rare and exceptional heads. The place of a head is (layer, head), both counted from 0."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from headatlas.analysis.categories import Classification, classify
from headatlas.atlas import HITS_VARIABLES, SIDES, Atlas

if TYPE_CHECKING:
    import numpy as np

FAR, FAR_SHARE = 4, 8
"""A head is apart at a distance of FAR layers; in deep models, of an eighth (1 / FAR_SHARE) of the layers."""

MOST = 5
"""Number of heads with the most relations that are named."""

Place = tuple[int, int]


@dataclass(frozen=True)
class Strongest:
    """The strongest head of a relation.

    Args:
        relation, category: of the relation.
        places: all heads with the highest score; empty if no head scores above 0.
        score: the highest score, 0 to 1.
        hits, pairs: the score as whole numbers; None if they are not known.
    """

    relation: str
    category: str
    places: tuple[Place, ...]
    score: float
    hits: int | None
    pairs: int | None


class Busy(NamedTuple):
    """A head, and the number of relations that it implements."""

    place: Place
    n_relations: int


class Few(NamedTuple):
    """A relation, and the few heads that implement it."""

    relation: str
    places: tuple[Place, ...]


class Both(NamedTuple):
    """A relation that a head both implements and suppresses."""

    relation: str
    place: Place


@dataclass(frozen=True)
class Apart:
    """A head that is far from all other heads of its category.

    Args:
        category: its name.
        place: the head.
        distance: layers between this head and the nearest head of the category, at least `far(n_layers)`.
        before: whether it is the first head of the category, not the last.
    """

    category: str
    place: Place
    distance: int
    before: bool


def far(n_layers: int) -> int:
    """The distance from which on a head is apart: 4 layers; an eighth of the layers if there are more than 32."""
    return max(FAR, -(-n_layers // FAR_SHARE))


def find_strongest(atlas: Atlas, side: str) -> tuple[Strongest, ...]:
    """The strongest head of each measured relation, in the atlas's order."""
    scores = atlas.share(side).fillna(0).values  # a layer without heads has no strongest head
    names, categories = atlas.relations, [str(name) for name in atlas.data["category"].values]
    hits = atlas.data[HITS_VARIABLES[side]].values if atlas.counts_known else None
    rows = []
    for number, of_relation in enumerate(scores):
        best = float(of_relation.max())
        rows.append(
            Strongest(
                names[number],
                categories[number],
                places(of_relation == best) if best > 0 else (),
                best,
                None if hits is None else int(hits[number].max()),
                None if hits is None else int(atlas.data["pairs"].values[number]),
            )
        )
    return tuple(rows)


def find_best(strongest: tuple[Strongest, ...]) -> tuple[Strongest, ...]:
    """The strongest heads with the highest score of all relations, including ties; empty if no score is above 0.

    Scores with known hits are compared as fractions, without rounding.
    """

    def share(row: Strongest) -> Fraction:
        return Fraction(row.score) if row.hits is None or not row.pairs else Fraction(row.hits, row.pairs)

    known = [row for row in strongest if row.places]
    highest = max(map(share, known), default=None)
    return tuple(row for row in known if share(row) == highest)


def find_busiest(found: Classification) -> tuple[tuple[Busy, ...], int]:
    """The heads that implement the most relations, at least two each; at most MOST heads.

    Returns:
        The heads, and the number of further heads with as many relations as the last of them.
    """
    counts = found.implements.sum(0)
    ordered = sorted(places(counts > 1), key=lambda place: (-counts[place], place))
    named = tuple(Busy(place, int(counts[place])) for place in ordered[:MOST])
    return named, sum(int(counts[place]) == named[-1].n_relations for place in ordered[MOST:])


def find_few(found: Classification, relations: list[str]) -> tuple[Few, ...]:
    """The relations that exactly one or two heads implement, with these heads."""
    rows = (Few(name, places(heads)) for name, heads in zip(relations, found.implements, strict=True))
    return tuple(row for row in rows if 1 <= len(row.places) <= 2)


def find_apart(category: str, has: np.ndarray) -> tuple[Apart, ...]:
    """The first and the last head of a category, if they are `far` from all other heads of the category.

    A category needs at least three heads for that.
    """
    heads = places(has)
    if len(heads) < 3:
        return ()
    rows = []
    for before, here, next_ in ((True, heads[0], heads[1]), (False, heads[-1], heads[-2])):
        distance = abs(here[0] - next_[0])
        if distance >= far(len(has)):
            rows.append(Apart(category, here, distance, before))
    return tuple(rows)


def find_both(atlas: Atlas, threshold: str, rule: str = "plain") -> tuple[Both, ...]:
    """The heads that both implement and suppress a relation."""
    promoted, suppressed = (classify(atlas, threshold, side, rule).implements for side in SIDES)
    both = promoted & suppressed
    return tuple(
        Both(name, place) for name, heads in zip(atlas.relations, both, strict=True) for place in places(heads)
    )


def places(heads: np.ndarray) -> tuple[Place, ...]:
    """The places at which `heads`, Bool[ndarray, "layer head"], is true, in ascending order."""
    return tuple((int(layer), int(head)) for layer, head in zip(*heads.nonzero(), strict=True))
