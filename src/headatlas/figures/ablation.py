"""Accuracy on a task as heads are removed: the relation's heads, random heads, and the effect on other tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from headatlas.analysis.ablation import BY_SCORE, is_random_order
from headatlas.atlas.evidence import RemovedBy
from headatlas.atlas.statistics import wilson_interval
from headatlas.errors import AtlasError
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import INK, QUIET, plain_style, style_plot
from headatlas.figures.wording import one_line

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

DASHES = ("--", ":", "-.")


def draw_ablation(atlas: Atlas, relation: str, *, palette: str = "paper") -> Figure:
    """Draw the evidence of `ablate_heads` for one relation.

    The band around the curve of the relation's heads shows Wilson's 95 % interval of each point. The band of the random
    heads shows the range of the draws; its line shows their mean.

    Args:
        palette: `paper` or `colour-blind`; the relation's curve has the colour of its category.

    Raises:
        SettingsError: another palette.
        AtlasError: the atlas has no curve for this relation.
    """
    chosen = checked_palette(palette)
    table: Any = atlas.evidence("ablation")
    table = None if table is None else table[table["relation"] == relation]
    if table is None or table["removed"].max() in (0, np.nan):
        raise AtlasError(f"{atlas.name}: expected a curve for {relation!r}, found none. Run `headatlas ablate`.")
    facts = atlas.manifest.evidence.ablation
    if facts is None or relation not in facts.relations:
        raise AtlasError(f"{atlas.name}: expected the facts about {relation!r}, found none. Run `headatlas ablate`.")
    category = str(atlas.data["category"].sel(relation=relation).item())
    colour = chosen.of_categories((category,))[category]
    own, others = table[table["task"] == relation], table[table["task"] != relation]
    with plain_style():
        title = f"{one_line(atlas.name)}: {one_line(relation)} as heads are removed"
        figure = AtlasFigure((6.4, 3.7), {"Title": title})
        axes = figure.subplots()
        figure.suptitle(title, size=9.5, color=INK, x=0.01, ha="left")
        random = own[own["order"].map(is_random_order)]
        shares = _share(random).groupby(random["removed"]).agg(["mean", "min", "max"])
        axes.fill_between(shares.index, shares["min"], shares["max"], color="#d9d9d9", linewidth=0, zorder=1)
        axes.plot(
            shares.index, shares["mean"], color=QUIET, linewidth=1.1, zorder=3, label="random heads", clip_on=False
        )
        for number, (task, curve) in enumerate(others.groupby("task", sort=False)):
            axes.plot(
                curve["removed"], _share(curve), color="#8a8a8a", linewidth=0.9, zorder=2, clip_on=False,
                linestyle=DASHES[number % len(DASHES)], label=f"other task: {one_line(task, 28)}",
            )  # fmt: skip
        curve = own[own["order"] == BY_SCORE]
        low, high = wilson_interval(_share(curve), curve["prompts"])
        axes.fill_between(curve["removed"], low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
        axes.plot(
            curve["removed"], _share(curve), color=colour, linewidth=1.6, marker="o", markersize=3.5, zorder=4,
            label="heads by score", clip_on=False,
        )  # fmt: skip
        _finish(axes, "its mean" if facts.relations[relation].removed_by is RemovedBy.MEAN else "zero")
        handles, labels = axes.get_legend_handles_labels()
        order = [len(handles) - 1, *range(len(handles) - 1)]
        figure.legend(
            [handles[place] for place in order], [labels[place] for place in order], loc="outside right center",
            frameon=False, fontsize=7.5, labelcolor=INK,
        )  # fmt: skip
    return figure


def _share(curve: Any) -> Any:
    return curve["correct"] / curve["prompts"]


def _finish(axes: Axes, instead: str) -> None:
    axes.set_ylim(0, 1)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"heads removed (output at the last token replaced by {instead})", size=8, color=INK)
    axes.set_ylabel("prompts answered correctly", size=8, color=INK)
    style_plot(axes)
