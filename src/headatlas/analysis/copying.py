"""How much of a map copying explains: heads that hand on their word hit every target that lies near it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.atlas import BY_COPYING, Atlas

if TYPE_CHECKING:
    import numpy as np

BEYOND, NOT_BEYOND, _, ITSELF = BY_COPYING


@dataclass(frozen=True)
class CopyingLevel:
    """What copying hits of one relation.

    Args:
        lowest, highest: share of its pairs that copying hits, 0 to 1, of all layers with heads.
        fewest_uncopied: pairs that copying misses, in the layer where it misses the fewest.
        n_above: scores above the threshold.
        n_beyond: how many of these are beyond copying.
        n_inseparable: layers in which the relation cannot be told from copying.
    """

    relation: str
    lowest: float
    highest: float
    fewest_uncopied: int
    n_above: int
    n_beyond: int
    n_inseparable: int


@dataclass(frozen=True)
class Explained:
    """A score above the threshold that is beyond chance and not shown to be beyond copying.

    Args:
        uncopied: share of hits among the pairs that copying misses.
        pairs: number of these pairs.
    """

    relation: str
    head: tuple[int, int]
    share: float
    uncopied: float
    pairs: int


@dataclass(frozen=True)
class CopyingControl:
    """A map compared with copying.

    Args:
        levels: of each relation that is not copying itself, the highest first.
        inseparable: relations that cannot be told from copying in any layer.
        explained: scores that are beyond chance and not shown to be beyond copying, the largest first.
        copying_heads: heads whose score for a relation that is copying itself is above the threshold.
    """

    levels: tuple[CopyingLevel, ...]
    inseparable: tuple[str, ...]
    explained: tuple[Explained, ...]
    copying_heads: tuple[tuple[int, int], ...]


def find_copying(atlas: Atlas, threshold: str, side: str) -> CopyingControl | None:
    """Compare a map with copying; None if it was not measured which pairs copying hits."""
    copied, uncopied_pairs, uncopied = atlas.copied, atlas.uncopied_pairs, atlas.uncopied(side)
    found = atlas.by_copying(threshold, side)
    if copied is None or uncopied_pairs is None or uncopied is None or found is None:
        return None
    above = atlas.above(threshold, side) & atlas.has_heads[None, :, None]
    shares, separable, with_heads = atlas.share(side).values, atlas.separable, atlas.has_heads
    beyond_chance = atlas.beyond_chance(side)
    levels = []
    for at, (name, is_copying) in enumerate(zip(atlas.relations, atlas.is_copying, strict=True)):
        if is_copying or not with_heads.any():
            continue
        level = copied.values[at, with_heads] / float(atlas.data["pairs"].values[at])
        levels.append(
            CopyingLevel(
                relation=name,
                lowest=float(level.min()),
                highest=float(level.max()),
                fewest_uncopied=int(uncopied_pairs.values[at, with_heads].min()),
                n_above=int(above[at].sum()),
                n_beyond=int((above[at] & (found[at] == BEYOND)).sum()),
                n_inseparable=int((~separable[at, with_heads]).sum()),
            )
        )
    explained = [
        Explained(
            atlas.relations[relation],
            (int(layer), int(head)),
            float(shares[relation, layer, head]),
            float(uncopied.values[relation, layer, head]),
            int(uncopied_pairs.values[relation, layer]),
        )
        for relation, layer, head in zip(*(above & beyond_chance & (found == NOT_BEYOND)).nonzero(), strict=True)
    ]
    n_layers = int(with_heads.sum())
    return CopyingControl(
        levels=tuple(sorted(levels, key=lambda each: (-each.highest, each.relation))),
        inseparable=tuple(each.relation for each in levels if each.n_inseparable == n_layers),
        explained=tuple(sorted(explained, key=lambda each: (-each.share, each.relation, each.head))),
        copying_heads=_places((above & (found == ITSELF)).any(0)),
    )


def _places(heads: np.ndarray) -> tuple[tuple[int, int], ...]:
    return tuple((int(layer), int(head)) for layer, head in zip(*heads.nonzero(), strict=True))
