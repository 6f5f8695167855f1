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
    """q-values of p-values, ndarrays of the same shape (Benjamini and Hochberg, 1995).

    The numbers of `scipy.stats.false_discovery_control`, whose import takes longer than all else that a list of heads
    needs.
    """
    import numpy as np

    ordered = np.argsort(p_values, axis=None)
    n = len(ordered)
    scaled = p_values.ravel()[ordered] * (n / np.arange(1, n + 1))
    q_values = np.empty(n)
    q_values[ordered] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.clip(q_values, 0, 1).reshape(p_values.shape)
