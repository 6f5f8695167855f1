"""A folder in Hugging Face layout with safetensors: one file, or shards with or without an index."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.checkpoints import config_file
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = ("F32", "F16", "BF16")


class SafetensorsFolder:
    """Weights of a folder; see `Checkpoint`.

    Args:
        folder: holds config.json, the tokenizer and the safetensors files.
        source: what the user named; default: the folder.

    Raises:
        CheckpointError: something is missing, cut off, or of a kind that cannot be read.
    """

    def __init__(self, folder: Path, source: str | None = None) -> None:
        from safetensors import SafetensorError, safe_open

        self.folder = folder
        self.source = source or str(folder)
        self.name = source or folder.resolve().name
        self.model_type = config_file.read_model_type(folder)
        self._open = ExitStack()
        self._file_of: dict[str, str] = {}
        self._files = {}
        for file in self._file_names():
            try:
                handle = self._open.enter_context(safe_open(folder / file, framework="pt"))
            except FileNotFoundError as error:
                raise CheckpointError(
                    f"{folder}: expected the file {file!r}, which {INDEX} names, found none."
                ) from error
            except (SafetensorError, OSError, ValueError) as error:
                raise CheckpointError(
                    f"{folder / file}: expected a safetensors file, found a damaged one ({error}). Fetch it again."
                ) from error
            self._files[file] = handle
            for name in handle.keys():  # noqa: SIM118 (the handle is no dict)
                if name in self._file_of:
                    raise CheckpointError(
                        f"{folder}: tensor {name!r} is in {self._file_of[name]!r} and again in {file!r}. "
                        f"Expected it once; are these the shards of one model?"
                    )
                self._file_of[name] = file

    def _file_names(self) -> list[str]:
        # transformers looks in this order too.
        if (self.folder / WHOLE).exists():
            return [WHOLE]
        index = self.folder / INDEX
        if index.exists():
            files = config_file.read_json(index).get("weight_map")
            if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
                raise CheckpointError(f"{index}: expected a 'weight_map' from tensors to files, found none.")
            for name in files.values():
                if Path(name).name != name or not name.endswith(".safetensors"):
                    raise CheckpointError(
                        f"{index}: expected names of safetensors files in this folder, found {name!r}."
                    )
            return sorted(set(files.values()))
        # The weights of some models lie there a second time, under other names.
        files = sorted(
            path.name for path in self.folder.glob("*.safetensors") if not path.name.startswith("consolidated")
        )
        if files:
            self._check_shards(files)
            return files
        other = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in self.folder.glob(pattern))
        found = f"only {other[0]!r}, which is not read. Convert the model to safetensors" if other else "none"
        raise CheckpointError(f"{self.folder}: expected safetensors files, found {found}.")

    def _check_shards(self, files: list[str]) -> None:
        """Without an index, the files' own numbering says how many there must be."""
        for file in files:
            if match := re.fullmatch(r"(.+-)(\d{5})(-of-(\d{5})\.safetensors)", file):
                for number in range(1, int(match[4]) + 1):
                    name = f"{match[1]}{number:05}{match[3]}"
                    if name not in files:
                        raise CheckpointError(
                            f"{self.folder}: expected the file {name!r}, which belongs to {file!r}, found none."
                        )

    @property
    def note(self) -> None:
        """Nothing to say: weights in these types are read as they are."""

    @property
    def config(self) -> PretrainedConfig:
        return config_file.load_config(self.folder)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        return config_file.load_tokenizer(self.folder)

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._slice(name).get_shape())

    def file_of(self, name: str) -> str:
        return self._file_of.get(name, str(self.folder))

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        view = self._slice(name)
        if view.get_dtype() not in DTYPES:
            raise CheckpointError(
                f"{self.file_of(name)}: tensor {name!r} has the type {view.get_dtype()}; expected one of "
                f"{', '.join(DTYPES)}. {config_file.QUANTISED}."
            )
        return view[slice(None) if rows is None else rows].float()

    def _slice(self, name: str):
        if name not in self._file_of:
            raise CheckpointError(f"{self.folder}: expected a tensor {name!r}, found none. Is the checkpoint complete?")
        return self._files[self._file_of[name]].get_slice(name)
