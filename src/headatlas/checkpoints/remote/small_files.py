"""Config, tokenizer and index of a remote folder: fetched whole, and kept in a folder of the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from headatlas.checkpoints.remote.cache import (
    N_TRANSFERS,
    Unreachable,
    cache_folder,
    disk,
    patiently,
    write_whole,
)
from headatlas.checkpoints.remote.file import Missing, Refused, RemoteFile, fingerprint

NEEDED = "config.json"

OPTIONAL = (
    "added_tokens.json",
    "merges.txt",
    "model.safetensors.index.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)

LIMIT = 256 * 2**20
"""Bytes of a file that is called small: a hundred times a large vocabulary's."""


class SmallFile(RemoteFile, Protocol):
    """A remote file that can also be had whole."""

    def whole(self, known: str | None, limit: int) -> tuple[str | None, bytes | None]:
        """Its tag and content; no content where the tag is still the known one."""
        ...


def bring_small_files(address: str, files: Mapping[str, SmallFile]) -> Path:
    """A local folder with those of the files that are there; unchanged ones do not travel again.

    Args:
        address: names the folder; kept only as a hash.
        files: by name; all but `config.json` may be missing.

    Raises:
        CheckpointError: no config, no access, or the server cannot be reached and the files are not in the cache.
    """
    folder = cache_folder() / "folders" / fingerprint(address)
    # The config first: a folder without one is asked for nothing else.
    _bring(folder, NEEDED, files[NEEDED])
    with ThreadPoolExecutor(N_TRANSFERS, thread_name_prefix="headatlas-small") as pool:
        list(pool.map(lambda name: _bring(folder, name, files[name]), [name for name in files if name != NEEDED]))
    return folder


def _bring(folder: Path, name: str, file: SmallFile) -> None:
    path, record = folder / name, folder / ".records" / f"{name}.json"
    known, absent = _recall(path, record)
    try:
        tag, content = patiently(file, lambda: file.whole(known, LIMIT), 2 if known or absent else None)
    except (Missing, Refused):
        # Some stores refuse what is not there, so as not to say that it is not there.
        if name == NEEDED:
            raise
        with disk(folder):
            path.unlink(missing_ok=True)
            write_whole(record, json.dumps({"absent": True}).encode())
        return
    except Unreachable:
        if known or absent:
            return
        raise
    if content is None:
        return
    with disk(folder):
        write_whole(path, content)
        write_whole(record, json.dumps({"tag": tag, "sha256": hashlib.sha256(content).hexdigest()}).encode())


def _recall(path: Path, record: Path) -> tuple[str | None, bool]:
    """The tag of the sound file that is there, and whether it is known that the server has none."""
    try:
        known = json.loads(record.read_text("utf-8"))
        if known.get("absent"):
            return None, True
        sound = hashlib.sha256(path.read_bytes()).hexdigest() == known["sha256"]
        return known["tag"] if sound else None, False
    except (OSError, ValueError, KeyError, AttributeError):
        return None, False
