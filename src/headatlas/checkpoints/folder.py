"""A folder in Hugging Face layout: config, tokenizer, and weights in safetensors or, failing that, torch's `.bin`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.checkpoints import config as config_file
from headatlas.checkpoints.quantised import Decoding
from headatlas.checkpoints.safetensors.local import SafetensorsFiles
from headatlas.checkpoints.tensor_store import BytesProgress, TensorStore
from headatlas.checkpoints.torch_bin.files import TorchFiles
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

FORMATS = {"model.safetensors": SafetensorsFiles, "pytorch_model.bin": TorchFiles}
"""The file that holds the whole model -> how such files are read, best first."""


class ModelFolder:
    """Weights of a folder; see `Checkpoint`.

    Args:
        folder: holds config.json and the tokenizer.
        source: what the user named; default: the folder.
        store: the stored tensors; default: those of the folder's files.

    Raises:
        CheckpointError: something is missing, cut off, or of a kind that cannot be read.
    """

    def __init__(self, folder: Path, source: str | None = None, store: TensorStore | None = None) -> None:
        self.folder = folder
        self.source = source or str(folder)
        self.name = source or folder.resolve().name
        path = folder / "config.json"
        if not path.exists() and (folder / "adapter_config.json").exists():
            raise CheckpointError(
                f"{folder}: expected a model's folder, found an adapter's. Name the model that it was trained on, and "
                f"this folder as its adapter."
            )
        content = config_file.read_json(path)
        self.model_type = config_file.model_type(path, content)
        self._store = find_store(folder) if store is None else store
        self._decoding = Decoding(path, content, self._store)
        self.size = self._store.size

    @property
    def why_not_run(self) -> str | None:
        return None

    @property
    def note(self) -> str | None:
        return self._decoding.note

    @property
    def config(self) -> PretrainedConfig:
        config = config_file.load_config(self.folder)
        # What is read is no longer quantised, and transformers would want to quantise the modules that are filled.
        for part in (config, config.get_text_config()):
            if hasattr(part, "quantization_config"):  # a text_config may be no config at all
                part.__dict__.pop("quantization_config", None)
        return config

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        return config_file.load_tokenizer(self.folder)

    def names(self) -> Iterable[str]:
        return self._decoding.names()

    def __contains__(self, name: str) -> bool:
        return name in self._decoding

    def shape(self, name: str) -> tuple[int, ...]:
        return self._decoding.shape(name)

    def n_bytes(self, name: str) -> int:
        return sum(self._store.n_bytes(part) for part in self._decoding.stored(name))

    def file_of(self, name: str) -> str:
        return self._store.file_of(self._decoding.stored(name)[0])

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        return self._decoding.read(name, rows)

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        self._store.fetch([part for name, rows in wanted for part in self._decoding.parts(name, rows)], progress)


def find_store(folder: Path) -> TensorStore:
    """The folder's weights, looked for in the order in which transformers does."""
    for whole, store in FORMATS.items():
        if (folder / whole).exists():
            return store(folder, [whole])
        index = folder / f"{whole}.index.json"
        if index.exists():
            return _open_index(index, Path(whole).suffix, store)
        if files := _shards(folder, whole):
            return store(folder, files)
    other = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    found = f"only {other[0]!r}, which is not read. Convert the model to safetensors" if other else "none"
    raise CheckpointError(f"{folder}: expected safetensors files, found {found}.")


def _open_index(index: Path, suffix: str, open_files: type[SafetensorsFiles] | type[TorchFiles]) -> TensorStore:
    file_of = config_file.read_json(index).get("weight_map")
    if not isinstance(file_of, dict) or not file_of or not all(isinstance(name, str) for name in file_of.values()):
        raise CheckpointError(f"{index}: expected a 'weight_map' from tensors to files, found none.")
    for file in file_of.values():
        if Path(file).name != file or "\\" in file or "\0" in file or not file.endswith(suffix):
            kind = "safetensors" if suffix == ".safetensors" else suffix
            raise CheckpointError(f"{index}: expected names of {kind} files in this folder, found {file!r}.")
    files = sorted(set(file_of.values()))
    for file in files:
        if not os.path.exists(index.parent / file):  # unlike Path's, False for names that no file can have
            raise CheckpointError(f"{index.parent}: expected the file {file!r}, which {index.name} names, found none.")
    store = open_files(index.parent, files)
    for name, file in file_of.items():
        if name not in store or store.file_of(name) != file:
            found = f"in {store.file_of(name)!r}" if name in store else "nowhere"
            raise CheckpointError(
                f"{index}: expected the tensor {name!r} in {file!r}, found it {found}. Fetch these files again."
            )
    return store


def _shards(folder: Path, whole: str) -> list[str]:
    """Names of the files where there is neither one for all nor an index."""
    if whole.endswith(".bin"):  # other files of this kind hold anything: an optimiser's state, training settings
        files = [path.name for path in folder.glob("pytorch_model-*-of-*.bin")]
    else:  # the weights of some models lie there a second time, under other names
        files = [path.name for path in folder.glob("*.safetensors") if not path.name.startswith("consolidated")]
    files.sort()
    for file in files:
        if match := re.fullmatch(r"(.+-)(\d{5})(-of-(\d{5})\.\w+)", file, re.ASCII):
            for number in range(1, int(match[4]) + 1):
                name = f"{match[1]}{number:05}{match[3]}"
                if name not in files:
                    raise CheckpointError(
                        f"{folder}: expected the file {name!r}, which belongs to {file!r}, found none."
                    )
    return files
