"""Parts of several statistical tests: the binomial log-likelihood, p-values from draws, and Holm's adjustment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

DRAWS = 9999
"""Random draws of a permutation test; its smallest p-value is 1 / (DRAWS + 1)."""


def loglik(k: Any, n: Any) -> Any:
    """Log-likelihood of `k` heads of `n` at their own rate: `k log(k/n) + (n-k) log(1-k/n)`, with `0 log 0 = 0`."""
    from scipy.special import xlogy

    return xlogy(k, k) + xlogy(n - k, n - k) - xlogy(n, n)


def p_from_draws(n_at_least: int, n_draws: int) -> float:
    """`(1 + n_at_least) / (1 + n_draws)`: the observed arrangement counts as one of the draws, so that p is never 0.

    Phipson & Smyth, "Permutation P-values Should Never Be Zero", 2010.
    """
    return (1 + n_at_least) / (1 + n_draws)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for multiple tests, in the order given; None (not testable) stays None and is not counted.

    The `i`-th (from 0) of `m` p-values in ascending order becomes `max over j <= i of min(1, (m - j) p_j)`. The
    probability that any true null hypothesis of the family is rejected is then at most the level. Holm, 1979.

    >>> holm([0.01, None, 0.04])
    [0.02, None, 0.04]
    """
    tested = sorted((value, number) for number, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, number) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * value))
        adjusted[number] = largest
    return adjusted
