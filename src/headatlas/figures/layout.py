"""The arrangement of panels: positions in inches from numbers of cells and sizes of text.

Knows neither atlas nor matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import ceil

from headatlas.errors import SettingsError

NAMED_WIDTHS = {"screen": 12.0, "page": 5.5, "column": 3.25}
"""Inches. `page` and `column` are the text width of NeurIPS and ICLR and the column width of ACL."""

MIN_WIDTH, MAX_WIDTH = 2.0, 40.0
MIN_PANEL = 0.72
"""Inches. A panel whose longer side is shorter shows too little, unless its cells are large."""

ENLARGED = 1.5
"""How much larger than usual a panel that fills the width may be."""

SCREEN = 1.7
"""How much larger again it may be on a screen."""

SMALL = 0.01
"""Area of a panel, over the square of the figure's width, below which it shows too little."""

FLAT = 0.75
"""Largest height of such a first panel over that of the longest panel."""

TALL = 1.2
"""Height over width from which an arrangement is too tall for a page of text."""

HOLE = 0.8
"""Factor on the value of an arrangement with nothing below the legend."""

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
        shared_heads: whether only the first panel of a row numbers the heads.
        shrink: whether the width is an upper limit rather than exact.
        labels: most heads that are named in the map of a relation.
    """

    width: float
    title: float
    label: float
    tick: float
    caption: float
    longest: float
    cell: float
    dpi: int
    shared_heads: bool
    shrink: bool = False
    labels: int = 8


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
        return Look(inches, 8, 7.5, 7, 7, longest=2.2, cell=0.2, dpi=300, shared_heads=True, labels=4)
    if inches < 8:
        return Look(inches, 8.5, 8, 7, 7, longest=2.6, cell=0.25, dpi=300, shared_heads=True, labels=6)
    return Look(
        inches, 11, 10, 9, 8.5, longest=max(3.6, inches * 0.3), cell=0.4, dpi=150, shared_heads=False,
        shrink=width == "screen",
    )  # fmt: skip


def plot_look(width: str | float | None, screen: float) -> Look:
    """The look of a plot, which is `screen` inches wide on a screen.

    Raises:
        SettingsError: another name, or a number outside 2 to 40.
    """
    if width in (None, "screen"):
        return replace(choose_look("page"), width=screen, title=9, tick=7.5, dpi=160)
    return choose_look(width)


@dataclass(frozen=True)
class Content:
    """What has to be arranged: numbers of cells, and sizes of text in inches.

    Args:
        titles: width of each panel's title.
        left, left_inner: space for ticks and label left of the first panel of a row, and of the other panels.
        bottom, top: space for ticks and label below a panel, and for the title above it.
        legend_width, legend_height: a column of swatches with their names; the height is a minimum.
        legend_below: space for a label below the swatches.
        swatches: number of swatches, which may form columns; 0 for a legend that cannot be divided.
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
    swatches: int = 0

    def legend(self, columns: int, panel: float) -> tuple[float, float]:
        """Width and height of the legend right of a panel of this height."""
        width = columns * self.legend_width + (columns - 1) * GAP
        if not self.swatches:
            return width, max(panel, self.legend_height)
        return width, max(panel, self.legend_height * ceil(self.swatches / columns) / self.swatches)


@dataclass
class Layout:
    """Positions in inches from the top left corner.

    Args:
        panels: (x, y) of each panel's top left corner; cells: the side of its cells.
        legend: (x, y, height) of the bar of swatches, in `legend_columns` columns that are `legend_step` apart.
        body: height of all panels with their ticks, labels and titles.
    """

    width: float
    panels: list[tuple[float, float]] = field(default_factory=list)
    cells: list[float] = field(default_factory=list)
    legend: tuple[float, float, float] = (0.0, 0.0, 0.0)
    legend_columns: int = 1
    legend_step: float = 0.0
    body: float = 0.0

    def first_in_row(self, number: int) -> bool:
        return self.panels[number][0] == self.panels[0][0]


MARGIN, GAP, LEGEND_GAP, ROW_GAP = 0.06, 0.12, 0.1, 0.06


class Place(StrEnum):
    """Where the legend is: between the first panels of the row, in the place of the second panel, or in a row that it
    has alone with the first panel, which is then larger than the others.
    """

    BETWEEN = "between"
    SECOND = "second"
    OWN_ROW = "own row"


def arrange(content: Content, look: Look) -> Layout:
    """The arrangement with the largest share of its area in cells; fewer rows are preferred.

    Panels form rows of equal length, with the legend right of the first panel. In more than one row, the legend may
    take the place of the second panel, or the first panel its own row.
    """
    best, best_value = None, -1.0
    for columns, place, legend_columns in _candidates(content):
        layout = _place(content, look, columns, place, legend_columns)
        if layout is None:
            continue
        rows = len({y for _, y in layout.panels})
        cells = content.n_layers * content.n_heads * sum(cell**2 for cell in layout.cells)
        value = cells / (layout.width * layout.body) * ROW_PENALTY ** (rows - 1)
        smallest = min(layout.cells)
        value *= (smallest / layout.cells[0]) ** 0.5 * min(1.0, TALL * layout.width / layout.body)
        area = content.n_layers * content.n_heads * smallest**2
        value *= min(1.0, area / (SMALL * layout.width**2))
        if place is Place.BETWEEN and rows > 1:
            value *= HOLE
        longer = max(content.n_layers, content.n_heads) * smallest
        if longer < MIN_PANEL and smallest < look.cell - 1 / look.dpi:
            value *= 0.01 * longer / MIN_PANEL
        if value > best_value:
            best, best_value = layout, value
    assert best is not None
    return best


def _candidates(content: Content) -> Iterator[tuple[int, Place, int]]:
    """(panels in a row, place of the legend, its columns): fewest rows first, rows evenly filled."""
    n_panels = len(content.titles)
    for columns in _even(n_panels):
        yield columns, Place.BETWEEN, 1
    if n_panels < 2:
        return
    legends = (1, 2, 3) if content.swatches > 3 else (1,)
    for legend_columns in legends:
        yield 2, Place.SECOND, legend_columns
    for columns in _even(n_panels - 1):
        for legend_columns in legends:
            yield columns, Place.OWN_ROW, legend_columns


def _even(n_panels: int) -> list[int]:
    """Panels in a row, for fewest rows first."""
    return list(dict.fromkeys(ceil(n_panels / rows) for rows in range(1, n_panels + 1)))


def _place(content: Content, look: Look, columns: int, place: Place, legend_columns: int) -> Layout | None:
    """Place all panels with the largest cells, in whole pixels, that fit the width; None if that makes no sense."""
    n_layers, n_heads = content.n_layers, content.n_heads
    longer = max(n_layers, n_heads)
    limit = min(look.cell, look.longest / longer)
    if len(content.titles) == 1:
        limit = min(look.cell * ENLARGED, look.longest * ENLARGED / longer)
    grid = content
    if place is Place.OWN_ROW:
        grid = replace(content, titles=content.titles[1:], legend_width=0.0)
    alone = place is Place.SECOND
    grid_legend = content.legend(legend_columns, 0)[0] if place is not Place.OWN_ROW else 0.0

    def fit(cell: float) -> tuple[list[float], float]:
        return _columns(grid, columns, alone, cell, grid_legend)

    pixels = max(1, int(limit * look.dpi))
    while pixels > 1 and fit(pixels / look.dpi)[1] > look.width:
        pixels -= 1
    cell = pixels / look.dpi
    if fit(cell)[1] > look.width:  # more layers than pixels: cells smaller than a pixel
        cell = max((look.width - fit(0.0)[1]) / (columns * n_layers), look.width / 1000 / n_layers)
    starts, needed = fit(cell)
    width = needed if look.shrink and place is not Place.OWN_ROW else look.width
    spread = min(max(0.0, (width - needed) / (columns + 1)), 0.35)
    shift = max(0.0, (width - needed - spread * (columns - 1)) / 2)
    layout = Layout(width, legend_columns=legend_columns, legend_step=content.legend_width + GAP)
    first = cell
    if place is Place.OWN_ROW:
        if look.shrink:
            spread = shift = 0.0
        room = look.width - MARGIN - starts[0] - shift - LEGEND_GAP - content.legend(legend_columns, 0)[0]
        larger = ENLARGED * (SCREEN if look.shrink else 1)
        most = min(look.cell * larger, look.longest * larger / n_layers, look.longest * FLAT / n_heads)
        first = int(min(most, room / n_layers) * look.dpi) / look.dpi
        if first <= cell or content.titles[0] > first * n_layers:
            return None
        used = starts[0] + first * n_layers + LEGEND_GAP + content.legend(legend_columns, 0)[0] + MARGIN
        if look.shrink:
            layout.width = max(needed, used)
        else:
            # Nothing that is left over on the right: the first panel and its legend are in the middle.
            shift = min(shift, max(0.0, (look.width - used) / 2))

    panel = n_heads * cell
    bar = content.legend(legend_columns, n_heads * first)[1]
    legend = bar + content.legend_below + MARGIN
    y = MARGIN
    if place is Place.OWN_ROW:
        layout.panels.append((_snap(starts[0] + shift, look), _snap(y + content.top, look)))
        y += content.top + max(n_heads * first + content.bottom, legend) + ROW_GAP
    places = [number + (alone and number > 0) for number in range(len(grid.titles))]
    # The legend may go on beside the next rows, unless one of their titles would run into it.
    beside = place is Place.BETWEEN and all(
        content.titles[at] - n_layers * cell <= LEGEND_GAP for at in places[columns:] if at % columns < 2
    )
    for row in range(places[-1] // columns + 1):
        top = y + content.top
        for at in places:
            if at // columns == row:
                column = at % columns
                layout.panels.append((_snap(starts[column] + shift + spread * column, look), _snap(top, look)))
        below = panel + content.bottom
        if row == 0 and place is not Place.OWN_ROW and not beside:
            below = max(below, legend)
        y = top + below + ROW_GAP
    x, top = layout.panels[0]
    layout.cells = [first] + [cell] * (len(content.titles) - 1)
    layout.body = max(y - ROW_GAP, top + legend)
    layout.legend = (x + n_layers * first + LEGEND_GAP, top, bar)
    return layout


def _columns(
    content: Content, columns: int, alone: bool, cell: float, legend_width: float
) -> tuple[list[float], float]:
    """Left edge of the panels in each column, and the width that all of them need."""
    panel = content.n_layers * cell
    starts, edge, title_edge, widest = [], MARGIN, MARGIN, 0.0
    for column in range(columns):
        numbers = [n for n in range(len(content.titles)) if (n + (alone and n > 0)) % columns == column]
        over = max(((content.titles[n] - panel) / 2 for n in numbers), default=0.0)
        start = max(edge + (content.left if column == 0 else content.left_inner), title_edge + over)
        end = start + panel
        right = end + LEGEND_GAP + legend_width if column == 0 and legend_width else end
        starts.append(start)
        widest = max(widest, right, end + over)
        edge = GAP + (end if alone else right)
        title_edge = GAP + end + max(over, 0.0)
    return starts, widest + MARGIN


def _snap(inches: float, look: Look) -> float:
    return round(inches * look.dpi) / look.dpi
