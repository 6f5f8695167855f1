"""The files of an atlas folder: the manifest, and tables whose SHA-256 it holds.

The folder holds `atlas.json` (the manifest, written last: without it the folder is no atlas), `scores.parquet` (a row
per relation, layer and head), `hits.parquet` (a row per hit) and `pairs.parquet` (a row per pair) if pairs were
measured, and a table for each kind of evidence.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.atlas.manifest import Manifest
from headatlas.atomic import flush_folder, write_atomically
from headatlas.errors import AtlasError
from headatlas.regular_files import read_regular

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "atlas.json"
MOST_BYTES = 2**28
"""Largest `atlas.json` that is read."""

MOST_OF_A_TABLE = 2**30
"""Bytes of the largest file of a table that is read."""


def load_manifest(folder: Path) -> Manifest:
    """Read and check `atlas.json` alone.

    Raises:
        AtlasError: it is not there, cannot be read, or is not the manifest of an atlas.
    """
    path = folder / MANIFEST
    try:
        content = read_regular(path, MOST_BYTES, folder)
        if len(content) > MOST_BYTES:
            raise AtlasError(f"{path}: expected at most {MOST_BYTES:,} bytes, found more. Run the map again.")
        text = content.decode("utf-8")
    except FileNotFoundError as error:
        there = "no such folder" if not folder.exists() else f"no {MANIFEST}"
        raise AtlasError(f"{folder}: expected an atlas folder (made by `headatlas map`), found {there}.") from error
    except OSError as error:
        if not folder.is_dir():
            raise AtlasError(f"{folder}: expected an atlas folder (made by `headatlas map`), found a file.") from error
        raise AtlasError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise AtlasError(f"{path}: expected a manifest in UTF-8, found other bytes. Run the map again.") from error
    return Manifest.from_json(text, path)


def write_table(folder: Path, name: str, table: pd.DataFrame, manifest: Manifest) -> Manifest:
    """Write a table; the manifest with its hash."""
    path = folder / f"{name}.parquet"
    write_atomically(path, lambda file: table.to_parquet(file, index=False))
    return manifest.with_file(path.name, sha256(path))


def replace_table(folder: Path, name: str, table: pd.DataFrame, manifest: Manifest) -> Manifest:
    """Write a table and the manifest, so that at any moment readers find both as they were, or both new.

    Two files cannot be replaced at once: the table waits under another name until the manifest holds its hash.

    Returns:
        The manifest with the table's hash.
    """
    path, waiting = folder / f"{name}.parquet", waiting_path(folder, name)
    settle_tables(folder, manifest)
    write_atomically(waiting, lambda file: table.to_parquet(file, index=False))
    manifest = manifest.with_file(path.name, sha256(waiting))
    write_manifest(folder, manifest)
    os.replace(waiting, path)
    flush_folder(folder)
    return manifest


def waiting_path(folder: Path, name: str) -> Path:
    """Where a table is until the manifest names it, and, if its writer was killed then, until the next one comes."""
    return folder / f".{name}.parquet.next"


def settle_tables(folder: Path, manifest: Manifest | None) -> None:
    """Put tables that a killed writer left waiting in their places, if the manifest names them; remove the others."""
    for waiting in folder.glob(".*.parquet.next"):
        path = folder / waiting.name.removeprefix(".").removesuffix(".next")
        entry = None if manifest is None else manifest.files.get(path.name)
        try:
            named = entry is not None and _has(waiting, entry.sha256, folder)
        except OSError:
            named = False  # a link that leads out of the folder, for example
        if named:
            os.replace(waiting, path)
        else:
            waiting.unlink(missing_ok=True)


def _has(path: Path, sha256: str, folder: Path) -> bool:
    return hashlib.sha256(read_regular(path, MOST_OF_A_TABLE, folder)).hexdigest() == sha256


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_atomically(folder / MANIFEST, lambda file: file.write_text(manifest.to_json(), "utf-8"))


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
