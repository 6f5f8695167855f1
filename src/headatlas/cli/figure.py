"""The command that draws figures of an atlas."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headatlas.cli.app import command
from headatlas.cli.completion import complete_category, complete_relation
from headatlas.cli.options import (
    AtlasFolder,
    Font,
    FontOption,
    JsonOption,
    Palette,
    PaletteOption,
    RuleOption,
    Side,
    SideOption,
    Threshold,
    WidthOption,
    inches_or_name,
)
from headatlas.cli.screen import print_json, print_message

if TYPE_CHECKING:
    from headatlas.atlas import Atlas


class Kind(StrEnum):
    """What a figure shows, by the option that asks for it."""

    map = "map"
    relation = "relation"
    sensitivity = "sensitivity"
    reading = "reading"
    composition = "composition"
    validation = "validation"
    ablation = "ablation"


ACCEPTED = {
    Kind.map: ("side", "threshold", "rule", "categories"),
    Kind.relation: ("side", "threshold", "rule"),
    Kind.sensitivity: ("side",),
    Kind.reading: (),
    Kind.composition: (),
    Kind.validation: (),
    Kind.ablation: (),
}
"""The options that say what is drawn, for each kind; all of them take the options of the look."""

SHOWN = {
    Kind.map: "the map",
    Kind.relation: "the map of one relation",
    Kind.sensitivity: "the figure of sensitivity",
    Kind.reading: "where heads look",
    Kind.composition: "the figure of which heads feed which",
    Kind.validation: "the figure of validation",
    Kind.ablation: "the figure of removed heads",
}


@command("figure")
def figure_command(
    atlas: AtlasFolder,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="A .png, .svg or .pdf file.")],
    relation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_relation,
            help="Draw this relation's scores, and name the strongest heads.",
        ),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Draw how many heads are classified by threshold and k.")
    ] = False,
    reading: Annotated[bool, typer.Option("--reading", help="Draw where the heads look.")] = False,
    composition: Annotated[bool, typer.Option("--composition", help="Draw which heads feed which.")] = False,
    validation: Annotated[
        bool, typer.Option("--validation", help="Draw the scores of the running model against those from weights.")
    ] = False,
    ablation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_relation,
            help="Draw what this relation loses as heads are removed.",
        ),
    ] = None,
    side: SideOption = Side.score,
    threshold: Threshold = None,
    rule: RuleOption = None,
    categories: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            autocompletion=complete_category,
            help="Only these, such as Knowledge,Linguistic; repeatable. Of the map.",
        ),
    ] = None,
    palette: PaletteOption = Palette.paper,
    width: WidthOption = "screen",
    font: FontOption = Font.sans,
    caption: Annotated[
        bool, typer.Option("--caption/--no-caption", help="Title and caption in the figure, or printed for your text.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Draw the map, one relation, where heads look, or what was tested."""
    from headatlas import figures
    from headatlas.atlas import load_atlas
    from headatlas.errors import SettingsError
    from headatlas.figures import save_figure

    asked = {
        Kind.relation: relation, Kind.sensitivity: sensitivity, Kind.reading: reading, Kind.composition: composition,
        Kind.validation: validation, Kind.ablation: ablation,
    }  # fmt: skip
    kinds = [kind for kind, value in asked.items() if value]
    if len(kinds) > 1:
        raise SettingsError(f"{kinds[1]}: a figure shows one thing. Use either --{kinds[0]} or --{kinds[1]}.")
    kind = kinds[0] if kinds else Kind.map
    given = {"side": side is not Side.score, "threshold": threshold, "rule": rule, "categories": categories}
    for name, value in given.items():
        if value and name not in ACCEPTED[kind]:
            raise SettingsError(f"{kind}: {SHOWN[kind]} has no {name}. Leave --{name} out.")
    look: Any = {
        "palette": palette.value, "width": inches_or_name(width), "font": font.value, "caption": caption,
    }  # fmt: skip
    loaded = load_atlas(atlas)
    if kind is Kind.map or kind is Kind.relation:
        names = None if categories is None else _names(categories, loaded)
        drawn = figures.draw_map(
            loaded, side=side.value, threshold=threshold, rule=rule, relation=relation, categories=names, **look
        )
    elif kind is Kind.sensitivity:
        drawn = figures.draw_sensitivity(loaded, side=side.value, **look)
    elif kind is Kind.ablation:
        drawn = figures.draw_ablation(loaded, str(ablation), **look)
    else:
        drawn = {
            Kind.reading: figures.draw_reading,
            Kind.composition: figures.draw_composition,
            Kind.validation: figures.draw_validation,
        }[kind](loaded, **look)
    save_figure(drawn, output)
    words = getattr(drawn, "metadata", {}).get("Description")
    if as_json:
        print_json({"wrote": str(output), "caption": words})
        return
    print_message(f"Wrote {output}")
    if not caption and words:
        print_message(f"Caption: {words}")


def _names(given: list[str], atlas: Atlas) -> list[str]:
    """The names of a list with commas, unless a category is itself called so."""
    known = {str(name).casefold() for name in atlas.data["category"].values}
    names = []
    for each in given:
        names += [each] if each.casefold() in known else [name.strip() for name in each.split(",") if name.strip()]
    return names
