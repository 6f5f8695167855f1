"""Tensors of local safetensors files, as they are stored; the files are mapped, and only rows asked for are read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.checkpoints.tensor_store import BytesProgress
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch

BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Of one value of a stored type; of every other type: 8."""


class SafetensorsFiles:
    """Tensors of one or several files of a folder; see `TensorStore`.

    Args:
        folder: holds the files.
        files: their names.

    Raises:
        CheckpointError: a file is missing, cut off or damaged, or a tensor is in two of them.
    """

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        from safetensors import SafetensorError, safe_open

        self.folder = folder
        self._open = ExitStack()
        self._file_of: dict[str, str] = {}
        self._files = {}
        for file in files:
            try:
                handle = self._open.enter_context(safe_open(folder / file, framework="pt"))
            except FileNotFoundError as error:
                raise missing_file(folder, file) from error
            except (SafetensorError, OSError, ValueError) as error:
                raise CheckpointError(
                    f"{folder / file}: expected a safetensors file, found a damaged one ({error}). Fetch it again."
                ) from error
            if twice := _named_twice(folder / file):
                raise CheckpointError(
                    f"{folder / file}: expected each tensor once, found {twice!r} twice in the header. Fetch it again."
                )
            self._files[file] = handle
            for name in handle.keys():  # noqa: SIM118 (the handle is no dict)
                if name in self._file_of:
                    raise found_twice(folder, name, self._file_of[name], file)
                self._file_of[name] = file
        self.size = sum(self.n_bytes(name) for name in self._file_of)

    def names(self) -> Iterable[str]:
        return self._file_of.keys()

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._slice(name).get_shape())

    def dtype(self, name: str) -> str:
        return self._slice(name).get_dtype()

    def n_bytes(self, name: str) -> int:
        view = self._slice(name)
        return math.prod(view.get_shape()) * BITS.get(view.get_dtype(), 8) // 8

    def file_of(self, name: str) -> str:
        return self._file_of.get(name, str(self.folder))

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        from safetensors import SafetensorError

        view = self._slice(name)
        try:
            if rows is None or not view.get_shape():
                return self._files[self._file_of[name]].get_tensor(name)
            return view[rows]
        except (SafetensorError, RuntimeError, IndexError) as error:  # such as types that this torch lacks
            raise CheckpointError(
                f"{self.file_of(name)}: tensor {name!r} of the type {view.get_dtype()} cannot be read ({error})."
            ) from error

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        """Nothing to do: the files are here."""

    def _slice(self, name: str):
        if name not in self._file_of:
            raise no_tensor(self.folder, name)
        return self._files[self._file_of[name]].get_slice(name)


def _named_twice(path: Path) -> str | None:
    """A name that a header, which is sound otherwise, has twice: readers do not agree on which one counts."""
    twice = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names = set()
        twice.extend(name for name, _ in pairs if name in names or names.add(name))

    with path.open("rb") as file:
        json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=note)
    return twice[0] if twice else None


def missing_file(folder: Path, file: str) -> CheckpointError:
    return CheckpointError(f"{folder}: expected the file {file!r}, found none. Is the checkpoint complete?")


def found_twice(folder: Path, name: str, first: str, second: str) -> CheckpointError:
    return CheckpointError(
        f"{folder}: tensor {name!r} is in {first!r} and again in {second!r}. "
        f"Expected it once; are these the shards of one model?"
    )


def no_tensor(folder: Path, name: str) -> CheckpointError:
    return CheckpointError(f"{folder}: expected a tensor {name!r}, found none. Is the checkpoint complete?")
