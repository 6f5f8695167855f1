"""The functions of a survey's models: a row per relation and way of reading, and all against the model's size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter
from matplotlib.transforms import offset_copy

from headatlas.analysis.functions_of_models import READING
from headatlas.analysis.reading import find_behaviour
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import plot_look
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import GRID, INK, QUIET, plain_style, style_plot
from headatlas.figures.survey import MARKERS
from headatlas.figures.wording import one_line
from headatlas.relations import category_order, relation_title

if TYPE_CHECKING:
    import pandas as pd

ROW, LEAST_COLUMN, LABELS, BAR = 0.155, 0.15, 2.0, 0.08
"""Height of a row, least width of a model's column, width of the rows' names, height of a scale, in inches."""

STRIP = 0.28
"""Share of a cell that shows the level of chance."""

READING_COLOUR = "#7a7a7a"
MOST_WITH_TEXT = 16
"""Of more models, cells have no numbers."""

EMPTY = "#f1f1f1"
BLUES = LinearSegmentedColormap.from_list("heads", ["#dbe7f3", "#0b3c6f"])
DEPTHS = LinearSegmentedColormap.from_list("depth", ["#fde9c3", "#e07b39", "#6b1e5c"])


def draw_functions_of_models(
    index: pd.DataFrame,
    functions: pd.DataFrame,
    *,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
) -> Figure:
    """Draw three panels with a row per function and a column per model.

    The score of the strongest head, with a strip for the highest level of chance of all heads; the number of heads
    above the threshold, coloured by how many of them are beyond chance and copying; the layer of the strongest head,
    coloured by its depth, if any head has the function.

    Args:
        index: as `survey_models` returns it; models without an atlas are left out.
        functions: as `headatlas.analysis.functions_of_models.table_of_functions` returns it.
        palette: `paper` or `colour-blind`.
        width: `screen` (default), `page` (5.5 in), or a number of inches up to 40; in a column, names are short.
        font: `sans` (DejaVu Sans) or `serif` (STIX, which looks like Times).

    Raises:
        SettingsError: an argument is outside its range.
    """
    chosen = checked_palette(palette)
    models = [name for name in index["name"] if name in set(functions["model"])]
    rows = sorted(
        functions[["category", "function"]].drop_duplicates().itertuples(index=False, name=None),
        key=lambda each: (each[0] == READING, category_order(each[0]), each[0] == READING or each[1]),
    )
    categories = tuple(dict.fromkeys(category for category, _ in rows if category != READING))
    colours = chosen.of_categories(categories) | {READING: READING_COLOUR}
    every: Any = functions.itertuples(index=False)
    cells: dict[tuple[str, str, str], Any] = {(row.category, row.function, row.model): row for row in every}
    grid = [[cells.get((*row, model)) for model in models] for row in rows]
    n = len(models)
    column = max(LEAST_COLUMN, min(0.3, 2.0 / n))
    names = [one_line(name, 24) for name in models]
    height = 1.1 + 0.06 * max(map(len, names)) + ROW * len(rows)
    look = plot_look(width, LABELS + 3 * max(column * n, 1.3) + 0.5)
    narrow = look.width < 4.4
    column = (look.width - (LABELS if not narrow else 1.45) - 0.5) / 3 / n
    with plain_style(font):
        title = f"Functions of {n} models"
        figure = AtlasFigure((look.width, height), {"Title": title, "Description": title}, dpi=look.dpi)
        panels, bars = figure.subplots(2, 3, sharey="row", height_ratios=(ROW * len(rows), BAR))
        with_text = n <= MOST_WITH_TEXT and column > 0.11
        _scores(panels[0], bars[0], grid, colormaps[chosen.scale])
        _counts(panels[1], bars[1], grid, with_text)
        _depths(panels[2], bars[2], grid, with_text)
        if narrow:
            for axes, short in zip(panels, ("strongest", "heads", "layer"), strict=True):
                axes.set_title(short, size=look.tick, color=INK, pad=4)
            for axes, short in zip(bars, ("score", "beyond chance", "depth"), strict=True):
                axes.set_xlabel(short, size=6, color=QUIET, labelpad=0)
        for axes in panels:
            axes.set_xlim(0, n)
            axes.set_ylim(len(rows), 0)
            axes.set_xticks(np.arange(n) + 0.5, names, rotation=90, size=6.5, color=INK)
            axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False, pad=2)
            for spine in axes.spines.values():
                spine.set_visible(False)
        panels[0].set_yticks(np.arange(len(rows)) + 0.5, [one_line(_title(*row), 22 if narrow else 34) for row in rows],
                             size=6 if narrow else 6.5, color=INK)  # fmt: skip
        panels[0].tick_params(axis="y", pad=10)
        left = offset_copy(panels[0].get_yaxis_transform(), figure, x=-6, units="points")
        for at, (category, _) in enumerate(rows):
            panels[0].plot([0], [at + 0.5], "s", color=colours[category], markersize=4.5, transform=left, clip_on=False)
        marks = [Line2D([], [], marker="s", linestyle="", color=colour, markersize=4.5, label=one_line(name))
                 for name, colour in colours.items() if name in {category for category, _ in rows}]  # fmt: skip
        figure.legend(handles=marks, loc="outside lower center", ncols=2 if narrow else 4, frameon=False, fontsize=7,
                      labelcolor=INK)  # fmt: skip
    return figure


def _title(category: str, function: str) -> str:
    return find_behaviour(function).title if category == READING else one_line(relation_title(function), 34)


def _scores(axes: Axes, bar: Axes, grid: list[list[Any]], scale: Colormap) -> None:
    for y, x, cell in _each(grid):
        axes.add_patch(Rectangle((x + 0.04, y + 0.05), 0.92, 0.9, color=scale(cell.score), lw=0))
        if not np.isnan(cell.highest_chance):
            level = scale(cell.highest_chance)
            axes.add_patch(Rectangle((x + 0.04, y + 0.05), STRIP, 0.9, facecolor=level, edgecolor="white", lw=0.5))
    axes.set_title("strongest head", size=8, color=INK, pad=4)
    _bar(bar, scale, "score; strip: chance", (0, 1))


def _counts(axes: Axes, bar: Axes, grid: list[list[Any]], with_text: bool) -> None:
    most = max((_beyond(cell) for _, _, cell in _each(grid)), default=1)
    norm = LogNorm(1, max(most, 2))
    for y, x, cell in _each(grid):
        beyond = _beyond(cell)
        colour = BLUES(norm(beyond)) if beyond else EMPTY
        axes.add_patch(Rectangle((x + 0.04, y + 0.05), 0.92, 0.9, color=colour, lw=0))
        if with_text and cell.heads:
            _write(axes, x, y, str(cell.heads), "white" if beyond and norm(beyond) > 0.4 else INK)
    axes.set_title("heads above threshold", size=8, color=INK, pad=4)
    _bar(bar, BLUES, "of them beyond chance", (1, max(most, 2)), log=True)


def _depths(axes: Axes, bar: Axes, grid: list[list[Any]], with_text: bool) -> None:
    for y, x, cell in _each(grid):
        there = _beyond(cell) > 0 and not np.isnan(cell.depth)
        axes.add_patch(Rectangle((x + 0.04, y + 0.05), 0.92, 0.9, color=DEPTHS(cell.depth) if there else EMPTY, lw=0))
        if with_text and there:
            _write(axes, x, y, str(cell.layer), "white" if cell.depth > 0.45 else INK)
    axes.set_title("layer of the strongest", size=8, color=INK, pad=4)
    _bar(bar, DEPTHS, "depth, first to last layer", (0, 1))


def _each(grid: list[list[Any]]):
    """Cells that were measured, as (row, column, cell)."""
    return [(y, x, cell) for y, row in enumerate(grid) for x, cell in enumerate(row) if cell is not None]


def _beyond(cell: Any) -> int:
    """Heads that count: beyond chance, or all where that is not known."""
    import pandas as pd

    return int(cell.heads if pd.isna(cell.beyond) else cell.beyond)


def _write(axes: Axes, x: int, y: int, text: str, colour: str) -> None:
    axes.text(x + 0.5, y + 0.53, text, size=5.5, color=colour, ha="center", va="center")


def _bar(axes: Axes, scale: Colormap, label: str, limits: tuple[float, float], log: bool = False) -> None:
    if log:
        label += " (log)"
    axes.imshow(np.linspace(0, 1, 128)[None], aspect="auto", cmap=scale, extent=(*limits, 0, 1))
    axes.set_xticks(limits)
    axes.tick_params(labelsize=6, length=0, pad=1.5, labelcolor=INK, left=False, labelleft=False)
    axes.set_xlabel(label, size=6.5, color=QUIET, labelpad=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_sizes(
    index: pd.DataFrame,
    functions: pd.DataFrame,
    *,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
) -> Figure:
    """Draw functions against the number of parameters: relations that any head has, and heads that have any.

    A head has a relation if it is above the threshold, and, where that was measured, beyond chance and copying; with
    dashes, above the threshold alone.

    Args:
        index, functions, palette, width, font: as for `draw_functions_of_models`.

    Raises:
        SettingsError: an argument is outside its range.
    """
    chosen, look = checked_palette(palette), plot_look(width, 7.0)
    narrow = look.width < 4.4
    mapped: Any = index[index["parameters"].notna() & index["heads"].notna()]
    there, writing = mapped.sort_values("parameters"), functions[functions["category"] != READING]
    names = tuple(sorted(set(writing["category"]), key=category_order))
    colours = {"any category": QUIET} | chosen.of_categories(names)
    x = there["parameters"].to_numpy("float64")
    with plain_style(font):
        title = f"Functions against size in {len(there)} models"
        size = (look.width, 5.6 if narrow else 3.3)
        figure = AtlasFigure(size, {"Title": title, "Description": title}, dpi=look.dpi)
        relations, heads = figure.subplots(2, 1) if narrow else figure.subplots(1, 2)
        for number, (name, colour) in enumerate(colours.items()):
            rows = writing if number == 0 else writing[writing["category"] == name]
            beyond, plain = ([_share(rows[rows["model"] == model], which) for model in there["name"]]
                             for which in ("beyond", "heads"))  # fmt: skip
            marker = MARKERS[number % len(MARKERS)]
            relations.plot(x, plain, color=colour, linewidth=0.8, linestyle=":", zorder=2)
            relations.plot(x, beyond, color=colour, linewidth=1.2, marker=marker, markersize=4.5, zorder=3,
                           label=one_line(name), clip_on=False)  # fmt: skip
        for column, label, marker in (("classified", "any category", "o"), ("reading", "a way of reading", "s")):
            if column in there:
                share = (there[column] / there["heads"]).to_numpy("float64", na_value=np.nan)
                heads.plot(x, share, color=QUIET if column == "classified" else "#c2185b", linewidth=1.2, marker=marker,
                           markersize=4.5, label=label, clip_on=False, zorder=3)  # fmt: skip
        relations.plot([], [], color=QUIET, linewidth=0.8, linestyle=":", label="above the threshold alone")
        for axes, label in (
            (relations, "measured relations that any head has"),
            (heads, "heads that have any"),
        ):
            axes.set_xscale("log")
            axes.set_ylim(0, 1 if axes is relations else None)
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(_apart(x))
            axes.set_xlabel("parameters", size=8, color=INK)
            axes.set_ylabel(label, size=8, color=INK)
            axes.margins(x=0.12)
            style_plot(axes)
            for place, name in zip(x, there["name"], strict=True):
                axes.axvline(place, color=GRID, linewidth=0.5, zorder=1)
                axes.text(place, 1.02, one_line(name, 20), transform=axes.get_xaxis_transform(), size=6, color=QUIET,
                          rotation=90, ha="center", va="bottom")  # fmt: skip
        if narrow:
            for axes in (relations, heads):
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, frameon=False, fontsize=6.5,
                            labelcolor=INK)  # fmt: skip
        else:
            _legend(figure, relations, "outside lower left", 3)
            _legend(figure, heads, "outside lower right", 1)
    return figure


def _legend(figure: Figure, axes: Axes, at: Any, ncols: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc=at, ncols=ncols, frameon=False, fontsize=6.5, labelcolor=INK)


def _share(rows: Any, which: str) -> float:
    """Share of relations that at least one head has."""
    if rows.empty:
        return np.nan
    counts = rows[which].fillna(rows["heads"]) if which == "beyond" else rows[which]
    return float((counts > 0).mean())


def _apart(places: np.ndarray) -> list[float]:
    """The places whose labels do not overlap on a logarithmic axis."""
    span = max(np.log(places.max() / places.min()), 1e-9)
    kept: list[float] = []
    for place in sorted(set(places.tolist())):
        if not kept or np.log(place / kept[-1]) / span > 0.12:
            kept.append(place)
    return kept


def short_count(count: float) -> str:
    """A number of parameters in a few letters.

    >>> short_count(134_515_008), short_count(7.2e9), short_count(1000)
    ('135M', '7.2B', '1K')
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.3g}"
