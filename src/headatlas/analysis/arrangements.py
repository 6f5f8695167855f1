"""Whether the heads of a category cluster by layer (a vertical band), by head number (a row) or by key-value group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headatlas.analysis.significance import DRAWS, holm, loglik, p_from_draws

if TYPE_CHECKING:
    import numpy as np

MEMORY = 300_000
"""Heads in memory at once while they are shuffled."""

BITS = 8
"""Categories that are shuffled together, one bit for each."""


@dataclass(frozen=True)
class Arrangement:
    """How well layers, head numbers and key-value groups explain which heads have a category.

    The share of deviance explained by layers is `1 - (sum over layers of ll(k_l of n_heads)) / ll(k of n)`, with `k_l`
    heads of the category in layer `l`, `k` heads in total, and `ll` as for boundaries; from 0 to 1. The share explained
    by head numbers is defined in the same way. Chance explains some of the deviance (more, if there are fewer heads),
    see `by_layer_chance` and `by_head_chance`.

    Args:
        category: its name.
        by_layer, by_head: share of the deviance explained, 0 to 1; None if all heads have the category.
        by_layer_chance: mean share if the heads of the category are spread at random over the model.
        by_head_chance: mean share if heads are shuffled within each layer, which keeps the counts of the layers.
        p_layer, p_head: permutation tests: the share of such draws that explain at least as much; None if only one
            outcome is possible.
        p_layer_adjusted, p_head_adjusted: Holm-adjusted, each over all categories.
        group_pairs: pairs of heads that share a key-value head and both have the category; None if the number of
            key-value heads is not known, if each head has its own, or if all heads of a layer share one.
        group_pairs_chance: the exact mean of `group_pairs` if heads are shuffled within each layer.
        p_group: permutation test, one-sided (at least as many pairs); None as above.
        p_group_adjusted: Holm-adjusted over all categories.
    """

    category: str
    by_layer: float | None
    by_layer_chance: float | None
    p_layer: float | None
    p_layer_adjusted: float | None
    by_head: float | None
    by_head_chance: float | None
    p_head: float | None
    p_head_adjusted: float | None
    group_pairs: int | None
    group_pairs_chance: float | None
    p_group: float | None
    p_group_adjusted: float | None


def find_arrangements(
    named: list[tuple[str, np.ndarray]], heads_per_group: int | None, seed: int, n_draws: int = DRAWS
) -> tuple[Arrangement, ...]:
    """The arrangement of each (category, Bool[ndarray, "layer head"]) that has at least one head.

    Args:
        heads_per_group: heads that share a key-value head; groups are tested if there are several of several heads.
    """
    named = [(category, has) for category, has in named if has.any()]
    if not named:
        return ()
    n_heads = named[0][1].shape[1]
    n_groups = n_heads // heads_per_group if heads_per_group and 1 < heads_per_group < n_heads else None
    found: list[Arrangement] = []
    for start in range(0, len(named), BITS):
        some = named[start : start + BITS]
        counted = _in_shuffled_layers([has for _, has in some], n_groups, seed, n_draws)
        for (category, has), each in zip(some, counted, strict=True):
            share, chance, p = _by_layer(has, seed, n_draws)
            by_head, by_head_chance, p_head = each.by_head(n_draws)
            found.append(
                Arrangement(
                    category=category,
                    by_layer=share,
                    by_layer_chance=chance,
                    p_layer=p,
                    p_layer_adjusted=None,
                    by_head=by_head,
                    by_head_chance=by_head_chance,
                    p_head=p_head,
                    p_head_adjusted=None,
                    group_pairs=each.pairs,
                    group_pairs_chance=each.pairs_chance,
                    p_group=each.p_group(n_draws),
                    p_group_adjusted=None,
                )
            )
    of_layers = holm([each.p_layer for each in found])
    of_heads = holm([each.p_head for each in found])
    of_groups = holm([each.p_group for each in found])
    return tuple(
        replace(each, p_layer_adjusted=of_layers[at], p_head_adjusted=of_heads[at], p_group_adjusted=of_groups[at])
        for at, each in enumerate(found)
    )


def explained(counts: np.ndarray, n_each: int) -> np.ndarray:
    """Share of the deviance that groups of `n_each` heads explain, 0 to 1.

    Args:
        counts: heads with the category in each group: Int[ndarray, "... n_groups"]; neither all heads nor none.
    """
    whole = loglik(counts.sum(-1), counts.shape[-1] * n_each)
    # Rounded, so that arrangements with the same counts in another order tie.
    return (1 - loglik(counts, n_each).sum(-1) / whole).round(9)


def _by_layer(has: np.ndarray, seed: int, n_draws: int) -> tuple[float | None, float | None, float | None]:
    import numpy as np

    n_layers, n_heads = has.shape
    total = int(has.sum())
    if total == has.size:
        return None, None, None
    share = float(explained(has.sum(1), n_heads))
    if n_layers == 1:
        return share, None, None
    # Draws the number of heads per layer directly, instead of every head.
    generator = np.random.default_rng(seed)
    drawn = explained(generator.multivariate_hypergeometric([n_heads] * n_layers, total, size=n_draws), n_heads)
    return share, float(drawn.mean()), p_from_draws(int(np.count_nonzero(drawn >= share)), n_draws)


def _in_shuffled_layers(maps: list[np.ndarray], n_groups: int | None, seed: int, n_draws: int) -> list[_Count]:
    """Counts by head number and group for up to BITS categories from one shuffle: a head keeps all its categories."""
    import numpy as np

    n_layers, n_heads = maps[0].shape
    observed = [_Count(has, n_groups) for has in maps]
    codes = np.zeros((n_layers, n_heads), dtype=np.uint8)
    for bit, has in enumerate(maps):
        codes |= has.astype(np.uint8) << np.uint8(bit)
    codes = codes[codes.any(1)]
    at_once = max(1, MEMORY // codes.size)
    generator = np.random.default_rng(seed)
    for start in range(0, n_draws, at_once):
        size = min(at_once, n_draws - start)
        shuffled = generator.permuted(np.broadcast_to(codes, (size, *codes.shape)), axis=-1)
        for bit, each in enumerate(observed):
            each.compare((shuffled >> np.uint8(bit)) & np.uint8(1))
    return observed


class _Count:
    """The observed statistics of a category, and how often shuffled layers reach them."""

    def __init__(self, has: np.ndarray, n_groups: int | None) -> None:
        self.n_layers, self.n_heads = has.shape
        self.n_groups = n_groups
        in_layer = has.sum(1)
        self.varies = bool(((in_layer > 0) & (in_layer < self.n_heads)).any())
        self.share = None if has.all() else float(explained(has.sum(0), self.n_layers))
        self.pairs = None if n_groups is None else int(self._pairs(has[None].astype("u1"))[0])
        # A pair of heads in a layer belongs to the same group with probability (size - 1) / (n_heads - 1).
        self.pairs_chance, self.pairs_vary = None, False
        if n_groups is not None:
            self.pairs_vary = bool(((in_layer > 1) & (in_layer < self.n_heads)).any())
            in_pairs = int((in_layer * (in_layer - 1) // 2).sum())
            self.pairs_chance = in_pairs * (self.n_heads // n_groups - 1) / (self.n_heads - 1)
        self.share_sum, self.n_shares, self.n_pairs = 0.0, 0, 0

    def compare(self, shuffled: np.ndarray) -> None:
        if self.share is not None:
            drawn = explained(shuffled.sum(1, dtype="i4"), self.n_layers)
            self.share_sum += float(drawn.sum())
            self.n_shares += int((drawn >= self.share).sum())
        if self.pairs is not None:
            self.n_pairs += int((self._pairs(shuffled) >= self.pairs).sum())

    def by_head(self, n_draws: int) -> tuple[float | None, float | None, float | None]:
        """Share explained by head number, its mean by chance, and p."""
        if self.share is None or not self.varies:
            return self.share, None, None
        return self.share, self.share_sum / n_draws, p_from_draws(self.n_shares, n_draws)

    def p_group(self, n_draws: int) -> float | None:
        # Unless a layer has two heads with the category and one without it, shuffling cannot change the pairs.
        if not self.pairs_vary:
            return None
        return p_from_draws(self.n_pairs, n_draws)

    def _pairs(self, heads: np.ndarray) -> np.ndarray:
        in_group = heads.reshape(*heads.shape[:-1], -1, self.n_heads // (self.n_groups or 1)).sum(-1, dtype="i2")
        return (in_group * (in_group - 1) // 2).sum((-1, -2), dtype="i8")
