"""The heads that feed each other, as lines between a head and later ones."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from headatlas.analysis.composition import KINDS, Composition, Edge, measured_composition
from headatlas.atlas import Atlas, head_name
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.layout import plot_look
from headatlas.figures.palettes import checked_palette
from headatlas.figures.ruler import Ruler
from headatlas.figures.style import FRAME, INK, QUIET, plain_style
from headatlas.figures.wording import MAX_NOTE, one_line

SIZE = (9.0, 4.8)
COLOURS = {"key": "#0072B2", "query": "#D55E00", "value": "#999999"}
"""By kind; these are told apart with any colour vision."""

STYLES = {"key": "-", "query": "--", "value": ":"}
READ_BY = {"key": "keys", "query": "queries", "value": "values"}
SHOWN = 24
"""Most edges of a kind, the strongest."""

NAMED = 18
"""Most heads with their name beside them."""


def draw_composition(
    atlas: Atlas,
    *,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
    caption: bool = True,
) -> Figure:
    """Draw which heads feed which: the evidence of `measure_composition`, layers from left to right.

    Args:
        palette: `paper` or `colour-blind`; the colours are the same, and every eye tells them apart.
        width: `screen` (default), `page` (5.5 in), `column` (3.25 in), or a number of inches from 2 to 40.
        font: `sans` (DejaVu Sans) or `serif` (STIX, which looks like Times).
        caption: whether the figure has a title; the file's metadata always has it.

    Raises:
        SettingsError: an argument is outside its range.
        AtlasError: the composition of the heads was not measured.
    """
    checked_palette(palette)
    found, look = measured_composition(atlas), plot_look(width, SIZE[0])
    narrow = look.width < 7
    most = SHOWN if not narrow else max(6, int(SHOWN * look.width / 7))
    with plain_style(font):
        parts = _caption(atlas, found)
        metadata = {"Title": f"{one_line(atlas.name)}: which heads feed which", "Description": " · ".join(parts)}
        height = SIZE[1] if not narrow else max(2.6, 0.62 * look.width)
        figure = AtlasFigure((look.width, height), metadata, dpi=look.dpi)
        axes = figure.subplots()
        shown = {kind: [each for each in found.edges if each.kind == kind][:most] for kind in KINDS}
        for kind in reversed(KINDS):
            of_kind = [each for each in found.edges if each.kind == kind]
            for number, edge in enumerate(shown[kind]):
                few = len(shown[kind]) < len(of_kind)
                label = f"{READ_BY[kind]} ({f'{len(shown[kind])} of ' * few}{len(of_kind)})"
                _line(axes, edge, shown[kind][0].strength, label if not number else "")
        named = NAMED if not narrow else int(NAMED * look.width / 9)
        _heads(axes, found, [edge for edges in shown.values() for edge in edges], named, look.tick - 1)
        name = 0.06 * atlas.n_layers  # of a head of the last layer, and, in narrow pictures, of the first
        axes.set_xlim(-0.8 if not narrow else -0.8 - name, atlas.n_layers - 0.2 + name)
        axes.set_ylim(atlas.n_heads - 0.4, -0.6)
        axes.set_xlabel("layer", size=look.label, color=INK)
        axes.set_ylabel("head", size=look.label, color=INK)
        for spine in axes.spines.values():
            spine.set(linewidth=0.5, color=FRAME)
        axes.tick_params(labelsize=look.tick, width=0.5, length=2.5, color=FRAME, labelcolor=INK)
        for axis, count in ((axes.xaxis, atlas.n_layers), (axes.yaxis, atlas.n_heads)):
            ticks = MaxNLocator(axis.get_tick_space(), integer=True, steps=[1, 2, 3, 5, 10])
            axis.set_ticks([value for value in ticks.tick_values(0, count - 1) if 0 <= value < count])
        if caption:
            axes.set_title("Which heads feed which", loc="left", fontsize=look.title, color=INK)
            lines = Ruler(72).wrap(parts, look.tick - 0.5, look.width * 0.97)
            figure.supxlabel("\n".join(lines), fontsize=look.tick - 0.5, x=0.01, ha="left", color=QUIET)
        if found.edges and narrow:
            figure.legend(
                *axes.get_legend_handles_labels(), loc="outside upper center", ncols=2 if look.width < 4.4 else 3,
                frameon=False, fontsize=look.tick - 0.5, labelcolor=INK, columnspacing=1.2, handlelength=1.8,
            )  # fmt: skip
        elif found.edges:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8, title="read through")
    return figure


def _line(axes: Any, edge: Edge, strongest: float, label: str) -> None:
    from matplotlib.patches import FancyArrowPatch

    arrow = FancyArrowPatch(
        edge.sender,
        edge.receiver,
        connectionstyle="arc3,rad=-0.08",
        arrowstyle="-|>",
        mutation_scale=7,
        shrinkA=4,
        shrinkB=4,
        color=COLOURS[edge.kind],
        linestyle=STYLES[edge.kind],
        linewidth=0.5 + 1.7 * edge.strength / strongest,
        alpha=0.75,
        zorder=1,
    )
    axes.add_patch(arrow)
    if label:
        axes.plot([], [], color=COLOURS[edge.kind], linestyle=STYLES[edge.kind], label=label)


def _heads(axes: Any, found: Composition, edges: list[Edge], named: int, size: float) -> None:
    """Dots for the heads that have an edge; names for those with the strongest ones."""
    from matplotlib.patheffects import withStroke

    senders, receivers = {edge.sender for edge in edges}, {edge.receiver for edge in edges}
    induction = {(layer, head) for layer, head, _ in found.strongest()}
    previous = {edge.sender for edge in edges if edge.about == "previous"}
    for heads, colour, label in (
        (previous, "#009E73", "previous token"),
        (induction, "#CC79A7", "induction, predicted"),
        ((senders | receivers) - previous - induction, "#BBBBBB", "other"),
    ):
        if heads:
            layers, rows = zip(*sorted(heads), strict=True)
            axes.scatter(layers, rows, s=26, color=colour, edgecolors="black", linewidths=0.4, zorder=3, label=label)
    order = dict.fromkeys(head for edge in sorted(edges, key=_importance) for head in (edge.sender, edge.receiver))
    taken = senders | receivers | induction
    for layer, head in list(order)[:named]:
        # A name is about two layers wide, beside its head; without room on either side it is left out.
        sides = (-1, 1) if (layer, head) in senders else (1, -1)
        room = [side for side in sides if not {(layer + side, head), (layer + 2 * side, head)} & taken]
        if not room:
            continue
        taken.add((layer + room[0], head))
        name = axes.annotate(
            head_name(layer, head),
            (layer, head),
            xytext=(4 * room[0], 0),
            textcoords="offset points",
            ha="right" if room[0] < 0 else "left",
            va="center",
            fontsize=size,
        )
        name.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _importance(edge: Edge) -> tuple[int, float]:
    return KINDS.index(edge.kind), -edge.strength


def _caption(atlas: Atlas, found: Composition) -> list[str]:
    facts = atlas.manifest.evidence.composition
    assert facts is not None
    lines = [
        f"{one_line(atlas.name)} · from weights: {len(found.edges):,} of {found.n_edges:,} edges are beyond random "
        f"pairs of the same layers; width: strength within its kind",
        f"{facts.sequences} sequences of {facts.random_tokens} random tokens, shown twice; "
        f"{len(found.strongest())} predicted induction heads",
    ]
    if note := atlas.manifest.model.note:
        lines.append(one_line(note, MAX_NOTE))
    return lines
