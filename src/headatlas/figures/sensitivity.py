"""How the number of classified heads depends on the settings: threshold along the axis, a line for each k."""

from __future__ import annotations

from matplotlib.figure import Figure

from headatlas.analysis.beyond_chance import count_classified
from headatlas.analysis.categories import classify
from headatlas.atlas import Atlas
from headatlas.errors import AtlasError
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.style import INK, QUIET, plain_style, style_plot
from headatlas.figures.wording import one_line
from headatlas.settings import parse_threshold

THRESHOLDS = [f"{step / 100:g}" for step in range(2, 61)]
SMALLER = (1, 2, 5, 10)
"""Values of k that are shown in addition to the measured one, if they are smaller."""

STRICT = "#d95f02"
COLOURS = ("#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#084594")


def draw_sensitivity(atlas: Atlas, *, side: str = "score") -> Figure:
    """Draw the number of classified heads against the threshold, with a line for each k up to the measured one.

    Args:
        side: `score` or `suppression`.

    Raises:
        AtlasError: the atlas has no ranks of hits, as is the case for imported scores.
    """
    measured = int(max(atlas.data["k"].values, default=0))
    ks = [k for k in SMALLER if k < measured] + [measured]
    found = count_classified(atlas, THRESHOLDS, ks, side)
    if found is None:
        raise AtlasError(f"{atlas.name}: the dependence on k needs the ranks of hits, which this atlas lacks.")
    n_heads = int(atlas.has_heads.sum()) * atlas.n_heads
    with plain_style():
        title = f"{one_line(atlas.name)}: classified heads by threshold and k"
        figure = AtlasFigure((5.4, 3.4), {"Title": title, "Settings": one_line(atlas.label, 200), "Side": side})
        axes = figure.subplots()
        for number, (k, counts) in enumerate(found.items()):
            axes.plot(
                [float(each) for each in THRESHOLDS],
                counts,
                drawstyle="steps-post",
                linewidth=2 if k == measured else 1.2,
                color=COLOURS[len(COLOURS) - len(found) + number],
                label=f"k = {k}" + ", as measured" * (k == measured),
            )
        if atlas.chance(side) is not None:
            strict = [classify(atlas, each, side, "calibrated").n_classified for each in THRESHOLDS]
            axes.plot([float(each) for each in THRESHOLDS], strict, drawstyle="steps-post", linewidth=1.4,
                      linestyle="--", color=STRICT, label=f"k = {measured}, calibrated")  # fmt: skip
        limit = float(parse_threshold(atlas.threshold))
        axes.axvline(limit, color=QUIET, linewidth=0.8, linestyle=":")
        axes.annotate(
            f" threshold {one_line(atlas.threshold, 8)}", (limit, 0.97), xycoords=("data", "axes fraction"), size=7.5,
            color=QUIET, va="top",
        )  # fmt: skip
        axes.set_title(title, size=9, color=INK, loc="left")
        axes.set_xlabel(f"{side} above", size=8, color=INK)
        axes.set_ylabel(f"heads of {n_heads:,}", size=8, color=INK)
        axes.set_xlim(0, max(0.6, limit + 0.05))
        axes.set_ylim(0, None)
        style_plot(axes, grid="both")
        axes.legend(frameon=False, fontsize=7.5, labelcolor=INK)
    return figure
