"""The command that opens the explorer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.options import JsonOption
from headatlas.cli.screen import print_json, print_message


@command("explore")
def explore_command(
    atlas: Annotated[Path, typer.Argument(metavar="ATLAS", help="Folder made by `headatlas map` or `import`.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[OTHER]", help="A second atlas to compare, of any model.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: explorer.html in ATLAS.")
    ] = None,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Write an interactive page of the whole atlas, and open it; it needs no network."""
    from headatlas.atlas import load_atlas
    from headatlas.explorer import write_page
    from headatlas.measuring.output import PAGE

    atlases = [load_atlas(folder) for folder in (atlas, other) if folder is not None]
    default = PAGE if other is None else f"explorer-with-{other.absolute().name}.html"
    first, *others = atlases
    chosen = [(each.threshold, each.rule) for each in atlases]
    if len(set(chosen)) > 1:
        print_message(
            f"{others[0].name} has another threshold or rule ({', '.join(chosen[1])}): both are shown with those of "
            f"{first.name} ({', '.join(chosen[0])}); the page can change them."
        )
    path = write_page(atlas / default if output is None else output, *atlases)
    if as_json:
        print_json({"wrote": str(path)})
    else:
        print_message(f"Wrote {path}")
    if show and typer.launch(path.absolute().as_uri()) != 0:
        print_message("No browser could be opened: open the file by hand.")
