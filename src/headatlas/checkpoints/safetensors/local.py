"""Tensors of a local safetensors file, undecoded; the file is mapped, and only requested rows are read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.bounded_json import check_size
from headatlas.checkpoints.safetensors.header import LENGTH_BYTES, MAX_HEADER, MAX_VALUES
from headatlas.checkpoints.tensor_store import BITS, missing_file
from headatlas.errors import CheckpointError
from headatlas.regular_files import open_regular

if TYPE_CHECKING:
    import torch


class SafetensorsFile:
    """See `TensorFile`.

    Raises:
        CheckpointError: the file is missing, cut off or damaged, or names a tensor twice.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        try:
            header = _read_header(path)
            self._content = safe_open(path, framework="pt")
        except FileNotFoundError as error:
            raise missing_file(path) from error
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{path}: expected a safetensors file, found a damaged one ({error}). Fetch it again."
            ) from error
        if repeated := _repeated_name(header):
            raise CheckpointError(
                f"{path}: expected each tensor once, found {repeated!r} twice in the header. Fetch it again."
            )
        self._names = dict.fromkeys(self._content.keys())

    def names(self) -> Iterable[str]:
        return self._names.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._content.get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        return self._content.get_slice(name).get_dtype()

    def n_bytes(self, name: str) -> int:
        view = self._content.get_slice(name)
        return math.prod(view.get_shape()) * BITS.get(view.get_dtype(), 8) // 8

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        from safetensors import SafetensorError

        view = self._content.get_slice(name)
        try:
            if rows is None or not view.get_shape():
                return self._content.get_tensor(name)
            return view[rows]
        except (SafetensorError, RuntimeError, IndexError) as error:  # such as types that this torch lacks
            raise CheckpointError(
                f"{self.path.name}: tensor {name!r} of the type {view.get_dtype()} cannot be read ({error})."
            ) from error


def _read_header(path: Path) -> bytes:
    """The header, before the library makes something of it.

    Raises:
        ValueError: it is larger than a header can be.
        OSError: there is no such file, or it cannot be read.
    """
    with open_regular(path) as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if MAX_HEADER < length <= os.fstat(file.fileno()).st_size:
            raise ValueError(f"it announces a header of {length:,} bytes, more than the {MAX_HEADER:,} allowed")
        header = file.read(min(length, MAX_HEADER))
    try:
        check_size(header, MAX_VALUES)
    except ValueError as error:
        raise ValueError(f"its header may have {error}") from error
    return header


def _repeated_name(header: bytes) -> str | None:
    """A name that an otherwise sound header has twice: readers do not agree on which one counts."""
    repeated = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names = set()
        repeated.extend(name for name, _ in pairs if name in names or names.add(name))

    json.loads(header, object_pairs_hook=note)
    return repeated[0] if repeated else None
