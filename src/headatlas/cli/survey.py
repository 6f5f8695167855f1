"""The command that maps many models: survey."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headatlas.cli.app import command, debugging
from headatlas.cli.formats import format_count
from headatlas.cli.options import (
    AddressOption,
    DeviceOption,
    EngineOption,
    EngineThreadsOption,
    Font,
    FontOption,
    GpusOption,
    JsonOption,
    Palette,
    PaletteOption,
    WidthOption,
    inches_or_name,
)
from headatlas.cli.screen import Bar, console, print_json, print_message, show_table
from headatlas.measuring.engine import EngineName, open_engine

if TYPE_CHECKING:
    import pandas as pd


@command("survey", resumes=True)
def survey_command(
    models: Annotated[Path, typer.Argument(metavar="MODELS.toml", help="The models: [[model]], name, source.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for atlases and index.")],
    device: DeviceOption = "cpu",
    threads: EngineThreadsOption = None,
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
    gpus_per_task: GpusOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure all anew; replace atlases in DIR.")] = False,
    palette: PaletteOption = Palette.paper,
    width: WidthOption = "screen",
    font: FontOption = Font.sans,
    as_json: JsonOption = False,
) -> None:
    """Map every model of a list: an atlas each, an index of all, pictures of them, and a film of a series."""
    from headatlas.measuring.survey import Status, survey_models

    with open_engine(engine, device, threads, address, gpus_per_task) as chosen, Bar() as bar:
        index = survey_models(
            models,
            output,
            engine=chosen,
            overwrite=overwrite,
            palette=palette.value,
            width=inches_or_name(width),
            font=font.value,
            progress=bar.show,
            raise_bugs=debugging(),
        )
    if as_json:
        from headatlas.atlas import records

        print_json(records(index))
    else:
        _show_survey(index, output)
        _show_film(index, output)
    if Status.FAILED in index["status"].tolist():
        raise typer.Exit(1)


def _show_survey(index: pd.DataFrame, folder: Path) -> None:
    from headatlas.atlas import records
    from headatlas.figures import PALETTES
    from headatlas.measuring.survey import INDEX_CSV, PICTURE, PICTURE_OF_FUNCTIONS, PICTURE_OF_SIZES

    names = tuple(column.removeprefix("score_") for column in index.columns if column.startswith("score_"))
    colours = PALETTES["paper"].of_categories(names)
    counts = ["heads", "classified", *(f"score_{name}" for name in names)]
    found = records(index)
    rows = [[row["name"], *(format_count(row[count]) for count in counts), row["status"]] for row in found]
    columns = ["model", "heads", "any", *names, "status"]
    show_table(f"{len(rows)} models", columns, rows, tuple(range(1, len(columns) - 1)), colours)
    for row in found:
        if row["error"] is not None:
            print_message(f"{row['name']}: {row['error']}", style="bold red")
    for picture in (PICTURE, PICTURE_OF_FUNCTIONS, PICTURE_OF_SIZES):
        if (folder / picture).is_file():
            console().print(f"Picture: {folder / picture}", markup=False, soft_wrap=True)
    console().print(f"Index:   {folder / INDEX_CSV}", markup=False, soft_wrap=True)


def _show_film(index: pd.DataFrame, folder: Path) -> None:
    """When each function appears, if the models are a series."""
    from headatlas.measuring.survey import FILM, film_of

    film = film_of(index, folder)
    if film is None:
        return
    appearing = [each for each in film.functions if each.appears is not None]
    rows = [[each.function, each.category, each.sentence] for each in appearing]
    title = f"{len(appearing)} of {len(film.functions)} functions appear in {len(film.scenes)} steps"
    show_table(title, ["function", "category", "when, and where"], rows, ())
    console().print(f"Film:    {folder / FILM}", markup=False, soft_wrap=True)
