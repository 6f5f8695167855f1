"""How far apart two float32 logits must be for their order to be certain. Knows arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ALLOWANCE = 8.0
"""Rounding error allowed for, in units of epsilon x sizes. Errors seen in practice are about a hundredth of it."""

ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Reach:
    """How large a logit can be for an output whose channels have given sizes.

    Channels of an output may differ by orders of magnitude, and those of the unembedding in the opposite way. A bound
    from the norms of both would then be far too large, so a second bound divides each channel of the unembedding by
    its own size first.

    Args:
        largest: norm of the longest row of W_U, Float[Tensor, ""].
        scale: size of each of its channels, Float[Tensor, "d_model"].
        largest_scaled: norm of the longest row of W_U / scale, Float[Tensor, ""].
    """

    largest: Tensor
    scale: Tensor
    largest_scaled: Tensor

    @classmethod
    def of(cls, W_U: Tensor) -> Reach:
        """The reach of an unembedding: Float[Tensor, "d_vocab d_model"]."""
        norm = torch.linalg.vector_norm
        scale = norm(W_U, dim=0) / max(1, len(W_U)) ** 0.5
        scale = torch.where(scale > 0, scale, 1)
        longest, longest_scaled = (
            torch.stack([norm(rows / by, dim=1).max() for rows in W_U.split(ROWS_AT_ONCE)]).max() for by in (1, scale)
        )
        return cls(longest, scale, longest_scaled)

    def double(self) -> Reach:
        return Reach(self.largest.double(), self.scale.double(), self.largest_scaled.double())

    def farthest(self, sizes: Tensor) -> Tensor:
        """A bound on `sizes @ abs(row)` over all rows of W_U, for sizes of 0 or more: Float[Tensor, "..."].

        Args:
            sizes: Float[Tensor, "... d_model"].
        """
        norm = torch.linalg.vector_norm
        plain, scaled = norm(sizes, dim=-1) * self.largest, norm(sizes * self.scale, dim=-1) * self.largest_scaled
        return torch.minimum(plain, scaled)


def error_lengths(x: Tensor, W_V: Tensor, value: Tensor) -> Tensor:
    """Bound on the rounding error of `value = x @ W_V` and on what later products add to it, in units of epsilon.

    Args:
        x: Float[Tensor, "n_sources d_model"].
        W_V: Float[Tensor, "d_model d_head"].
        value: Float[Tensor, "n_sources d_head"].

    Returns:
        Float[Tensor, "n_sources"], to be multiplied by the sizes of the factors that follow.
    """
    return x.abs() @ torch.linalg.vector_norm(W_V, dim=1) + 2 * torch.linalg.vector_norm(value, dim=1)


def certain_margin(lengths: Tensor, W_O: Tensor, reach: Reach) -> Tensor:
    """The difference beyond which the order of two logits of one source is certain: Float[Tensor, "n_sources"].

    The rounding error of a dot product is about epsilon times the product of the sizes of both factors. Each of the
    three products contributes, and the sizes of the factors that follow carry its error on to the logits. A channel of
    a head's output is at most as large as the length of its value times that of the channel's column of W_O, whatever
    the order of the products. It is infinite if the output may exceed what the type can hold.

    Args:
        lengths: as `error_lengths` returns them.
        W_O: Float[Tensor, "d_head d_model"].
        reach: of the unembedding.
    """
    margin = _units(lengths.dtype) * lengths * reach.farthest(torch.linalg.vector_norm(W_O, dim=0))
    return torch.where(torch.isfinite(lengths * torch.linalg.vector_norm(W_O)), margin, torch.inf)


def vector_margin(x: Tensor, reach: Reach) -> Tensor:
    """The same for vectors in the place of outputs: Float[Tensor, "n_sources"].

    Args:
        x: Float[Tensor, "n_sources d_model"].
    """
    return _units(x.dtype) * reach.farthest(x.abs())


def _units(dtype: torch.dtype) -> float:
    return 2 * ALLOWANCE * torch.finfo(dtype).eps
