"""Scores from weights against scores of the running model: how many heads and relations are where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from headatlas.analysis.correlations import known_correlations
from headatlas.atlas import SIDES
from headatlas.atlas.evidence import CONDITIONS, TOTAL_EFFECT, Correlation
from headatlas.errors import AtlasError
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import Look, plot_look
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import FRAME, INK, QUIET, heading, plain_style, style_plot
from headatlas.figures.wording import one_line
from headatlas.settings import parse_threshold

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

COLUMNS = (
    *(("one", condition) for condition in (*CONDITIONS, TOTAL_EFFECT)),
    *(("several", condition) for condition in CONDITIONS),
)
SOURCES = {"one": "sources of one token", "several": "sources of several tokens"}
CELLS = 25
"""Cells of the histogram along each axis."""

SCALES = {"paper": "magma_r", "colour-blind": "cividis_r"}
PALEST = 0.12
"""Share of the scale that is left out at its pale end, so that a single head shows on white."""

PANEL = 2.35
"""Inches of a panel with its labels on a screen."""


def draw_validation(
    atlas: Atlas,
    *,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
    caption: bool = True,
) -> Figure:
    """Draw the evidence of `validate_atlas`: score above, suppression below; a column per condition.

    A panel is a histogram in two dimensions of all heads x relations: a colour for how many have this score from
    weights and that one in the running model, with the threshold of the atlas as a line. With three or more columns in
    a narrow figure, each panel row is divided.

    Args:
        palette: `paper` or `colour-blind`, of the scale.
        width: `screen` (default), `page` (5.5 in), `column` (3.25 in), or a number of inches from 2 to 40.
        font: `sans` (DejaVu Sans) or `serif` (STIX, which looks like Times).
        caption: whether the figure has a title; the file's metadata always has it.

    Raises:
        SettingsError: an argument is outside its range.
        AtlasError: the atlas has no validation.
    """
    checked_palette(palette)
    table: Any = atlas.evidence("validation")
    if table is None:
        raise AtlasError(f"{atlas.name}: expected scores of the running model, found none. Run `headatlas validate`.")
    columns = [each for each in COLUMNS if ((table["tokens"] == each[0]) & (table["condition"] == each[1])).any()]
    sides = [side for side in SIDES if side in atlas.data]
    look = plot_look(width, 1.5 + PANEL * len(columns))
    number = {name: place for place, name in enumerate(atlas.relations)}
    table = table.assign(_relation=[number[name] for name in table["relation"]])
    rows = known_correlations(atlas)
    scale = ListedColormap(matplotlib.colormaps[SCALES[palette]](np.linspace(PALEST, 1, 256)))
    edges = np.linspace(0, 1, CELLS + 1)
    found = {}
    for side in sides:
        for tokens, condition in columns:
            part = table[(table["tokens"] == tokens) & (table["condition"] == condition)]
            static = atlas.share(side).values[part["_relation"], part["layer"], part["head"]]
            counts = np.histogram2d(static, part[side].to_numpy("float64"), bins=(edges, edges))[0]
            found[side, tokens, condition] = counts, len(part)
    panels = [(side, *column) for side in sides for column in columns]
    # As many panels in a row as are at least an inch wide, in rows of equal length.
    in_row = max(1, min(len(columns), int((look.width - 0.6) / 1.05)))
    in_row = -(-len(columns) // -(-len(columns) // in_row))
    n_rows = len(sides) * -(-len(columns) // in_row)
    each = (look.width - 0.9) / in_row
    limit = float(parse_threshold(atlas.threshold))
    relations, heads = table["relation"].nunique(), int(atlas.has_heads.sum()) * atlas.n_heads
    with plain_style(font):
        title = f"{one_line(atlas.name)}: scores from weights and of the running model"
        described = f"{title} · {heads:,} heads x {relations:,} relations · dashed: threshold {atlas.threshold}"
        size = (look.width, 0.75 + n_rows * (each + 0.2))
        figure = AtlasFigure(size, {"Title": title, "Description": described}, dpi=look.dpi)
        if caption:
            figure.suptitle(heading(title, look), size=look.title, color=INK)
        norm = LogNorm(1, max(2.0, *(float(counts.max()) for counts, _ in found.values())))
        grid = figure.subplots(n_rows, in_row, squeeze=False, sharex=True, sharey=True)
        used: list[Axes] = []
        for place, (side, tokens, condition) in enumerate(panels):
            of_side, column = divmod(place, len(columns))
            row = of_side * (n_rows // len(sides)) + column // in_row
            axes = grid[row][column % in_row]
            used.append(axes)
            counts, n = found[side, tokens, condition]
            image = axes.pcolormesh(
                edges, edges, np.ma.masked_equal(counts.T, 0), cmap=scale, norm=norm, linewidth=0, rasterized=True
            )
            _finish(axes, _coefficients(rows, side, tokens, condition), n, limit, look)
            if of_side == 0 or n_rows > len(sides):
                sources = SOURCES[tokens] if each > 1.6 else SOURCES[tokens].removeprefix("sources of ")
                axes.set_title(f"{condition}\n{sources}", size=look.tick, color=INK, pad=3)
            if column % in_row == 0:
                between = " " if each > 1.6 else "\n"
                axes.set_ylabel(f"{side},{between}running model", size=look.label, color=INK)
            if row == n_rows - 1:
                axes.set_xlabel("from weights", size=look.label, color=INK)
        for axes in grid.ravel():
            axes.set_visible(axes in used)
        _bar(figure, image, scale, list(grid.ravel()), look)
    return figure


def _bar(figure: Figure, image: Any, scale: Colormap, panels: list[Axes], look: Look) -> None:
    bar = figure.colorbar(image, ax=panels, location="right", shrink=min(1.0, 2.2 / figure.get_figheight()), aspect=18,
                          pad=0.02)  # fmt: skip
    bar.ax.yaxis.set_major_locator(LogLocator(10))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    bar.set_label("heads x relations", size=look.tick, color=INK)
    bar.ax.tick_params(labelsize=look.tick, width=0.5, length=2.5, color=FRAME, labelcolor=INK)
    bar.outline.set(linewidth=0.5, color=FRAME)  # type: ignore[operator]


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


def _finish(axes: Axes, coefficients: str, n: int, limit: float, look: Look) -> None:
    axes.set_aspect("equal")
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.arange(0, 1.1, 0.25), yticks=np.arange(0, 1.1, 0.25))
    axes.set_xticklabels(["0", "", "0.5", "", "1"])
    axes.set_yticklabels(["0", "", "0.5", "", "1"])
    axes.plot([0, 1], [0, 1], color="#c8c8c8", linewidth=0.7, zorder=1)
    for line in (axes.axvline, axes.axhline):
        line(limit, color=QUIET, linewidth=0.6, linestyle=(0, (4, 3)), zorder=3)
    text = f"n = {n:,}" + f"\n{coefficients}" * bool(coefficients)
    axes.text(0.04, 0.97, text, transform=axes.transAxes, size=max(6, look.tick - 1.5), color=INK, va="top", zorder=4,
              linespacing=1.1, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})  # fmt: skip
    style_plot(axes, look.tick, grid=None)
