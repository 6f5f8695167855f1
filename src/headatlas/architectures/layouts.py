"""How families store the values of all heads: which rows of a fused weight are the value rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """Counts and widths of one layer's attention."""

    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int


Layout = Callable[[Sizes], "Tensor"]
"""Rows of the values of all kv heads, one head after the other: Int[Tensor, "n_kv_heads*d_head"]."""


def separate(sizes: Sizes) -> Tensor:
    """The values have a weight of their own."""
    import torch

    return torch.arange(sizes.n_kv_heads * sizes.d_head)


def concatenated(sizes: Sizes) -> Tensor:
    """All queries, then all keys, then all values."""
    return (sizes.n_heads + sizes.n_kv_heads) * sizes.d_head + separate(sizes)


def grouped(sizes: Sizes) -> Tensor:
    """For each kv head, the queries that read it, then its key, then its value."""
    import torch

    per_group = sizes.n_heads // sizes.n_kv_heads + 2
    rows = torch.arange(sizes.n_kv_heads * per_group * sizes.d_head)
    return rows.view(sizes.n_kv_heads, per_group, sizes.d_head)[:, -1].flatten()


def one_or_grouped(sizes: Sizes) -> Tensor:
    """GPT-BigCode: with one kv head, all queries, then the key, then the value; otherwise grouped."""
    return concatenated(sizes) if sizes.n_kv_heads == 1 else grouped(sizes)
