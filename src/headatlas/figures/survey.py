"""The models of a survey side by side: the share of heads in each category."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import Look, plot_look
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import INK, QUIET, plain_style, style_plot
from headatlas.figures.wording import one_line

if TYPE_CHECKING:
    import pandas as pd

PANELS = (("score", "classified", "Heads that promote"), ("suppression", "suppressing", "Heads that suppress"))
ANY = "any category"
MARKERS = "osD^vP*X"
LONGEST_NAME = 28
MOST_NAMES = 48
"""If there are more models, only some of them are labelled."""


def draw_survey(
    index: pd.DataFrame,
    *,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
) -> Figure:
    """Draw the share of heads in each category, model by model in the index's order; score above, suppression below.

    Args:
        index: as `survey_models` returns it. A model without an atlas leaves a gap.
        palette: `paper` or `colour-blind`.
        width: `screen` (default), `page` (5.5 in), `column` (3.25 in), or a number of inches from 2 to 40.
        font: `sans` (DejaVu Sans) or `serif` (STIX, which looks like Times).

    Raises:
        SettingsError: an argument is outside its range.
    """
    chosen = checked_palette(palette)
    look = plot_look(width, min(max(5.2, 2.6 + 0.42 * len(index)), 20.0))
    narrow = look.width < 4.4
    names = tuple(column.removeprefix("score_") for column in index.columns if column.startswith("score_"))
    colours = chosen.of_categories(names)
    with plain_style(font):
        title = f"Share of heads by category in {len(index)} models"
        height = 5.6 if look.width > 5.5 else 4.6
        figure = AtlasFigure((look.width, height), {"Title": title, "Description": title}, dpi=look.dpi)
        panels = figure.subplots(2, 1, sharex=True)
        for axes, (side, total, title) in zip(panels, PANELS, strict=True):
            _draw_lines(axes, index, side, total, colours, look)
            axes.set_title(title, size=look.title, loc="left", color=INK)
        _name_models(panels[-1], index, look)
        handles, labels = panels[0].get_legend_handles_labels()
        where, columns = ("outside lower center", 3) if narrow else ("outside right upper", 1)
        figure.legend(handles, labels, loc=where, ncols=columns, frameon=False, fontsize=look.tick, labelcolor=INK,
                      columnspacing=1.0, handlelength=1.6)  # fmt: skip
    return figure


def _draw_lines(axes: Axes, index: pd.DataFrame, side: str, total: str, colours: dict[str, str], look: Look) -> None:
    heads = index["heads"].to_numpy("float64", na_value=np.nan)
    lines = {ANY: (total, QUIET)} | {name: (f"{side}_{name}", colour) for name, colour in colours.items()}
    highest = 0.0
    for number, (name, (column, colour)) in enumerate(lines.items()):
        share = index[column].to_numpy("float64", na_value=np.nan) / heads
        highest = max(highest, float(np.nanmax(share, initial=0.0)))
        axes.plot(
            np.arange(len(index)), share, color=colour, linewidth=1.2, markersize=4.5, zorder=3, clip_on=False,
            marker=MARKERS[number % len(MARKERS)], markerfacecolor="white" if name == ANY else colour,
            linestyle="--" if name == ANY else "-", label=one_line(name),
        )  # fmt: skip
    axes.set_ylim(0, max(highest * 1.08, 0.01))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0 if highest > 0.05 else 1))
    axes.set_ylabel("share of heads", size=look.label, color=INK)
    style_plot(axes, look.tick)
    for place in np.flatnonzero(np.isnan(heads)).tolist():
        status = one_line(str(index["status"].iloc[place]))
        axes.text(place, 0.5, status, transform=axes.get_xaxis_transform(), rotation=90, size=7, color=QUIET,
                  ha="center", va="center")  # fmt: skip


def _name_models(axes: Axes, index: pd.DataFrame, look: Look) -> None:
    most = min(MOST_NAMES, max(4, int(look.width * 5)))
    places = list(range(0, len(index), -(-len(index) // most)))
    names = [one_line(str(index["name"].iloc[place])) for place in places]
    names = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]
    straight = len(names) * max(map(len, names)) <= min(60, 10 * look.width)
    axes.set_xticks(places, labels=names, rotation=0 if straight else 45, ha="center" if straight else "right",
                    rotation_mode="anchor")  # fmt: skip
    axes.set_xlim(-0.5, len(index) - 0.5)
