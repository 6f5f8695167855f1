"""Scores from weights against scores of the running model, a point per relation and head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from headatlas.analysis.correlations import known_correlations
from headatlas.atlas import SIDES
from headatlas.atlas.evidence import CONDITIONS, TOTAL_EFFECT, Correlation
from headatlas.errors import AtlasError
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import INK, QUIET, plain_style, style_plot
from headatlas.figures.wording import one_line

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

COLUMNS = (
    *(("one", condition) for condition in (*CONDITIONS, TOTAL_EFFECT)),
    *(("several", condition) for condition in CONDITIONS),
)
SOURCES = {"one": "sources of one token", "several": "sources of several tokens"}


def draw_validation(atlas: Atlas, *, palette: str = "paper") -> Figure:
    """Draw the evidence of `validate_atlas`: score above, suppression below; a column per condition.

    Args:
        palette: `paper` or `colour-blind`; points have the colours of the relations' categories.

    Raises:
        SettingsError: another palette.
        AtlasError: the atlas has no validation.
    """
    chosen = checked_palette(palette)
    table: Any = atlas.evidence("validation")
    if table is None:
        raise AtlasError(f"{atlas.name}: expected scores of the running model, found none. Run `headatlas validate`.")
    category_of = dict(zip(atlas.relations, (str(name) for name in atlas.data["category"].values), strict=True))
    categories = tuple(dict.fromkeys(category_of[name] for name in table["relation"].unique()))
    colours = chosen.of_categories(categories)
    number = {name: place for place, name in enumerate(atlas.relations)}
    table = table.assign(
        _relation=[number[name] for name in table["relation"]],
        _colour=[colours[category_of[name]] for name in table["relation"]],
    )
    columns = [each for each in COLUMNS if ((table["tokens"] == each[0]) & (table["condition"] == each[1])).any()]
    sides = [side for side in SIDES if side in atlas.data]
    rows = known_correlations(atlas)
    with plain_style():
        size = (0.9 + 2.35 * len(columns), 0.9 + 2.35 * len(sides))
        title = f"{one_line(atlas.name)}: scores from weights and of the running model"
        figure = AtlasFigure(size, {"Title": title})
        figure.suptitle(title, size=9.5, color=INK)
        panels = figure.subplots(len(sides), len(columns), squeeze=False, sharex=True, sharey=True)
        for row, (line, side) in enumerate(zip(panels, sides, strict=True)):
            for axes, (tokens, condition) in zip(line, columns, strict=True):
                part = table[(table["tokens"] == tokens) & (table["condition"] == condition)]
                # Drawn in random order, so that no relation hides another.
                part = part.sample(frac=1, random_state=0)
                static = atlas.share(side).values[part["_relation"], part["layer"], part["head"]]
                axes.scatter(
                    static, part[side], s=5, c=part["_colour"].tolist(), alpha=0.55, linewidths=0, rasterized=True,
                    zorder=3, clip_on=False,
                )  # fmt: skip
                _finish(axes, _coefficients(rows, side, tokens, condition))
                if row == 0:
                    axes.set_title(f"{condition}\n{SOURCES[tokens]}", size=8, color=INK)
            line[0].set_ylabel(f"{side}, running model", size=8, color=INK)
        for axes in panels[-1]:
            axes.set_xlabel("from weights", size=8, color=INK)
        marks = [Line2D([], [], marker="o", linestyle="", markersize=5, color=colour) for colour in colours.values()]
        figure.legend(
            marks, [one_line(name) for name in colours], loc="outside lower center", ncols=4, frameon=False, fontsize=8,
            labelcolor=INK,
        )  # fmt: skip
    return figure


def _coefficients(rows: list[Correlation], side: str, tokens: str, condition: str) -> str:
    """The correlation coefficients of all points of a panel."""
    whole = next(
        (row for row in reversed(rows) if (row.side, row.tokens, row.condition) == (side, tokens, condition)), None
    )
    if whole is None:
        return ""

    def number(value: float | None) -> str:
        return "not defined" if value is None else f"{value:.2f}"

    return f"Pearson {number(whole.pearson)}\nSpearman {number(whole.spearman)}"


def _finish(axes: Axes, coefficients: str) -> None:
    axes.set_aspect("equal")
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.arange(0, 1.1, 0.25), yticks=np.arange(0, 1.1, 0.25))
    axes.set_xticklabels(["0", "", "0.5", "", "1"])
    axes.set_yticklabels(["0", "", "0.5", "", "1"])
    axes.plot([0, 1], [0, 1], color="#c8c8c8", linewidth=0.7, zorder=1)
    axes.text(0.03, 0.97, coefficients, transform=axes.transAxes, size=7, color=QUIET, va="top", zorder=4,
              bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5})  # fmt: skip
    style_plot(axes, 7, grid=None)
