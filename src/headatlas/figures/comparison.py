"""The differences between two atlases: a panel per category with the heads kept, gained and lost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import plot_look
from headatlas.figures.palettes import checked_palette
from headatlas.figures.proportions import ticks
from headatlas.figures.style import FRAME, INK, heading, plain_style
from headatlas.figures.wording import one_line

if TYPE_CHECKING:
    from headatlas.analysis.compare import CategoryChange, Comparison

KEPT, GAINED, LOST, NEITHER = "#2a6865", "#5efe49", "#cb13f7", "#e0e0e0"
"""Found by a search: CIE76 distances of at least 45 among them under normal sight, protanopia, deuteranopia and
tritanopia, and of at least 39 from the colours of the categories. tests/figures/test_palettes.py measures it."""

PANELS_IN_ROW, PANEL, MOST_HIGH, LABELS = 3, 3.0, 2.4, 0.5
"""Panels in a row; the longer side of a panel on a screen, its height on paper, and room for labels, in inches."""

NUMBER = 0.15
"""Inches that the number of a tick takes."""


def draw_comparison(
    comparison: Comparison,
    *,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
    caption: bool = True,
) -> Figure:
    """Draw which heads keep, gain and lose each category from the first atlas to the second.

    The colours of these are those of no category, and every eye tells them apart.

    Args:
        palette: `paper` or `colour-blind`, of the other heads.
        width: `screen` (default), `page` (5.5 in), `column` (3.25 in), or a number of inches from 2 to 40.
        font: `sans` (DejaVu Sans) or `serif` (STIX, which looks like Times).
        caption: whether the figure has a title; the file's metadata always has it.

    Raises:
        SettingsError: an argument is outside its range.
    """
    chosen, look = checked_palette(palette), plot_look(width, 0.0)
    n_layers, n_heads = comparison.categories[0].kept.shape
    shown = [
        change
        for number, change in enumerate(comparison.categories)
        if number == 0 or (change.kept | change.gained | change.lost).any()
    ]
    n_columns = min(PANELS_IN_ROW if look.width > 4.4 or not look.width else 2, len(shown))
    if len(shown) == 4:
        n_columns = 2
    n_rows = math.ceil(len(shown) / n_columns)
    panel = PANEL if not look.width else look.width / n_columns - LABELS
    cell = min(panel / n_layers, (PANEL if not look.width else MOST_HIGH) / n_heads)
    room = math.ceil(NUMBER / cell)
    inches = look.width or n_columns * (n_layers * cell + LABELS)
    size = (inches, n_rows * (n_heads * cell + 0.62) + 0.9)
    with plain_style(font):
        first, second = one_line(comparison.first, 40), one_line(comparison.second, 40)
        title = f"From {first} to {second} ({comparison.side} above {comparison.threshold}, {comparison.rule})"
        figure = AtlasFigure(size, {"Title": title, "Description": title}, dpi=look.dpi)
        if caption:
            figure.suptitle(heading(title, look, inches), size=look.title, color=INK)
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for number, (axes, change) in enumerate(zip(panels, shown, strict=False)):
            pixels = _pixels(change, comparison.has_heads, NEITHER, chosen.not_applicable)
            axes.imshow(pixels, interpolation="nearest", aspect="equal")
            for places, along in ((range(1, n_layers), axes.axvline), (range(1, n_heads), axes.axhline)):
                for place in places:
                    along(place - 0.5, color="white", linewidth=0.35 if cell < 0.1 else 0.6)
            name = "All" if change is comparison.categories[0] else one_line(change.category, 20)
            axes.set_title(f"{name}: {change.first} → {change.second}", size=look.label, color=INK, pad=3)
            across, down = ticks(n_layers, n_heads, room, room)
            axes.set_xticks(across)
            axes.set_yticks(down)
            axes.set_xlabel("layer", size=look.label, color=INK, labelpad=1.5)
            if number % n_columns == 0:
                axes.set_ylabel("head", size=look.label, color=INK)
            axes.tick_params(labelsize=7, width=0.5, length=2.5, color=FRAME, labelcolor=INK)
            for spine in axes.spines.values():
                spine.set(linewidth=0.5, color=FRAME)
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        swatches = {"in both": KEPT, "gained": GAINED, "lost": LOST, "in neither": NEITHER}
        if not comparison.has_heads.all():
            swatches["no heads"] = chosen.not_applicable
        handles = [Patch(facecolor=colour, label=name) for name, colour in swatches.items()]
        options = {"frameon": False, "fontsize": look.tick, "labelcolor": INK, "handlelength": 1, "columnspacing": 1.2}
        if len(shown) < len(panels):  # The place that is free has the legend.
            panels[-1].legend(handles=handles, loc="center", **options)
        else:
            figure.legend(handles=handles, loc="outside lower center", ncols=5, **options)
    return figure


def _pixels(change: CategoryChange, has_heads: np.ndarray, neither: str, none: str) -> np.ndarray:
    """Colours of the image, head by layer: Float[ndarray, "n_heads n_layers 3"]."""
    pixels = np.empty((*change.kept.shape, 3))
    pixels[:] = to_rgb(neither)
    pixels[~has_heads] = to_rgb(none)
    for chosen, colour in ((change.kept, KEPT), (change.gained, GAINED), (change.lost, LOST)):
        pixels[chosen] = to_rgb(colour)
    return pixels.transpose(1, 0, 2)
