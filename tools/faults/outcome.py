"""What readers find in a folder, and where two results differ."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from headatlas.atlas import MANIFEST, Atlas, load_atlas
from headatlas.errors import AtlasError

VOLATILE = {"created", "seconds", "processor_seconds", "layers_from_earlier_run", "files", "sha256"}
"""Keys and columns of results that differ between two equal runs; the tables themselves are compared."""


def unreadable(folder: Path, tables: bool = True) -> list[str]:
    """What is not whole in a folder: files that cannot be read, and atlases that do not fit together.

    Args:
        tables: also load each atlas with its evidence.
    """
    found = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix in (".partial", ".lock") or path.name == "lock" or not path.is_file():
            continue
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # removed since
        try:
            READERS.get(path.suffix, len)(content)
        except Exception as error:
            found.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    if tables:
        for manifest in sorted(folder.rglob(MANIFEST)):
            try:
                read_all(manifest.parent)
            except AtlasError as error:
                found.append(str(error))
    return found


def read_all(folder: Path) -> Atlas:
    atlas = load_atlas(folder)
    for name in atlas.manifest.evidence.names:
        atlas.evidence(name)
    return atlas


def _arrays(content: bytes) -> None:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        dict(arrays)


def _ends(end: bytes) -> Callable[[bytes], None]:
    def check(content: bytes) -> None:
        if not content.rstrip().endswith(end):
            raise ValueError(f"does not end with {end!r}")

    return check


READERS: dict[str, Callable[[bytes], object]] = {
    ".json": json.loads,
    ".parquet": lambda content: pq.read_table(io.BytesIO(content)),
    ".npz": _arrays,
    ".png": lambda content: Image.open(io.BytesIO(content)).load(),
    ".svg": ElementTree.fromstring,
    ".pdf": _ends(b"%%EOF"),
    ".html": _ends(b"</html>"),
    ".csv": _ends(b""),
    ".md": _ends(b""),
}


def result(folder: Path) -> dict[str, Any]:
    """What a command has made, without what differs between two equal runs; by the names of the files."""
    made: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name.endswith((".partial", "lock")):
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            made[name] = pq.read_table(io.BytesIO(content)).to_pydict()
        elif path.suffix == ".json":
            made[name] = _steady(json.loads(content))
        elif path.suffix == ".csv":
            rows = [line.split(",") for line in content.decode().splitlines()]
            keep = [at for at, column in enumerate(rows[0]) if column not in VOLATILE]
            made[name] = [[row[at] for at in keep] for row in rows]
        else:
            made[name] = None
    return made


def _steady(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _steady(value) for key, value in content.items() if key not in VOLATILE}
    return [_steady(each) for each in content] if isinstance(content, list) else content


def differences(found: Any, whole: Any, where: str = "") -> list[str]:
    """Where two results differ, in words."""
    if isinstance(found, dict) and isinstance(whole, dict):
        names = sorted({*found, *whole})
        missing = [f"{where}{name} is {'there' if name in found else 'missing'}" for name in names
                   if (name in found) != (name in whole)]  # fmt: skip
        both = [name for name in names if name in found and name in whole]
        return missing + [each for name in both for each in differences(found[name], whole[name], f"{where}{name}: ")]
    # By their texts: numbers that are not known differ from themselves.
    return [] if repr(found) == repr(whole) else [f"{where}{found!r:.80} instead of {whole!r:.80}"]
