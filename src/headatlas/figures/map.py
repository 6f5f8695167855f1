"""The map of heads, layer by head, as a matplotlib figure; neither uses nor changes pyplot or the user's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from headatlas.analysis.assumed_input import input_warning
from headatlas.analysis.categories import Classification, classify
from headatlas.atlas import Atlas, head_name
from headatlas.errors import SettingsError
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import MARGIN, Content, Layout, Look, arrange, choose_look
from headatlas.figures.names import HeadNames
from headatlas.figures.palettes import Palette, checked_palette
from headatlas.figures.proportions import PROPORTIONS, named_counts, ticks
from headatlas.figures.ruler import Ruler
from headatlas.figures.style import FRAME, INK, QUIET, plain_style
from headatlas.figures.wording import MAX_WARNING, metadata, one_line
from headatlas.figures.wording import caption as caption_parts
from headatlas.settings import parse_threshold

LINE = 1.3
"""Distance between lines of text, in font sizes."""

SWATCH, TICK, SEAM = 0.11, 0.035, 1 / 150
"""Inches: width of the bar of swatches; length of a tick; distance between large cells."""

BETWEEN_CELLS, BETWEEN_SCORES = "white", "#b0b0b0"
"""Colours of the lines between cells."""


def draw_map(
    atlas: Atlas,
    *,
    side: str = "score",
    threshold: str | float | None = None,
    rule: str | None = None,
    palette: str = "paper",
    relation: str | None = None,
    width: str | float | None = None,
    categories: Sequence[str] | None = None,
    caption: bool = True,
    font: str = "sans",
) -> Figure:
    """Draw the categories of all heads, layer by head; with `relation`, draw the scores for that relation.

    Of a relation, the strongest heads above the threshold are named. A category that no head has gets no panel; the
    caption says so.

    Args:
        side: `score` or `suppression`.
        threshold: strict limit, 0 to 1; default: the atlas's own.
        rule: `plain` or `calibrated`; default: the atlas's own.
        palette: `paper` or `colour-blind`.
        relation: name of a measured relation, drawn with a continuous scale.
        width: `screen` (default), `page` (5.5 in), `column` (3.25 in), or a number of inches from 2 to 40.
        categories: those to show, in upper or lower case; all others count as other heads. Default: all.
        caption: whether the caption is below the figure; the file's metadata always has it.
        font: `sans` (DejaVu Sans) or `serif` (STIX, which looks like Times).

    Raises:
        SettingsError: an argument is outside its range.
        AtlasError: the atlas lacks suppression, the chance levels that `calibrated` needs, or the relation.

    >>> draw_map(atlas, width="column").savefig("map.pdf")
    """
    colours, look = checked_palette(palette), choose_look(width)
    everything = classify(atlas, threshold, side, rule)
    if relation is not None:
        relation = atlas.check_relation(relation)
        if categories is not None:
            raise SettingsError("categories: the map of one relation has none. Leave out relation or categories.")
    if categories is None:
        found, absent = occurring(everything)
    else:
        found, absent = restricted(everything, categories), ()
    with plain_style(font):
        of_file = metadata(atlas, found, relation, absent)
        words = MapWords(
            caption_parts(atlas, found, relation, absent) if caption else [],
            of_file,
            warning=str(input_warning(atlas) or "") if caption else "",
            rest=PROPORTIONS.rest if categories is None else "Other heads",
        )
        return MapPicture(atlas, found, colours, look, words, relation, everything.categories).draw()


def occurring(found: Classification) -> tuple[Classification, tuple[str, ...]]:
    """The classification without categories that no head has, and the names of these."""
    absent = tuple(name for name in found.categories if not found.of(name).any())
    return restricted(found, [name for name in found.categories if name not in absent]), absent


def restricted(found: Classification, names: Sequence[str]) -> Classification:
    """The classification by these categories only, in the order of figures.

    Raises:
        SettingsError: one of them does not exist, or was not measurable.
    """
    known = {name.casefold(): name for name in found.categories} | {name: name for name in found.categories}
    chosen = []
    for name in names:
        if (place := known.get(name, known.get(name.casefold()))) is None:
            possible = ", ".join(map(one_line, found.categories)) or "none: nothing was measured"
            raise SettingsError(f"categories: expected some of {possible}, found {one_line(name)!r}.")
        chosen.append(place)
    kept = [number for number, name in enumerate(found.categories) if name in chosen]
    return replace(found, categories=tuple(found.categories[number] for number in kept), has=found.has[kept])


@dataclass(frozen=True)
class MapWords:
    """What a map says about itself.

    Args:
        caption: parts of the caption; metadata: of the file.
        composite: title of the first panel.
        several: what a head with several colours has so many of.
        warning: that follows the caption; empty for none.
        rest: what heads without a colour are called.
    """

    caption: list[str]
    metadata: dict[str, str]
    composite: str = PROPORTIONS.composite
    several: str = "categories"
    warning: str = ""
    rest: str = PROPORTIONS.rest


class MapPicture:
    """One map while it is drawn.

    Args:
        everything: all categories, so that each keeps its colour where some are left out.
    """

    def __init__(
        self,
        atlas: Atlas,
        classification: Classification,
        palette: Palette,
        look: Look,
        words: MapWords,
        relation: str | None = None,
        everything: tuple[str, ...] = (),
    ) -> None:
        self.atlas, self.classification, self.look, self.relation = atlas, classification, look, relation
        self.palette, self.words = palette, words
        self.ruler = Ruler(look.dpi)
        colours = palette.of_categories(everything or classification.categories)
        self.colours = {name: colours[name] for name in classification.categories}
        names = [words.composite, *classification.categories]
        if len(names) == 2:  # The panel of a single category shows everything.
            names = names[1:]
        if relation:
            names = [relation]
        self.room = min(look.width * 0.35, 14 * _points(look.label))
        most = look.width * 0.6 if relation else self.room * look.title / look.label
        self.titles = [self.ruler.shorten(one_line(name), look.title, most) for name in names]
        self.swatches = [] if relation else self._swatches()

    def draw(self) -> Figure:
        look, layout = self.look, self._arrange()
        width = layout.width - 2.5 * MARGIN
        lines = self.ruler.wrap(self.words.caption, look.caption, width) if self.words.caption else []
        if self.words.warning:
            lines += self.ruler.wrap([one_line(self.words.warning, MAX_WARNING)], look.caption, width)
        line = _points(look.caption) * LINE
        heading = _points(look.title + 1) * 1.5 if self.classification.side == "suppression" else 0.0
        below = heading + layout.body + 0.04
        height = _whole(below + len(lines) * line + MARGIN / 2, look)
        self.size = (_whole(layout.width, look), height)
        self.figure = AtlasFigure(self.size, self.words.metadata, dpi=look.dpi, layout=None)
        offset = _whole(heading, look)

        for number, ((x, y), cell) in enumerate(zip(layout.panels, layout.cells, strict=True)):
            axes = self._panel(number, x, y + offset, cell, layout.first_in_row(number))
            if self.relation:
                cells = self._draw_scores(axes, cell)
                self._name_strongest(axes, cell)
                self._colour_bar(cells, layout, offset)
            else:
                self._draw_colours(axes, self._panel_colours(number), cell)
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
                legend_height=len(self.swatches) * label * LINE or 0.6,
                legend_below=label * LINE if self.relation else 0.0,
                swatches=len(self.swatches),
            ),
            look,
        )

    def _title_pad(self) -> float:
        """Points between panel and title: half of the top tick label extends above the panel."""
        return self.look.tick * 0.62 + 1

    def _at(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """A box in inches from the top left corner, converted to fractions of the figure."""
        total_width, total_height = self.size
        return x / total_width, (total_height - y - height) / total_height, width / total_width, height / total_height

    def _write(self, x: float, y: float, text: str, size: float, **options: Any) -> None:
        options = {"color": INK, "va": "baseline"} | options
        total_width, total_height = self.size
        self.figure.text(x / total_width, 1 - y / total_height, text, size=size, **options)

    # Panels

    def _panel(self, number: int, x: float, y: float, cell: float, first_in_row: bool) -> Axes:
        """An empty panel with its title, ticks and labels."""
        look, n_layers, n_heads = self.look, self.atlas.n_layers, self.atlas.n_heads
        box = self._at(x, y, n_layers * cell, n_heads * cell)
        axes = self.figure.add_axes(box, facecolor=BETWEEN_SCORES if self.relation else BETWEEN_CELLS)
        axes.set(xlim=(-0.5, n_layers - 0.5), ylim=(n_heads - 0.5, -0.5), aspect="equal")
        axes.set_gid(f"panel-{number}")
        axes.set_title(self.titles[number], size=look.title, pad=self._title_pad(), color=INK)
        axes.set_xlabel("layer", size=look.label, labelpad=1.5, color=INK)
        wide = self.ruler.width(str(n_layers - 1), look.tick) + 0.03
        for_layers = max(1, int(np.ceil(wide / cell)))
        for_heads = max(1, int(np.ceil(_points(look.tick) * 1.25 / cell)))
        numbered = ticks(n_layers, n_heads, for_layers, for_heads)
        for axis, places in zip((axes.xaxis, axes.yaxis), numbered, strict=True):
            axis.set_ticks(list(places), labels=[str(place) for place in places])
        axes.tick_params(labelsize=look.tick, length=TICK * 72, width=0.5, pad=1.5, color=FRAME, labelcolor=INK)
        if first_in_row or not look.shared_heads:
            short = n_heads * cell < self.ruler.width("head", look.label)
            axes.set_ylabel("head", size=look.label, labelpad=2, color=INK, loc="top" if short else "center")
        else:
            axes.tick_params(labelleft=False)
        for spine in axes.spines.values():
            spine.set(linewidth=0.5, color=FRAME)
        return axes

    def _cells(self, cell: float) -> np.ndarray:
        """Corners of all cells, layer by layer within a head: Float[ndarray, "n_heads*n_layers 4 2"].

        Cells leave a thin line between them. Those of a few pixels extend below their right and lower neighbours, which
        are drawn later, so that no viewer shows a seam.
        """
        n_layers, n_heads = self.atlas.n_layers, self.atlas.n_heads
        seam = SEAM if cell >= 0.1 else 1 / self.look.dpi
        reach = -seam / cell if round(cell * self.look.dpi) >= PROPORTIONS.line_from else 0.2
        left, top = np.meshgrid(np.arange(n_layers) - 0.5, np.arange(n_heads) - 0.5)
        right = np.minimum(left + 1 + reach, n_layers - 0.5)
        bottom = np.minimum(top + 1 + reach, n_heads - 0.5)
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        return np.array(corners).reshape(4, 2, -1).transpose(2, 0, 1)

    def _panel_colours(self, number: int) -> np.ndarray:
        """Colour of each head in a panel; panel 0 is the composite: Str[ndarray, "layer head"]."""
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

    def _draw_colours(self, axes: Axes, colours: np.ndarray, cell: float) -> None:
        axes.add_collection(
            PolyCollection(
                list(self._cells(cell)),
                facecolors=colours.T.ravel(),
                edgecolors="none",
                linewidths=0,
                antialiaseds=False,
            ),
            autolim=False,
        )

    def _shares(self) -> np.ndarray:
        return self.atlas.share(self.classification.side).sel(relation=self.relation).values

    def _draw_scores(self, axes: Axes, cell: float) -> PolyCollection:
        cells = PolyCollection(
            list(self._cells(cell)),
            array=np.ma.masked_invalid(self._shares().T.ravel()),
            cmap=matplotlib.colormaps[self.palette.scale].with_extremes(bad=self.palette.not_applicable),
            norm=Normalize(0, 1),
            edgecolors="none",
            linewidths=0,
            antialiaseds=False,
        )
        axes.add_collection(cells, autolim=False)
        return cells

    def _name_strongest(self, axes: Axes, cell: float) -> None:
        """Names and scores of the strongest heads above the threshold, where they hide no such head."""
        shares, look = self._shares(), self.look
        above = np.argwhere(shares > float(parse_threshold(self.classification.threshold)))
        known: list[tuple[int, int]] = [(layer, head) for layer, head in above.tolist()]
        strongest = sorted(known, key=lambda place: (-shares[place], place))
        size = look.tick - 0.5
        names = HeadNames(self.ruler, size, cell, shares.shape, known)
        background = matplotlib.colormaps[self.palette.scale](0.0)
        for layer, head in sorted(strongest[: look.labels], key=lambda place: (place[1], -place[0])):
            name = head_name(layer, head)
            texts = (f"{name} {shares[layer, head]:.2f}", name)
            places = ((text, names.place(layer, head, text)) for text in texts)
            text, found = next((each for each in places if each[1] is not None), ("", None))
            if found is None:
                continue
            dark = sum(background[:3]) < 1.5
            axes.text(
                found.x, found.y, text, size=size, ha=found.align, va="center_baseline", gid=f"head-{layer}-{head}",
                color="white" if dark else INK, zorder=4,
                bbox={"facecolor": background, "edgecolor": "none", "pad": 0.5, "alpha": 0.9},
            )  # fmt: skip
            if found.line:
                axes.plot(*found.line, color="white" if dark else QUIET, linewidth=0.5, zorder=3)

    # Right of the first panel

    def _swatches(self) -> list[tuple[str, str]]:
        """(name, colour) from top to bottom: numbers of categories, categories, other heads."""
        found = self.classification
        counts = named_counts(len(found.categories), set(found.count.ravel().tolist()))
        return [
            *((f"{count} {self.words.several}", self.palette.of_count(count)) for count in counts),
            *(
                (self.ruler.shorten(one_line(name), self.look.label, self.room), self.colours[name])
                for name in reversed(found.categories)
            ),
            (self.words.rest, self.palette.unclassified),
            *([] if found.has_heads.all() else [(PROPORTIONS.no_heads, self.palette.not_applicable)]),
        ]

    def _legend(self, layout: Layout, offset: float) -> None:
        x, y, height = layout.legend
        y += offset
        in_column = int(np.ceil(len(self.swatches) / layout.legend_columns))
        each = height / in_column
        total_height = self.size[1]
        for place, (name, colour) in enumerate(self.swatches):
            column, number = divmod(place, in_column)
            at = x + column * layout.legend_step
            left, bottom, width, share = self._at(at, y + number * each, SWATCH, each)
            self.figure.add_artist(
                Rectangle(
                    (left, bottom),
                    width,
                    share - (1 / self.look.dpi / total_height if number + 1 < in_column else 0),
                    transform=self.figure.transFigure,
                    facecolor=colour,
                    linewidth=0,
                    gid=f"swatch-{place}",
                )
            )
            self._write(at + SWATCH + 0.05, y + (number + 0.5) * each, name, self.look.label, va="center_baseline")

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
        step = next((each for each in (2, 5) if each / 10 >= room), 10)
        places = {
            place / 10: f"{place / 10:g}" for place in range(0, 11, step) if abs(place / 10 - threshold) >= room
        } | {threshold: self._threshold_tick()}
        bar.set_ticks(sorted(places), labels=[places[place] for place in sorted(places)])
        axes.tick_params(labelsize=look.tick, length=TICK * 72, width=0.5, pad=1.5, color=FRAME, labelcolor=INK)
        axes.axhline(threshold, color="white", linewidth=1.6)
        axes.axhline(threshold, color=INK, linewidth=0.8)
        below = y + offset + height + _points(look.label) * LINE
        self._write(x, below, self.classification.side, look.label)

    def _threshold_tick(self) -> str:
        threshold = one_line(self.classification.threshold, 8)
        return f"{threshold} threshold" if self.look.labels > 4 else threshold


def _points(points: float) -> float:
    """Convert points to inches."""
    return points / 72


def _whole(inches: float, look: Look) -> float:
    """Round up to a whole number of pixels."""
    return float(np.ceil(round(inches * look.dpi, 6)) / look.dpi)
