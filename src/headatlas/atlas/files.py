"""The files of an atlas folder: the manifest, and tables whose SHA-256 it holds.

The folder holds `atlas.json` (the manifest, written last: without it the folder is no atlas), `scores.parquet` (a row
per relation, layer and head), `hits.parquet` (a row per hit) and `pairs.parquet` (a row per pair) if pairs were
measured, and a table for each kind of evidence.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.atlas.manifest import Manifest
from headatlas.atomic import write_atomically
from headatlas.errors import AtlasError
from headatlas.regular_files import read_regular

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "atlas.json"
MOST_BYTES = 2**28
"""Largest `atlas.json` that is read."""


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


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_atomically(folder / MANIFEST, lambda file: file.write_text(manifest.to_json(), "utf-8"))


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
