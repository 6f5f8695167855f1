"""The layers in which a category begins, is densest and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Span:
    """The layers of a category, counted from 0.

    Args:
        category: None for heads with any category.
        n_heads: number of heads with the category.
        n_layers: layers of the model.
        first, last: layers of its first and last head; None if no head has the category.
        quartiles: the first layers by the end of which at least 25, 50 and 75 % of its heads have occurred.
        densest: the layers with the most heads of the category, including ties.
        most: the number of heads in such a layer.
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
        """Relative depth, `layer / (n_layers - 1)`: 0 in the first layer, 1 in the last; None if there is only one."""
        return layer / (self.n_layers - 1) if self.n_layers > 1 else None


def find_span(category: str | None, has: np.ndarray) -> Span:
    """The span of the heads in `has`: Bool[ndarray, "layer head"]."""
    import numpy as np

    counts = has.sum(1)
    n = int(counts.sum())
    if not n:
        return Span(category, 0, len(counts), None, None, None, (), 0)
    reached = counts.cumsum()
    # Whole numbers: comparing 4 * heads >= quarters * n involves no rounding.
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
