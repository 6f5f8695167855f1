"""The command that compares two atlases: head by head, or by function."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headatlas.cli.app import command
from headatlas.cli.options import (
    RULES,
    Font,
    FontOption,
    Palette,
    Side,
    SideOption,
    Threshold,
    WidthOption,
    inches_or_name,
)
from headatlas.cli.screen import print_json, print_message, print_note, show_table
from headatlas.relations import relation_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from headatlas.analysis.compare import Comparison
    from headatlas.analysis.compare_functions import FunctionComparison, NullModel, Strongest
    from headatlas.atlas import Atlas

MOST_NAMES = 12
"""Heads of a category that are named; --json names all."""

MOST_MATCHES = 15
"""Matches that are shown; --json has all."""


class By(StrEnum):
    heads = "heads"
    function = "function"


@command("compare")
def compare_command(
    first: Annotated[Path, typer.Argument(metavar="A", help="Atlas folder, such as the base model's.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Atlas folder, such as the fine-tune's.")],
    by: Annotated[
        By | None,
        typer.Option(help="heads: by their numbers; function: any two models. Default: heads, if they correspond."),
    ] = None,
    side: SideOption = Side.score,
    threshold: Threshold = None,
    rule: Annotated[
        str | None, typer.Option(metavar=RULES, help="How heads are classified; default: the atlases' own.")
    ] = None,
    null: Annotated[
        Path | None,
        typer.Option(metavar="ATLAS", help="By function: also match A with this model, which has random weights."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Draw the changes: .png, .svg or .pdf.")
    ] = None,
    palette: Annotated[Palette, typer.Option(help="Of the drawing.")] = Palette.paper,
    width: WidthOption = "screen",
    font: FontOption = Font.sans,
    caption: Annotated[bool, typer.Option("--caption/--no-caption", help="Whether the drawing has a title.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all heads.")] = False,
) -> None:
    """Compare two atlases: head by head where heads correspond, otherwise by what they do with the same words."""
    from headatlas.analysis.compare import compare_atlases
    from headatlas.analysis.compare_functions import compare_functions
    from headatlas.atlas import load_atlas

    atlases = load_atlas(first), load_atlas(second)
    if _by_heads(by, *atlases, threshold, rule):
        if null is not None:
            raise typer.BadParameter("expected a comparison by function; add --by function.", param_hint="--null")
        changes = compare_atlases(*atlases, side=side.value, threshold=threshold, rule=rule)
        content, show, draw = changes.as_dict(), partial(_show, changes), partial(_draw_heads, changes)
    else:
        of_null = None if null is None else load_atlas(null)
        found = compare_functions(*atlases, side=side.value, threshold=threshold, rule=rule, null=of_null)
        content, show, draw = found.as_dict(), partial(_show_functions, found), partial(_draw_functions, found)
    if as_json:
        print_json(content)
    else:
        show()
    if output is not None:
        from headatlas.figures import save_figure

        look = {"palette": palette.value, "width": inches_or_name(width), "font": font.value, "caption": caption}
        save_figure(draw(**look), output)
        print_message(f"Wrote {output}")


def _by_heads(by: By | None, first: Atlas, second: Atlas, threshold: str | None, rule: str | None) -> bool:
    """Whether heads are compared by their numbers: as asked for, otherwise if the atlases allow it."""
    from headatlas.analysis.compare import heads_correspond

    return by is By.heads if by is not None else heads_correspond(first, second, {"threshold": threshold, "rule": rule})


def _draw_heads(changes: Comparison, **look: Any) -> Figure:
    from headatlas.figures import draw_comparison

    return draw_comparison(changes, **look)


def _draw_functions(found: FunctionComparison, **look: Any) -> Figure:
    from headatlas.figures import draw_function_comparison

    return draw_function_comparison(found, **look)


def _show(found: Comparison) -> None:
    from headatlas.analysis.compare import head_names
    from headatlas.atlas import head_name
    from headatlas.figures import PALETTES

    colours = PALETTES["paper"].of_categories(tuple(change.category for change in found.categories[1:]))

    def named(heads: list[str]) -> str:
        more = f" and {len(heads) - MOST_NAMES} more" if len(heads) > MOST_NAMES else ""
        return f"{len(heads)}: {', '.join(heads[:MOST_NAMES])}{more}" if heads else "none"

    rows = [
        [
            change.category,
            str(change.first),
            str(change.second),
            named(head_names(change.gained)),
            named(head_names(change.lost)),
        ]
        for change in found.categories
    ]
    title = f"From {found.first} to {found.second} ({found.side} above {found.threshold}, {found.rule})"
    show_table(title, ["category", "A", "B", "gained", "lost"], rows, (1, 2), colours)
    rows = [
        [
            relation_title(change.relation),
            change.category,
            "-" if change.pearson is None else f"{change.pearson:.3f}",
            "none" if change.head is None else head_name(*change.head),
            f"{change.before:.2f}",
            f"{change.after:.2f}",
        ]
        for change in found.relations
    ]
    columns = ["relation", "category", "r", "changed most", "A", "B"]
    show_table(f"Correlation over {found.n_heads:,} heads", columns, rows, (2, 4, 5), colours)


def _show_functions(found: FunctionComparison) -> None:
    from headatlas.analysis.compare_functions import FEWEST_HITS
    from headatlas.atlas import head_name
    from headatlas.settings import MAX_Q

    def strongest(each: Strongest) -> list[str]:
        if each.name is None:
            return ["none", "", str(each.heads)]
        chance = "" if each.chance is None else f" ({each.chance:.2f})".replace("(0.", "(.")
        return [each.name, f"{each.score:.2f}{chance}", str(each.heads)]

    rows = [
        [relation_title(each.relation), str(each.pairs), *strongest(each.first), *strongest(each.second)]
        for each in found.relations
    ]
    columns = ["relation", "pairs", "A", "score", "n", "B", "score", "n"]
    show_table(f"A: {found.first}, B: {found.second}", columns, rows, (1, 3, 4, 6, 7))
    print_note(
        f"A, B: the head with the highest {found.side} on the pairs that both models know (in brackets: if all its "
        f"pairs were shuffled). n: heads above {found.threshold} ({found.rule})."
    )
    if not found.matches or found.by_chance is None:
        print_note("Heads are not matched: no head has enough hits on these pairs.")
        return
    rows = [
        [
            head_name(*each.first),
            head_name(*each.second),
            f"{each.similarity:.2f}",
            "<0.001" if each.q_value < 0.001 else f"{each.q_value:.3f}",
            f"{each.common:,}",
            f"{each.expected_common:,.1f}",
        ]
        for each in found.matched[:MOST_MATCHES]
    ]
    if rows:
        columns = ["A", "B", "similarity", "q", "pairs of both", "by chance"]
        show_table("The most similar heads", columns, rows, (2, 3, 4, 5))
    rest = len(found.matched) - len(rows)
    print_note(
        f"{'' if not rest else f'{rest} more. '}Of {len(found.matches)} heads of A with at least {FEWEST_HITS} hits, "
        f"{len(found.matched)} have one in B that shares more pairs with them than chance explains (q < {MAX_Q:g}); "
        f"these are {len({each.second for each in found.matched})} heads of B. The mean similarity by chance is "
        f"{found.by_chance:.2f} ({found.similarity:.2f} with B). by chance: pairs of both if each hit other pairs of "
        f"the same relations."
    )
    if found.null is not None:
        print_note(_null_sentence(found.null, FEWEST_HITS))


def _null_sentence(null: NullModel, fewest: int) -> str:
    if null.similarity is None:
        return f"With {null.name} in the place of B, nothing is matched: no head of it has {fewest} hits."
    return (
        f"With {null.name} in the place of B ({null.heads} heads with {fewest} hits): heads of A that are matched: "
        f"{null.matched}; mean similarity {null.similarity:.2f}."
    )
