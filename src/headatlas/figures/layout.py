"""The arrangement of panels: positions in inches from numbers of cells and sizes of text.

Knows neither atlas nor matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil

from headatlas.errors import SettingsError

STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Distances between ticks: numbers that divide common counts of layers and heads."""

NAMED_WIDTHS = {"screen": 12.0, "page": 5.5, "column": 3.25}
"""Inches. `page` and `column` are the text width of NeurIPS and ICLR and the column width of ACL."""

MIN_WIDTH, MAX_WIDTH = 2.0, 40.0
MIN_PANEL = 0.72
"""Inches. A panel whose longer side is shorter shows too little, unless its cells are large."""

ROW_PENALTY = 0.6
"""Factor on the value of an arrangement for each row of panels after the first."""


@dataclass(frozen=True)
class Look:
    """Sizes that depend on the width of the figure: fonts in points, everything else in inches.

    Args:
        width: of the figure.
        title, label, tick, caption: font sizes.
        longest: upper limit of the longer side of a panel.
        cell: upper limit of the side of a cell.
        dpi: pixels per inch of the drawn picture; cells are whole pixels.
        grid: cells of this size or larger are separated by a thin line.
        shared_heads: whether only the first panel of a row numbers the heads.
        shrink: whether the width is an upper limit rather than exact.
    """

    width: float
    title: float
    label: float
    tick: float
    caption: float
    longest: float
    cell: float
    dpi: int
    grid: float
    shared_heads: bool
    shrink: bool = False


def choose_look(width: str | float | None) -> Look:
    """The look for `screen`, `page`, `column` or a number of inches; None means `screen`.

    Raises:
        SettingsError: another name, or a number outside 2 to 40.
    """
    width = "screen" if width is None else width
    inches = NAMED_WIDTHS.get(width) if isinstance(width, str) else width
    try:
        inches = float(width if inches is None else inches)
    except (TypeError, ValueError):
        inches = 0.0
    if not MIN_WIDTH <= inches <= MAX_WIDTH:
        raise SettingsError(
            f"width: expected {', '.join(NAMED_WIDTHS)} or {MIN_WIDTH:g} to {MAX_WIDTH:g} inches, found {width!r}."
        )
    if inches < 4.4:
        return Look(inches, 8, 7.5, 7, 7, longest=2.2, cell=0.2, dpi=300, grid=0.15, shared_heads=True)
    if inches < 8:
        return Look(inches, 8.5, 8, 7, 7, longest=2.6, cell=0.25, dpi=300, grid=0.15, shared_heads=True)
    return Look(
        inches, 11, 10, 9, 8.5, longest=max(3.6, inches * 0.3), cell=0.4, dpi=150, grid=0.06, shared_heads=False,
        shrink=width == "screen",
    )  # fmt: skip


def tick_step(n_layers: int, n_heads: int, at_least: int = 1) -> int:
    """One distance between ticks for both axes: at most 6 ticks on the longer axis.

    If the shorter axis would then have fewer than 3 ticks, the longer one may have up to 10.

    >>> tick_step(32, 32), tick_step(30, 9)
    (6, 3)
    """
    long, short = max(n_layers, n_heads), min(n_layers, n_heads)
    steps = [step for step in STEPS if step >= at_least]
    step = next((step for step in steps if ceil(long / step) <= 6), steps[-1])
    finer = next((step for step in steps if ceil(long / step) <= 10), step)
    return finer if ceil(short / step) < 3 <= ceil(short / finer) else step


def ticks(count: int, shared: int, at_least: int = 1) -> range:
    """Positions of the ticks along an axis; an axis that would show only 0 gets its own step."""
    step = shared if count > shared else tick_step(count, count, at_least)
    return range(0, count, step)


@dataclass(frozen=True)
class Content:
    """What has to be arranged: numbers of cells, and sizes of text in inches.

    Args:
        titles: width of each panel's title.
        left, left_inner: space for ticks and label left of the first panel of a row, and of the other panels.
        bottom, top: space for ticks and label below a panel, and for the title above it.
        legend_width, legend_height: the swatches with their names; the height is a minimum.
        legend_below: space for a label below the swatches.
    """

    n_layers: int
    n_heads: int
    titles: tuple[float, ...]
    left: float
    left_inner: float
    bottom: float
    top: float
    legend_width: float
    legend_height: float
    legend_below: float = 0.0


@dataclass
class Layout:
    """Positions in inches from the top left corner.

    Args:
        cell: width and height of a cell.
        panels: (x, y) of each panel's top left corner.
        legend: (x, y, height) of the bar of swatches.
        body: height of all panels with their ticks, labels and titles.
    """

    width: float
    cell: float
    panels: list[tuple[float, float]] = field(default_factory=list)
    legend: tuple[float, float, float] = (0.0, 0.0, 0.0)
    body: float = 0.0

    def first_in_row(self, number: int) -> bool:
        return self.panels[number][0] == self.panels[0][0]


MARGIN, GAP, LEGEND_GAP, ROW_GAP = 0.06, 0.12, 0.1, 0.06


def arrange(content: Content, look: Look) -> Layout:
    """The arrangement with the largest share of its area in cells; fewer rows are preferred.

    Panels form rows of equal length, with the legend right of the first panel. With two panels in a row, the legend may
    take the place of the second.
    """
    best, best_value = None, -1.0
    for columns, alone in _candidates(len(content.titles)):
        layout = _place(content, look, columns, alone)
        rows = ceil((len(content.titles) + alone) / columns)
        cells = len(content.titles) * content.n_layers * content.n_heads * layout.cell**2
        value = cells / (layout.width * layout.body) * ROW_PENALTY ** (rows - 1)
        longer = max(content.n_layers, content.n_heads) * layout.cell
        if longer < MIN_PANEL and layout.cell < look.cell - 1 / look.dpi:
            value *= 0.01 * longer / MIN_PANEL
        if value > best_value:
            best, best_value = layout, value
    assert best is not None
    return best


def _candidates(n_panels: int) -> Iterator[tuple[int, bool]]:
    """(panels in a row, whether the legend takes the second place): fewest rows first, rows evenly filled."""
    seen = set()
    for rows in range(1, n_panels + 1):
        columns = ceil(n_panels / rows)
        if columns not in seen:
            seen.add(columns)
            yield columns, False
    if n_panels > 1:
        yield 2, True


def _place(content: Content, look: Look, columns: int, alone: bool) -> Layout:
    """Place all panels with the largest cells, in whole pixels, that fit the width."""
    n_layers, n_heads = content.n_layers, content.n_heads
    limit = min(look.cell, look.longest / max(n_layers, n_heads))
    if len(content.titles) == 1:
        limit = min(look.cell * 1.5, look.longest * 1.5 / max(n_layers, n_heads))
    pixels = max(1, int(limit * look.dpi))
    while pixels > 1 and _columns(content, columns, alone, pixels / look.dpi)[1] > look.width:
        pixels -= 1
    cell = pixels / look.dpi
    if _columns(content, columns, alone, cell)[1] > look.width:  # more layers than pixels: cells smaller than a pixel
        spare = look.width - _columns(content, columns, alone, 0.0)[1]
        cell = max(spare / (columns * n_layers), look.width / 1000 / n_layers)
    starts, needed = _columns(content, columns, alone, cell)
    width = needed if look.shrink else look.width
    spread = min(max(0.0, (width - needed) / (columns + 1)), 0.35)
    shift = max(0.0, (width - needed - spread * (columns - 1)) / 2)

    panel = n_heads * cell
    layout = Layout(width, cell)
    bar = max(panel, content.legend_height)
    legend = bar + content.legend_below + MARGIN
    y = MARGIN
    places = [number + (alone and number > 0) for number in range(len(content.titles))]
    # The legend may go on beside the next rows, unless one of their titles would run into it.
    beside = not alone and all(
        content.titles[place] - n_layers * cell <= LEGEND_GAP for place in places[columns:] if place % columns < 2
    )
    for row in range(places[-1] // columns + 1):
        top = y + content.top
        for place in places:
            if place // columns == row:
                column = place % columns
                layout.panels.append((_snap(starts[column] + shift + spread * column, look), _snap(top, look)))
        below = panel + content.bottom
        if row == 0 and not beside:
            below = max(below, legend)
        y = top + below + ROW_GAP
    x, top = layout.panels[0]
    layout.body = max(y - ROW_GAP, top + legend)
    layout.legend = (x + n_layers * cell + LEGEND_GAP, top, bar)
    return layout


def _columns(content: Content, columns: int, alone: bool, cell: float) -> tuple[list[float], float]:
    """Left edge of the panels in each column, and the width that all of them need."""
    panel = content.n_layers * cell
    starts, edge, title_edge, widest = [], MARGIN, MARGIN, 0.0
    for column in range(columns):
        numbers = [n for n in range(len(content.titles)) if (n + (alone and n > 0)) % columns == column]
        over = max(((content.titles[n] - panel) / 2 for n in numbers), default=0.0)
        start = max(edge + (content.left if column == 0 else content.left_inner), title_edge + over)
        end = start + panel
        right = end + LEGEND_GAP + content.legend_width if column == 0 else end
        starts.append(start)
        widest = max(widest, right, end + over)
        edge = GAP + (end if alone else right)
        title_edge = GAP + end + max(over, 0.0)
    return starts, widest + MARGIN


def _snap(inches: float, look: Look) -> float:
    return round(inches * look.dpi) / look.dpi
