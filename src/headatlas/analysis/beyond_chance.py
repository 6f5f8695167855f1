"""How much of a map could be chance: the heads that the stricter rule drops, and scores close to the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.analysis.categories import Classification, classify
from headatlas.atlas import HITS_SIDES, Atlas
from headatlas.settings import parse_threshold

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Unproven:
    """A score above the threshold that is not shown to be beyond chance."""

    relation: str
    head: tuple[int, int]
    share: float
    chance: float
    q: float


@dataclass(frozen=True)
class BeyondChance:
    """A map compared with its chance levels.

    Args:
        plain, calibrated: the classification of heads by each rule.
        unproven: scores above the threshold that are not shown to be beyond chance, the largest share first.
        exact: share of chance levels that are exact, 0 to 1.
        re_pairings: number behind each other chance level; None if the manifest does not record it.
    """

    plain: Classification
    calibrated: Classification
    unproven: tuple[Unproven, ...]
    exact: float
    re_pairings: int | None


def find_beyond_chance(atlas: Atlas, threshold: str, side: str) -> BeyondChance | None:
    """Compare a map with its chance levels; None if they were not measured."""
    chance, q_values, exact = atlas.chance(side), atlas.q_values(side), atlas.chance_exact(side)
    if chance is None or q_values is None or exact is None:
        return None
    plain, calibrated = (classify(atlas, threshold, side, rule) for rule in ("plain", "calibrated"))
    facts = atlas.manifest.chance
    shares = atlas.share(side).values
    places = zip(*(plain.implements & ~atlas.beyond_chance(side)).nonzero(), strict=True)
    unproven = [
        Unproven(
            atlas.relations[relation],
            (int(layer), int(head)),
            float(shares[relation, layer, head]),
            float(chance.values[relation, layer, head]),
            float(q_values.values[relation, layer, head]),
        )
        for relation, layer, head in places
    ]
    unproven.sort(key=lambda each: (-each.share, each.relation, each.head))
    return BeyondChance(
        plain, calibrated, tuple(unproven), float(exact.values[:, atlas.has_heads].mean()), facts and facts.re_pairings
    )


def find_borderline(atlas: Atlas, threshold: str, side: str) -> np.ndarray | None:
    """The scores whose 95 % Wilson interval contains the threshold: Bool[ndarray, "relation layer head"].

    None if the intervals are not known.
    """
    import numpy as np

    between = atlas.interval(side)
    if between is None:
        return None
    low, high = (np.nan_to_num(each.values) for each in between)
    limit = float(parse_threshold(threshold))
    return (low <= limit) & (limit < high) & atlas.has_heads[None, :, None]


def count_classified(
    atlas: Atlas, thresholds: list[str], ks: list[int], side: str = "score"
) -> dict[int, list[int]] | None:
    """Number of heads with any category by the rule `plain`, for each k and threshold, from the ranks of the hits.

    None if the ranks are not known.

    Args:
        thresholds: strict limits, 0 to 1.
        ks: a relation with a smaller k of its own keeps it.
    """
    import numpy as np

    hits = atlas.pair_hits
    if hits is None or "rank" not in hits:
        return None
    hits = hits.loc[hits["side"].to_numpy() == HITS_SIDES[side]]
    number = {name: at for at, name in enumerate(atlas.relations)}
    relation = np.array([number[str(name)] for name in hits["relation"].to_numpy()], dtype=np.int64)
    layer, head, rank = (hits[name].to_numpy(dtype=np.int64) for name in ("layer", "head", "rank"))
    pairs = [int(n) for n in atlas.data["pairs"].values]
    found = {}
    for k in ks:
        counts = np.zeros(atlas.data["score"].shape, dtype=np.int64)
        near = rank < k
        np.add.at(counts, (relation[near], layer[near], head[near]), 1)
        found[k] = []
        for threshold in thresholds:
            limit = parse_threshold(threshold)
            most = np.array([limit.numerator * n // limit.denominator for n in pairs])
            found[k].append(int((counts > most[:, None, None]).any(0).sum()))
    return found
