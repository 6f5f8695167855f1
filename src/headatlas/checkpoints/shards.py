"""Which of a model's files hold its weights: numbered files, and indexes that list them.

A model in several files names them `model-00001-of-00003.safetensors`, whatever the format.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from headatlas.checkpoints.config import read_json
from headatlas.errors import CheckpointError

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
    """What a format calls the files of weights.

    Args:
        whole: the file that holds the whole model; its index, if there are several files, has the same name and
            `.index.json` behind it.
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


# Some models have their weights a second time under the name "consolidated". Other .bin files can be anything: the
# state of an optimiser, settings of a training.
SAFETENSORS = WeightNames("model.safetensors", re.compile(r"(?!consolidated).*\.safetensors"), "safetensors")
TORCH_BIN = WeightNames("pytorch_model.bin", re.compile(r"pytorch_model-.*-of-.*\.bin"), ".bin")


def read_index(names: WeightNames, index: Path, shown: str) -> dict[str, str]:
    """Tensor -> file, from an index; no file leaves the index's folder.

    Args:
        shown: the index's place, for messages.
    """
    file_of = read_json(index).get("weight_map")
    if not isinstance(file_of, dict) or not file_of or not all(isinstance(file, str) for file in file_of.values()):
        raise CheckpointError(f"{shown}: expected a 'weight_map' from tensors to files, found none.")
    for file in file_of.values():
        if not file.endswith(names.suffix) or not _stays(file):
            raise CheckpointError(f"{shown}: expected names of {names.kind} files in this folder, found {file!r}.")
    return file_of


def weight_files(names: WeightNames, listed: Collection[str], folder: Path, shown: str) -> list[str]:
    """The files of one format to be read, looked for in the order in which transformers does; [] if there are none.

    Args:
        listed: the names of all files that the model has where it comes from.
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
    """Whether a name is that of a file in its folder."""
    return Path(file).name == file and "\\" not in file and "\0" not in file
