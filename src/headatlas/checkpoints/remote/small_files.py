"""Config, tokenizer and index of a remote folder: fetched whole, and kept in a folder of the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headatlas.bounded_json import parse_bounded, read_bounded
from headatlas.checkpoints.remote.cache import cache_folder, disk, keep
from headatlas.checkpoints.remote.file import Missing, Refused, RemoteFile, fingerprint
from headatlas.checkpoints.remote.retrying import Unreachable, patiently

REQUIRED = "config.json"

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

LIMIT = 64 * 2**20
"""Largest number of bytes of a small file; the largest vocabularies have 35 MB."""

MOST_BYTES, MOST_VALUES = 2**16, 1_000
"""Of what is noted about one."""

N_AT_ONCE = 3
"""Transfers at the same time, each of which holds its file in memory."""


def fetch_small_files(address: str, files: Mapping[str, RemoteFile]) -> Path:
    """A local folder with those of the files that exist; unchanged ones are not transferred again.

    Args:
        address: of the folder; only a hash of it is stored.
        files: by name; all but `config.json` may be missing.

    Raises:
        CheckpointError: there is no config, access is refused, or the server cannot be reached and the files are not in
            the cache.
    """
    folder = cache_folder() / "folders" / fingerprint(address)
    # The config first: without one, nothing else is requested.
    _fetch(folder, REQUIRED, files[REQUIRED])
    with ThreadPoolExecutor(N_AT_ONCE, thread_name_prefix="headatlas-small") as pool:
        list(pool.map(lambda name: _fetch(folder, name, files[name]), [name for name in files if name != REQUIRED]))
    return folder


def _fetch(folder: Path, name: str, file: RemoteFile) -> None:
    path, record = folder / name, folder / ".records" / f"{name}.json"
    known, absent = _recall(path, record)
    try:
        found = patiently(file, lambda: file.whole(known, LIMIT), 2 if known or absent else None)
    except (Missing, Refused):
        # Some stores refuse access to files that do not exist.
        if name == REQUIRED:
            raise
        with disk(folder):
            path.unlink(missing_ok=True)
            keep(record, json.dumps({"absent": True}).encode())
        return
    except Unreachable:
        if known or absent:
            return
        raise
    if found is None:
        return
    checksum = hashlib.sha256(found.content).hexdigest()
    with disk(folder):
        keep(path, found.content)
        keep(record, json.dumps({"tag": found.tag, "sha256": checksum}).encode())


def _recall(path: Path, record: Path) -> tuple[str | None, bool]:
    """The tag of the undamaged local file, and whether the server is known to have none."""
    try:
        known = parse_bounded(read_bounded(record, MOST_BYTES), MOST_VALUES)
        if known.get("absent"):
            return None, True
        sound = hashlib.sha256(read_bounded(path, LIMIT)).hexdigest() == known["sha256"]
        return known["tag"] if sound and isinstance(known["tag"], str) else None, False
    except (OSError, ValueError, KeyError, AttributeError, RecursionError):
        return None, False
