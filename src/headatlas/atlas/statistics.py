"""Statistics of scores: Wilson's interval of a share, and Benjamini and Hochberg's q-values. Knows numbers only."""

from __future__ import annotations

from typing import Any

Z_95 = 1.959963984540054
"""Quantile of the normal distribution for two-sided 95 % intervals."""


def wilson_interval(share: Any, n: Any) -> tuple[Any, Any]:
    """Wilson's 95 % interval of a share (1927), (low, high).

    Args:
        share: 0 to 1; a number or an array.
        n: the number of trials behind each share, in a shape that broadcasts.

    >>> low, high = wilson_interval(0.5, 40)
    >>> round(float(low), 3), round(float(high), 3)
    (0.352, 0.648)
    """
    import numpy as np

    square = Z_95 * Z_95 / n
    middle = (share + square / 2) / (1 + square)
    half = Z_95 / (1 + square) * np.sqrt(share * (1 - share) / n + square / (4 * n))
    # Rounding must not lead outside 0 to 1.
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def benjamini_hochberg(p_values: Any) -> Any:
    """q-values of p-values, ndarrays of the same shape (Benjamini and Hochberg, 1995)."""
    from scipy.stats import false_discovery_control

    return false_discovery_control(p_values.ravel()).reshape(p_values.shape)
