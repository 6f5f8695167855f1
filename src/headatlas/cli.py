"""The command line: parse, call, print."""

from __future__ import annotations

import functools
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headatlas.errors import HeadatlasError
from headatlas.relations import DROP_REASONS

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from headatlas.atlas import Atlas
    from headatlas.engines import Engine
    from headatlas.planning import Plan

app = typer.Typer(
    help="What every attention head of a language model does, from its weights alone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = False


class Kind(StrEnum):
    score = "score"
    suppression = "suppression"


class Measure(StrEnum):
    weights = "weights"
    attention_fixed = "attention-fixed"
    in_context = "in-context"


class Palette(StrEnum):
    paper = "paper"
    colour_blind = "colour-blind"


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


class ExportFormat(StrEnum):
    csv = "csv"
    json = "json"
    heads = "heads"


AtlasFolder = Annotated[Path, typer.Argument(metavar="ATLAS", help="Folder made by `headatlas map` or `import`.")]
Threshold = Annotated[
    str | None, typer.Option(metavar="SHARE", help="A head implements a relation strictly above this; default 0.15.")
]
KindOption = Annotated[Kind, typer.Option(help="Targets among the highest logits, or among the lowest.")]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; with ray, CPUs of one task (default 1).")]
EngineOption = Annotated[EngineName, typer.Option(help="Where layers are scored: this process, or a Ray cluster.")]
AddressOption = Annotated[
    str | None, typer.Option(metavar="ADDR", help="With ray: auto (default), HOST:PORT of its head, or local.")
]
GpusOption = Annotated[float, typer.Option(metavar="N", min=0, help="With ray: GPUs of one task; default 0.")]
Relations = Annotated[
    list[Path] | None,
    typer.Option("--relations", metavar="PATH", help="Relations instead of the built-in ones; repeatable."),
]
AddRelations = Annotated[
    list[Path] | None, typer.Option("--add-relations", metavar="PATH", help="Relations beside them; repeatable.")
]
Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to this file.")]


def main() -> None:
    """Entry point of the `headatlas` command."""
    # A pipe that closes early, as `| head` does, is no error.
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _command(name: str, goes_on: bool = False):
    """Register a command whose errors become one sentence and an exit code.

    Args:
        goes_on: after an interruption the same command goes on where it stopped.
    """

    def register(function):
        @app.command(name)
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except KeyboardInterrupt:
                safe = " Finished layers are safe: the same command goes on where it stopped." if goes_on else ""
                _say(f"Interrupted.{safe}")
                raise typer.Exit(130) from None
            except HeadatlasError as error:
                if _debug:
                    raise
                _say(f"Error: {error}", style="bold red")
                raise typer.Exit(2) from None
            except MemoryError:
                if _debug:
                    raise
                _say("Error: there is not enough memory for this model on this machine.", style="bold red")
                raise typer.Exit(2) from None

        return wrapped

    return register


def _show_version(wanted: bool) -> None:
    if wanted:
        import headatlas

        typer.echo(f"headatlas {headatlas.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    global _debug
    _debug = debug


@_command("map", goes_on=True)
def map_command(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the atlas.")],
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Folder, .gguf file or name on the hub; default: the demo model."),
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
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
    gpus_per_task: GpusOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another atlas in DIR.")] = False,
) -> None:
    """Score all heads of a model and write its atlas: data, figures and report."""
    from headatlas.atlas import MANIFEST
    from headatlas.survey import map_heads

    confirmed = (output / MANIFEST).is_file() and not overwrite
    with _engine(engine, device, threads, address, gpus_per_task) as chosen, _Bar() as bar:
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
            engine=chosen,
            overwrite=overwrite,
            progress=bar.show,
        )
    if confirmed:
        _say(f"{output} already holds this map: same model, relations and settings.")
    _show_summary(atlas, output)


@_command("survey", goes_on=True)
def survey_command(
    models: Annotated[Path, typer.Argument(metavar="MODELS.toml", help="The models: [[model]], name, source.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for atlases and index.")],
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
    gpus_per_task: GpusOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure all anew; replace atlases in DIR.")] = False,
) -> None:
    """Map every model of a list: an atlas each, an index of all, and a picture to compare them."""
    from headatlas.many_models import FAILED, survey_models

    with _engine(engine, device, threads, address, gpus_per_task) as chosen, _Bar() as bar:
        index = survey_models(models, output, engine=chosen, overwrite=overwrite, progress=bar.show, raise_bugs=_debug)
    _show_survey(index, output)
    if FAILED in index["status"].tolist():
        raise typer.Exit(1)


@_command("plan")
def plan_command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="As for `headatlas map`; default: the demo model."),
    ] = None,
    relations: Relations = None,
    add_relations: AddRelations = None,
    adapter: Annotated[Path | None, typer.Option(metavar="PATH", help="LoRA adapter.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a map of a model would read and take, without reading weights."""
    from headatlas.planning import plan_map

    plan = plan_map(
        model,
        relations=relations or None,
        add_relations=add_relations or None,
        adapter=adapter,
        threads=threads,
    )
    if as_json:
        _print_json(plan.as_dict())
    else:
        _show_plan(plan)


@_command("figure")
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
    _say(f"Wrote {output}")


@_command("report")
def report_command(
    atlas: AtlasFolder, kind: KindOption = Kind.score, threshold: Threshold = None, output: Output = None
) -> None:
    """Tell in words and numbers what the map shows (Markdown)."""
    from headatlas.atlas import Atlas
    from headatlas.reports import write_report

    _put(write_report(Atlas.load(atlas), kind=kind.value, threshold=threshold), output)


@_command("relations")
def relations_command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this relation's pairs.")] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Check a relation file or folder instead of the built-in ones.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Say what this model's tokenizer keeps; 'demo' is the demo model."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the relations, show one, or check a file of your own."""
    from headatlas.errors import SettingsError
    from headatlas.relations import builtin_relations, load_relations

    known = builtin_relations() if check is None else load_relations(check)
    chosen = [relation for relation in known if name in (None, relation.name)]
    if not chosen:
        raise SettingsError(f"relations: expected one of {', '.join(each.name for each in known)}, found {name!r}.")
    coverage = None if model is None else _coverage(chosen, None if model == "demo" else model)
    if as_json:
        _print_json(_relation_records(chosen, coverage, with_pairs=name is not None or check is not None))
    elif name is not None:
        _show_relation(chosen[0], coverage)
    else:
        _show_relations(chosen, coverage)


@_command("import")
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
    from headatlas.importing import import_scores
    from headatlas.run_folder import RunFolder

    atlas = import_scores(scores, measure.value, name, threshold)
    with RunFolder(output, atlas.manifest["identity"], overwrite) as folder:
        if not folder.finished:
            folder.finish(atlas)
    _show_summary(atlas, output)


@_command("heads")
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
        _print_json(records(rows))
        return
    cells = [
        [
            row["name"],
            row["relation"],
            row["category"],
            f"{row['score']:.3f}",
            _count(row["hits"]),
            _count(row["pairs"]),
            row["validity"],
        ]
        for row in rows.to_dict("records")
    ]
    if not sys.stdout.isatty():
        for row in cells:
            typer.echo("\t".join(row))
        return
    _show_table(f"{len(cells)} heads x relations", columns, cells, right=(3, 4, 5))


@_command("export")
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

    _put(export(Atlas.load(atlas), fmt.value, kind.value), output)


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


class _Bar:
    """A progress bar on standard error: what is done, the rate and the time left."""

    def __enter__(self) -> _Bar:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Done(MofNCompleteColumn):
            def render(self, task) -> Text:
                if task.description != "bytes" or task.total is None:
                    return super().render(task)
                return Text(f"{_bytes(int(task.completed))} of {_bytes(int(task.total))}", style="progress.download")

        class Rate(ProgressColumn):
            def render(self, task) -> Text:
                speed = task.speed or 0
                rate = _bytes(int(speed)) if task.description == "bytes" else f"{speed:.1f}"
                return Text(f"{rate}/s" if speed else "", style="dim")

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            Done(),
            Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=_console(stderr=True),
        )
        self._progress.start()
        self._tasks: dict[str, Any] = {"opening": self._progress.add_task("opening", total=None)}
        return self

    def show(self, what: str, done: int, total: int) -> None:
        if what == "models":
            # The next model's bars start anew.
            for earlier in set(self._tasks) - {"models"}:
                self._progress.remove_task(self._tasks.pop(earlier))
        if what not in self._tasks:
            for name, earlier in self._tasks.items():
                self._progress.update(earlier, visible=name == "models")
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


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
        "to read": f"{_bytes(plan.to_read)} of {_bytes(plan.size)} ({plan.to_read / max(plan.size, 1):.0%})",
        "memory": f"about {_bytes(plan.memory)} (estimate)",
        "time": f"about {_duration(plan.seconds)} of scoring on this machine (estimate), and reading",
        "relations": f"{kept} of {of} measurable, {plan.n_pairs:,} pairs{missing}",
    }
    if plan.note:
        rows["weights"] = plan.note
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, Text(printable(text)))
    console = _console()
    console.print(Text(printable(plan.name), style="bold"), soft_wrap=True)
    console.print(table)


def _bytes(count: int) -> str:
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" or size >= 100 else f"{size:.1f} {units[0]}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _say(text: str, style: str | None = None) -> None:
    """One line for people, on standard error."""
    from rich.text import Text

    from headatlas.printable import printable

    _console(stderr=True).print(Text(printable(text), style=style or ""), soft_wrap=True)


def _put(text: str, output: Path | None) -> None:
    from headatlas.atlas import write_atomically
    from headatlas.errors import AtlasError

    if output is None:
        typer.echo(text, nl=not text.endswith("\n"))
        return
    try:
        write_atomically(output, lambda path: path.write_text(text, "utf-8"))
    except OSError as error:
        raise AtlasError(f"{output}: cannot be written ({error.strerror or error}).") from error
    _say(f"Wrote {output}")


def _print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=1))


def _count(value: Any) -> str:
    import pandas as pd

    return "" if pd.isna(value) else str(value)


def _show_table(
    title: str, columns: list[str], rows: list[list[str]], right: tuple[int, ...], colours: dict[str, str] | None = None
) -> None:
    """Print a table; cells that are keys of `colours` get a swatch, rows with an empty last cell are dimmed."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from headatlas.printable import printable

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        # A relation's name is what people copy: it is never broken.
        table.add_column(column, justify="right" if number in right else "left", overflow="fold", no_wrap=number == 0)
    for row in rows:
        cells = []
        for cell in row:
            swatch = Text("■ ", style=colours[cell]) if colours and cell in colours else ""
            cells.append(Text.assemble(swatch, printable(cell)))
        table.add_row(*cells, style="" if row[-1] else "dim")
    console = _console()
    console.print(Text(printable(title), style="bold"), soft_wrap=True)
    console.print(table)
    console.print()


def _show_summary(atlas: Atlas, folder: Path) -> None:
    from headatlas.figures import PALETTES
    from headatlas.reports import category_rows, strongest_rows

    names = tuple(dict.fromkeys(item["category"] for item in atlas.manifest["relations"]["items"]))
    colours = PALETTES["paper"].of_categories(names)
    title = f"{atlas.name}: {atlas.n_layers} layers x {atlas.n_heads} heads ({atlas.measure}, {atlas.label})"
    _show_table(title, ["category", "heads", "share", "this alone"], category_rows(atlas), (1, 2, 3), colours)
    if note := atlas.manifest["model"].get("note"):
        _console().print(f"{note}\n", markup=False, soft_wrap=True)
    rows = sorted(strongest_rows(atlas), key=lambda row: (names.index(row[1]), -float(row[3] or -1)))
    columns = ["relation", "category", "head", "score"]
    _show_table("Strongest head of each relation", columns, rows, (3,), colours)
    _console().print(f"Picture: {folder / 'figure.png'}", markup=False, soft_wrap=True)
    _console().print(f"Report:  {folder / 'report.md'}", markup=False, soft_wrap=True)


def _show_survey(index: pd.DataFrame, folder: Path) -> None:
    from headatlas.atlas import records
    from headatlas.figures import PALETTES

    names = tuple(column.removeprefix("score_") for column in index.columns if column.startswith("score_"))
    colours = PALETTES["paper"].of_categories(names)
    counts = ["heads", "classified", *(f"score_{name}" for name in names)]
    found = records(index)
    rows = [[row["name"], *(_count(row[count]) for count in counts), row["status"]] for row in found]
    columns = ["model", "heads", "any", *names, "status"]
    _show_table(f"{len(rows)} models", columns, rows, tuple(range(1, len(columns) - 1)), colours)
    for row in found:
        if row["error"] is not None:
            _say(f"{row['name']}: {row['error']}", style="bold red")
    _console().print(f"Picture: {folder / 'survey.png'}", markup=False, soft_wrap=True)
    _console().print(f"Index:   {folder / 'index.csv'}", markup=False, soft_wrap=True)


def _coverage(relations: list, model: str | None) -> list:
    from headatlas.checkpoints import demo_model, open_checkpoint
    from headatlas.relations import encode_relations
    from headatlas.settings import Settings

    checkpoint = open_checkpoint(demo_model() if model is None else model)
    d_vocab = checkpoint.config.get_text_config().vocab_size
    return encode_relations(relations, checkpoint.load_tokenizer(), d_vocab, Settings.of_profile(d_vocab))


def _relation_records(relations: list, coverage: list | None, with_pairs: bool) -> list[dict[str, Any]]:
    names = ("name", "category", "k", "description", "source", "license", "hash")
    records = []
    for number, relation in enumerate(relations):
        record = {name: getattr(relation, name) for name in names} | {"in_file": len(relation.pairs)}
        if coverage is not None:
            of_model = coverage[number]
            record |= {"k": of_model.k, "kept": len(of_model.pairs), "measurable": of_model.measurable}
            record |= {f"dropped_{reason}": of_model.count_dropped(reason) for reason in DROP_REASONS}
        if with_pairs:
            record["pairs"] = relation.pairs if coverage is None else coverage[number].pairs
            record |= {} if coverage is None else {"dropped": coverage[number].dropped}
        records.append(record)
    return records


def _show_relations(relations: list, coverage: list | None) -> None:
    if coverage is None:
        rows = [[r.name, r.category, str(r.k), str(len(r.pairs)), r.license or "-"] for r in relations]
        _show_table(f"{len(relations)} relations", ["relation", "category", "k", "pairs", "licence"], rows, right=(3,))
        return
    rows = [
        [c.name, c.relation.category, str(len(c.relation.pairs)), str(len(c.pairs)), str(c.count_dropped("source")),
         str(c.count_dropped("target")), "yes" if c.measurable else "no"]
        for c in coverage
    ]  # fmt: skip
    columns = ["relation", "category", "pairs", "kept", "source", "target", "measurable"]
    measurable = sum(c.measurable for c in coverage)
    _show_table(f"{measurable} of {len(coverage)} relations measurable", columns, rows, right=(2, 3, 4, 5))
    _say("source, target: pairs left out since that word is not one token. A relation's name shows which.")


def _show_relation(relation: Any, coverage: list | None) -> None:
    from headatlas.printable import printable

    for what in ("name", "category", "k", "description", "source", "license"):
        _say(f"{what:12}{getattr(relation, what)}")
    if coverage is None:
        _say(f"{'pairs':12}{len(relation.pairs)}")
        rows = list(relation.pairs)
    else:
        (of_model,) = coverage
        _say(f"{'pairs':12}{len(relation.pairs)}, of which this model keeps {len(of_model.pairs)}")
        reasons = {"duplicate": "the same tokens again"}
        rows = [(*pair, "kept") for pair in of_model.pairs]
        rows += [
            (source, target, f"left out: {reasons.get(why, f'the {why} is not one token')}")
            for source, target, why in of_model.dropped
        ]
    for row in rows:
        typer.echo("\t".join(printable(cell) for cell in row))
