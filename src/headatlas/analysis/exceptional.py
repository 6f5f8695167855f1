"""Rare and exceptional heads by name. Places of heads are (layer, head), both counted from 0."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from headatlas.analysis.categories import Classification, classify
from headatlas.atlas import KINDS, Atlas

if TYPE_CHECKING:
    import numpy as np

FAR, FAR_SHARE = 4, 8
"""A head stands apart from FAR layers on, and in deep models from an eighth (1 / FAR_SHARE) of the layers on."""

MOST = 5
"""Heads with most relations that are named."""

Place = tuple[int, int]


@dataclass(frozen=True)
class Strongest:
    """The strongest head of a relation.

    Args:
        relation: its name, and `category`.
        places: all heads of the highest score; empty where no head scores above 0.
        score: that score, 0 to 1.
        hits, pairs: as whole numbers; None where they are not known.
    """

    relation: str
    category: str
    places: tuple[Place, ...]
    score: float
    hits: int | None
    pairs: int | None


@dataclass(frozen=True)
class Apart:
    """A head that lies far from all others of its category.

    Args:
        category: its name.
        place: the head.
        distance: layers between it and the nearest head of the category, at least `far(n_layers)`.
        before: whether it is the category's first head (else its last).
    """

    category: str
    place: Place
    distance: int
    before: bool


def far(n_layers: int) -> int:
    """The distance from which a head stands apart: 4 layers, in models of more than 32 layers an eighth of them."""
    return max(FAR, -(-n_layers // FAR_SHARE))


def find_strongest(atlas: Atlas, kind: str) -> tuple[Strongest, ...]:
    """The strongest head of each measured relation, in the atlas's order."""
    scores = atlas.kind(kind).fillna(0).values  # layers without heads are nobody's strongest
    names, categories = atlas.relations, [str(name) for name in atlas.data["category"].values]
    hits = atlas.data["hits" if kind == "score" else "suppression_hits"].values if atlas.counts_known else None
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
    """Of the strongest heads those of the highest score, all relations that tie; empty where none is above 0.

    Scores of whole hits are compared as fractions, which have no rounding.
    """

    def share(row: Strongest) -> Fraction:
        return Fraction(row.score) if row.hits is None or not row.pairs else Fraction(row.hits, row.pairs)

    known = [row for row in strongest if row.places]
    highest = max(map(share, known), default=None)
    return tuple(row for row in known if share(row) == highest)


def find_busiest(found: Classification) -> tuple[tuple[tuple[Place, int], ...], int]:
    """The heads that implement most relations with their number, at most MOST, those with two or more.

    Returns:
        The heads, and how many further heads implement as many relations as the last of them.
    """
    counts = found.implements.sum(0)
    ordered = sorted(places(counts > 1), key=lambda place: (-counts[place], place))
    named = tuple((place, int(counts[place])) for place in ordered[:MOST])
    return named, sum(int(counts[place]) == named[-1][1] for place in ordered[MOST:])


def find_few(found: Classification, relations: list[str]) -> tuple[tuple[str, tuple[Place, ...]], ...]:
    """The relations that exactly one or two heads implement, with those heads."""
    rows = ((name, places(heads)) for name, heads in zip(relations, found.implements, strict=True))
    return tuple((name, heads) for name, heads in rows if 1 <= len(heads) <= 2)


def find_apart(category: str, has: np.ndarray) -> tuple[Apart, ...]:
    """The first and the last head of a category, where they lie `far` from all others of it.

    Only categories with at least three heads have a rest to lie apart from.
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


def find_both(atlas: Atlas, threshold: str, profile: str = "maps") -> tuple[tuple[str, Place], ...]:
    """The relations that a head both implements and suppresses, with that head."""
    promoted, suppressed = (classify(atlas, threshold, kind, profile).implements for kind in KINDS)
    both = promoted & suppressed
    return tuple((name, place) for name, heads in zip(atlas.relations, both, strict=True) for place in places(heads))


def places(heads: np.ndarray) -> tuple[Place, ...]:
    """Where `heads` is true, by layer and head: Bool[ndarray, "layer head"]."""
    return tuple((int(layer), int(head)) for layer, head in zip(*heads.nonzero(), strict=True))
