"""The map of heads as a matplotlib figure, layer by head; no pyplot, and nobody's settings are changed or used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from headatlas.analysis.categories import Classification, classify
from headatlas.atlas import Atlas
from headatlas.errors import SettingsError
from headatlas.figures.layout import MARGIN, Content, Layout, Look, arrange, choose_look, tick_step, ticks
from headatlas.figures.palettes import PALETTES, Palette
from headatlas.figures.wording import caption, metadata, one_line
from headatlas.settings import parse_threshold

COMPOSITE = "All Categories"
INK, QUIET, FRAME = "#1a1a1a", "#595959", "#4d4d4d"
LINE = 1.3
"""Distance between lines of text, in font sizes."""

SWATCH, TICK, GRID = 0.11, 0.035, 1 / 150
"""Inches: width of the bar of swatches; length of a tick; the line between large cells."""

FALLBACK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "WenQuanYi Zen Hei",
    "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip
"""Fonts, where installed, for letters that DejaVu Sans lacks."""


class MapFigure(Figure):
    """A matplotlib figure that knows the metadata of its file and shows itself in a notebook."""

    metadata: dict[str, str]

    def _repr_png_(self) -> bytes:
        from headatlas.figures.saving import render

        return render(self, "png")


@contextmanager
def plain_style() -> Iterator[None]:
    """matplotlib's defaults, whatever the user's settings, with text never read as formulas."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    own = {
        "font.family": ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)],
        "text.parse_math": False,
        "text.usetex": False,
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "headatlas",
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        style.use(["default", own])
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def draw_map(
    atlas: Atlas,
    *,
    kind: str = "score",
    threshold: str | float | None = None,
    profile: str | None = None,
    palette: str = "paper",
    relation: str | None = None,
    width: str | float | None = None,
) -> Figure:
    """Draw which heads have which categories, layer by head; or, with `relation`, that relation's scores.

    Args:
        kind: `score` or `suppression`.
        threshold: strict limit, 0 to 1; default: the atlas's own.
        profile: `maps` or `calibrated`; default: the atlas's own.
        palette: `paper` or `colour-blind`.
        relation: name of a measured relation, drawn as one continuous map instead.
        width: `screen` (default), `page` (5.5 in), `column` (3.25 in), or a number of inches from 2 to 40.

    Raises:
        SettingsError: an argument is outside its range.
        AtlasError: suppression, chance levels for `calibrated`, or the relation were not measured.

    >>> draw_map(atlas, width="column").savefig("map.pdf")  # doctest: +SKIP
    """
    if palette not in PALETTES:
        raise SettingsError(f"palette: expected one of {', '.join(PALETTES)}, found {palette!r}.")
    look = choose_look(width)
    classification = classify(atlas, threshold, kind, profile)
    if relation is not None:
        atlas.check_relation(relation)
    with plain_style():
        picture = _Picture(atlas, classification, PALETTES[palette], look, relation)
        return picture.draw()


class _Ruler:
    """Sizes of text in inches, as Agg will draw it."""

    def __init__(self, dpi: int) -> None:
        self.dpi = dpi
        self.renderer = RendererAgg(8, 8, dpi)

    def width(self, text: str, size: float, weight: str = "normal") -> float:
        properties = FontProperties(size=size, weight=weight)
        return self.renderer.get_text_width_height_descent(text, properties, ismath=False)[0] / self.dpi

    def shorten(self, text: str, size: float, at_most: float) -> str:
        """The text, or as much of its beginning as fits before an ellipsis."""
        if self.width(text, size) <= at_most:
            return text
        length = len(text)
        while length > 1 and self.width(text[:length].rstrip() + "…", size) > at_most:
            length -= 1
        return text[:length].rstrip() + "…"

    def wrap(self, parts: list[str], size: float, at_most: float) -> list[str]:
        """Lines of the parts joined by dots, none wider than `at_most`."""
        lines, line = [], ""
        for number, part in enumerate(parts):
            for place, word in enumerate(part.split(" ")):
                word = self.shorten(word, size, at_most)
                between = "" if not line else "  ·  " if place == 0 and number > 0 else " "
                # A part that fits a line of its own is not broken.
                ahead = part if place == 0 and self.width(part, size) <= at_most else word
                if line and self.width(line + between + ahead, size) > at_most:
                    lines.append(line)
                    line = word
                else:
                    line += between + word
        return [*lines, line]


class _Picture:
    """One map while it is drawn."""

    def __init__(
        self, atlas: Atlas, classification: Classification, palette: Palette, look: Look, relation: str | None
    ) -> None:
        self.atlas, self.classification, self.look, self.relation = atlas, classification, look, relation
        self.palette = palette
        self.ruler = _Ruler(look.dpi)
        self.colours = palette.of_categories(classification.categories)
        names = [relation] if relation else [COMPOSITE, *classification.categories]
        self.room = min(look.width * 0.35, 14 * _points(look.label))
        most = look.width * 0.6 if relation else self.room * look.title / look.label
        self.titles = [self.ruler.shorten(one_line(name), look.title, most) for name in names]
        self.swatches = [] if relation else self._swatches()

    def draw(self) -> Figure:
        look, layout = self.look, self._arrange()
        lines = self.ruler.wrap(
            caption(self.atlas, self.classification, self.relation), look.caption, layout.width - 2.5 * MARGIN
        )
        line = _points(look.caption) * LINE
        heading = _points(look.title + 1) * 1.5 if self.classification.kind == "suppression" else 0.0
        below = heading + layout.body + 0.04
        height = _whole(below + len(lines) * line + MARGIN / 2, look)
        self.size = (_whole(layout.width, look), height)
        self.figure = MapFigure(figsize=self.size, dpi=look.dpi, facecolor="white")
        FigureCanvasAgg(self.figure)
        self.figure.metadata = metadata(self.atlas, self.classification, self.relation)
        offset = _whole(heading, look)

        for number, (x, y) in enumerate(layout.panels):
            axes = self._panel(number, x, y + offset, layout)
            if self.relation:
                cells = self._draw_scores(axes, layout)
                self._colour_bar(cells, layout, offset)
            else:
                self._draw_colours(axes, self._panel_colours(number), layout)
        if not self.relation:
            self._legend(layout, offset)
        if heading:
            self._write(MARGIN, MARGIN, "Suppression", look.title + 1, va="top", weight="bold")
        for number, text in enumerate(lines):
            self._write(MARGIN, below + (number + 0.8) * line, text, look.caption, color=QUIET)
        return self.figure

    # Sizes

    def _arrange(self) -> Layout:
        look, ruler = self.look, self.ruler
        number = max(ruler.width(str(count - 1), look.tick) for count in (self.atlas.n_layers, self.atlas.n_heads))
        label, tick = _points(look.label), _points(look.tick)
        left = label * 1.5 + number + TICK + 0.04
        if self.relation:
            widest = ruler.width(self._threshold_tick(), look.tick) + TICK
        else:
            widest = max(ruler.width(name, look.label) for name, _ in self.swatches)
        return arrange(
            Content(
                n_layers=self.atlas.n_layers,
                n_heads=self.atlas.n_heads,
                titles=tuple(ruler.width(title, look.title) * 1.02 for title in self.titles),
                left=left,
                left_inner=TICK + 0.02 if look.shared_heads else left,
                bottom=tick * 1.2 + label * 1.15 + TICK + 0.04,
                top=_points(look.title * 1.2 + self._title_pad()),
                legend_width=SWATCH + 0.05 + widest * 1.02,
                legend_height=len(self.swatches) * label * LINE or 0.9,
                legend_below=label * LINE if self.relation else 0.0,
            ),
            look,
        )

    def _title_pad(self) -> float:
        """Points between panel and title: half of the number at the axis's upper end reaches above the panel."""
        return self.look.tick * 0.62 + 1

    def _at(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """A box given in inches from the top left corner, as shares of the figure."""
        total_width, total_height = self.size
        return x / total_width, (total_height - y - height) / total_height, width / total_width, height / total_height

    def _write(self, x: float, y: float, text: str, size: float, **options: Any) -> None:
        options = {"color": INK, "va": "baseline"} | options
        total_width, total_height = self.size
        self.figure.text(x / total_width, 1 - y / total_height, text, size=size, **options)

    # Panels

    def _panel(self, number: int, x: float, y: float, layout: Layout) -> Axes:
        """An empty panel with its title, ticks and labels."""
        look, n_layers, n_heads = self.look, self.atlas.n_layers, self.atlas.n_heads
        box = self._at(x, y, n_layers * layout.cell, n_heads * layout.cell)
        axes = self.figure.add_axes(box, facecolor="#f2f2f2")
        axes.set(xlim=(-0.5, n_layers - 0.5), ylim=(n_heads - 0.5, -0.5), aspect="equal")
        axes.set_gid(f"panel-{number}")
        axes.set_title(self.titles[number], size=look.title, pad=self._title_pad(), color=INK)
        axes.set_xlabel("layer", size=look.label, labelpad=1.5, color=INK)
        wide = self.ruler.width(str(n_layers - 1), look.tick) + 0.03
        for_layers = max(1, int(np.ceil(wide / layout.cell)))
        for_heads = max(1, int(np.ceil(_points(look.tick) * 1.25 / layout.cell)))
        shared = tick_step(n_layers, n_heads, max(for_layers if n_layers > 1 else 1, for_heads if n_heads > 1 else 1))
        for axis, places in (
            (axes.xaxis, ticks(n_layers, shared, for_layers)),
            (axes.yaxis, ticks(n_heads, shared, for_heads)),
        ):
            axis.set_ticks(list(places), labels=[str(place) for place in places])
        axes.tick_params(labelsize=look.tick, length=TICK * 72, width=0.5, pad=1.5, color=FRAME, labelcolor=INK)
        if layout.first_in_row(number) or not look.shared_heads:
            short = n_heads * layout.cell < self.ruler.width("head", look.label)
            axes.set_ylabel("head", size=look.label, labelpad=2, color=INK, loc="top" if short else "center")
        else:
            axes.tick_params(labelleft=False)
        for spine in axes.spines.values():
            spine.set(linewidth=0.5, color=FRAME)
        return axes

    def _cells(self, layout: Layout) -> np.ndarray:
        """Corners of all cells, layer by layer within a head: Float[ndarray, "n_heads*n_layers 4 2"].

        Large cells leave a thin line free. Small ones reach under their right and lower neighbours, which are drawn
        later, so that no viewer shows a seam.
        """
        n_layers, n_heads = self.atlas.n_layers, self.atlas.n_heads
        grid = layout.cell >= self.look.grid and not self.relation
        reach = -GRID / layout.cell if grid else 0.2
        left, top = np.meshgrid(np.arange(n_layers) - 0.5, np.arange(n_heads) - 0.5)
        right = np.minimum(left + 1 + reach, n_layers - 0.5)
        bottom = np.minimum(top + 1 + reach, n_heads - 0.5)
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        return np.array(corners).reshape(4, 2, -1).transpose(2, 0, 1)

    def _panel_colours(self, number: int) -> np.ndarray:
        """Colour of each head in a panel, the composite being panel 0: Str[ndarray, "layer head"]."""
        found = self.classification
        rest = np.where(found.has_heads[:, None], self.palette.unclassified, self.palette.not_applicable)
        rest = np.broadcast_to(rest, found.count.shape)
        if number > 0:
            category = found.categories[number - 1]
            return np.where(found.of(category), self.colours[category], rest)
        colours = rest.copy()
        for category, colour in self.colours.items():
            colours[found.of(category)] = colour
        for count in range(2, len(found.categories) + 1):
            colours[found.count == count] = self.palette.of_count(count)
        return colours

    def _draw_colours(self, axes: Axes, colours: np.ndarray, layout: Layout) -> None:
        axes.add_collection(
            PolyCollection(
                list(self._cells(layout)),
                facecolors=colours.T.ravel(),
                edgecolors="none",
                linewidths=0,
                antialiaseds=False,
            ),
            autolim=False,
        )

    def _draw_scores(self, axes: Axes, layout: Layout) -> PolyCollection:
        shares = self.atlas.kind(self.classification.kind).sel(relation=self.relation).values
        cells = PolyCollection(
            list(self._cells(layout)),
            array=np.ma.masked_invalid(shares.T.ravel()),
            cmap=matplotlib.colormaps[self.palette.scale].with_extremes(bad=self.palette.not_applicable),
            norm=Normalize(0, 1),
            edgecolors="none",
            linewidths=0,
            antialiaseds=False,
        )
        axes.add_collection(cells, autolim=False)
        return cells

    # Beside the first panel

    def _swatches(self) -> list[tuple[str, str]]:
        """(name, colour) from top to bottom: numbers of categories, categories, the rest.

        Up to four categories, every number that can occur is named; beyond, those that do occur.
        """
        found = self.classification
        n_categories = len(found.categories)
        occurring = set(found.count.ravel().tolist())
        counts = [n for n in range(n_categories, 1, -1) if n_categories <= 4 or n in occurring]
        return [
            *((f"{count} categories", self.palette.of_count(count)) for count in counts),
            *(
                (self.ruler.shorten(one_line(name), self.look.label, self.room), self.colours[name])
                for name in reversed(found.categories)
            ),
            ("Unclassified", self.palette.unclassified),
            *([] if found.has_heads.all() else [("No heads", self.palette.not_applicable)]),
        ]

    def _legend(self, layout: Layout, offset: float) -> None:
        x, y, height = layout.legend
        y += offset
        each = height / len(self.swatches)
        total_height = self.size[1]
        for number, (name, colour) in enumerate(self.swatches):
            left, bottom, width, share = self._at(x, y + number * each, SWATCH, each)
            self.figure.add_artist(
                Rectangle(
                    (left, bottom),
                    width,
                    share - (1 / self.look.dpi / total_height if number + 1 < len(self.swatches) else 0),
                    transform=self.figure.transFigure,
                    facecolor=colour,
                    linewidth=0,
                    gid=f"swatch-{number}",
                )
            )
            self._write(x + SWATCH + 0.05, y + (number + 0.5) * each, name, self.look.label, va="center_baseline")

    def _colour_bar(self, cells: PolyCollection, layout: Layout, offset: float) -> None:
        """The scale from 0 to 1, the same for every relation and model, with the threshold marked."""
        look, threshold = self.look, float(parse_threshold(self.classification.threshold))
        x, y, height = layout.legend
        axes = self.figure.add_axes(self._at(x, y + offset, SWATCH, height))
        bar = self.figure.colorbar(cells, cax=axes)
        bar.outline.set(linewidth=0.5, color=FRAME)
        if bar.solids is not None:
            bar.solids.set_edgecolor("face")
        room = _points(look.tick) * 1.2 / height
        places = {place / 10: f"{place / 10:g}" for place in range(0, 11, 2) if abs(place / 10 - threshold) >= room} | {
            threshold: self._threshold_tick()
        }
        bar.set_ticks(sorted(places), labels=[places[place] for place in sorted(places)])
        axes.tick_params(labelsize=look.tick, length=TICK * 72, width=0.5, pad=1.5, color=FRAME, labelcolor=INK)
        axes.axhline(threshold, color="white", linewidth=1.6)
        axes.axhline(threshold, color=INK, linewidth=0.8)
        below = y + offset + height + _points(look.label) * LINE
        self._write(x, below, self.classification.kind, look.label)

    def _threshold_tick(self) -> str:
        return f"{one_line(self.classification.threshold, 8)} threshold"


def _points(points: float) -> float:
    """Points in inches."""
    return points / 72


def _whole(inches: float, look: Look) -> float:
    """Up to a whole number of pixels."""
    return float(np.ceil(round(inches * look.dpi, 6)) / look.dpi)
