"""How families store the values of all heads: which rows of a weight are the value rows.

Every function takes a weight as (rows, d_model) and gives the value rows of all kv heads, one head after the other,
(n_kv_heads * d_head, d_model).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """Counts and widths of a model."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_vocab: int


@dataclass(frozen=True)
class Layout:
    """Number of rows that the stored weight must have, and the value rows among them."""

    n_rows: Callable[[Sizes], int]
    values: Callable[[Tensor, Sizes], Tensor]


SEPARATE = Layout(
    n_rows=lambda sizes: sizes.n_kv_heads * sizes.d_head,
    values=lambda weight, sizes: weight,
)
"""The values have a weight of their own."""

QUERY_KEY_VALUE = Layout(
    n_rows=lambda sizes: (sizes.n_heads + 2 * sizes.n_kv_heads) * sizes.d_head,
    values=lambda weight, sizes: weight[-sizes.n_kv_heads * sizes.d_head :],
)
"""All queries, then all keys, then all values."""

PER_HEAD_QUERY_KEY_VALUE = Layout(
    n_rows=lambda sizes: 3 * sizes.n_heads * sizes.d_head,
    values=lambda weight, sizes: weight.view(sizes.n_heads, 3, sizes.d_head, -1)[:, 2].flatten(0, 1),
)
"""Query, key and value of the first head, then of the second, and so on."""
