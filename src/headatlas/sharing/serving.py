"""Serving atlases to agents, if the package `mcp` is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headatlas.errors import SettingsError
from headatlas.sharing.answers import Answers, name_atlases


def serve_atlases(folders: Sequence[str | Path], network: bool = False) -> None:
    """Serve atlases on standard input and output until the client leaves.

    Args:
        folders: of the atlases.
        network: whether `find` may read a model that is not on this machine.

    Raises:
        AtlasError: a folder holds no atlas.
        SettingsError: the package `mcp` is not installed.
    """
    atlases = name_atlases(folders)
    try:
        from headatlas.sharing.mcp_server import build_server
    except ModuleNotFoundError as error:
        raise SettingsError(
            "serve-mcp: expected the package mcp, found none. Run `pip install 'headatlas[mcp]'`."
        ) from error
    build_server(Answers(atlases, network)).run("stdio")
