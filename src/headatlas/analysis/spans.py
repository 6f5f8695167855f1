"""Where a category begins, is densest and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Span:
    """Where a category lies in the layers, counted from 0.

    Args:
        category: None for heads with any category.
        n_heads: heads with the category.
        n_layers: layers of the model.
        first, last: layers of its first and last head; None where no head has it.
        quartiles: the first layers up to and with which at least 25, 50 and 75 % of its heads lie.
        densest: the layers with most of its heads, all that tie; `most` is that number of heads.
    """

    category: str | None
    n_heads: int
    n_layers: int
    first: int | None
    quartiles: tuple[int, int, int] | None
    last: int | None
    densest: tuple[int, ...]
    most: int

    def depth(self, layer: int) -> float | None:
        """Relative depth, `layer / (n_layers - 1)`: 0 in the first layer, 1 in the last; None where there is one."""
        return layer / (self.n_layers - 1) if self.n_layers > 1 else None


def find_span(category: str | None, has: np.ndarray) -> Span:
    """The span of the heads in `has`: Bool[ndarray, "layer head"]."""
    import numpy as np

    counts = has.sum(1)
    n = int(counts.sum())
    if not n:
        return Span(category, 0, len(counts), None, None, None, (), 0)
    reached = counts.cumsum()
    # Whole numbers: a share of n compared as 4 * heads >= quarters * n has no rounding.
    quarter, half, three_quarters = (int(np.argmax(4 * reached >= quarters * n)) for quarters in (1, 2, 3))
    layers = np.flatnonzero(counts)
    densest = tuple(int(layer) for layer in np.flatnonzero(counts == counts.max()))
    return Span(
        category,
        n,
        len(counts),
        int(layers[0]),
        (quarter, half, three_quarters),
        int(layers[-1]),
        densest,
        int(counts.max()),
    )
