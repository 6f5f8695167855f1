"""Tensors as files store them, undecoded, on a disk or a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch

BytesProgress = Callable[[int, int], None]
"""Called with the number of bytes that have arrived, and the number of all."""

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F8_E8M0": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""Stored type, as safetensors writes it -> width of one number in bits."""

TORCH_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
"""Stored type of whole bytes -> torch's name for it."""


def torch_dtype(dtype: str) -> Any:
    """Torch's dtype of a stored type, or None if this torch has none."""
    import torch

    return getattr(torch, TORCH_NAMES.get(dtype, ""), None)


class TensorFile(Protocol):
    """Named tensors of one file, undecoded."""

    def names(self) -> Iterable[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> str: ...

    def n_bytes(self, name: str) -> int: ...

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor: ...


class TensorStore(Protocol):
    """Named tensors of one or several files, undecoded."""

    size: int
    """Bytes of all tensors."""

    is_local: bool
    """Whether all tensors are on this machine."""

    def names(self) -> Iterable[str]: ...

    def __contains__(self, name: str) -> bool: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> str:
        """The stored type as safetensors writes it: `F32`, `BF16`, `F8_E4M3`, `U8`."""
        ...

    def n_bytes(self, name: str) -> int: ...

    def file_of(self, name: str) -> str:
        """The file that holds a tensor, for messages."""
        ...

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        """The tensor, or some of its rows (first axis), in its stored type on the CPU; nothing else is read."""
        ...

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        """Transfer parts of tensors before they are read, several at a time; does nothing if they are local."""
        ...


class TensorFiles:
    """Tensors of several files; each tensor is in one of them. See `TensorStore`.

    Args:
        where: the folder or address of the files, for messages.
        files: file name -> the opened file.

    Raises:
        CheckpointError: a tensor is in two of the files.
    """

    is_local = True

    def __init__(self, where: str, files: Mapping[str, TensorFile]) -> None:
        self.where = where
        self._files = files
        self._file_of: dict[str, str] = {}
        for file, opened in files.items():
            for name in opened.names():
                if name in self._file_of:
                    raise CheckpointError(
                        f"{where}: tensor {name!r} is in {self._file_of[name]!r} and again in {file!r}. "
                        f"Expected it once; are these the shards of one model?"
                    )
                self._file_of[name] = file
        self.size = sum(self.n_bytes(name) for name in self._file_of)

    def names(self) -> Iterable[str]:
        return self._file_of.keys()

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def shape(self, name: str) -> tuple[int, ...]:
        return self._holder(name).shape(name)

    def dtype(self, name: str) -> str:
        return self._holder(name).dtype(name)

    def n_bytes(self, name: str) -> int:
        return self._holder(name).n_bytes(name)

    def file_of(self, name: str) -> str:
        return self._file_of.get(name, self.where)

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        return self._holder(name).read(name, rows)

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        """Do nothing: the files are local."""

    def _holder(self, name: str) -> TensorFile:
        if name not in self._file_of:
            raise CheckpointError(f"{self.where}: expected a tensor {name!r}, found none. Is the checkpoint complete?")
        return self._files[self._file_of[name]]


def open_files(folder: Path, files: Iterable[str], open_file: Callable[[Path], TensorFile]) -> TensorFiles:
    """The tensors of local files of one format.

    Raises:
        CheckpointError: a file is missing or damaged, or a tensor is in two of them.
    """
    return TensorFiles(str(folder), {file: open_file(folder / file) for file in files})


def missing_file(path: Path) -> CheckpointError:
    return CheckpointError(f"{path.parent}: expected the file {path.name!r}, found none. Is the checkpoint complete?")
