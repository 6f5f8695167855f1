"""A folder in Hugging Face layout: config, tokenizer, and weights in safetensors or else torch's `.bin` files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.checkpoints import config as config_file
from headatlas.checkpoints.quantised import Decoding
from headatlas.checkpoints.safetensors.local import SafetensorsFile
from headatlas.checkpoints.shards import SAFETENSORS, TORCH_BIN, WeightNames, read_index, weight_files
from headatlas.checkpoints.tensor_store import BytesProgress, TensorStore, open_files
from headatlas.checkpoints.torch_bin.files import TorchFile
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

FORMATS = ((SAFETENSORS, SafetensorsFile), (TORCH_BIN, TorchFile))
"""Names and opener of the files of each format, best first."""


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
        _refuse_devices(folder)
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
        # Weights are decoded when they are read, but transformers would quantise the modules that are filled with them.
        for part in (config, config.get_text_config()):
            if hasattr(part, "quantization_config"):  # a text_config may be no config at all
                part.__dict__.pop("quantization_config", None)
        return config

    @property
    def is_local(self) -> bool:
        return self._store.is_local

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


def _refuse_devices(folder: Path) -> None:
    """Refuse a folder with a device, a pipe or a socket: transformers opens what is there by its names."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_file() and not entry.is_dir() and Path(entry).exists():
                    raise CheckpointError(
                        f"{entry.path}: expected a file, found a device, a pipe or a socket. Remove it from the "
                        f"model's folder."
                    )
    except OSError as error:
        raise CheckpointError(f"{folder}: expected a folder that can be listed ({error.strerror}).") from error


def find_store(folder: Path) -> TensorStore:
    """The weights of a folder, in the best of the formats that it has."""
    try:
        listed = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise CheckpointError(f"{folder}: expected a folder that can be listed ({error.strerror}).") from error
    for names, open_file in FORMATS:
        if files := weight_files(names, listed, folder, str(folder)):
            if missing := [file for file in files if file not in listed]:
                raise CheckpointError(
                    f"{folder}: expected the file {missing[0]!r}, which {names.index} names, found none."
                )
            store = open_files(folder, files, open_file)
            if names.whole not in listed and names.index in listed:
                _check_index(names, folder / names.index, store)
            return store
    other = sorted(name for name in listed if name.endswith((".bin", ".pt", ".pth")))
    found = f"only {other[0]!r}, which is not read. Convert the model to safetensors" if other else "none"
    raise CheckpointError(f"{folder}: expected safetensors files, found {found}.")


def _check_index(names: WeightNames, index: Path, store: TensorStore) -> None:
    """Refuse an index that does not agree with the files."""
    for name, file in read_index(names, index, str(index)).items():
        if name not in store or store.file_of(name) != file:
            found = f"in {store.file_of(name)!r}" if name in store else "nowhere"
            raise CheckpointError(
                f"{index}: expected the tensor {name!r} in {file!r}, found it {found}. Fetch these files again."
            )
