"""The command that serves atlases to agents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headatlas.cli.app import command


@command("serve-mcp")
def serve_mcp_command(
    atlases: Annotated[list[Path], typer.Argument(metavar="ATLAS...", help="Atlas folders; no others are served.")],
    network: Annotated[
        bool, typer.Option("--network", help="Let `find` read a model that is not on this machine.")
    ] = False,
) -> None:
    """Serve atlases to agents by the Model Context Protocol, read-only, on standard input and output."""
    from headatlas.sharing.serving import serve_atlases

    serve_atlases(atlases, network)
