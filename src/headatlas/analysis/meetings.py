"""Categories that meet in the same heads more or less often than by chance, over the model and within layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING

from headatlas.analysis.significance import holm

if TYPE_CHECKING:
    import numpy as np

    Named = tuple[str, np.ndarray]

EQUAL = 1 + 1e-7
"""Probabilities with a smaller ratio count as equal, because of rounding; R's fisher.test uses the same factor."""


@dataclass(frozen=True)
class Meeting:
    """The number of heads with both of two properties, compared with chance.

    Categories that prefer the same layers meet often for that reason alone, so there are two chance levels.

    Args:
        pair: the two properties, for example two categories.
        observed: heads with both.
        expected: `n_a n_b / n`, if each property is spread over all `n` heads of the model.
        p: Fisher's exact test, two-sided, on the table of all heads; None if only one outcome is possible.
        p_adjusted: Holm-adjusted over all pairs.
        expected_in_layers: `sum over layers of n_a n_b / n_heads`, if each property is spread within its own layers.
        p_in_layers: exact, two-sided: if heads are shuffled within each layer, the probability of all outcomes that
            are at most as likely as the observed one, see `overlap_in_layers`. None if only one outcome is possible.
        p_in_layers_adjusted: Holm-adjusted over all pairs.
    """

    pair: tuple[str, str]
    observed: int
    expected: float
    p: float | None
    p_adjusted: float | None
    expected_in_layers: float
    p_in_layers: float | None
    p_in_layers_adjusted: float | None

    @property
    def ratio(self) -> float | None:
        """`observed / expected`; None if `expected` is 0."""
        return self.observed / self.expected if self.expected else None

    @property
    def ratio_in_layers(self) -> float | None:
        """`observed / expected_in_layers`; None if `expected_in_layers` is 0."""
        return self.observed / self.expected_in_layers if self.expected_in_layers else None


def find_meetings(named: list[Named]) -> tuple[Meeting, ...]:
    """The meetings of all pairs of (name, Bool[ndarray, "layer head"]) that have heads."""
    return _test(combinations(named, 2))


def find_meetings_between(one: list[Named], other: list[Named]) -> tuple[Meeting, ...]:
    """The meetings of each property of one list with each of another, as `find_meetings`."""
    return _test(product(one, other))


def _test(pairs: Iterable[tuple[Named, Named]]) -> tuple[Meeting, ...]:
    rows = [((first, second), *_meet(a, b)) for (first, a), (second, b) in pairs if a.any() and b.any()]
    adjusted, adjusted_in_layers = holm([row[3] for row in rows]), holm([row[5] for row in rows])
    return tuple(
        Meeting(pair, observed, expected, p, p_adjusted, in_layers, p_in_layers, p_in_layers_adjusted)
        for (pair, observed, expected, p, in_layers, p_in_layers), p_adjusted, p_in_layers_adjusted in zip(
            rows, adjusted, adjusted_in_layers, strict=True
        )
    )


def overlap_in_layers(a: np.ndarray, b: np.ndarray, n_heads: int) -> np.ndarray:
    """Exact distribution of the number of heads with both of two properties, if heads are shuffled within each layer.

    In one layer the number is hypergeometric, `P(j) = C(a, j) C(n_heads - a, b - j) / C(n_heads, b)`. Layers are
    independent, so the distribution of the sum is the convolution of the layers' distributions.

    Args:
        a, b: heads with each property by layer, 0 to `n_heads`: Int[ndarray, "n_layers"].
        n_heads: heads per layer.

    Returns:
        Probability of 0, 1, 2, ... such heads, up to the largest possible number: Float[ndarray, "n_outcomes"].
    """
    import numpy as np
    from scipy.stats import hypergeom

    distribution = np.ones(1)
    for in_a, in_b in zip(a, b, strict=True):
        layer = hypergeom.pmf(np.arange(min(in_a, in_b) + 1), n_heads, in_a, in_b)
        distribution = np.convolve(distribution, layer)
    return distribution


def two_sided(distribution: np.ndarray, observed: int) -> float:
    """Probability of all outcomes that are at most as likely as the observed one."""
    return min(1.0, float(distribution[distribution <= distribution[observed] * EQUAL].sum()))


def _meet(a: np.ndarray, b: np.ndarray) -> tuple[int, float, float | None, float, float | None]:
    import numpy as np

    in_a, in_b, n_heads = a.sum(1), b.sum(1), a.shape[1]
    n_a, n_b, observed = int(in_a.sum()), int(in_b.sum()), int((a & b).sum())
    p = p_in_layers = None
    # A layer (or the model) can vary only if each property has some, but not all, of its heads.
    if n_a < a.size and n_b < b.size:
        # Fisher's test is the exact test of a model with one layer.
        p = two_sided(overlap_in_layers(np.array([n_a]), np.array([n_b]), a.size), observed)
    if ((in_a > 0) & (in_a < n_heads) & (in_b > 0) & (in_b < n_heads)).any():
        p_in_layers = two_sided(overlap_in_layers(in_a, in_b, n_heads), observed)
    return observed, n_a * n_b / a.size, p, int((in_a * in_b).sum()) / n_heads, p_in_layers
