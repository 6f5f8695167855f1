"""The command that writes an adapter without a relation's heads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.completion import complete_relation
from headatlas.cli.options import (
    AddRelations,
    AtlasFolder,
    DeviceOption,
    JsonOption,
    ModelOption,
    SeedOption,
    ThreadsOption,
)
from headatlas.cli.screen import Bar, print_json, print_message, print_note, show_table


@command("remove")
def remove_command(
    atlas: AtlasFolder,
    relation: Annotated[
        str, typer.Option(metavar="NAME", autocompletion=complete_relation, help="Remove the heads of this relation.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the adapter.")],
    model: ModelOption = None,
    add_relations: AddRelations = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prompts of your own (TOML) instead of the package's.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plain text for the perplexity instead of the package's.")
    ] = None,
    heads: Annotated[int, typer.Option(metavar="N", min=1, help="Most heads to remove.")] = 4,
    n_prompts: Annotated[int, typer.Option(metavar="N", min=10, help="Most prompts of a task.")] = 40,
    controls: Annotated[int, typer.Option(metavar="N", min=0, help="Most other tasks for comparison.")] = 3,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an adapter.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a LoRA adapter that removes a relation's heads, and measure what it takes away."""
    from headatlas.atlas import load_atlas
    from headatlas.measuring.removing_adapter import remove_heads

    loaded = load_atlas(atlas)
    with Bar() as bar:
        found = remove_heads(
            loaded,
            relation,
            output,
            model=model,
            add_relations=add_relations or None,
            prompts=prompts,
            text=text,
            n_heads=heads,
            n_prompts=n_prompts,
            controls=controls,
            seed=seed,
            device=device,
            threads=threads,
            overwrite=overwrite,
            progress=bar.show,
        )
    if as_json:
        print_json(found.as_dict())
        return
    rows = [
        [
            each.task,
            each.measure,
            *("-" if value is None else f"{value:.2f}" for value in (each.whole, each.removed, each.random)),
        ]
        for each in found.effects
    ]
    columns = ["task", "measure", "whole", "removed", "random heads"]
    show_table(f"{loaded.name} without {', '.join(found.heads)}", columns, rows, (2, 3, 4))
    print_note(f"random heads: as many others of the same layers, mean of draws. Adapter and card: {output}")
    print_message(f"Map the model without them: headatlas map MODEL --adapter {output} -o DIR")
