"""The figure that all pictures are drawn on: it carries the metadata of its file, and shows itself in IPython."""

from __future__ import annotations

from typing import Literal

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from headatlas.figures.saving import render

DPI = 160


class AtlasFigure(Figure):
    """A matplotlib figure with an Agg canvas, in the fonts that are set while it is made.

    Args:
        size: width and height in inches.
        metadata: facts for the file, `Title` among them.
        dpi: pixels per inch.
        layout: matplotlib's layout engine; None to place everything by hand.
    """

    def __init__(
        self,
        size: tuple[float, float],
        metadata: dict[str, str],
        *,
        dpi: int = DPI,
        layout: Literal["constrained"] | None = "constrained",
    ) -> None:
        super().__init__(figsize=size, dpi=dpi, facecolor="white", layout=layout)
        FigureCanvasAgg(self)
        self.metadata = metadata
        self.fonts: list[str] = list(matplotlib.rcParams["font.family"])

    def _repr_png_(self) -> bytes:
        return render(self, "png")
