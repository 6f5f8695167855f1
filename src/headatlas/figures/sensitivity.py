"""How the number of classified heads depends on the settings: threshold along the axis, a line for each k."""

from __future__ import annotations

from matplotlib.figure import Figure

from headatlas.analysis.beyond_chance import count_classified
from headatlas.analysis.categories import classify
from headatlas.atlas import Atlas
from headatlas.errors import AtlasError
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import plot_look
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import INK, QUIET, heading, plain_style, style_plot
from headatlas.figures.wording import one_line
from headatlas.settings import parse_threshold

THRESHOLDS = [f"{step / 100:g}" for step in range(2, 61)]
SMALLER = (1, 2, 5, 10)
"""Values of k that are shown in addition to the measured one, if they are smaller."""

STRICT = {"paper": "#d95f02", "colour-blind": "#000000"}
COLOURS = {
    "paper": ("#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#084594"),
    "colour-blind": ("#e0c060", "#b09a70", "#7d7c78", "#4c5b6e", "#0b3060"),
}
"""From few highest logits to all; the second in cividis, which every eye sees as a scale."""


def draw_sensitivity(
    atlas: Atlas,
    *,
    side: str = "score",
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
    caption: bool = True,
) -> Figure:
    """Draw the number of classified heads against the threshold, with a line for each k up to the measured one.

    Args:
        side: `score` or `suppression`.
        palette, width, font: as for `draw_map`.
        caption: whether the figure has a title.

    Raises:
        SettingsError: an argument is outside its range.
        AtlasError: the atlas has no ranks of hits, as is the case for imported scores.
    """
    checked_palette(palette)
    look = plot_look(width, 5.4)
    strict_colour = STRICT[palette]
    measured = int(max(atlas.data["k"].values, default=0))
    ks = [k for k in SMALLER if k < measured] + [measured]
    found = count_classified(atlas, THRESHOLDS, ks, side)
    if found is None:
        raise AtlasError(f"{atlas.name}: the dependence on k needs the ranks of hits, which this atlas lacks.")
    n_heads = int(atlas.has_heads.sum()) * atlas.n_heads
    with plain_style(font):
        title = f"{one_line(atlas.name)}: classified heads by threshold and k"
        facts = {
            "Title": title,
            "Description": f"{title} · {side} · {n_heads:,} heads · profile {one_line(atlas.label, 120)}",
            "Settings": one_line(atlas.label, 200),
            "Side": side,
        }
        figure = AtlasFigure((look.width, max(0.63 * look.width, 2.2)), facts, dpi=look.dpi)
        axes = figure.subplots()
        for number, (k, counts) in enumerate(found.items()):
            axes.plot(
                [float(each) for each in THRESHOLDS],
                counts,
                drawstyle="steps-post",
                linewidth=2 if k == measured else 1.2,
                color=COLOURS[palette][number - len(found)],
                label=f"k = {k}" + ", as measured" * (k == measured),
            )
        if atlas.chance(side) is not None:
            strict = [classify(atlas, each, side, "calibrated").n_classified for each in THRESHOLDS]
            axes.plot([float(each) for each in THRESHOLDS], strict, drawstyle="steps-post", linewidth=1.4,
                      linestyle="--", color=strict_colour, label=f"k = {measured}, calibrated")  # fmt: skip
        limit = float(parse_threshold(atlas.threshold))
        axes.axvline(limit, color=QUIET, linewidth=0.8, linestyle=":")
        axes.annotate(
            f" threshold {one_line(atlas.threshold, 8)}", (limit, 0.98), xycoords=("data", "axes fraction"),
            size=look.tick, color=QUIET, va="top",
        )  # fmt: skip
        if caption:
            figure.suptitle(heading(title, look), size=look.title, color=INK, x=0.01, ha="left")
        axes.set_xlabel(f"{side} above", size=look.label, color=INK)
        axes.set_ylabel(f"heads of {n_heads:,}", size=look.label, color=INK)
        axes.set_xlim(0, max(0.6, limit + 0.05))
        axes.set_ylim(0, None)
        style_plot(axes, look.tick, grid="both")
        # Below the label of the threshold, where the curves leave room.
        axes.legend(loc="upper right", bbox_to_anchor=(1, 0.94), frameon=False, fontsize=look.tick, labelcolor=INK)
    return figure
