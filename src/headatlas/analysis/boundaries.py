"""The layer that best separates early from late layers, and whether layers in random order can be separated as well."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headatlas.analysis.significance import DRAWS, holm, loglik, p_from_draws

if TYPE_CHECKING:
    import numpy as np

MEMORY = 300_000
"""Layer counts in memory at once."""


@dataclass(frozen=True)
class Boundary:
    """The layer that best separates early from late layers.

    Args:
        category: None for heads with any category.
        layer: the first late layer; if several boundaries tie, the first of them. None, like the fields that depend on
            it, if there is nothing to test, see `untestable`.
        ties: the first late layers of all boundaries with the same statistic, including `layer`.
        early, late: share of the heads before `layer`, and from `layer` on, that have the category.
        statistic: the largest likelihood ratio over all boundaries, see `likelihood_ratios`.
        p: share of permutations of the layers whose largest ratio is at least this one. Each permutation has its own
            best boundary, which accounts for the choice of the boundary.
        p_adjusted: Holm-adjusted over all boundaries of the analysis.
        untestable: why there is no boundary, in words; empty if there is one.
    """

    category: str | None
    layer: int | None
    ties: tuple[int, ...]
    early: float | None
    late: float | None
    statistic: float | None
    p: float | None
    p_adjusted: float | None
    untestable: str = ""

    def among(self, layers: list[int]) -> Boundary:
        """The same boundary with the model's layer numbers, if it was found in a subset of the layers."""
        if self.layer is None:
            return self
        return replace(self, layer=layers[self.layer], ties=tuple(layers[tie] for tie in self.ties))


def find_boundaries(
    named: list[tuple[str | None, np.ndarray]], seed: int, n_draws: int = DRAWS
) -> tuple[Boundary, ...]:
    """The boundary of each (category, Bool[ndarray, "layer head"]), with p-values adjusted for their number.

    Null hypothesis: layers are exchangeable, which means that all orders of the layers' counts are equally likely.
    """
    found = [_boundary(category, has, seed, n_draws) for category, has in named]
    adjusted = holm([boundary.p for boundary in found])
    return tuple(replace(boundary, p_adjusted=p) for boundary, p in zip(found, adjusted, strict=True))


def likelihood_ratios(counts: np.ndarray, n_heads: int) -> np.ndarray:
    """Likelihood ratio of two binomial rates against one rate, for every boundary.

    `LR(b) = 2 (ll(early) + ll(late) - ll(all))`, where `early` are the heads of the layers before `b`, `late` the heads
    of the other layers, and `ll(k of n) = k log(k/n) + (n-k) log(1-k/n)`. At least 0; a deviance in natural logarithms.

    Args:
        counts: heads with the category in each layer, 0 to `n_heads`: Int[ndarray, "... n_layers"].
        n_heads: heads per layer.

    Returns:
        Float[ndarray, "... n_layers-1"], the ratio for b = 1 to n_layers - 1.
    """
    import numpy as np

    n_layers = counts.shape[-1]
    early = counts.cumsum(-1)[..., :-1]
    total = counts.sum(-1, keepdims=True)
    n_early = np.arange(1, n_layers) * n_heads
    n_all = n_layers * n_heads
    ratios = 2 * (loglik(early, n_early) + loglik(total - early, n_all - n_early) - loglik(total, n_all))
    # Mirror images differ by rounding; they must tie on every machine.
    return ratios.round(9)


def best_boundary(counts: np.ndarray, n_heads: int) -> tuple[np.ndarray, np.ndarray]:
    """The boundary with the largest ratio, the first if several tie; arguments as in `likelihood_ratios`.

    Returns:
        The first late layer, and the ratio there: ndarrays with the leading dimensions of `counts`.
    """
    ratios = likelihood_ratios(counts, n_heads)
    return ratios.argmax(-1) + 1, ratios.max(-1)


def _boundary(category: str | None, has: np.ndarray, seed: int, n_draws: int) -> Boundary:
    import numpy as np

    counts, n_heads = has.sum(1), has.shape[1]
    if reason := _untestable(counts):
        return Boundary(category, None, (), None, None, None, None, None, reason)
    ratios = likelihood_ratios(counts, n_heads)
    statistic = float(ratios.max())
    ties = tuple(int(layer) + 1 for layer in np.flatnonzero(ratios == statistic))
    early, late = float(has[: ties[0]].mean()), float(has[ties[0] :].mean())
    p = _permutation_p(counts, n_heads, statistic, seed, n_draws)
    return Boundary(category, ties[0], ties, early, late, statistic, p, None)


def _untestable(counts: np.ndarray) -> str:
    if len(counts) < 2:
        return "the model has one layer"
    if not counts.any():
        return "there is no such head"
    if (counts == counts[0]).all():
        return "all layers have the same number of such heads"
    return ""


def _permutation_p(counts: np.ndarray, n_heads: int, statistic: float, seed: int, n_draws: int) -> float:
    import numpy as np

    generator = np.random.default_rng(seed)
    at_once = max(1, MEMORY // len(counts))
    n_at_least = 0
    for start in range(0, n_draws, at_once):
        orders = generator.permuted(np.tile(counts, (min(at_once, n_draws - start), 1)), axis=1)
        n_at_least += int(np.count_nonzero(likelihood_ratios(orders, n_heads).max(-1) >= statistic))
    return p_from_draws(n_at_least, n_draws)
