"""How far apart two float32 logits must be for their order to be certain. Knows arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headatlas.scoring.scaling import Scaled, power_above

ALLOWANCE = 8.0
"""Rounding error allowed for, in units of epsilon x sizes. Errors seen in practice are about a hundredth of it."""

ELEMENTS_AT_ONCE = 2**23
"""Numbers of the unembedding that are in memory as float64 at once."""


@dataclass(frozen=True)
class Reach:
    """How large a logit can be for an output whose channels have given sizes.

    Channels of an output may differ by orders of magnitude, and those of the unembedding in the opposite way. A bound
    from the norms of both would then be far too large, so a second bound divides each channel of the unembedding by
    its own size first. All sizes are float64: squares of small weights underflow in float32.

    Args:
        largest: norm of the longest row of W_U, Float64[Tensor, ""].
        scale: size of each of its channels, Float64[Tensor, "d_model"].
        largest_scaled: norm of the longest row of W_U / scale, Float64[Tensor, ""].
        power: the entries of W_U are below 2**power, as `power_above` returns it.
    """

    largest: Tensor
    scale: Tensor
    largest_scaled: Tensor
    power: int

    @classmethod
    def of(cls, W_U: Tensor) -> Reach:
        """The reach of an unembedding: Float32[Tensor, "d_vocab d_model"]."""
        parts = W_U.split(max(1, ELEMENTS_AT_ONCE // W_U.shape[1]))
        scale = (torch.stack([rows.double().square().sum(0) for rows in parts]).sum(0) / max(1, len(W_U))).sqrt()
        scale = torch.where(scale > 0, scale, 1)
        longest, longest_scaled = (
            torch.stack([_norm(rows.double() / by, 1).max() for rows in parts]).max() for by in (1, scale)
        )
        return cls(longest, scale, longest_scaled, int(power_above(W_U)))

    def farthest(self, sizes: Tensor) -> Tensor:
        """A bound on `sizes @ abs(row)` over all rows of W_U, for sizes of 0 or more: Float64[Tensor, "..."].

        Args:
            sizes: Float[Tensor, "... d_model"].
        """
        plain, scaled = _norm(sizes, -1) * self.largest, _norm(sizes * self.scale, -1) * self.largest_scaled
        return torch.minimum(plain, scaled)


def error_lengths(x: Tensor, W_V: Tensor, value: Tensor) -> Tensor:
    """Bound on the rounding error of `value = x @ W_V` and on what later products add to it, in units of epsilon.

    Args:
        x: Float[Tensor, "n_sources d_model"].
        W_V: Float[Tensor, "d_model d_head"].
        value: Float[Tensor, "n_sources d_head"].

    Returns:
        Float64[Tensor, "n_sources"], to be multiplied by the sizes of the factors that follow.
    """
    return (x.abs() @ _norm(W_V, 1).to(x.dtype)).double() + 2 * _norm(value, 1)


def certain_margin(lengths: Tensor, W_O: Tensor, reach: Reach) -> Tensor:
    """The difference beyond which the order of two logits of one source is certain: Float64[Tensor, "n_sources"].

    The rounding error of a dot product is about epsilon times the product of the sizes of both factors. Each of the
    three products contributes, and the sizes of the factors that follow carry its error on to the logits. A channel of
    a head's output is at most as large as the length of its value times that of the channel's column of W_O, whatever
    the order of the products. What underflows is not contained; see `head_underflow`.

    Args:
        lengths: as `error_lengths` returns them.
        W_O: Float[Tensor, "d_head d_model"], of the type that computes the logits.
        reach: of the unembedding.
    """
    return _units(W_O.dtype) * lengths * reach.farthest(_norm(W_O, 0))


def vector_margin(x: Tensor, reach: Reach) -> Tensor:
    """The same for vectors in the place of outputs: Float64[Tensor, "n_sources"].

    Args:
        x: Float[Tensor, "n_sources d_model"], of the type that computes the logits.
    """
    parts = x.split(max(1, ELEMENTS_AT_ONCE // x.shape[1]))
    return _units(x.dtype) * torch.cat([reach.farthest(rows.abs()) for rows in parts])


def head_underflow(x: Scaled, W_V: Scaled, W_O: Scaled, reach: Reach) -> float:
    """What has to be added to `certain_margin` in float32 because numbers underflow.

    Below the smallest normal number, anything may be lost: a stored number, a product or a sum. Such a loss does not
    depend on the sizes of a source. It is far below all rounding where factors have about the size of 1, but it
    decides where logits are 0 but for what is lost.

    Args:
        x: Float[Tensor, "n_sources d_in"].
        W_V, W_O: of all heads of a layer, Float[Tensor, "n_kv_heads d_in d_head"], Float[Tensor, "n_heads d_head
            d_model"].
        reach: of the unembedding.
    """
    d_in, (_, d_head, d_model) = x.values.shape[1], W_O.values.shape
    of_x, of_V, of_O, of_U = (2.0**power for power in (x.below, W_V.below, W_O.below, reach.power))
    of_value = d_in * of_x * of_V
    lost_value = _lost(d_in, of_x, of_V)
    of_output = d_head * of_value * of_O
    lost_output = d_head * lost_value * of_O + _lost(d_head, of_value, of_O)
    of_product = d_model * of_O * of_U
    lost_product = _lost(d_model, of_O, of_U)
    by_outputs = d_model * lost_output * of_U + _lost(d_model, of_output, of_U)
    by_products = d_head * (lost_value * of_product + lost_product * of_value) + _lost(d_head, of_value, of_product)
    return 2 * (by_outputs + by_products)


def vector_underflow(d_model: int, x_power: int, W_U_power: int) -> float:
    """The same for `vector_margin`, for vectors below 2**x_power and an unembedding below 2**W_U_power."""
    return 2 * _lost(d_model, 2.0**x_power, 2.0**W_U_power)


def longest_row(W_U: Tensor) -> Tensor:
    """The largest norm of a row: Float64[Tensor, ""]."""
    return torch.stack([_norm(rows, 1).max() for rows in W_U.split(max(1, ELEMENTS_AT_ONCE // W_U.shape[1]))]).max()


def _lost(n: int, a: float, b: float) -> float:
    """What underflow may take from a sum of n products of numbers up to `a` and `b`: of each, its factors, the product
    itself and a partial sum."""
    return 4 * n * torch.finfo(torch.float32).tiny * max(1.0, a, b)


def _norm(values: Tensor, dim: int) -> Tensor:
    return torch.linalg.vector_norm(values, dim=dim, dtype=torch.float64)


def _units(dtype: torch.dtype) -> float:
    return 2 * ALLOWANCE * torch.finfo(dtype).eps
