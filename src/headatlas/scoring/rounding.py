"""How far apart two float32 logits must be for their order to be certain. Knows arrays only."""

from __future__ import annotations

import torch
from torch import Tensor

ALLOWANCE = 8.0
"""Rounding error allowed for, in units of epsilon x norms. Errors seen in practice are about a hundredth of it."""


def error_lengths(x: Tensor, W_V: Tensor, value: Tensor) -> Tensor:
    """Bound on the rounding error of `value = x @ W_V` and on what later products add to it, in units of epsilon.

    Args:
        x: Float[Tensor, "n_sources d_model"].
        W_V: Float[Tensor, "d_model d_head"].
        value: Float[Tensor, "n_sources d_head"].

    Returns:
        Float[Tensor, "n_sources"], to be multiplied by the norms of the factors that follow.
    """
    return torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(W_V) + 2 * torch.linalg.vector_norm(
        value, dim=1
    )


def certain_margin(lengths: Tensor, W_O: Tensor, largest_norm: Tensor) -> Tensor:
    """The difference beyond which the order of two logits of one source is certain: Float[Tensor, "n_sources"].

    The rounding error of a dot product is about epsilon times the product of the two norms. Each of the three products
    contributes, and the norms of the factors that follow carry its error on to the logits. The output of a head is at
    most as long as its value times the norm of W_O, whatever the order of the products.

    Args:
        lengths: as `error_lengths` returns them.
        W_O: Float[Tensor, "d_head d_model"].
        largest_norm: the largest norm of a row of W_U, Float[Tensor, ""].
    """
    carried = lengths * torch.linalg.vector_norm(W_O)
    return 2 * ALLOWANCE * torch.finfo(lengths.dtype).eps * carried * largest_norm
