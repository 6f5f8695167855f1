"""Which of a model's files hold its weights, in the order in which transformers looks for them."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from headatlas.checkpoints.config import read_json
from headatlas.errors import CheckpointError

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
NUMBERED = re.compile(r"(.+-)(\d{5})(-of-(\d{5})\.safetensors)")


def index_files(index: Path, shown: str) -> list[str]:
    """The shards that an index names; no name leaves the index's folder."""
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise CheckpointError(f"{shown}: expected a 'weight_map' from tensors to files, found none.")
    for name in files.values():
        if not name.endswith(".safetensors") or not _stays(name):
            raise CheckpointError(f"{shown}: expected names of safetensors files in this folder, found {name!r}.")
    return sorted(set(files.values()))


def numbered_files(file: str) -> list[str]:
    """All shards that belong to one, by the numbering in its name; other files stand alone."""
    match = NUMBERED.fullmatch(file)
    return [f"{match[1]}{number:05}{match[3]}" for number in range(1, int(match[4]) + 1)] if match else [file]


def listed_files(files: Collection[str], folder: Path, shown: str) -> list[str]:
    """The safetensors files to read among those of a folder; none where there are none.

    Args:
        files: every file that the folder has where it comes from.
        folder: where its small files, the index among them, lie.
    """
    if WHOLE in files:
        return [WHOLE]
    if INDEX in files:
        return index_files(folder / INDEX, f"{shown}/{INDEX}")
    # The weights of some models lie there a second time, under other names.
    found = sorted(name for name in files if name.endswith(".safetensors") and _stays(name))
    found = [name for name in found if not name.startswith("consolidated")]
    for file in found:
        for name in numbered_files(file):
            if name not in files:
                raise CheckpointError(f"{shown}: expected the file {name!r}, which belongs to {file!r}, found none.")
    return found


def _stays(name: str) -> bool:
    return Path(name).name == name and "\\" not in name and "\0" not in name
