"""The files that hold a model's weights: numbered files, and indexes that list them.

A model in several files names them `model-00001-of-00003.safetensors`, whatever the format.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from headatlas.checkpoints.config import read_json
from headatlas.errors import CheckpointError

MOST_BYTES, MOST_VALUES = 32 << 20, 400_000
"""Largest index; one of 140,000 tensors has 16 MB."""

NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)", re.ASCII)


@dataclass(frozen=True)
class Numbering:
    """The place of a file among the files of one model, counted from 1, as its name states it."""

    stem: str
    number: int
    count: int
    suffix: str

    def file(self, number: int) -> str:
        return f"{self.stem}-{number:05}-of-{self.count:05}{self.suffix}"

    @property
    def files(self) -> list[str]:
        return [self.file(number) for number in range(1, self.count + 1)]


def numbering(file: str) -> Numbering | None:
    """The numbering in a file's name, or None."""
    match = NUMBERED.fullmatch(file)
    return Numbering(match["stem"], int(match["number"]), int(match["count"]), match["suffix"]) if match else None


def numbered_files(file: str) -> list[str]:
    """All files that belong to one according to its name; the file alone if it is not numbered."""
    found = numbering(file)
    return found.files if found else [file]


def one_per_model(files: Iterable[str]) -> list[str]:
    """The first of the files of each model."""
    models: dict[str, str] = {}
    for file in sorted(files):
        found = numbering(file)
        models.setdefault(f"{found.stem}-of-{found.count}" if found else file, file)
    return list(models.values())


@dataclass(frozen=True)
class WeightNames:
    """The names of the files of weights in one format.

    Args:
        whole: the file that holds the whole model. If there are several files, the name of their index is the same,
            followed by `.index.json`.
        shards: names of the several files, if there is no index.
        kind: for messages.
    """

    whole: str
    shards: re.Pattern[str]
    kind: str

    @property
    def index(self) -> str:
        return f"{self.whole}.index.json"

    @property
    def suffix(self) -> str:
        return Path(self.whole).suffix


# Some models store their weights again under the name "consolidated". Other .bin files can be anything, such as the
# state of an optimiser.
SAFETENSORS = WeightNames("model.safetensors", re.compile(r"(?!consolidated).*\.safetensors"), "safetensors")
TORCH_BIN = WeightNames("pytorch_model.bin", re.compile(r"pytorch_model-.*-of-.*\.bin"), ".bin")


def read_index(names: WeightNames, index: Path, shown: str) -> dict[str, str]:
    """Tensor -> file, from an index; names outside the index's folder are refused.

    Args:
        shown: the index's place, for messages.
    """
    file_of = read_json(index, MOST_BYTES, MOST_VALUES).get("weight_map")
    if not isinstance(file_of, dict) or not file_of or not all(isinstance(file, str) for file in file_of.values()):
        raise CheckpointError(f"{shown}: expected a 'weight_map' from tensors to files, found none.")
    for file in file_of.values():
        if not file.endswith(names.suffix) or not _stays(file):
            raise CheckpointError(f"{shown}: expected names of {names.kind} files in this folder, found {file!r}.")
    return file_of


def weight_files(names: WeightNames, listed: Collection[str], folder: Path, shown: str) -> list[str]:
    """The files of one format, chosen in the same order as in transformers; [] if there are none.

    Args:
        listed: the names of all files of the model at its source.
        folder: the local folder of its index.
        shown: the model's place, for messages.

    Raises:
        CheckpointError: the index is unusable, or one of several numbered files is missing.
    """
    if names.whole in listed:
        return [names.whole]
    if names.index in listed:
        return sorted(set(read_index(names, folder / names.index, f"{shown}/{names.index}").values()))
    files = sorted(file for file in listed if names.shards.fullmatch(file) and _stays(file))
    for file in files:
        for other in numbered_files(file):
            if other not in listed:
                raise CheckpointError(f"{shown}: expected the file {other!r}, which belongs to {file!r}, found none.")
    return files


def _stays(file: str) -> bool:
    """Whether a name is that of a file directly in its folder."""
    return Path(file).name == file and "\\" not in file and "\0" not in file
