"""A manifest without the paths of the machine that wrote it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from headatlas.atlas import Manifest
from headatlas.checkpoints.open import DEMO, DEMO_FILE, looks_like_a_path
from headatlas.checkpoints.remote.names import ADDRESS, is_remote

ABSOLUTE = re.compile(r"(?:/|~[\w.-]*/)[^/\s][^/\n]*/[^\n]*|(?:[A-Za-z]:[\\/]|\\\\)[^\n]+|file:[^\n]+")
"""A text that is all of it a path of some machine; a path from the root has two parts or more."""


@dataclass(frozen=True)
class Replaced:
    """A text of a manifest that named a place on one machine.

    Args:
        key: such as `model.source`.
        before, after: the text, and what is in its place.
    """

    key: str
    before: str
    after: str


def without_local_paths(manifest: Manifest) -> tuple[Manifest, list[Replaced]]:
    """The manifest with each local path replaced by the name of its file or folder, and what was replaced.

    The model's source becomes `./NAME`, `demo` for the demo model's file, and loses the password and the query of an
    address; a name on the hub stays.
    """
    content, replaced = manifest.as_dict(), []
    source = content["model"]["source"]
    if (shared := shared_source(source)) != source:
        content["model"]["source"] = shared
        replaced.append(Replaced("model.source", source, shared))
    content = _walk(content, "", replaced)
    return (Manifest.from_json(content, "atlas.json") if replaced else manifest), replaced


def shared_source(source: str) -> str:
    """Where a model is, without what only one machine or one user knows.

    >>> shared_source("/home/me/models/tiny"), shared_source("org/model@v1")
    ('./tiny', 'org/model@v1')
    >>> shared_source("https://me:secret@host.org/tiny?token=1")
    'https://host.org/tiny'
    """
    if ADDRESS.match(source) and not source.lower().startswith("file:"):
        parts = urlsplit(source)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    if is_remote(source) and not ADDRESS.match(source):
        return source
    if not (looks_like_a_path(source) or ABSOLUTE.fullmatch(source) or "\\" in source or os.path.exists(source)):
        return source
    name = _name(source)
    return DEMO if name == DEMO_FILE or source == DEMO else f"./{name}"


def _walk(value: Any, key: str, replaced: list[Replaced]) -> Any:
    if isinstance(value, dict):
        return {name: _walk(each, f"{key}.{name}" if key else name, replaced) for name, each in value.items()}
    if isinstance(value, list):
        return [_walk(each, f"{key}[{number}]", replaced) for number, each in enumerate(value)]
    if isinstance(value, str) and ABSOLUTE.fullmatch(value):
        after = _name(value)
        replaced.append(Replaced(key, value, after))
        return after
    return value


def _name(path: str) -> str:
    windows = "\\" in path or re.match(r"[A-Za-z]:", path)
    return (PureWindowsPath(path) if windows else PurePosixPath(path)).name or "model"
