"""A prompt as its heads see it: where they look, what they add to the next token's logit, and what they write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from headatlas.analysis.attribution import mark, shown_checks, shown_words
from headatlas.figures.canvas import AtlasFigure
from headatlas.figures.palettes import Palette, checked_palette
from headatlas.figures.style import FRAME, INK, QUIET, plain_style, style_plot
from headatlas.figures.wording import MAX_NOTE, one_line
from headatlas.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from headatlas.analysis.attribution import HeadAttribution, LogitAttribution

WIDTH, ROW = 9.6, 0.27
ROWS, TOKENS, WORDS = 12, 24, 3
"""Most heads, tokens of the prompt, and written words."""

LONGEST = 14
"""Most letters of a token."""

OTHER = "#8a8a8a"
"""Of bars of heads without a category."""


def draw_attribution(found: LogitAttribution, *, n_heads: int = ROWS, palette: str = "paper") -> Figure:
    """Draw the heads that stand out most at a prompt, a row each.

    Left, where each looks from the last token; in the middle, what it adds to the logit of the next token, in the
    colour of its category, with the range of the same on the control prompts; right, the rank of that token in what
    it writes, the words that it writes most, and whether that is what its card says.

    Args:
        found: of `attribute_logit`.
        n_heads: rows, at least 1.
        palette: `paper` or `colour-blind`.

    Raises:
        SettingsError: another palette.
    """
    chosen, heads = checked_palette(palette), found.strongest(max(1, n_heads))
    with plain_style():
        title = f"{one_line(found.prompt, 90)} → {token_label(found.token.text)}"
        facts = {"Title": title, "Model": one_line(found.model, MAX_NOTE)}
        if found.fingerprint is not None:
            facts["Fingerprint"] = one_line(found.fingerprint, MAX_NOTE)
        at = shown_tokens(found, heads)
        share = min(0.5, 0.12 + 0.055 * len(at))
        figure = AtlasFigure((WIDTH, 2.1 + ROW * len(heads)), facts)
        figure.suptitle(f"{title}  ({found.token.probability:.2f})", size=10, color=INK, x=0.01, ha="left")
        look, add, write = figure.subplots(1, 3, width_ratios=(share, 0.36, 0.56), sharey=True)
        _draw_attention(look, found, heads, at)
        handles = _draw_contributions(add, found, heads, chosen)
        _draw_words(write, heads)
        figure.legend(
            handles=handles, loc="outside lower right", ncols=len(handles), frameon=False, fontsize=7, labelcolor=INK
        )
    return figure


def token_label(token: str) -> str:
    """A token without its spaces, safe to draw; a blank one as their number.

    >>> token_label(" Paris"), token_label("  ")
    ('Paris', '2 spaces')
    """
    return one_line(printable(token).strip(" "), LONGEST) or f"{len(token)} spaces"


def shown_tokens(found: LogitAttribution, heads: list[HeadAttribution]) -> list[int]:
    """Positions of the prompt's tokens in their order: all, or those that the heads look at most, and the last."""
    n = len(found.tokens)
    if n <= TOKENS:
        return list(range(n))
    most = np.max([each.attention for each in heads], axis=0)
    most[-1] = np.inf
    return sorted(np.argsort(-most, kind="stable")[:TOKENS].tolist())


def _draw_attention(axes: Axes, found: LogitAttribution, heads: list[HeadAttribution], at: list[int]) -> None:
    shares = np.array([each.attention for each in heads])[:, at]
    shades = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#26384f"])
    axes.imshow(shares, cmap=shades, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.1 and len(at) <= 14:
            axes.text(
                column, row, f"{share:.2f}".lstrip("0"), ha="center", va="center", size=6.5,
                color="white" if share > 0.5 else INK,
            )  # fmt: skip
    labels = [token_label(found.tokens[each]) for each in at]
    slanted = len(at) > 8 or max(map(len, labels)) > 7
    axes.set_xticks(range(len(at)), labels, rotation=45 if slanted else 0, ha="left" if slanted else "center")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(heads)), [each.name for each in heads])
    axes.set_xticks(np.arange(len(at) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(heads) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e6e6e6", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.tick_params(labelsize=7.5, width=0.5, length=0, color=FRAME, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, color=FRAME)
    few = f" ({len(at)} of {len(found.tokens)} tokens)" * (len(at) < len(found.tokens))
    axes.set_xlabel(f"attention of the last token{few}", size=7.5, color=QUIET)


def _draw_contributions(
    axes: Axes, found: LogitAttribution, heads: list[HeadAttribution], palette: Palette
) -> list[Patch | Line2D]:
    """The bars; returns what the legend shows."""
    names = tuple(dict.fromkeys(name for each in heads for name in each.categories))
    colours = palette.of_categories(names)

    def colour(head: HeadAttribution) -> str:
        if not head.categories:
            return OTHER
        return colours[head.categories[0]] if len(head.categories) == 1 else palette.of_count(len(head.categories))

    rows = range(len(heads))
    axes.barh(rows, [each.contribution for each in heads], height=0.62, color=[colour(each) for each in heads])
    for row, each in enumerate(heads):
        if each.controls is not None:
            axes.plot(each.controls[::2], (row, row), color=INK, linewidth=1.1, marker="|", markersize=5)
        side = 1 if each.contribution >= 0 else -1
        edge = max([side * each.contribution, *(side * end for end in (each.controls or ())[::2])])
        axes.annotate(
            f"{each.contribution:+.2f}", (side * max(edge, 0), row), (3 * side, 0), textcoords="offset points",
            ha="left" if side > 0 else "right", va="center", size=7, color=INK,
        )  # fmt: skip
    axes.axvline(0, color=FRAME, linewidth=0.6)
    axes.margins(x=0.22)
    style_plot(axes, grid="x")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", which="both", length=0, labelleft=False)
    baseline = "mean of the vocabulary" if found.against is None else token_label(found.against)
    axes.set_xlabel(
        f"added to the logit of {token_label(found.token.text)}\n(over the {baseline}; all heads "
        f"{found.of_parts['heads']:+.1f} of {found.value:+.1f})",
        size=7.5, color=QUIET,
    )  # fmt: skip
    handles: list[Patch | Line2D] = [
        Patch(color=colours[name], label=one_line(name))
        for name in names
        if any(each.categories == (name,) for each in heads)
    ]
    counts = sorted({len(each.categories) for each in heads if len(each.categories) > 1})
    handles += [Patch(color=palette.of_count(count), label=f"{count} categories") for count in counts]
    if any(not each.categories for each in heads):
        handles.append(Patch(color=OTHER, label="no category"))
    if found.n_controls:
        handles.append(
            Line2D([], [], color=INK, linewidth=1.1, marker="|", markersize=5,
                   label=f"range on {found.n_controls} prompts of random tokens")
        )  # fmt: skip
    return handles


def _draw_words(axes: Axes, heads: list[HeadAttribution]) -> None:
    for row, each in enumerate(heads):
        raises, words = shown_words(each)
        text = "− " * (not raises) + " · ".join(map(token_label, words[:WORDS]))
        axes.text(0.11, row, f"{each.rank:,}", va="center", ha="right", size=7, color=QUIET)
        axes.text(0.14, row, one_line(text, 27), va="center", size=7.5, color=INK if raises else QUIET)
        if each.checks:
            check, *rest = shown_checks(each)
            more = sum(bool(other.agrees) for other in rest)
            text = f"{mark(check.agrees)} {one_line(check.title, 24)}" + f"  ✓ {more} more" * (more > 0)
            axes.text(0.57, row, text, va="center", size=7, color=INK if each.agrees else QUIET)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.tick_params(axis="y", which="both", length=0, labelleft=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for x, text, side in ((0.11, "rank", "right"), (0.14, "writes (− lowers)", "left"), (0.57, "its card", "left")):
        axes.text(x, -0.75, text, va="bottom", ha=side, size=7.5, color=QUIET)
    axes.set_xlabel("card: ✓ so here, ✗ not so, · not shown by this prompt", size=7, color=QUIET, loc="right")
