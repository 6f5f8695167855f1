"""Commands that make atlases: map, survey, plan, import."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headatlas.cli.app import command, debugging
from headatlas.cli.options import (
    AddRelations,
    AddressOption,
    DeviceOption,
    EngineName,
    EngineOption,
    EngineThreadsOption,
    GpusOption,
    JsonOption,
    Measure,
    Relations,
    Threshold,
)
from headatlas.cli.screen import Bar, console, print_json, say, show_table, told_bytes, told_count, told_duration

if TYPE_CHECKING:
    import pandas as pd

    from headatlas.atlas import Atlas
    from headatlas.engines import Engine
    from headatlas.measuring.plan import Plan


@command("map", goes_on=True)
def map_command(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the atlas.")],
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="demo (default), a folder, a .gguf file, a name on the hub or an address."
        ),
    ] = None,
    relations: Relations = None,
    add_relations: AddRelations = None,
    k: Annotated[
        int | None,
        typer.Option("--k", min=1, help="How many highest logits count; default 10 (25 above 100,000 tokens)."),
    ] = None,
    threshold: Threshold = None,
    contextualize: Annotated[
        str | None, typer.Option(help="Input of the later layers: first-mlp (default) or embedding.")
    ] = None,
    profile: Annotated[str, typer.Option(help="Named set of choices.")] = "maps",
    value_bias: Annotated[bool, typer.Option("--value-bias", help="Count the bias of the values too.")] = False,
    attention_gain: Annotated[
        bool, typer.Option("--attention-gain", help="Count the gain of a norm behind the attention too.")
    ] = False,
    final_norm_gain: Annotated[
        bool, typer.Option("--final-norm-gain", help="Count the gain of the final norm too.")
    ] = False,
    adapter: Annotated[
        Path | None, typer.Option(metavar="PATH", help="LoRA adapter that is added to the weights.")
    ] = None,
    self_check: Annotated[
        bool,
        typer.Option("--self-check/--no-self-check", help="Compare the circuits with the model's own attention first."),
    ] = True,
    chance: Annotated[
        bool, typer.Option("--chance/--no-chance", help="Measure what re-paired targets would score, too.")
    ] = True,
    operations: Annotated[
        bool | None,
        typer.Option(
            "--operations/--no-operations",
            help="Gather what each head does most too; default: where that is little work.",
        ),
    ] = None,
    device: DeviceOption = "cpu",
    threads: EngineThreadsOption = None,
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
    gpus_per_task: GpusOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another atlas in DIR.")] = False,
) -> None:
    """Score all heads of a model and write its atlas: data, figures and report."""
    from headatlas.atlas import MANIFEST
    from headatlas.cli.cards import operations_after_map
    from headatlas.measuring.map import map_heads

    confirmed = (output / MANIFEST).is_file() and not overwrite
    with _engine(engine, device, threads, address, gpus_per_task) as chosen, Bar() as bar:
        atlas = map_heads(
            model,
            output,
            relations=relations or None,
            add_relations=add_relations or None,
            k=k,
            threshold=threshold,
            contextualize=contextualize,
            profile=profile,
            value_bias=value_bias,
            attention_gain=attention_gain,
            final_norm_gain=final_norm_gain,
            adapter=adapter,
            self_check=self_check,
            chance=chance,
            engine=chosen,
            overwrite=overwrite,
            progress=bar.show,
        )
        left = operations_after_map(output, model, adapter, operations, device, threads, bar.show)
    if confirmed:
        say(f"{output} already holds this map: same model, relations and settings.")
    _show_summary(atlas, output)
    if left:
        say(left)


@command("survey", goes_on=True)
def survey_command(
    models: Annotated[Path, typer.Argument(metavar="MODELS.toml", help="The models: [[model]], name, source.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for atlases and index.")],
    device: DeviceOption = "cpu",
    threads: EngineThreadsOption = None,
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
    gpus_per_task: GpusOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure all anew; replace atlases in DIR.")] = False,
) -> None:
    """Map every model of a list: an atlas each, an index of all, and a picture to compare them."""
    from headatlas.measuring.survey import FAILED, survey_models

    with _engine(engine, device, threads, address, gpus_per_task) as chosen, Bar() as bar:
        index = survey_models(
            models, output, engine=chosen, overwrite=overwrite, progress=bar.show, raise_bugs=debugging()
        )
    _show_survey(index, output)
    if FAILED in index["status"].tolist():
        raise typer.Exit(1)


@command("plan")
def plan_command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="As for `headatlas map`; default: demo."),
    ] = None,
    relations: Relations = None,
    add_relations: AddRelations = None,
    adapter: Annotated[Path | None, typer.Option(metavar="PATH", help="LoRA adapter.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a map of a model would read and take, without reading weights."""
    from headatlas.measuring.plan import plan_map

    plan = plan_map(
        model,
        relations=relations or None,
        add_relations=add_relations or None,
        adapter=adapter,
        threads=threads,
    )
    if as_json:
        print_json(plan.as_dict())
    else:
        _show_plan(plan)


@command("import")
def import_command(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES.csv", help="relation, category, layer, head, score[, suppression].")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the atlas.")],
    measure: Annotated[Measure, typer.Option(help="What the scores were measured on.")],
    name: Annotated[str | None, typer.Option(help="The model's name; default: the file's.")] = None,
    threshold: Annotated[
        str, typer.Option(metavar="SHARE", help="A head implements a relation strictly above this.")
    ] = "0.15",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another atlas in DIR.")] = False,
) -> None:
    """Make an atlas of scores that others measured."""
    from headatlas.measuring.import_scores import import_scores
    from headatlas.measuring.run_folder import RunFolder

    atlas = import_scores(scores, measure.value, name, threshold)
    with RunFolder(output, atlas.manifest["identity"], overwrite) as folder:
        if not folder.finished:
            folder.finish(atlas)
    _show_summary(atlas, output)


def _engine(
    engine: EngineName, device: str, threads: int | None, address: str | None, gpus_per_task: float
) -> AbstractContextManager[Engine]:
    from headatlas.engines import LocalEngine, RayEngine
    from headatlas.errors import SettingsError

    if engine is EngineName.local:
        if address is not None or gpus_per_task:
            raise SettingsError("address, gpus-per-task: these belong to --engine ray; expected it beside them.")
        return nullcontext(LocalEngine(device, threads))
    if device != "cpu":
        raise SettingsError(f"device: with --engine ray expected --gpus-per-task for GPUs, found --device {device}.")
    return RayEngine(address or "auto", threads, gpus_per_task)


def _show_plan(plan: Plan) -> None:
    from rich.table import Table
    from rich.text import Text

    from headatlas.printable import printable
    from headatlas.reports.text import listed

    n_kv_heads = "" if plan.n_kv_heads in (None, plan.n_heads) else f", {plan.n_kv_heads} key-value heads"
    alone = len(plan.validity) == 1
    validity = [
        each["kind"]
        + (f" ({each['why']})" if each["why"] else "")
        + ("" if alone else f": {len(each['layers'])} layers")
        for each in plan.validity
    ]
    kept, of = len(plan.measurable), len(plan.measurable) + len(plan.not_measurable)
    missing = f"; not: {listed(plan.not_measurable)}" if plan.not_measurable else ""
    rows = {
        "family": f"{plan.model_type}, read by "
        + ("its entry" if plan.read_by == "entry" else "its module structure, if the self-check agrees"),
        "heads": f"{plan.n_layers} layers x {plan.n_heads} heads{n_kv_heads}",
        "validity": "\n".join(validity),
        "to read": f"{told_bytes(plan.to_read)} of {told_bytes(plan.size)} ({plan.to_read / max(plan.size, 1):.0%})",
        "memory": f"about {told_bytes(plan.memory)} (estimate)",
        "time": f"about {told_duration(plan.seconds)} of scoring and {told_duration(plan.chance_seconds)} of chance "
        "levels on this machine (estimates), and reading; what each head does most (`headatlas operations`) "
        f"about {told_duration(plan.operations_seconds)}",
        "relations": f"{kept} of {of} measurable, {plan.n_pairs:,} pairs{missing}",
    }
    if plan.note:
        rows["weights"] = plan.note
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, Text(printable(text)))
    screen = console()
    screen.print(Text(printable(plan.name), style="bold"), soft_wrap=True)
    screen.print(table)


def _show_summary(atlas: Atlas, folder: Path) -> None:
    from headatlas.figures import PALETTES
    from headatlas.reports import category_rows, strongest_rows

    names = tuple(dict.fromkeys(item["category"] for item in atlas.manifest["relations"]["items"]))
    colours = PALETTES["paper"].of_categories(names)
    title = f"{atlas.name}: {atlas.n_layers} layers x {atlas.n_heads} heads ({atlas.measure}, {atlas.label})"
    show_table(title, ["category", "heads", "share", "this alone"], category_rows(atlas), (1, 2, 3), colours)
    if note := atlas.manifest["model"].get("note"):
        console().print(f"{note}\n", markup=False, soft_wrap=True)
    rows = sorted(strongest_rows(atlas), key=lambda row: (names.index(row[1]), -float(row[3] or -1)))
    columns = ["relation", "category", "head", "score"]
    show_table("Strongest head of each relation", columns, rows, (3,), colours)
    console().print(f"Picture: {folder / 'figure.png'}", markup=False, soft_wrap=True)
    console().print(f"Report:  {folder / 'report.md'}", markup=False, soft_wrap=True)


def _show_survey(index: pd.DataFrame, folder: Path) -> None:
    from headatlas.atlas import records
    from headatlas.figures import PALETTES

    names = tuple(column.removeprefix("score_") for column in index.columns if column.startswith("score_"))
    colours = PALETTES["paper"].of_categories(names)
    counts = ["heads", "classified", *(f"score_{name}" for name in names)]
    found = records(index)
    rows = [[row["name"], *(told_count(row[count]) for count in counts), row["status"]] for row in found]
    columns = ["model", "heads", "any", *names, "status"]
    show_table(f"{len(rows)} models", columns, rows, tuple(range(1, len(columns) - 1)), colours)
    for row in found:
        if row["error"] is not None:
            say(f"{row['name']}: {row['error']}", style="bold red")
    console().print(f"Picture: {folder / 'survey.png'}", markup=False, soft_wrap=True)
    console().print(f"Index:   {folder / 'index.csv'}", markup=False, soft_wrap=True)
