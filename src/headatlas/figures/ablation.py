"""Accuracy and log-probability on a task as heads are removed: the relation's, random ones, and other tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from headatlas.analysis.ablation import BY_SCORE, RemovalPoint, removal_curves
from headatlas.atlas.evidence import Ablation, RemovedBy
from headatlas.atlas.statistics import wilson_interval
from headatlas.errors import AtlasError
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import Look, plot_look
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import INK, QUIET, heading, plain_style, style_plot
from headatlas.figures.wording import one_line

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

DASHES = ("--", ":", "-.")


def draw_ablation(
    atlas: Atlas,
    relation: str,
    *,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
    caption: bool = True,
) -> Figure:
    """Draw the evidence of `ablate_heads` for one relation.

    Accuracy, and mean log-probability of the targets. The bars on the curve of the relation's heads are Wilson's 95 %
    interval of each point. The band of the random heads shows the range of the draws; its line shows their mean. If two
    atlases were compared, the curves of the other one are black, and other tasks are shown by their mean.

    Args:
        palette: `paper` or `colour-blind`; the relation's curve has the colour of its category.
        width: `screen` (default), `page` (5.5 in), `column` (3.25 in), or a number of inches from 2 to 40.
        font: `sans` (DejaVu Sans) or `serif` (STIX, which looks like Times).
        caption: whether the figure has a title; the file's metadata always has it.

    Raises:
        SettingsError: an argument is outside its range.
        AtlasError: the atlas has no curve for this relation.
    """
    chosen, look = checked_palette(palette), plot_look(width, 7.2)
    table: Any = atlas.evidence("ablation")
    table = None if table is None else table[table["relation"] == relation]
    if table is None or table["removed"].max() in (0, np.nan):
        raise AtlasError(f"{atlas.name}: expected a curve for {relation!r}, found none. Run `headatlas ablate`.")
    facts = atlas.manifest.evidence.ablation
    if facts is None or relation not in facts.relations:
        raise AtlasError(f"{atlas.name}: expected the facts about {relation!r}, found none. Run `headatlas ablate`.")
    category = str(atlas.data["category"].sel(relation=relation).item())
    colour = chosen.of_categories((category,))[category]
    curves, found = removal_curves(table, relation), facts.relations[relation]
    prompts = int(table["prompts"].iloc[0])
    draws = len({each for each in table["order"] if each != BY_SCORE and str(each).startswith("random")})
    stacked = look.width < 4.4
    with plain_style(font):
        title = f"{one_line(atlas.name)}: {one_line(relation)} as heads are removed"
        described = f"{title} · {prompts:,} prompts · bars: 95 % intervals (Wilson) · grey: {draws:,} random draws"
        height = 4.3 if stacked else max(2.4, 0.44 * look.width)
        figure = AtlasFigure((look.width, height), {"Title": title, "Description": described}, dpi=look.dpi)
        left, right = figure.subplots(2, 1, sharex=True) if stacked else figure.subplots(1, 2)
        if caption:
            figure.suptitle(heading(title, look), size=look.title, color=INK, x=0.01, ha="left")
        for axes, of in ((left, "accuracy"), (right, "log_probability")):
            _draw_random(axes, curves.random, of)
            _draw_controls(axes, table, relation, found, colour, of)
            if found.against is not None:
                _draw_own(axes, curves.other, of, INK, "s", f"heads by score, {one_line(found.against.label, 20)}")
            own = (
                "heads by score"
                if found.against is None
                else f"heads by score, {one_line(found.against.own_label, 20)}"
            )
            _draw_own(axes, curves.own, of, colour, "o", own)
        for points, shade in ((curves.other, INK), (curves.own, colour)):
            if points:
                shares = np.array([each.accuracy for each in points])
                low, high = wilson_interval(shares, prompts)
                removed = [each.removed for each in points]
                left.errorbar(
                    removed, shares, yerr=[np.maximum(shares - low, 0), np.maximum(high - shares, 0)], fmt="none",
                    ecolor=shade, elinewidth=0.7, capsize=1.6, capthick=0.7, zorder=3, clip_on=False,
                )  # fmt: skip
        _finish(left, right, "their mean" if found.removed_by is RemovedBy.MEAN else "zero", look, stacked)
        left.text(0.985, 0.975, f"n = {prompts:,} prompts", transform=left.transAxes, size=look.tick - 0.5, color=QUIET,
                  ha="right", va="top", zorder=5,
                  bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1})  # fmt: skip
        handles, labels = left.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda place: not labels[place].startswith("heads by score"))
        figure.legend(
            [handles[place] for place in order], [labels[place] for place in order], loc="outside lower center",
            ncols=1 if stacked else 3, frameon=False, fontsize=look.tick - 0.5, labelcolor=INK, handlelength=1.8,
            labelspacing=0.25, columnspacing=1.2,
        )  # fmt: skip
    return figure


def _draw_own(axes: Axes, points: list[RemovalPoint], of: str, colour: str, marker: str, label: str) -> None:
    axes.plot(
        [each.removed for each in points], [getattr(each, of) for each in points], color=colour, linewidth=1.6,
        marker=marker, markersize=3.5, zorder=4, label=label, clip_on=False,
    )  # fmt: skip


def _draw_random(axes: Axes, points: list[RemovalPoint], of: str) -> None:
    removed = [each.removed for each in points]
    if of == "accuracy":
        low, high = [each.lowest for each in points], [each.highest for each in points]
        axes.fill_between(removed, low, high, color="#d9d9d9", linewidth=0, zorder=1)
    axes.plot(
        removed, [getattr(each, of) for each in points], color=QUIET, linewidth=1.1, zorder=3,
        label="random heads: mean and range",
        clip_on=False,
    )  # fmt: skip


def _draw_controls(axes: Axes, table: Any, relation: str, found: Ablation, colour: str, of: str) -> None:
    """Other tasks: each one, or, if two atlases are compared, their mean in the order of either."""
    if found.against is None:
        others = table[(table["task"] != relation) & (table["order"] == BY_SCORE)]
        for number, (task, curve) in enumerate(others.groupby("task", sort=False)):
            axes.plot(
                curve["removed"], curve["correct"] / curve["prompts"] if of == "accuracy" else curve[of],
                color="#8a8a8a", linewidth=0.9, zorder=2, clip_on=False, linestyle=DASHES[number % len(DASHES)],
                label=f"other task: {one_line(str(task), 28)}",
            )  # fmt: skip
        return
    curves = removal_curves(table, relation)
    for points, shade, label in (
        (curves.controls, colour, found.against.own_label),
        (curves.controls_other, INK, found.against.label),
    ):
        if points:
            axes.plot(
                [each.removed for each in points], [getattr(each, of) for each in points], color=shade, linewidth=0.9,
                linestyle="--", zorder=2, clip_on=False,
                label=f"{len(found.controls)} other tasks, {one_line(label, 20)}",
            )  # fmt: skip


def _finish(left: Axes, right: Axes, instead: str, look: Look, stacked: bool) -> None:
    left.set_ylim(0, 1)
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.set_ylabel("prompts answered correctly", size=look.label, color=INK)
    right.set_ylim(top=0)
    right.set_ylabel("mean log-probability" + " of targets" * (look.width > 6), size=look.label, color=INK)
    for axes in (left, right):
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes is right or not stacked:
            axes.set_xlabel(
                "heads removed" + f" (output replaced by {instead})" * (look.width > 6 or stacked),
                size=look.label,
                color=INK,
            )
        style_plot(axes, look.tick)
