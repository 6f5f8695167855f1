"""Commands that show an atlas: report, heads, export."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headatlas.cli.app import command
from headatlas.cli.completion import complete_category, complete_reading, complete_relation
from headatlas.cli.formats import format_count
from headatlas.cli.options import (
    AtlasFolder,
    ExportFormat,
    JsonOption,
    Output,
    RuleOption,
    Side,
    SideOption,
    Threshold,
)
from headatlas.cli.screen import (
    console,
    print_json,
    print_message,
    print_note,
    print_or_write,
    show_markdown,
    show_table,
)

if TYPE_CHECKING:
    from headatlas.atlas import Atlas


@command("report")
def report_command(
    atlas: AtlasFolder,
    side: SideOption = Side.score,
    threshold: Threshold = None,
    rule: RuleOption = None,
    model_card: Annotated[
        bool, typer.Option("--model-card", help="A short section for the card of the model instead.")
    ] = False,
    published: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="With --model-card: link the atlas that is published there.")
    ] = None,
    output: Output = None,
    as_json: JsonOption = False,
) -> None:
    """Describe in words and numbers what the map shows: rendered in a terminal, Markdown in a pipe or a file."""
    from headatlas.atlas import load_atlas
    from headatlas.errors import SettingsError
    from headatlas.reports.model_card import write_model_card
    from headatlas.reports.report import build_report, write_report

    if model_card:
        if side is not Side.score:
            raise SettingsError("side: the section for a model's card shows scores. Leave --side out.")
        print_or_write(write_model_card(load_atlas(atlas), threshold, rule, published), output)
        return
    if published is not None:
        raise SettingsError("published: it is linked in the section for a model's card. Use it with --model-card.")
    loaded = load_atlas(atlas)
    if as_json:
        blocks = build_report(loaded, side=side.value, threshold=threshold, rule=rule)
        print_json([{"kind": type(block).__name__} | asdict(block) for block in blocks])
        return
    text = write_report(loaded, side=side.value, threshold=threshold, rule=rule)
    if output is None and sys.stdout.isatty():
        show_markdown(text)
    else:
        print_or_write(text, output)


@command("heads")
def heads_command(
    atlas: AtlasFolder,
    relation: Annotated[
        str | None, typer.Option(metavar="NAME", autocompletion=complete_relation, help="Only this relation.")
    ] = None,
    category: Annotated[
        str | None, typer.Option(metavar="NAME", autocompletion=complete_category, help="Only this category.")
    ] = None,
    min_score: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Strictly above this; default: the atlas's threshold.")
    ] = None,
    reads: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_reading,
            help="Only heads that look at this, such as induction or sink.",
        ),
    ] = None,
    side: SideOption = Side.score,
    rule: RuleOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the heads of a relation or category, the strongest first; tab-separated when piped."""
    from headatlas.atlas import load_atlas
    from headatlas.printable import printable

    loaded, reading = load_atlas(atlas), None
    if reads is not None:
        # The analysis takes a while to import.
        from headatlas.analysis.reading import measured_reading

        reading = measured_reading(loaded).places(reads)
    if reads is not None and category is None and relation is None and min_score is None:
        _list_readers(loaded, reads, as_json)
        return
    rows = loaded.head_rows(category, relation, min_score, side.value, rule)
    if reading is not None:
        rows = [row for row in rows if row["name"] in reading]
    if as_json:
        print_json(rows)
        return
    cells = [
        [
            row["name"],
            row["relation"],
            row["category"],
            f"{row['score']:.3f}",
            format_count(row["hits"]),
            format_count(row["pairs"]),
            "-" if row["chance"] is None else f"{row['chance']:.3f}",
            "-" if row["q"] is None else f"{row['q']:.2g}",
            "-" if row["uncopied"] is None else f"{row['uncopied']:.3f}",
            row["copying"] or "-",
            row["validity"],
        ]
        for row in rows
    ]
    if not sys.stdout.isatty():
        for row in cells:
            typer.echo("\t".join(printable(cell) for cell in row))
        return
    _show_heads(loaded, rows, side.value, loaded.threshold if min_score is None else min_score)


WIDE = 100
"""Columns from which the comparison with copying is shown next to that with chance."""


def _show_heads(atlas: Atlas, rows: list[dict[str, Any]], side: str, limit: str | float) -> None:
    from headatlas.figures.palettes import PALETTES
    from headatlas.relations import relation_title
    from headatlas.reports.text import count

    columns = ["head", "relation", "category", side]
    shown = {
        "hits": lambda row: "" if row["hits"] is None else f"{row['hits']}/{row['pairs']}",
        "chance": lambda row: "-" if row["chance"] is None else f"{row['chance']:.2f}",
        "q": lambda row: "-" if row["q"] is None else f"{row['q']:.0e}" if row["q"] < 0.001 else f"{row['q']:.3f}",
    }
    if console().width >= WIDE:
        shown["uncopied"] = lambda row: "-" if row["uncopied"] is None else f"{row['uncopied']:.2f}"
        shown["copying"] = lambda row: row["copying"] or "-"
        if {row["validity"] for row in rows} != {"exact"}:
            shown["circuit"] = lambda row: row["validity"]
    cells = []
    for row in rows:
        first = [row["name"], relation_title(row["relation"]), row["category"], f"{row['score']:.2f}"]
        cells.append([*first, *(show(row) for show in shown.values())])
    heads = len({row["name"] for row in rows})
    names = tuple(dict.fromkeys(item.category for item in atlas.manifest.relations.items))
    title = f"{count(heads, 'head')}, {count(len(rows), 'score')} above {limit}"
    words = ("head", "relation", "category", "copying", "circuit")
    right = tuple(at for at, name in enumerate((*columns, *shown)) if name not in words)
    show_table(title, [*columns, *shown], cells, right, PALETTES["paper"].of_categories(names))
    if rows:
        notes = "chance: score if targets were paired anew; q: false discovery rate"
        if "uncopied" in shown:
            notes += "; uncopied: score on the pairs that copying misses, which are beyond copying or not"
        print_note(f"{notes}. All columns: --json, or into a pipe.")


def _list_readers(atlas: Atlas, reads: str, as_json: bool) -> None:
    """The heads that look at something, the strongest first."""
    from headatlas.analysis.reading import find_behaviour, reading_heads
    from headatlas.analysis.sentences import Sentences
    from headatlas.printable import printable
    from headatlas.reports.text import agree, count

    found, sentences = reading_heads(atlas, reads), Sentences(atlas)
    if as_json:
        print_json([row | {"sentence": sentences.of(row["layer"], row["head"])} for row in found])
        return
    numbers = ("share", "low", "high", "chance")
    cells = [
        [row["name"], row["behaviour"], *(f"{row[name]:.3f}" for name in numbers), f"{row['q']:.2g}"] for row in found
    ]
    if not sys.stdout.isatty():
        for row, cell in zip(found, cells, strict=True):
            typer.echo("\t".join([*cell, printable(sentences.of(row["layer"], row["head"]) or "")]))
        return
    # How it looks is the same for all of them.
    rest = [sentences.consequence(row["layer"], row["head"]) for row in found]
    rows = [
        [row["name"], f"{row['share']:.2f}", f"{row['low']:.2f}–{row['high']:.2f}", f"{row['chance']:.2f}", each]
        for row, each in zip(found, rest, strict=True)
    ]
    columns = ["name", "share", "95 %", "chance", "what it writes; what is lost without it"]
    title = f"{count(len(rows), 'head')} that {agree(len(rows), 'looks', 'look')} at {find_behaviour(reads).looks}"
    show_table(title, columns, rows, right=(1, 2, 3))


@command("export")
def export_command(
    atlas: AtlasFolder,
    fmt: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="A table, everything, lists of heads, metrics for HeadVis, or code that switches heads off.",
        ),
    ] = ExportFormat.csv,
    side: SideOption = Side.score,
    relation: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=complete_relation, help="Of code: heads of this relation."),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=complete_category, help="Of code: heads of this category."),
    ] = None,
    reads: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", autocompletion=complete_reading, help="Of code: heads that look at this, such as induction."
        ),
    ] = None,
    heads: Annotated[str | None, typer.Option(metavar="NAMES", help="Of code: these heads, such as L1H2,L3H4.")] = None,
    rule: RuleOption = None,
    output: Output = None,
) -> None:
    """Print the scores for other tools, or code for them that switches heads off."""
    from headatlas.atlas import load_atlas
    from headatlas.errors import SettingsError
    from headatlas.reports.export import export
    from headatlas.reports.removal_code import CODE_FORMATS, choose_heads, removal_code

    chosen = {"relation": relation, "category": category, "reads": reads, "heads": heads, "rule": rule}
    if fmt.value in CODE_FORMATS:
        loaded = load_atlas(atlas)
        names = [] if heads is None else [name.strip() for name in heads.split(",")]
        removed = choose_heads(loaded, category, relation, reads, names, rule, side.value)
        print_or_write(removal_code(loaded, fmt.value, removed), output)
        return
    if given := [name for name, value in chosen.items() if value is not None]:
        raise SettingsError(
            f"{given[0]}: it chooses the heads of code ({', '.join(CODE_FORMATS)}), not of {fmt.value}."
        )

    if fmt is ExportFormat.headvis:
        from headatlas.reports.headvis import write_tree

        if output is None:
            raise SettingsError("output: expected a folder for HeadVis' files, found none. Name it with -o.")
        print_message(f"Wrote {write_tree(load_atlas(atlas), output)}")
        return
    print_or_write(export(load_atlas(atlas), fmt.value, side.value), output)
