"""The command that shows what the heads do at one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.options import (
    AdapterOption,
    AddRelations,
    AtlasFolder,
    DeviceOption,
    JsonOption,
    ModelOption,
    Palette,
    PaletteOption,
    RuleOption,
    SeedOption,
    ThreadsOption,
)
from headatlas.cli.screen import Bar, print_json, print_message

if TYPE_CHECKING:
    from headatlas.analysis.attribution import LogitAttribution


@command("prompt")
def prompt_command(
    atlas: AtlasFolder,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="Such as 'The capital of France is'.")],
    token: Annotated[
        str | None, typer.Option(metavar="WORD", help="The next token to look at; default: the most probable one.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="WORD", help="Compare with this token's logit, not with the mean of the vocabulary."),
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Heads to show.")] = 12,
    controls: Annotated[int, typer.Option(metavar="N", min=0, help="Prompts of random tokens to compare with.")] = 20,
    ablate: Annotated[
        int, typer.Option(metavar="N", min=0, help="Remove each of the N heads that stand out, and N random ones.")
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Folder for picture and JSON; default: the atlas's."),
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write the explorer's page with this prompt too, next to the picture.")
    ] = False,
    rule: RuleOption = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    add_relations: AddRelations = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    palette: PaletteOption = Palette.paper,
    as_json: JsonOption = False,
) -> None:
    """Show which heads look where and write what at a prompt, against what their cards say."""
    from headatlas.atlas import load_atlas
    from headatlas.measuring.attribute import attribute_logit, save_attribution

    loaded = load_atlas(atlas)
    with Bar() as bar:
        found = attribute_logit(
            loaded,
            prompt,
            token=token,
            against=against,
            controls=controls,
            ablate=ablate,
            rule=rule,
            model=model,
            adapter=adapter,
            add_relations=add_relations or None,
            seed=seed,
            device=device,
            threads=threads,
            progress=bar.show,
        )
    files = save_attribution(found, atlas if output is None else output, n_heads=top, palette=palette.value)
    page = None
    if html:
        from headatlas.explorer import write_page

        page = write_page(files[0].with_suffix(".html"), loaded, prompt=found)
    if as_json:
        print_json(found.as_dict())
        return
    _show(found, top)
    if found.left_out:
        print_message(
            f"Not compared, because their pairs are not available: {', '.join(found.left_out)}. Name their files with "
            f"--add-relations."
        )
    print_message(f"Picture: {files[0]}")
    if page is not None:
        print_message(f"Open: {page}")


def _show(found: LogitAttribution, top: int) -> None:
    from headatlas.cli.prompt_screen import show_attribution
    from headatlas.cli.screen import console

    show_attribution(found, top, console())
