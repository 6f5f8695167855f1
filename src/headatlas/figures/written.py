"""Scores of sentences that a language model wrote about heads, next to those of the rules."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from headatlas.analysis.written import CHANCE, read_written, summarise
from headatlas.errors import AtlasError
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.style import INK, QUIET, plain_style, style_plot
from headatlas.figures.wording import one_line

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

COLOURS = {"score": "#0072b2", "rules": "#7f7f7f"}
LARGEST = 420
"""Area of a circle of all heads, in square points."""


def draw_written(atlas: Atlas) -> Figure:
    """Draw the share of right choices: mean with its interval, and how many heads have which share.

    Raises:
        AtlasError: the atlas has no such sentences.
    """
    rows, facts = read_written(atlas), atlas.manifest.evidence.written
    if not rows or facts is None:
        raise AtlasError(f"{atlas.name}: expected sentences of a language model, found none. Run `headatlas describe`.")
    total = summarise(rows.values())
    with plain_style():
        title = f"{one_line(atlas.name)}: held-out mappings named by a sentence"
        figure = AtlasFigure((6.2, 2.3), {"Title": title})
        axes = figure.subplots()
        axes.set_title(title, size=9, color=INK)
        axes.axvline(CHANCE, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.text(CHANCE + 0.008, 1.68, "chance", size=7, color=QUIET, ha="left", va="bottom")
        names = {"score": one_line(facts.model)[:40], "rules": "rules"}
        for at, name in ((1, "score"), (0, "rules")):
            right = "correct" if name == "score" else "rules_correct"
            shares = Counter(getattr(each, right) / each.questions for each in rows.values())
            x = sorted(shares)
            area = [LARGEST * shares[each] / len(rows) for each in x]
            axes.scatter(x, [at] * len(x), s=area, color=COLOURS[name], alpha=0.25, linewidths=0, clip_on=False)
            for each in x:
                axes.text(each, at + 0.3, str(shares[each]), size=7, color=QUIET, ha="center", va="bottom")
            mean, low, high = getattr(total, name)
            axes.plot([low, high], [at - 0.28] * 2, color=COLOURS[name], linewidth=2, solid_capstyle="butt")
            axes.plot([mean], [at - 0.28], marker="D", markersize=5, color=COLOURS[name])
            axes.text(min(high, 0.97) + 0.02, at - 0.28, f"{mean:.2f}", size=7.5, color=INK, va="center")
        axes.set(xlim=(-0.04, 1.06), ylim=(-0.6, 1.9), yticks=[1, 0])
        axes.set_yticklabels([names["score"], names["rules"]])
        axes.set_xlabel(
            "share of right choices; circles: heads with it, diamonds: mean with 95 % interval", size=7.5, color=INK
        )
        style_plot(axes, 8, grid=None)
    return figure
