"""Names of remote models, on the hub or at an address, and of data sets on the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from headatlas.errors import SettingsError

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
HUB_ONLY = re.compile(r"[\w][\w.-]*/[\w.-]+(@.+|/.+\.gguf)")
"""Names on the hub that look like a path: with a revision, or of a file."""

DATASET = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w.-][\w./-]{0,199}))?", re.A
)


def is_remote(source: object) -> bool:
    """Whether a source can only be a remote model; a name such as `org/model` may also be a folder."""
    if not isinstance(source, str):
        return False
    if ADDRESS.match(source):
        return True
    return HUB_ONLY.fullmatch(source) is not None and not os.path.exists(Path(source).parent)


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


def dataset_name(text: str) -> tuple[str, str | None]:
    """A data set on the hub and its revision (None: the newest) from `org/name` or `org/name@revision`.

    Raises:
        SettingsError: it is not such a name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    match = DATASET.fullmatch(text)
    try:
        if match is not None:
            validate_repo_id(match["name"])
            return match["name"], match["revision"]
    except HFValidationError:
        pass
    raise SettingsError(f"{text}: expected the name of a data set on the hub such as org/name, found something else.")


def dataset_page(name: str) -> str:
    """The address of a data set's page; raises `SettingsError` if it is not a name such as `org/name`."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/datasets/{_without_revision(name)}"


def dataset_picture(name: str, file: str) -> str:
    """The address of a file of a data set, as its newest revision has it."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(_without_revision(name), file, repo_type="dataset")


def _without_revision(name: str) -> str:
    return dataset_name(name)[0]
