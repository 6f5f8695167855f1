"""Imported scores: a table of relation, category, layer, head and score becomes an atlas like any other."""

from __future__ import annotations

import csv
import hashlib
from io import BytesIO, StringIO
from itertools import islice
from pathlib import Path
from typing import Any

from headatlas._version import __version__
from headatlas.atlas import MEASURES, Atlas, Manifest, dataset_from_table
from headatlas.atlas.manifest import (
    ImportedFacts,
    ModelFacts,
    RelationFacts,
    RelationsFacts,
    SettingsFacts,
    ToolFacts,
)
from headatlas.errors import AtlasError, SettingsError
from headatlas.measuring.run_folder import RunFolder
from headatlas.regular_files import read_regular
from headatlas.settings import parse_threshold

COLUMNS = ("relation", "category", "layer", "head", "score")

MOST_BYTES, MOST_COLUMNS = 500_000_000, 100
MOST_LETTERS = 100
HEAD_BYTES = 2**20
"""Of a table, in which its first line of numbers has to be."""


def import_scores(
    path: str | Path,
    measure: str,
    name: str | None = None,
    threshold: str | float = "0.15",
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
) -> Atlas:
    """Make an atlas from a CSV file with the columns relation, category, layer, head, score and, if known, suppression.

    Scores are shares from 0 to 1. `k`, pairs and coverage are unknown then, and reported as unknown.

    Args:
        measure: what the scores were measured on: `weights`, `attention-fixed` or `in-context`.
        name: the model's name, for titles; default: the file's name.
        threshold: strict limit above which a head implements a relation, 0 to 1.
        output: folder for the atlas, its figures and its report; without one, nothing is written.
        overwrite: replace another atlas in `output`.

    Raises:
        AtlasError: columns are missing, a value is out of range, or a head's row is missing or doubled.
    """
    import pandas as pd

    path = Path(path)
    if measure not in MEASURES:
        raise SettingsError(f"measure: expected one of {', '.join(MEASURES)}, found {measure!r}.")
    parse_threshold(threshold)
    table: Any
    try:
        content = read_regular(path, MOST_BYTES)
        _check_width(content)
        table = pd.read_csv(
            BytesIO(content),
            encoding="utf-8-sig",
            dtype={"relation": "string", "category": "string"},
            keep_default_na=False,
            na_values=[""],
        )
    except FileNotFoundError as error:
        raise AtlasError(f"{path}: expected a CSV file of scores, found nothing there.") from error
    except (OSError, ValueError, csv.Error) as error:
        raise AtlasError(f"{path}: cannot be read as a CSV table ({str(error).strip()}).") from error
    if missing := [column for column in COLUMNS if column not in table]:
        raise AtlasError(f"{path}: expected the columns {', '.join(COLUMNS)}, found no {missing[0]!r}.")
    if table.empty:
        raise AtlasError(f"{path}: expected a row per relation, layer and head, found none.")
    for column in ("layer", "head"):
        _check(
            path,
            table,
            column,
            pd.to_numeric(table[column], errors="coerce"),
            "a whole number from 0 to 99,999",
            whole=True,
        )
    kinds = ["score"] + (["suppression"] if "suppression" in table and not table["suppression"].isna().all() else [])
    for column in kinds:
        _check(path, table, column, pd.to_numeric(table[column], errors="coerce"), "a share from 0 to 1", whole=False)
    for column in ("relation", "category"):
        bad = table[column].isna() | ~table[column].fillna("").str.strip().map(
            lambda text: 0 < len(text) <= MOST_LETTERS and text.isprintable()
        )
        if bad.any():
            raise AtlasError(
                f"{path}: line {int(bad.idxmax()) + 2}: "
                f"expected up to {MOST_LETTERS} printable characters in {column!r}, found "
                f"{table[column][bad.idxmax()]!r}."
            )
    if int((categories := table.groupby("relation")["category"].nunique()).max()) > 1:
        raise AtlasError(f"{path}: expected one category per relation, found several for {categories.idxmax()!r}.")
    try:
        data = dataset_from_table(table[["relation", "category", "layer", "head", *kinds]])
    except AtlasError as error:
        raise AtlasError(f"{path}: {error}") from error
    atlas = Atlas(data, _manifest(path, hashlib.sha256(content).hexdigest(), data, measure, name, str(threshold)))
    if output is not None:
        with RunFolder(output, atlas.manifest.identity, overwrite) as folder:
            if not folder.finished:
                folder.finish(atlas)
    return atlas


def _check_width(content: bytes) -> None:
    """Refuse a table that is too large, or with so many columns that pandas would not end, with `ValueError`."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"expected at most {MOST_BYTES:,} bytes, found more")
    head = StringIO(content[:HEAD_BYTES].decode("utf-8-sig", "ignore"), newline="")
    rows = list(islice((row for row in csv.reader(head) if len(row) > 1 or "".join(row).strip()), 2))
    widths = [len(row) for row in rows]
    if max(widths, default=0) > MOST_COLUMNS:
        raise ValueError(f"expected at most {MOST_COLUMNS} columns, found {max(widths):,}")
    if len(rows) == 2 and widths[1] > widths[0]:
        raise ValueError(f"expected {widths[0]} columns in each line, found {widths[1]} in the first below their names")
    if len(rows) < 2 and len(content) > HEAD_BYTES:
        raise ValueError(f"expected names of columns and a row in the first {HEAD_BYTES:,} bytes, found none")


def _check(path, table, column, values, expected, whole) -> None:
    bad = values.isna() | (values < 0) | (values > (99_999 if whole else 1))
    if whole:
        bad |= values % 1 != 0
    if bad.any():
        row = bad.idxmax()
        raise AtlasError(
            f"{path}: line {int(row) + 2}: expected {expected} in {column!r}, found {str(table[column][row])!r}."
        )
    table[column] = values.astype("int64" if whole else "float64")


def _manifest(path: Path, sha256: str, data, measure: str, name: str | None, threshold: str) -> Manifest:
    from datetime import UTC, datetime

    items = tuple(
        RelationFacts(str(relation), str(category), measurable=True)
        for relation, category in zip(data["relation"].values, data["category"].values, strict=True)
    )
    name = name or path.stem
    settings = {"threshold": threshold, "name": name}
    return Manifest(
        tool=ToolFacts("headatlas", __version__),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        measure=measure,
        label=f"imported: {measure}",
        identity={"measure": measure, "model": sha256, "relations": None, "settings": settings},
        model=ModelFacts(name, path.name, n_layers=data.sizes["layer"], n_heads=data.sizes["head"]),
        settings=SettingsFacts(threshold),
        relations=RelationsFacts("imported", items),
        imported=ImportedFacts(path.name, sha256),
    )
