"""Sizes of text in inches, as matplotlib's Agg renderer will draw it; shortening and wrapping to a width."""

from __future__ import annotations

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties


class Ruler:
    """Measures text.

    Args:
        dpi: pixels per inch of the drawn figure.
    """

    def __init__(self, dpi: int) -> None:
        self.dpi = dpi
        self.renderer = RendererAgg(8, 8, dpi)

    def width(self, text: str, size: float, weight: str = "normal") -> float:
        properties = FontProperties(size=size, weight=weight)
        return self.renderer.get_text_width_height_descent(text, properties, ismath=False)[0] / self.dpi

    def shorten(self, text: str, size: float, at_most: float) -> str:
        """The text, or the longest beginning that fits with an ellipsis."""
        if self.width(text, size) <= at_most:
            return text
        length = len(text)
        while length > 1 and self.width(text[:length].rstrip() + "…", size) > at_most:
            length -= 1
        return text[:length].rstrip() + "…"

    def wrap(self, parts: list[str], size: float, at_most: float) -> list[str]:
        """The parts joined by dots, in lines no wider than `at_most`."""
        lines, line = [], ""
        for number, part in enumerate(parts):
            for place, word in enumerate(part.split(" ")):
                word = self.shorten(word, size, at_most)
                between = "" if not line else "  ·  " if place == 0 and number > 0 else " "
                # A part that fits on one line is not broken.
                ahead = part if place == 0 and self.width(part, size) <= at_most else word
                if line and self.width(line + between + ahead, size) > at_most:
                    lines.append(line)
                    line = word
                else:
                    line += between + word
        return [*lines, line]
