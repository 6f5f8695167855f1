"""What a tuned model does otherwise than its base: how far each head moved, and the words that moved most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from headatlas.atlas import head_name
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import plot_look
from headatlas.figures.palettes import checked_palette
from headatlas.figures.proportions import ticks
from headatlas.figures.style import FRAME, INK, QUIET, heading, plain_style, style_plot
from headatlas.figures.wording import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from headatlas.analysis.audit import Audit

WIDTH, ROW = 9.6, 0.2
MARKS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
"""Marks of the scale of colours."""

LONGEST = 18
"""Most letters of a word."""


def draw_audit(
    audit: Audit,
    *,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
    caption: bool = True,
) -> Figure:
    """Draw how far the typical word of each head moved, in multiples of the noise, and the words that moved most.

    Heads that gained or lost a function beyond the noise are marked.

    Args:
        palette: `paper` or `colour-blind`.
        width: `screen` (default), `page` (5.5 in), `column` (3.25 in), or a number of inches from 2 to 40.
        font: `sans` (DejaVu Sans) or `serif` (STIX, which looks like Times).
        caption: whether the figure has a title; the file's metadata always has it.

    Raises:
        SettingsError: an argument is outside its range.
    """
    chosen, look = checked_palette(palette), plot_look(width, WIDTH)
    stacked = look.width < 7
    with plain_style(font):
        base, tuned = one_line(audit.base, 40), one_line(audit.tuned, 40)
        title = f"From {base} to {tuned}"
        row = ROW if not stacked else 0.15
        rows = row * len(audit.words)
        height = max(3.4, 1.4 + rows) if not stacked else 0.65 * look.width + 1.7 + rows
        figure = AtlasFigure((look.width, height), {"Title": title, "Description": title}, dpi=look.dpi)
        if caption:
            figure.suptitle(heading(title, look), size=look.title, color=INK)
        if stacked:
            heads, words = figure.subplots(2, 1, height_ratios=(0.65 * look.width + 0.6, rows + 0.6))
        else:
            heads, words = figure.subplots(1, 2, width_ratios=(1, 1))
        narrow = look.width < 4.4
        _draw_heads(figure, heads, audit, narrow)
        _draw_words(words, audit, chosen.of_count(2), chosen.unclassified, narrow)
    return figure


def _draw_heads(figure: Figure, axes: Axes, audit: Audit, narrow: bool) -> None:
    factors = np.array([[np.nan if each is None else each for each in row] for row in audit.factors], float).T
    n_heads, n_layers = factors.shape
    finite = factors[np.isfinite(factors)]
    most = max(3.0, *(float(each) for each in (finite.max(initial=1), 1 / max(finite.min(initial=1), 1e-3))))
    image = axes.imshow(factors, norm=LogNorm(1 / most, most), cmap="RdBu_r", aspect="auto", interpolation="nearest")
    marks = [each for each in MARKS if 1 / most <= each <= most]
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.8, aspect=30, pad=0.02, ticks=marks, format="%g")
    bar.ax.minorticks_off()
    whole = "movement of the head's typical word, over that of the noise"
    label = "a typical word, over the noise" if narrow else whole
    bar.set_label(label, size=7 if narrow else 7.5, color=INK)
    bar.ax.tick_params(labelsize=7, width=0.5, color=FRAME, labelcolor=INK)
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]
    across, down = ticks(n_layers, n_heads)
    axes.set_xticks(across)
    axes.set_yticks(down)
    names = {head_name(layer, head): (layer, head) for layer in range(n_layers) for head in range(n_heads)}
    any_function = audit.heads.categories[0]
    relations = audit.heads.relations
    gained = {name for each in relations for name in each.gained_heads} | set(any_function.gained_heads)
    lost = {name for each in relations for name in each.lost_heads} | set(any_function.lost_heads)
    for found, marker, label in ((gained, "^", "gained a function"), (lost, "v", "lost a function")):
        if found:
            at = np.array([names[name] for name in sorted(found)])
            axes.plot(at[:, 0], at[:, 1], marker, color=INK, mfc="white", markersize=4.5, linestyle="", label=label)
    if gained or lost:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=7, labelcolor=INK)
    axes.set_xlabel("layer", size=8, color=INK)
    axes.set_ylabel("head", size=8, color=INK)
    axes.tick_params(labelsize=7, width=0.5, length=2.5, color=FRAME, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, color=FRAME)


def _draw_words(axes: Axes, audit: Audit, colour: str, quiet: str, narrow: bool) -> None:
    rows = audit.words[::-1]
    moved = [each.movement for each in rows]
    axes.barh(range(len(rows)), moved, height=0.72, color=[colour if each.is_beyond else quiet for each in rows])
    labels = []
    for each in rows:
        raised = one_line(each.raised[0].strip(), LONGEST) if each.raised else ""
        labels.append(f"{one_line(each.word.strip(), LONGEST)} → {raised}  {each.raised_by}")
    axes.set_yticks(range(len(rows)), labels)
    axes.axvline(1, color=INK, linewidth=0.9, linestyle="--")
    axes.set_xlim(0, max([*moved, 1]) * 1.05)
    moved_beyond = f"{audit.words_beyond:,} of {audit.words_compared:,} words moved" + "\n" * narrow
    axes.set_title(f"{moved_beyond} beyond the noise", size=8 if narrow else 8.5, color=INK)
    label = "dashed: limit of the noise" if narrow else "movement (dashed: the limit of the noise)"
    axes.set_xlabel(label, size=7 if narrow else 7.5, color=QUIET)
    style_plot(axes, grid="x")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0, labelsize=7)
