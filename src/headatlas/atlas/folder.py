"""Save an atlas into a folder, and load it from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas.evidence import EVIDENCE
from headatlas.atlas.files import (
    HITS,
    MANIFEST,
    SCHEMA_VERSION,
    SCORES,
    checked_file,
    load_manifest,
    write_manifest,
    write_table,
)
from headatlas.atlas.table import dataset_from_table
from headatlas.atlas.value import Atlas
from headatlas.errors import AtlasError

if TYPE_CHECKING:
    import pandas as pd


def save_atlas(atlas: Atlas, folder: str | Path) -> Path:
    """Write an atlas into a folder, the manifest last, each file whole or not at all.

    Raises:
        AtlasError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"scores": atlas.table} | ({} if atlas.pair_hits is None else {"hits": atlas.pair_hits})
        for name in atlas.manifest.get("evidence", {}):
            table = atlas.evidence(name)
            assert table is not None
            tables[name] = table
        (folder / MANIFEST).unlink(missing_ok=True)
        manifest = atlas.manifest | {"schema": SCHEMA_VERSION, "files": {}}
        for name, table in tables.items():
            write_table(folder, name, table, manifest)
        write_manifest(folder, manifest)
    except OSError as error:
        raise AtlasError(f"{folder}: the atlas cannot be written ({error.strerror or error}).") from error
    return folder


def load_atlas(folder: str | Path) -> Atlas:
    """Read an atlas folder and check that its files are those that the manifest describes.

    Raises:
        AtlasError: no manifest, another schema, or a file that is missing or was changed.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    import pandas as pd

    known = {SCORES, HITS, *(f"{name}.parquet" for name in EVIDENCE)}
    if unknown := sorted(set(manifest["files"]) - known):
        raise AtlasError(f"{folder / MANIFEST}: expected files of an atlas, found {unknown[0]!r}.")
    table = pd.read_parquet(checked_file(folder, SCORES, manifest))
    pair_hits = pd.read_parquet(checked_file(folder, HITS, manifest)) if HITS in manifest["files"] else None
    return Atlas(dataset_from_table(table), manifest, pair_hits, folder)


def save_evidence(atlas: Atlas, tables: Mapping[str, tuple[pd.DataFrame, dict[str, Any]]]) -> Atlas:
    """The atlas with these tables, which are safe in its folder, if it has one, when this returns.

    Args:
        tables: as for `Atlas.with_evidence`.

    Raises:
        AtlasError: the folder cannot be written, or holds another atlas by now.
    """
    from filelock import FileLock

    added = atlas.with_evidence(tables)
    folder = atlas.folder
    if folder is None:
        return added
    name = ""
    try:
        with FileLock(folder / ".evidence.lock"):
            manifest = load_manifest(folder)
            if manifest.get("identity") != atlas.manifest.get("identity"):
                raise AtlasError(f"{folder}: holds another atlas by now. Load it again.")
            for name, (table, facts) in tables.items():
                manifest["evidence"] = manifest.get("evidence", {}) | {name: facts}
                write_table(folder, name, table, manifest)
                write_manifest(folder, manifest)
    except OSError as error:
        raise AtlasError(f"{folder}: {name} cannot be written ({error.strerror or error}).") from error
    return replace(added, manifest=manifest)
