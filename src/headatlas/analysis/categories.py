"""Scores to categories: a head has the categories of the relations for which its score is above the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from headatlas.atlas import Atlas
from headatlas.relations import category_order
from headatlas.settings import checked_rule

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Classification:
    """The categories of all heads.

    Args:
        categories: categories with at least one measured relation, in the order in which figures show them.
        unmeasured: categories without a measurable relation.
        has: Bool[ndarray, "category layer head"].
        implements: Bool[ndarray, "relation layer head"], in the atlas's order of relations.
        side: `score` or `suppression`.
        threshold: strict limit, the decimal as it was given.
        rule: `plain`, or `calibrated`, which also requires that a score is beyond chance and beyond copying.
        has_heads: the layers that have attention heads: Bool[ndarray, "layer"].
    """

    categories: tuple[str, ...]
    unmeasured: tuple[str, ...]
    has: np.ndarray
    implements: np.ndarray
    side: str
    threshold: str
    rule: str
    has_heads: np.ndarray

    @cached_property
    def count(self) -> np.ndarray:
        """The number of categories of each head: Int[ndarray, "layer head"]."""
        count = self.has.sum(0)
        count.flags.writeable = False
        return count

    @property
    def n_heads(self) -> int:
        """Number of heads of the model, classified or not; layers without attention heads have none."""
        return int(self.has_heads.sum()) * self.count.shape[1]

    @property
    def n_classified(self) -> int:
        return int((self.count > 0).sum())

    def only(self, category: str) -> int:
        """Number of heads with this category and no other."""
        return int((self.of(category) & (self.count == 1)).sum())

    def of(self, category: str) -> np.ndarray:
        """The heads with this category: Bool[ndarray, "layer head"]."""
        return self.has[self.categories.index(category)]


def classify(
    atlas: Atlas, threshold: str | float | None = None, side: str = "score", rule: str | None = None
) -> Classification:
    """Sort the heads into categories; computed once for each atlas and choice, the arrays are read-only.

    Args:
        threshold: strict limit, 0 to 1; default: the atlas's own.
        side: `score` or `suppression`.
        rule: `plain` or `calibrated`; default: the atlas's own.

    Raises:
        AtlasError: suppression, or the chance levels that `calibrated` needs, were not measured.
    """
    threshold = atlas.threshold if threshold is None else str(threshold)
    rule = checked_rule(atlas.rule if rule is None else rule)
    known = _KNOWN.setdefault(atlas, {})
    key = threshold, side, rule
    if key not in known:
        known[key] = _classify(atlas, *key)
    return known[key]


_KNOWN: WeakKeyDictionary[Atlas, dict[tuple[str, str, str], Classification]] = WeakKeyDictionary()
"""Each atlas's classifications so far: figures, report and page of one run ask for the same ones again and again."""


def _classify(atlas: Atlas, threshold: str, side: str, rule: str) -> Classification:
    import numpy as np

    implements = atlas.above(threshold, side)
    if rule == "calibrated":
        implements = implements & atlas.beyond_chance(side) & atlas.beyond_copying(threshold, side)
    of_relation = np.array(atlas.grid.categories, dtype=object)
    categories = sorted(set(atlas.grid.categories), key=category_order)
    known = sorted({item.category for item in atlas.manifest.relations.items}, key=category_order)
    has = np.stack([implements[of_relation == name].any(0) for name in categories]) if categories else implements[:0]
    for array in (has, implements):
        array.flags.writeable = False
    return Classification(
        categories=tuple(categories),
        unmeasured=tuple(name for name in known if name not in categories),
        has=has,
        implements=implements,
        side=side,
        threshold=threshold,
        rule=rule,
        has_heads=atlas.has_heads,
    )
