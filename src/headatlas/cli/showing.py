"""Commands that show an atlas: figure, report, heads, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.options import AtlasFolder, ExportFormat, Kind, KindOption, Output, Palette, Threshold
from headatlas.cli.screen import print_json, put, say, show_table, told_count


@command("figure")
def figure_command(
    atlas: AtlasFolder,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="A .png, .svg or .pdf file.")],
    kind: KindOption = Kind.score,
    threshold: Threshold = None,
    relation: Annotated[
        str | None, typer.Option(metavar="NAME", help="Draw this relation's score as a continuous heat map.")
    ] = None,
    palette: Annotated[
        Palette, typer.Option(help="Colours as in the paper, or safe for the colour-blind.")
    ] = Palette.paper,
    width: Annotated[
        str, typer.Option(help="screen, column (3.25 in), page (5.5 in) or a number of inches.")
    ] = "screen",
) -> None:
    """Draw the map, or one relation's heat map."""
    from headatlas.atlas import Atlas
    from headatlas.figures import draw_map, save_figure

    size = float(width) if width.replace(".", "", 1).isdigit() else width
    drawn = draw_map(
        Atlas.load(atlas), kind=kind.value, threshold=threshold, relation=relation, palette=palette.value, width=size
    )
    save_figure(drawn, output)
    say(f"Wrote {output}")


@command("report")
def report_command(
    atlas: AtlasFolder, kind: KindOption = Kind.score, threshold: Threshold = None, output: Output = None
) -> None:
    """Tell in words and numbers what the map shows (Markdown)."""
    from headatlas.atlas import Atlas
    from headatlas.reports import write_report

    put(write_report(Atlas.load(atlas), kind=kind.value, threshold=threshold), output)


@command("heads")
def heads_command(
    atlas: AtlasFolder,
    relation: Annotated[str | None, typer.Option(metavar="NAME", help="Only this relation.")] = None,
    category: Annotated[str | None, typer.Option(metavar="NAME", help="Only this category.")] = None,
    min_score: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Strictly above this; default: the atlas's threshold.")
    ] = None,
    kind: KindOption = Kind.score,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the heads that do it, strongest first; tab-separated when piped."""
    from headatlas.atlas import Atlas, records

    rows = Atlas.load(atlas).heads(category=category, relation=relation, min_score=min_score, kind=kind.value)
    columns = ["name", "relation", "category", "score", "hits", "pairs", "validity"]
    if as_json:
        print_json(records(rows))
        return
    cells = [
        [
            row["name"],
            row["relation"],
            row["category"],
            f"{row['score']:.3f}",
            told_count(row["hits"]),
            told_count(row["pairs"]),
            row["validity"],
        ]
        for row in rows.to_dict("records")
    ]
    if not sys.stdout.isatty():
        for row in cells:
            typer.echo("\t".join(row))
        return
    show_table(f"{len(cells)} heads x relations", columns, cells, right=(3, 4, 5))


@command("export")
def export_command(
    atlas: AtlasFolder,
    fmt: Annotated[
        ExportFormat, typer.Option("--format", help="A table, everything, or lists of heads to ablate.")
    ] = ExportFormat.csv,
    kind: KindOption = Kind.score,
    output: Output = None,
) -> None:
    """Print the scores for other tools."""
    from headatlas.atlas import Atlas
    from headatlas.export import export

    put(export(Atlas.load(atlas), fmt.value, kind.value), output)
