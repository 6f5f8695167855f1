"""Models that are not on this machine: names on the hub, and addresses."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from headatlas.checkpoints.checkpoint import Checkpoint

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
HUB_ONLY = re.compile(r"[\w][\w.-]*/[\w.-]+(@.+|/.+\.gguf)")
"""Names on the hub that could be taken for a path: with a revision, or of a file."""


def is_remote(source: object) -> bool:
    """Whether something can only mean a model elsewhere; a name such as `org/model` can also mean a folder."""
    if not isinstance(source, str):
        return False
    if ADDRESS.match(source):
        return True
    return HUB_ONLY.fullmatch(source) is not None and not Path(source).parent.exists()


def open_remote(source: str) -> Checkpoint:
    """Open a model on the hub or behind an address; of its weights only what is read travels.

    Args:
        source: `org/model`, `org/model@revision`, `org/model/file.gguf`, a page of the hub, `https://host/folder`,
            `https://host/folder/model.safetensors`, or another `scheme://` that fsspec knows.

    Raises:
        CheckpointError: nothing there, no access, or nothing that can be read.
    """
    name = _name_on_the_hub(source)
    if name is None:
        from headatlas.checkpoints.remote.address import open_address

        return open_address(source)
    from headatlas.checkpoints.remote.hub import open_hub

    return open_hub(name)


def _name_on_the_hub(source: str) -> str | None:
    """`org/model` out of itself, `hf://org/model` or the address of its page; None for other addresses."""
    if not ADDRESS.match(source):
        return source
    parts = urlsplit(source)
    if parts.scheme == "hf":
        return source[len("hf://") :].rstrip("/")
    if parts.scheme != "https" or parts.netloc.lower() not in _hub_hosts():
        return None
    match = re.fullmatch(r"/([^/]+/[^/]+)(?:/(?:tree|resolve|blob)/([^/]+)(?:/([^/]+))?)?/?", unquote(parts.path))
    if match is None:
        return None
    name, revision, file = match.groups()
    name += f"@{revision}" if revision and revision != "main" else ""
    return f"{name}/{file}" if file and file.endswith(".gguf") else name


def _hub_hosts() -> set[str]:
    """Where the hub's pages are, also by its short name."""
    from huggingface_hub import constants

    addresses = (constants.ENDPOINT, constants._HF_DEFAULT_ENDPOINT)
    hosts = {urlsplit(address).netloc.lower() for address in addresses}
    return hosts | {host.replace("huggingface", "hf") for host in hosts}
