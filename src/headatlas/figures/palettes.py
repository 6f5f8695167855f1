"""The colours of figures: one per category, one per number of categories, one for all other heads."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

from headatlas.errors import SettingsError


@dataclass(frozen=True)
class Palette:
    """Colours as `#rrggbb`.

    Args:
        unclassified: for heads without a category.
        not_applicable: for layers without attention heads.
        categories: for the categories of the built-in relations, by name.
        further: for a user's own categories, in the order in which figures show them.
        counts: for heads in 2, 3, 4, ... categories.
        scale: the matplotlib colormap for the scores of one relation.
    """

    unclassified: str
    not_applicable: str
    categories: dict[str, str]
    further: tuple[str, ...]
    counts: tuple[str, ...]
    scale: str

    def of_categories(self, names: tuple[str, ...]) -> dict[str, str]:
        """A colour for each category, all different."""
        own = [name for name in names if name not in self.categories]
        further = {name: self._from(self.further, number) for number, name in enumerate(own)}
        return {name: self.categories.get(name) or further[name] for name in names}

    def of_count(self, count: int) -> str:
        """The colour of heads in `count` categories, 2 or more."""
        return self._from(self.counts, count - 2, lightness=0.25)

    @staticmethod
    def _from(colours: tuple[str, ...], number: int, lightness: float = 0.55) -> str:
        if number < len(colours):
            return colours[number]
        # After the chosen colours: hues that differ by the golden ratio never repeat.
        red, green, blue = colorsys.hls_to_rgb(number * 0.6180339887 % 1, lightness, 0.6)
        return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


PALETTES = {
    # Colours of matplotlib's `tab10`, as in the reference figure.
    "paper": Palette(
        unclassified="#d9d9d9",
        not_applicable="#f4f4f4",
        categories={
            "Algorithmic": "#1f77b4",
            "Knowledge": "#ff7f0e",
            "Linguistic": "#2ca02c",
            "Translation": "#d62728",
        },
        further=("#17becf", "#bcbd22", "#4411aa", "#00eebb", "#ff22ff", "#224400"),
        counts=("#9467bd", "#8c564b", "#e377c2", "#110022", "#ff0077", "#886600"),
        scale="magma_r",
    ),
    # Found by a search for the largest minimum distance (CIE76) under normal sight and simulated protanopia,
    # deuteranopia and tritanopia: 34 between any two of the four categories, their counts and `unclassified`, and 18
    # with the further colours. For `paper` the minimum is 5 (orange and green). tests/figures/test_palettes.py
    # measures both.
    "colour-blind": Palette(
        unclassified="#dcdcdc",
        not_applicable="#f6f6f6",
        categories={
            "Algorithmic": "#0f2dff",
            "Knowledge": "#ff870f",
            "Linguistic": "#00a569",
            "Translation": "#b40000",
        },
        further=("#115544", "#99ee88", "#5500aa", "#ff33aa", "#9955ff", "#77ddff"),
        counts=("#d278f0", "#690f78", "#000f0f", "#332200", "#9944bb", "#557733"),
        scale="cividis",
    ),
}

READING_PALETTES = {
    # Away from the colours of the categories; the sink, where most heads rest, is the quietest.
    "paper": Palette(
        unclassified="#d9d9d9",
        not_applicable="#f4f4f4",
        categories={
            "Previous token": "#f2b701",
            "Induction": "#c2185b",
            "Duplicate": "#6a3d9a",
            "Self": "#b39ddb",
            "Sink": "#7ba7bc",
            "Local": "#3fae8f",
            "Delimiter": "#a6761d",
        },
        further=(),
        counts=("#2b2b2b", "#005f5f", "#7a0000"),
        scale="magma_r",
    ),
    # Found by a search as that of PALETTES: a minimum distance of 30 between any two behaviours, 2 and 3 of them, and
    # `unclassified`, under all kinds of sight.
    "colour-blind": Palette(
        unclassified="#dcdcdc",
        not_applicable="#f6f6f6",
        categories={
            "Previous token": "#edc010",
            "Induction": "#bb4475",
            "Duplicate": "#8a329b",
            "Self": "#914ff4",
            "Sink": "#8fbbf0",
            "Local": "#00fe8c",
            "Delimiter": "#266903",
        },
        further=(),
        counts=("#15073c", "#450d19", "#667788"),
        scale="cividis",
    ),
}
"""The same for where heads look, by the title of the behaviour."""


def checked_palette(name: str, reading: bool = False) -> Palette:
    """The palette of this name.

    Args:
        reading: for where heads look.

    Raises:
        SettingsError: there is no such palette.
    """
    if name not in PALETTES:
        raise SettingsError(f"palette: expected one of {', '.join(PALETTES)}, found {name!r}.")
    return (READING_PALETTES if reading else PALETTES)[name]
