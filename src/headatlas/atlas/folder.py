"""Save an atlas into a folder, and load it from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.atlas.checked_table import read_table
from headatlas.atlas.consistency import contradictions_of_hits, contradictions_of_scores
from headatlas.atlas.evidence import Facts
from headatlas.atlas.files import (
    MANIFEST,
    load_manifest,
    replace_table,
    settle_tables,
    write_manifest,
    write_table,
)
from headatlas.atlas.manifest import HITS, PAIRS, SCORES
from headatlas.atlas.table import grid_from_columns
from headatlas.atlas.value import Atlas
from headatlas.atomic import flush_folder, make_folder, refuse_link, sweep
from headatlas.errors import AtlasError

if TYPE_CHECKING:
    import pandas as pd

LOCK = ".evidence.lock"


def save_atlas(atlas: Atlas, folder: str | Path) -> Path:
    """Write an atlas into a folder, the manifest last, each file whole or not at all.

    Raises:
        AtlasError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        make_folder(folder)
        of_pairs = {"hits": atlas.pair_hits, "pairs": atlas.pairs}
        tables = {"scores": atlas.table} | {name: table for name, table in of_pairs.items() if table is not None}
        for name in atlas.manifest.evidence.names:
            table = atlas.evidence(name)
            assert table is not None
            tables[name] = table
        sweep(folder)
        (folder / MANIFEST).unlink(missing_ok=True)
        flush_folder(folder)
        settle_tables(folder, None)
        manifest = replace(atlas.manifest, files={})
        for name, table in tables.items():
            manifest = write_table(folder, name, table, manifest)
        write_manifest(folder, manifest)
    except OSError as error:
        raise AtlasError(f"{folder}: the atlas cannot be written ({error.strerror or error}).") from error
    return folder


def load_atlas(folder: str | Path) -> Atlas:
    """Read an atlas folder and check that its files are those that the manifest describes.

    Raises:
        AtlasError: no manifest, another schema, a file that is missing or was changed, or tables that hold what no
            atlas does or contradict each other; the first fault is named.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    table = read_table(folder, "scores", manifest)
    for what in contradictions_of_scores(table, manifest):
        raise AtlasError(f"{folder / SCORES}: {what}. Run the map again.")
    pair_hits, pairs = (
        read_table(folder, name.removesuffix(".parquet"), manifest) if name in manifest.files else None
        for name in (HITS, PAIRS)
    )
    grid = grid_from_columns(table)
    atlas = Atlas(grid, manifest, pair_hits, folder, pairs)
    _check_scores(atlas)
    for what in contradictions_of_hits(grid, pair_hits, pairs):
        raise AtlasError(f"{folder}/{what}. Run the map again.")
    return atlas


def _check_scores(atlas: Atlas) -> None:
    """Refuse scores of other sizes or relations than those in the manifest."""
    model, path = atlas.manifest.model, f"{atlas.folder}/{SCORES}"
    sizes, found = (model.n_layers, model.n_heads), (atlas.n_layers, atlas.n_heads)
    if sizes != found:
        raise AtlasError(
            f"{path}: expected {sizes[0]:,} layers x {sizes[1]:,} heads as in {MANIFEST}, found {found[0]:,} x "
            f"{found[1]:,}. Run the map again."
        )
    measurable = {item.relation for item in atlas.manifest.relations.items if item.measurable}
    if different := sorted(measurable ^ set(atlas.relations)):
        raise AtlasError(
            f"{path}: expected scores of the measurable relations in {MANIFEST}, found a difference at "
            f"{different[0]!r}. Run the map again."
        )


def save_evidence(atlas: Atlas, tables: Mapping[str, tuple[pd.DataFrame, Facts]]) -> Atlas:
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
        refuse_link(folder / LOCK)
        with FileLock(folder / LOCK):
            sweep(folder)
            manifest = load_manifest(folder)
            if manifest.identity != atlas.manifest.identity:
                raise AtlasError(f"{folder}: holds another atlas by now. Load it again.")
            for name, (table, facts) in tables.items():
                manifest = replace_table(folder, name, table, manifest.with_evidence({name: facts}))
    except OSError as error:
        raise AtlasError(f"{folder}: {name} cannot be written ({error.strerror or error}).") from error
    return replace(added, manifest=manifest)
