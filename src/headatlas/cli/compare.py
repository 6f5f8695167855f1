"""The command that compares two atlases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.options import Palette, Side, SideOption, Threshold
from headatlas.cli.screen import print_json, print_message, show_table

if TYPE_CHECKING:
    from headatlas.analysis.compare import Comparison

MOST_NAMES = 12
"""Heads of a category that are named; --json names all."""


@command("compare")
def compare_command(
    first: Annotated[Path, typer.Argument(metavar="A", help="Atlas folder, such as the base model's.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Atlas folder, such as the fine-tune's.")],
    side: SideOption = Side.score,
    threshold: Threshold = None,
    rule: Annotated[
        str | None, typer.Option(help="Classify by plain or calibrated; default: the atlases' own.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Draw the changes: .png, .svg or .pdf.")
    ] = None,
    palette: Annotated[Palette, typer.Option(help="Of the drawing.")] = Palette.paper,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all heads.")] = False,
) -> None:
    """Compare two atlases: heads gained and lost, and the correlation of each relation."""
    from headatlas.analysis.compare import compare_atlases
    from headatlas.atlas import load_atlas

    atlases = [load_atlas(folder) for folder in (first, second)]
    found = compare_atlases(*atlases, side=side.value, threshold=threshold, rule=rule)
    if as_json:
        print_json(found.as_dict())
    else:
        _show(found)
    if output is not None:
        from headatlas.figures import draw_comparison, save_figure

        save_figure(draw_comparison(found, palette=palette.value), output)
        print_message(f"Wrote {output}")


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
            change.relation,
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
