"""Two models by function: the strongest head of each relation in both, its depth, and the heads that do the same."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from headatlas.analysis.compare_functions import FunctionComparison, SharedRelation, Strongest
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import plot_look
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import GRID, INK, QUIET, heading, plain_style, style_plot
from headatlas.figures.wording import one_line
from headatlas.relations import category_order, relation_title

ROW, LEAST_ROW, MOST_HIGH, WIDTH = 0.15, 0.105, 7.0, 7.2
"""Height of a relation, the least one, that of all relations on paper, and width of the figure, in inches."""


def draw_function_comparison(
    comparison: FunctionComparison,
    *,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
    caption: bool = True,
) -> Figure:
    """Draw a row per relation: the score of the strongest head in both models, and the depth of its layer.

    With the scores is the higher one of the levels of chance and of copying.

    Args:
        palette: `paper` or `colour-blind`.
        width: `screen` (default), `page` (5.5 in), `column` (3.25 in), or a number of inches from 2 to 40.
        font: `sans` (DejaVu Sans) or `serif` (STIX, which looks like Times).
        caption: whether the figure has a title; the file's metadata always has it.

    Raises:
        SettingsError: an argument is outside its range.
    """
    chosen, look = checked_palette(palette), plot_look(width, WIDTH)
    narrow = look.width < 4.4
    limit = float(comparison.threshold)
    rows = sorted(comparison.relations, key=lambda each: (category_order(each.category), each.relation))[::-1]
    colours = chosen.of_categories(tuple(dict.fromkeys(each.category for each in comparison.relations)))
    first, second = (one_line(name, 40) for name in (comparison.first, comparison.second))
    with plain_style(font):
        title = f"{first} and {second}, on the words that both know"
        # On paper, all rows fit one page.
        row = ROW if width in (None, "screen") else max(LEAST_ROW, min(ROW, MOST_HIGH / max(1, len(rows))))
        size = (look.width, 1.2 + 0.5 * narrow + row * len(rows))
        figure = AtlasFigure(size, {"Title": title, "Description": title}, dpi=look.dpi)
        if caption:
            figure.suptitle(heading(title, look), size=look.title, color=INK)
        scores, depths = figure.subplots(1, 2, sharey=True)
        for axes, value, label in (
            (scores, _score, "score of the" + "\n" * narrow + " strongest head"),
            (
                depths,
                lambda found: _depth(found, limit),
                "its layer, 0 to 1," + "\n" * narrow + f" if {'' if narrow else 'the score is '}above {limit:g}",
            ),
        ):
            for at, each in enumerate(rows):
                _draw_row(axes, at, each, value, colours[each.category])
            axes.set_xlim(-0.03, 1.03)
            axes.set_xlabel(label, size=look.tick, color=INK)
            style_plot(axes, look.tick - 0.5, grid="x")
            axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
            axes.tick_params(axis="y", length=0, labelsize=6.5 if not narrow else 6)
        scores.set_yticks(
            range(len(rows)), [one_line(relation_title(each.relation), 26 if narrow else 34) for each in rows]
        )
        scores.set_ylim(-0.7, len(rows) - 0.3)
        for at, each in enumerate(rows):
            levels = [level for found in (each.first, each.second) if (level := _level(found)) is not None]
            scores.plot(levels, [at] * len(levels), "|", color=QUIET, markersize=4, markeredgewidth=0.8)
        marks = [
            Line2D([], [], marker="o", linestyle="", color=INK, markersize=4.5, label=first),
            Line2D([], [], marker="o", linestyle="", color=INK, mfc="white", markersize=4.5, label=second),
            Line2D([], [], marker="|", linestyle="", color=QUIET, markersize=5, label="chance or copying"),
            *(Line2D([], [], marker="s", linestyle="", color=colour, markersize=4.5, label=one_line(name))
              for name, colour in colours.items()),
        ]  # fmt: skip
        figure.legend(handles=marks, loc="outside lower center", ncols=2 if narrow else 4, frameon=False,
                      fontsize=look.tick - 0.5, labelcolor=INK, columnspacing=1.2, handletextpad=0.3)  # fmt: skip
    return figure


def _draw_row(axes: Axes, at: int, each: SharedRelation, value, colour: str) -> None:
    places = [value(each.first), value(each.second)]
    if np.isfinite(places).all():
        axes.plot(places, [at, at], color=GRID, linewidth=2, zorder=1, solid_capstyle="butt")
    for place, filled in zip(places, (True, False), strict=True):
        axes.plot(
            [place], [at], "o", color=colour, mfc=colour if filled else "white", markersize=4.2, zorder=3, clip_on=False
        )


def _score(found: Strongest) -> float:
    return found.score


def _depth(found: Strongest, limit: float) -> float:
    return np.nan if found.depth is None or found.score <= limit else found.depth


def _level(found: Strongest) -> float | None:
    """The higher one of what shuffled pairs and copying give."""
    return max((level for level in (found.chance, found.copying) if level is not None), default=None)
