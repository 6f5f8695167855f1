"""The look that all figures share: colours of text and lines, fonts, and matplotlib's settings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import matplotlib
from matplotlib import font_manager, style
from matplotlib.axes import Axes

from headatlas.errors import SettingsError
from headatlas.figures.layout import Look
from headatlas.figures.ruler import Ruler

INK, QUIET, FRAME, GRID = "#1a1a1a", "#595959", "#4d4d4d", "#e6e6e6"
"""Colours of text, of secondary text and lines, of axes, and of grid lines."""

FONTS = {"sans": "DejaVu Sans", "serif": "STIXGeneral"}
"""The fonts of figures, both part of matplotlib, so that a figure looks the same anywhere; STIX looks like Times, in
which most papers are set."""

FALLBACK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "WenQuanYi Zen Hei",
    "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip
"""Fonts, if installed, for letters that the others lack."""


def checked_font(name: str) -> str:
    """The name of a font of `FONTS`.

    Raises:
        SettingsError: there is no such font.
    """
    if name not in FONTS:
        raise SettingsError(f"font: expected one of {', '.join(FONTS)}, found {name!r}.")
    return name


@contextmanager
def plain_style(font: str = "sans") -> Iterator[None]:
    """matplotlib's defaults instead of the user's settings, with text never parsed as formulas.

    Raises:
        SettingsError: there is no such font.
    """
    first = list(dict.fromkeys((FONTS[checked_font(font)], FONTS["sans"])))
    installed = {font.name for font in font_manager.fontManager.ttflist}
    own = {
        "font.family": [*first, *(name for name in FALLBACK_FONTS if name in installed)],
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


def heading(text: str, look: Look, inches: float | None = None) -> str:
    """The text in lines that fit the figure, or a part of it that is as wide as this."""
    return "\n".join(Ruler(72).wrap([text], look.title, (inches or look.width) * 0.96))


def style_plot(axes: Axes, label_size: float = 7.5, grid: Literal["x", "y", "both"] | None = "y") -> None:
    """Give the axes of a plot a left and a bottom line, small labels, and grid lines.

    Args:
        label_size: of the tick labels, in points.
        grid: the axis whose ticks get lines, `both`, or None.
    """
    if grid is not None:
        axes.grid(axis=grid, color=GRID, linewidth=0.6)
    axes.tick_params(labelsize=label_size, width=0.5, color=FRAME, labelcolor=INK)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), linewidth=0.5, color=FRAME)
