"""Commands that make atlases or extend them: map, salient, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.formats import format_duration
from headatlas.cli.options import (
    PROFILES,
    RULES,
    AdapterOption,
    AddRelations,
    AddressOption,
    AtlasFolder,
    DeviceOption,
    EngineOption,
    EngineThreadsOption,
    GpusOption,
    JsonOption,
    Measure,
    ModelOption,
    Relations,
    TableOption,
    ThreadsOption,
    Threshold,
)
from headatlas.cli.screen import Bar, print_json, print_message
from headatlas.measuring.engine import EngineName, open_engine
from headatlas.settings import DEFAULT_PROFILE

if TYPE_CHECKING:
    from headatlas.atlas import Atlas


@command("map", resumes=True)
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
        typer.Option("--k", min=1, help="How many highest logits count; default 10 (maps: 25 above 100,000 tokens)."),
    ] = None,
    threshold: Threshold = None,
    contextualize: Annotated[
        str | None,
        typer.Option(
            metavar="INPUT", help="What the heads read: alone, first-mlp or embedding; default: the profile's."
        ),
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            metavar=PROFILES, help="alone: heads read words as the model's own layers hand them on. maps: as published."
        ),
    ] = DEFAULT_PROFILE,
    rule: Annotated[
        str, typer.Option(metavar=RULES, help="How heads are classified; calibrated: beyond chance and copying too.")
    ] = "plain",
    prefix: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="With alone, the token before each word; default: the tokenizer's own."),
    ] = None,
    value_bias: Annotated[
        bool, typer.Option("--value-bias", help="With maps, count the bias of the values too.")
    ] = False,
    attention_gain: Annotated[
        bool, typer.Option("--attention-gain", help="With maps, count the gain of a norm behind the attention too.")
    ] = False,
    final_norm_gain: Annotated[
        bool, typer.Option("--final-norm-gain", help="With maps, count the gain of the final norm too.")
    ] = False,
    input_norm_gain: Annotated[
        bool, typer.Option("--input-norm-gain", help="With maps, count the gain of the norm before the attention.")
    ] = False,
    adapter: Annotated[
        Path | None, typer.Option(metavar="PATH", help="LoRA adapter that is added to the weights.")
    ] = None,
    self_check: Annotated[
        bool,
        typer.Option(
            "--self-check/--no-self-check", help="Compare the circuits with the model's own attention modules first."
        ),
    ] = True,
    chance: Annotated[
        bool, typer.Option("--chance/--no-chance", help="Measure chance levels (scores of re-paired targets) too.")
    ] = True,
    salient: Annotated[
        bool | None,
        typer.Option("--salient/--no-salient", help="Measure salient operations too; default: if that is little work."),
    ] = None,
    device: DeviceOption = "cpu",
    threads: EngineThreadsOption = None,
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
    gpus_per_task: GpusOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another atlas in DIR.")] = False,
    table: TableOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score all heads of a model and write its atlas: data, figures and report."""
    from headatlas.measuring.map import map_heads
    from headatlas.measuring.salient import salient_seconds
    from headatlas.measuring.session import is_atlas_folder

    confirmed = is_atlas_folder(output) and not overwrite
    with open_engine(engine, device, threads, address, gpus_per_task) as chosen, Bar() as bar:
        atlas = map_heads(
            model,
            output,
            relations=relations or None,
            add_relations=add_relations or None,
            k=k,
            threshold=threshold,
            contextualize=contextualize,
            profile=profile,
            rule=rule,
            prefix=prefix,
            value_bias=value_bias,
            attention_gain=attention_gain,
            final_norm_gain=final_norm_gain,
            input_norm_gain=input_norm_gain,
            adapter=adapter,
            self_check=self_check,
            chance=chance,
            salient=salient,
            engine=chosen,
            overwrite=overwrite,
            progress=bar.show,
        )
    if confirmed:
        print_message(f"{output} already holds this map: same model, relations and settings.")
    _show_summary(atlas, output, table, as_json)
    seconds = salient_seconds(atlas, threads)
    if seconds is not None:
        print_message(
            f"Salient operations were not measured: `headatlas salient {output}` measures them in about "
            f"{format_duration(seconds)} (estimate)."
        )


@command("salient", resumes=True)
def salient_command(
    atlas: AtlasFolder,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    tokens: Annotated[int, typer.Option(min=1, help="Salient tokens of each head.")] = 30,
    mapped: Annotated[int, typer.Option(min=1, help="Tokens that each is mapped to, promoted and suppressed.")] = 5,
    similar: Annotated[int, typer.Option(min=1, help="Heads most like each head.")] = 5,
    junk: Annotated[bool, typer.Option("--junk", help="Let bytes, special and unused tokens count too.")] = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what every head does most, and which heads are similar."""
    from headatlas.atlas import load_atlas
    from headatlas.measuring.salient import measure_salient

    loaded = load_atlas(atlas)
    with Bar() as bar:
        loaded = measure_salient(
            loaded,
            model,
            adapter,
            tokens=tokens,
            mapped=mapped,
            similar=similar,
            junk=junk,
            device=device,
            threads=threads,
            progress=bar.show,
        )
    facts = loaded.manifest.evidence.salient
    assert facts is not None
    if as_json:
        from headatlas.atlas.json_facts import write_facts

        print_json(write_facts(facts))
        return
    print_message(
        f"{atlas}: {tokens} salient tokens of each head, of {facts.looked_at:,} tokens "
        f"({sum(facts.junk_tokens.values()):,} are junk{', counted too' if junk else ''}), in "
        f"{facts.seconds:.0f} s. `headatlas head {atlas} L0H0` shows a head's card."
    )


@command("import")
def import_command(
    scores: Annotated[
        Path,
        typer.Argument(
            metavar="SCORES.csv", help="relation, category, layer, head, score[, suppression]; or metrics of HeadVis."
        ),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for the atlas.")] = None,
    measure: Annotated[Measure | None, typer.Option(help="What the scores were measured on.")] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="ATLAS", help="Add HeadVis' metrics (file or folder) to this atlas instead.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The model's; default: the file's.")] = None,
    threshold: Annotated[
        str, typer.Option(metavar="SHARE", help="A head implements a relation strictly above this.")
    ] = "0.15",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another atlas in DIR.")] = False,
    table: TableOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an atlas of scores from another source, or add HeadVis' metrics to an atlas."""
    from headatlas.errors import SettingsError
    from headatlas.measuring.import_scores import import_scores

    if into is not None:
        if output is not None or measure is not None or name is not None or overwrite:
            raise SettingsError("into: HeadVis' metrics become evidence of an atlas. Use --into without other options.")
        _import_headvis(scores, into)
        return
    if output is None or measure is None:
        raise SettingsError("output, measure: expected both for scores, or --into for HeadVis' metrics. See --help.")
    atlas = import_scores(scores, measure.value, name, threshold, output=output, overwrite=overwrite)
    _show_summary(atlas, output, table, as_json)


def _import_headvis(path: Path, into: Path) -> None:
    from headatlas.atlas import load_atlas
    from headatlas.measuring.import_headvis import import_headvis

    atlas = import_headvis(load_atlas(into), path)
    facts = atlas.manifest.evidence.headvis
    assert facts is not None
    shown = "" if facts.model is None else f" of {facts.model}"
    shown += "" if facts.dataset is None else f" on {facts.dataset}"
    print_message(f"{len(facts.metrics)} metrics{shown} are now evidence of {atlas.name} in {into}.")


def _show_summary(atlas: Atlas, folder: Path, table: bool, as_json: bool) -> None:
    from headatlas.cli.map_screen import map_facts, show_map

    if as_json:
        print_json(map_facts(atlas) | {"folder": str(folder)})
    else:
        show_map(atlas, folder, table)
