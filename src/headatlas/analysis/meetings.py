"""Which categories meet in the same heads more or less often than chance, over the model and within layers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from headatlas.analysis.significance import holm

if TYPE_CHECKING:
    import numpy as np

EQUAL = 1 + 1e-7
"""Probabilities that differ by less are equal but for rounding; R's fisher.test draws the same line."""


@dataclass(frozen=True)
class Meeting:
    """How many heads have both of two properties, against what chance gives.

    Categories that prefer the same layers meet often for that reason alone; so chance is reckoned twice.

    Args:
        pair: what meets, two categories for instance.
        observed: heads with both.
        expected: `n_a n_b / n`, if each were spread over all `n` heads of the model.
        p: Fisher's exact test, two-sided, on the table of all heads; None where only one outcome is possible.
        p_adjusted: after Holm, over all pairs.
        expected_in_layers: `sum over layers of n_a n_b / n_heads`, if each were spread only within its own layers.
        p_in_layers: exact, two-sided: the probability, when heads are shuffled within each layer, of all numbers that
            are no likelier than the observed one, see `overlap_in_layers`. None where only one outcome is possible.
        p_in_layers_adjusted: after Holm, over all pairs.
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
        """`observed / expected`; None where nothing is expected."""
        return self.observed / self.expected if self.expected else None

    @property
    def ratio_in_layers(self) -> float | None:
        """`observed / expected_in_layers`; None where nothing is expected."""
        return self.observed / self.expected_in_layers if self.expected_in_layers else None


def find_meetings(named: list[tuple[str, np.ndarray]]) -> tuple[Meeting, ...]:
    """All pairs of (name, Bool[ndarray, "layer head"]) of which both have a head."""
    rows = [
        ((first, second), *_meet(a, b)) for (first, a), (second, b) in combinations(named, 2) if a.any() and b.any()
    ]
    adjusted, adjusted_in_layers = holm([row[3] for row in rows]), holm([row[5] for row in rows])
    return tuple(
        Meeting(pair, observed, expected, p, p_adjusted, in_layers, p_in_layers, p_in_layers_adjusted)
        for (pair, observed, expected, p, in_layers, p_in_layers), p_adjusted, p_in_layers_adjusted in zip(
            rows, adjusted, adjusted_in_layers, strict=True
        )
    )


def overlap_in_layers(a: np.ndarray, b: np.ndarray, n_heads: int) -> np.ndarray:
    """Exact distribution of the number of heads with both of two properties, shuffled within each layer.

    In one layer the number is hypergeometric, `P(j) = C(a, j) C(n_heads - a, b - j) / C(n_heads, b)`; layers are
    independent, so the distribution of their sum is the convolution of theirs.

    Args:
        a, b: heads with each property by layer, 0 to `n_heads`: Int[ndarray, "n_layers"].
        n_heads: heads per layer.

    Returns:
        Probability of 0, 1, 2, ... such heads, up to the most that are possible: Float[ndarray, "n_outcomes"].
    """
    import numpy as np
    from scipy.stats import hypergeom

    distribution = np.ones(1)
    for in_a, in_b in zip(a, b, strict=True):
        layer = hypergeom.pmf(np.arange(min(in_a, in_b) + 1), n_heads, in_a, in_b)
        distribution = np.convolve(distribution, layer)
    return distribution


def two_sided(distribution: np.ndarray, observed: int) -> float:
    """Probability of all outcomes that are no likelier than the observed one."""
    return min(1.0, float(distribution[distribution <= distribution[observed] * EQUAL].sum()))


def _meet(a: np.ndarray, b: np.ndarray) -> tuple[int, float, float | None, float, float | None]:
    import numpy as np

    in_a, in_b, n_heads = a.sum(1), b.sum(1), a.shape[1]
    n_a, n_b, observed = int(in_a.sum()), int(in_b.sum()), int((a & b).sum())
    p = p_in_layers = None
    # A layer varies only where neither property has none or all of its heads; the whole model likewise.
    if n_a < a.size and n_b < b.size:
        # Fisher's test is the exact test of a model with one layer.
        p = two_sided(overlap_in_layers(np.array([n_a]), np.array([n_b]), a.size), observed)
    if ((in_a > 0) & (in_a < n_heads) & (in_b > 0) & (in_b < n_heads)).any():
        p_in_layers = two_sided(overlap_in_layers(in_a, in_b, n_heads), observed)
    return observed, n_a * n_b / a.size, p, int((in_a * in_b).sum()) / n_heads, p_in_layers
