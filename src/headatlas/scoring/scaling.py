"""Powers of two: factors far from 1 are brought to the size of 1, so that their products do not underflow or overflow.

A head's ranks do not depend on the sizes of its factors, and a product with a power of two is exact. Knows arrays only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ORDINARY = 16
"""Factors between 2**-16 and 2**16 are used as they are: products of four of them are safe in float32."""

MOST_SHIFT = 64
"""Outputs of heads are made smaller than 1 by at most this power, for logits of about 1."""


@dataclass(frozen=True)
class Scaled:
    """Factors times powers of two.

    Args:
        values: the products, Float32[Tensor, "..."].
        power: what was taken off each row or head: `stored = values * 2**power`, Int32[Tensor, "n"].
        below: all values are below 2**below.
    """

    values: Tensor
    power: Tensor
    below: int

    @classmethod
    def of(cls, stored: Tensor, to: int = 0) -> Scaled:
        """Factors whose rows (or heads, with more dimensions) have values of about 2**to; as they are if they have.

        Args:
            stored: Float32[Tensor, "n ..."].
        """
        power = power_above(stored, tuple(range(1, stored.ndim)))
        # Zeros fit everywhere.
        off = torch.where(power == NOTHING, 0, power - to)
        if int(off.abs().max()) <= ORDINARY:
            return cls(stored, torch.zeros_like(power), int(off.max()) + to)
        return cls(shifted(stored, -off.view(-1, *[1] * (stored.ndim - 1))), off, to)


NOTHING = -1000
"""In the place of the power of zeros."""


def power_above(values: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
    """The least whole power `p` with `abs(values) < 2**p`, NOTHING for zeros only: Int32[Tensor, "..."].

    Args:
        values: float32.
        dim: over which the largest is taken; None for all.
    """
    over = tuple(range(values.ndim)) if dim is None else dim
    largest = torch.maximum(values.amax(over), -values.amin(over))
    return torch.where(largest > 0, torch.frexp(largest).exponent.int(), NOTHING)


def shifted(values: Tensor, power: Tensor) -> Tensor:
    """`values * 2**power`, which is exact unless a result underflows.

    Args:
        values: float32.
        power: -250 to 250, Int32[Tensor, "..."].
    """
    half = torch.div(power, 2, rounding_mode="floor")
    return values * _power_of_two(half) * _power_of_two(power - half)


def _power_of_two(power: Tensor) -> Tensor:
    """2**power exactly: a float32 number with this exponent and the mantissa 1."""
    return ((power.int() + 127) << 23).view(torch.float32)


def power_of_outputs(of_unembedding: int) -> int:
    """The power that outputs of heads should have, for logits of about 1 with an unembedding of this power."""
    return 0 if of_unembedding <= ORDINARY else max(-of_unembedding, -MOST_SHIFT)


def not_tiny(W_U: Tensor) -> Tensor:
    """An unembedding, or, if it is very small, the same times a power of two, which is exact.

    A large one is not made smaller, because some of its numbers could underflow: see `power_of_outputs`.

    Args:
        W_U: Float32[Tensor, "d_vocab d_model"].
    """
    power = power_above(W_U)
    return W_U if power == NOTHING or power >= -ORDINARY else shifted(W_U, -power)
