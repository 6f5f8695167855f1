"""The differences between two atlases: a panel per category with the heads kept, gained and lost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import tick_step, ticks
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import FRAME, INK, plain_style
from headatlas.figures.wording import one_line

if TYPE_CHECKING:
    from headatlas.analysis.compare import CategoryChange, Comparison

LOST = "#262626"
KEPT = 0.45
"""Share of a category's colour in the colour of its kept heads; the rest is white."""

PANELS_IN_ROW, PANEL = 3, 3.0
"""Panels in a row, and the longer side of a panel in inches."""


def draw_comparison(comparison: Comparison, *, palette: str = "paper") -> Figure:
    """Draw which heads keep, gain and lose each category from the first atlas to the second.

    Args:
        palette: `paper` or `colour-blind`.

    Raises:
        SettingsError: another palette.
    """
    chosen = checked_palette(palette)
    names = tuple(change.category for change in comparison.categories[1:])
    colours = {comparison.categories[0].category: chosen.of_count(2)} | chosen.of_categories(names)
    n_layers, n_heads = comparison.categories[0].kept.shape
    n_columns = min(PANELS_IN_ROW, len(comparison.categories))
    n_rows = math.ceil(len(comparison.categories) / n_columns)
    cell = PANEL / max(n_layers, n_heads)
    size = (n_columns * (n_layers * cell + 0.75), n_rows * (n_heads * cell + 0.75) + 0.9)
    with plain_style():
        first, second = one_line(comparison.first, 40), one_line(comparison.second, 40)
        title = f"From {first} to {second} ({comparison.side} above {comparison.threshold}, {comparison.rule})"
        figure = AtlasFigure(size, {"Title": title})
        figure.suptitle(title, size=9.5, color=INK)
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes, change in zip(panels, comparison.categories, strict=False):
            pixels = _pixels(change, comparison.has_heads, colours[change.category], chosen.unclassified,
                             chosen.not_applicable)  # fmt: skip
            axes.imshow(pixels, interpolation="nearest", aspect="equal")
            name = one_line(change.category) if change is not comparison.categories[0] else "All Categories"
            axes.set_title(f"{name}: {change.first} → {change.second}", size=9, color=INK)
            step = tick_step(n_layers, n_heads)
            axes.set_xticks(ticks(n_layers, step))
            axes.set_yticks(ticks(n_heads, step))
            axes.set_xlabel("layer", size=8, color=INK)
            axes.set_ylabel("head", size=8, color=INK)
            axes.tick_params(labelsize=7, width=0.5, length=2.5, color=FRAME, labelcolor=INK)
            for spine in axes.spines.values():
                spine.set(linewidth=0.5, color=FRAME)
        for axes in panels[len(comparison.categories) :]:
            axes.set_visible(False)
        sample = colours[comparison.categories[0].category]
        swatches = {
            "kept": _mixed(sample), "gained": sample, "lost": LOST, "in neither": chosen.unclassified,
        } | ({} if comparison.has_heads.all() else {"no heads": chosen.not_applicable})  # fmt: skip
        handles = [Patch(facecolor=colour, label=name) for name, colour in swatches.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=8, labelcolor=INK)
    return figure


def _mixed(colour: str) -> tuple[float, ...]:
    return tuple(KEPT * part + 1 - KEPT for part in to_rgb(colour))


def _pixels(change: CategoryChange, has_heads: np.ndarray, colour: str, neither: str, none: str) -> np.ndarray:
    """Colours of the image, head by layer: Float[ndarray, "n_heads n_layers 3"]."""
    pixels = np.empty((*change.kept.shape, 3))
    pixels[:] = to_rgb(neither)
    pixels[~has_heads] = to_rgb(none)
    for chosen, shown in ((change.kept, _mixed(colour)), (change.gained, to_rgb(colour)), (change.lost, to_rgb(LOST))):
        pixels[chosen] = shown
    return pixels.transpose(1, 0, 2)
