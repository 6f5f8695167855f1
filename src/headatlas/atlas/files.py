"""The files of an atlas folder: the manifest, and tables whose SHA-256 it holds.

The folder holds `atlas.json` (the manifest, written last: without it the folder is no atlas), `scores.parquet` (a row
per relation, layer and head), `hits.parquet` (a row per hit) if pairs were measured, and a table for each kind of
evidence.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atomic import write_atomically
from headatlas.errors import AtlasError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 4
MANIFEST, SCORES, HITS = "atlas.json", "scores.parquet", "hits.parquet"


def load_manifest(folder: Path) -> dict[str, Any]:
    """Read and check `atlas.json` alone."""
    path = folder / MANIFEST
    if not path.is_file():
        there = "no such folder" if not folder.exists() else f"no {MANIFEST}"
        raise AtlasError(f"{folder}: expected an atlas folder (made by `headatlas map`), found {there}.")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AtlasError(
            f"{path}: expected a manifest with a schema version, found something else ({error})."
        ) from error
    if schema != SCHEMA_VERSION:
        raise AtlasError(
            f"{path}: expected schema {SCHEMA_VERSION}, found {schema!r}. Use the headatlas version that wrote it."
        )
    needed = {"measure", "label", "model", "settings", "relations", "files"}
    if missing := sorted(needed - set(manifest)):
        raise AtlasError(f"{path}: expected the key {missing[0]!r}, found none. Run the map again.")
    return manifest


def write_table(folder: Path, name: str, table: pd.DataFrame, manifest: dict[str, Any]) -> None:
    """Write a table and note its hash in the manifest."""
    path = folder / f"{name}.parquet"
    write_atomically(path, lambda file: table.to_parquet(file, index=False))
    manifest["files"] = manifest["files"] | {path.name: {"sha256": sha256(path)}}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / MANIFEST, lambda file: file.write_text(text, "utf-8"))


def checked_file(folder: Path, name: str, manifest: dict[str, Any], remedy: str = "Run the map again.") -> Path:
    """The path of a file that the manifest names, if it is the one that was written with it."""
    entry, path = manifest["files"].get(name), folder / name
    if entry is None:
        raise AtlasError(f"{folder / MANIFEST}: expected {name} among its files, found none. {remedy}")
    if not path.is_file():
        raise AtlasError(f"{folder}: the manifest names {name!r}, which is not there. {remedy}")
    if sha256(path) != entry["sha256"]:
        raise AtlasError(f"{path}: the file is not the one that was written with atlas.json. {remedy}")
    return path


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
