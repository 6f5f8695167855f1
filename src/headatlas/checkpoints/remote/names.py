"""Names of remote models: on the hub, or at an address."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
HUB_ONLY = re.compile(r"[\w][\w.-]*/[\w.-]+(@.+|/.+\.gguf)")
"""Names on the hub that look like a path: with a revision, or of a file."""


def is_remote(source: object) -> bool:
    """Whether a source can only be a remote model; a name such as `org/model` may also be a folder."""
    if not isinstance(source, str):
        return False
    if ADDRESS.match(source):
        return True
    return HUB_ONLY.fullmatch(source) is not None and not Path(source).parent.exists()


def name_on_the_hub(source: str) -> str | None:
    """`org/model` from itself, from `hf://org/model` or from the address of its page; None for other addresses."""
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
    """Hosts of the hub's pages, also under its short name."""
    from huggingface_hub import constants

    addresses = (constants.ENDPOINT, constants._HF_DEFAULT_ENDPOINT)
    hosts = {urlsplit(address).netloc.lower() for address in addresses}
    return hosts | {host.replace("huggingface", "hf") for host in hosts}
