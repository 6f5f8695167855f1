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
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import INK, QUIET, plain_style, style_plot
from headatlas.figures.wording import one_line

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

DASHES = ("--", ":", "-.")


def draw_ablation(atlas: Atlas, relation: str, *, palette: str = "paper") -> Figure:
    """Draw the evidence of `ablate_heads` for one relation.

    Left: accuracy; right: mean log-probability of the targets. The band around the curve of the relation's heads shows
    Wilson's 95 % interval of each point. The band of the random heads shows the range of the draws; its line shows
    their mean. If two atlases were compared, the curves of the other one are black, and other tasks are shown by their
    mean.

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
    curves, found = removal_curves(table, relation), facts.relations[relation]
    prompts = int(table["prompts"].iloc[0])
    with plain_style():
        title = f"{one_line(atlas.name)}: {one_line(relation)} as heads are removed"
        figure = AtlasFigure((8.2, 3.7), {"Title": title})
        left, right = figure.subplots(1, 2)
        figure.suptitle(title, size=9.5, color=INK, x=0.01, ha="left")
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
                low, high = wilson_interval(np.array([each.accuracy for each in points]), prompts)
                left.fill_between([each.removed for each in points], low, high, color=shade, alpha=0.14, linewidth=0)
        _finish(left, right, "their mean" if found.removed_by is RemovedBy.MEAN else "zero")
        handles, labels = left.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda place: not labels[place].startswith("heads by score"))
        figure.legend(
            [handles[place] for place in order], [labels[place] for place in order], loc="outside lower center",
            ncols=3, frameon=False, fontsize=7.5, labelcolor=INK,
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
        removed, [getattr(each, of) for each in points], color=QUIET, linewidth=1.1, zorder=3, label="random heads",
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


def _finish(left: Axes, right: Axes, instead: str) -> None:
    left.set_ylim(0, 1)
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.set_ylabel("prompts answered correctly", size=8, color=INK)
    right.set_ylim(top=0)
    right.set_ylabel("mean log-probability of the targets", size=8, color=INK)
    for axes in (left, right):
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(f"heads removed (their output replaced by {instead})", size=8, color=INK)
        style_plot(axes)
