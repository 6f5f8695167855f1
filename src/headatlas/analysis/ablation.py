"""The orders of removal in the table `ablation`."""

from __future__ import annotations

BY_SCORE = "score"
"""Column `order` of the table: the heads of the relation are removed, the strongest first."""


def random_order(draw: int) -> str:
    """Column `order` of the table: a random draw of other heads is removed; draws are counted from 1."""
    return f"random {draw}"


def is_random_order(order: str) -> bool:
    """Whether a value of the column `order` is that of a random draw.

    >>> is_random_order(random_order(3)), is_random_order(BY_SCORE)
    (True, False)
    """
    return order != BY_SCORE
