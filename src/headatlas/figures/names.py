"""Places for names of heads in a panel, so that they hide neither each other nor strong heads.

Knows no matplotlib: positions are in cells, sizes of text in inches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from headatlas.figures.ruler import Ruler

PAD = 0.03
"""Inches between a head and its name."""

FARTHEST = 6
"""Lines of text, and their lengths, by which a name may be away from its head."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in cells."""


@dataclass(frozen=True)
class Place:
    """Where a name is.

    Args:
        x, y: of the side of the text that `align` names, in cells.
        line: ((x, x), (y, y)) from head to name; empty for a name next to its head.
    """

    x: float
    y: float
    align: Literal["left", "right"]
    line: tuple[tuple[float, float], tuple[float, float]] | tuple[()]


class HeadNames:
    """Finds a place for one name after the other.

    Args:
        size: of the text in points; cell: side of a cell in inches.
        shape: numbers of layers and heads.
        strong: heads that no name may hide.
    """

    def __init__(
        self, ruler: Ruler, size: float, cell: float, shape: tuple[int, ...], strong: list[tuple[int, int]]
    ) -> None:
        self.ruler, self.size, self.cell = ruler, size, cell
        self.n_layers, self.n_heads = shape
        self.height = size / 72 * 1.1 / cell
        self.taken: list[Box] = [(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for x, y in strong]

    def place(self, layer: int, head: int, text: str) -> Place | None:
        """The nearest free place left or right of a head; None if there is none."""
        width = self.ruler.width(text, self.size) / self.cell
        for away, down, side in self._offsets():
            edge = layer + side * (0.5 + PAD / self.cell + away)
            middle = head + down
            left, right = (edge - width, edge) if side < 0 else (edge, edge + width)
            box = left, middle - self.height / 2, right, middle + self.height / 2
            inside = left > -0.4 and right < self.n_layers - 0.6
            if not inside or box[1] < -0.6 or box[3] > self.n_heads - 0.4:
                continue
            start, end = (layer + side * 0.5, head), (edge, middle)
            if any(_meet(box, other) for other in self.taken):
                continue
            near = away == 0 and abs(down) < 0.75
            if not near and any(_crosses(start, end, other) for other in self.taken):
                continue
            self.taken.append(box)
            if near:
                return Place(edge, middle, "right" if side < 0 else "left", ())
            self.taken.append(_thin(start, end))
            return Place(edge, middle, "right" if side < 0 else "left", ((start[0], end[0]), (start[1], end[1])))
        return None

    def _offsets(self) -> Iterator[tuple[float, float, int]]:
        """(away, down, side) in cells, the nearest first."""
        step = self.height / 2
        found = [(0.0, 0.0, side) for side in (-1, 1)]
        found += [
            (away * self.height * 0.7, down * step, side)
            for away in range(1, FARTHEST)
            for down in range(-2 * FARTHEST, 2 * FARTHEST + 1)
            for side in (-1, 1)
        ]
        # A small shift needs no line where cells are smaller than text.
        found += [(0.0, down, side) for down in (-0.5, 0.5) for side in (-1, 1)]
        return iter(sorted(found, key=lambda each: (each[0] + abs(each[1]), each[2] > 0)))


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _thin(start: tuple[float, float], end: tuple[float, float]) -> Box:
    """A narrow box around the middle of a line, so that no name is written over it."""
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    return x - 0.1, y - 0.1, x + 0.1, y + 0.1


def _crosses(start: tuple[float, float], end: tuple[float, float], box: Box) -> bool:
    """Whether a line from outside a head to its name goes through a box."""
    for part in (0.15, 0.3, 0.45, 0.6, 0.75, 0.9):
        x, y = start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])
        if box[0] < x < box[2] and box[1] < y < box[3]:
            return True
    return False
