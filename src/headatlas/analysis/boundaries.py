"""The layer that best divides early from late, and whether layers in another order divide as well."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headatlas.analysis.significance import DRAWS, holm, loglik, p_from_draws

if TYPE_CHECKING:
    import numpy as np

MEMORY = 300_000
"""Layer counts that are drawn at a time."""


@dataclass(frozen=True)
class Boundary:
    """The layer that best divides early from late.

    Args:
        category: None for heads with any category.
        layer: the first late layer, the first where several boundaries tie; None where nothing can be tested (see
            `untestable`), as are the fields that follow from it.
        ties: all first late layers of equal statistic, `layer` among them.
        early, late: share of the heads before, and from, `layer` that have the category.
        statistic: the largest likelihood ratio over all boundaries, see `likelihood_ratios`.
        p: share of permutations of the layers whose largest ratio is at least this one. The maximum is taken anew in
            each, so that choosing the best boundary is paid for.
        p_adjusted: after Holm, over all boundaries of the analysis.
        untestable: why there is no boundary, in words; empty where there is one.
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
        """The same boundary, found among some of the model's layers, by those layers' own numbers."""
        if self.layer is None:
            return self
        return replace(self, layer=layers[self.layer], ties=tuple(layers[tie] for tie in self.ties))


def find_boundaries(
    named: list[tuple[str | None, np.ndarray]], seed: int, n_draws: int = DRAWS
) -> tuple[Boundary, ...]:
    """The boundary of each (category, Bool[ndarray, "layer head"]), with p-values adjusted over all of them.

    Null hypothesis: layers are exchangeable, that is, each order of the layers' counts is equally likely.
    """
    found = [_boundary(category, has, seed, n_draws) for category, has in named]
    adjusted = holm([boundary.p for boundary in found])
    return tuple(replace(boundary, p_adjusted=p) for boundary, p in zip(found, adjusted, strict=True))


def likelihood_ratios(counts: np.ndarray, n_heads: int) -> np.ndarray:
    """Likelihood ratio of two binomial rates against one, for every boundary.

    `LR(b) = 2 (ll(early) + ll(late) - ll(all))`, where `early` are the heads of layers below `b`, `late` those of the
    others, and `ll(k of n) = k log(k/n) + (n-k) log(1-k/n)`. At least 0; a deviance in natural logarithms.

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
    # Mirror images differ by rounding; ties must be ties wherever this runs.
    return ratios.round(9)


def best_boundary(counts: np.ndarray, n_heads: int) -> tuple[np.ndarray, np.ndarray]:
    """The boundary with the largest ratio, the first where several tie; arguments as in `likelihood_ratios`.

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
        return "all layers have equally many such heads"
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
