"""Safetensors files that are not on this machine: their headers are read, and of their tensors what is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from headatlas.checkpoints import config as config_file
from headatlas.checkpoints.remote.cache import N_TRANSFERS, CachedFile, fetch
from headatlas.checkpoints.remote.file import RemoteFile
from headatlas.checkpoints.safetensors.header import (
    LENGTH_BYTES,
    Damaged,
    StoredTensor,
    header_length,
    parse_header,
)
from headatlas.checkpoints.tensor_store import BytesProgress
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch

TORCH_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
"""Types of whole bytes: the format's names and torch's."""


class RemoteFiles:
    """Tensors of remote safetensors files; see `TensorStore`.

    Args:
        source: what the user named, without passwords, for messages.
        files: file name -> the file.

    Raises:
        CheckpointError: a file cannot be reached, or its header lies.
    """

    def __init__(self, source: str, files: dict[str, RemoteFile]) -> None:
        self.source = source
        self._files: dict[str, CachedFile] = {}
        self._places: dict[str, tuple[str, StoredTensor]] = {}
        # Many shards answer faster side by side.
        with ThreadPoolExecutor(N_TRANSFERS, thread_name_prefix="headatlas-header") as pool:
            opened = list(pool.map(_open, files.values()))
        for file, (cached, tensors) in zip(files, opened, strict=True):
            self._files[file] = cached
            for name, tensor in tensors.items():
                if name in self._places:
                    raise CheckpointError(
                        f"{source}: tensor {name!r} is in {self._places[name][0]!r} and again in {file!r}. "
                        f"Expected it once; are these the shards of one model?"
                    )
                self._places[name] = (file, tensor)
        self.size = sum(tensor.stop - tensor.start for _, tensor in self._places.values())

    def names(self) -> Iterable[str]:
        return self._places.keys()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        return self._place(name)[1].shape

    def dtype(self, name: str) -> str:
        return self._place(name)[1].dtype

    def n_bytes(self, name: str) -> int:
        tensor = self._place(name)[1]
        return tensor.stop - tensor.start

    def file_of(self, name: str) -> str:
        return self._places[name][0] if name in self._places else self.source

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        """The tensor, or some of its rows, in its stored type; what is not in the cache is fetched."""
        import torch

        file, tensor = self._place(name)
        if tensor.dtype not in TORCH_NAMES or not hasattr(torch, TORCH_NAMES[tensor.dtype]):
            raise CheckpointError(
                f"{file}: tensor {name!r} has the type {tensor.dtype}; expected one of {', '.join(TORCH_NAMES)}. "
                f"{config_file.QUANTISED}."
            )
        dtype = getattr(torch, TORCH_NAMES[tensor.dtype])
        start, stop, shape = _part(tensor, rows)
        if start == stop:
            return torch.empty(shape, dtype=dtype)
        # The tensor lives in the bytes that were read: no second copy.
        content = self._files[file].read(start, stop)
        whole = torch.frombuffer(content, dtype=torch.uint8).view(dtype).reshape(shape)
        return whole if rows is None or rows.step in (None, 1) else whole[:: rows.step]

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        """Bring parts of tensors into the cache, several at a time; progress counts bytes."""
        ranges = []
        for name, rows in wanted:
            file, tensor = self._place(name)
            start, stop, _ = _part(tensor, rows)
            ranges.append((self._files[file], start, stop))
        fetch(ranges, progress)

    def _place(self, name: str) -> tuple[str, StoredTensor]:
        if name not in self._places:
            raise CheckpointError(f"{self.source}: expected a tensor {name!r}, found none. Is the checkpoint complete?")
        return self._places[name]


def _open(file: RemoteFile) -> tuple[CachedFile, dict[str, StoredTensor]]:
    """A file and its header, which is all that travels yet."""
    cached = CachedFile(file)
    try:
        if cached.length < LENGTH_BYTES:
            raise Damaged(f"it has {cached.length:,} bytes")
        length = header_length(bytes(cached.read(0, LENGTH_BYTES)), cached.length)
        return cached, parse_header(bytes(cached.read(LENGTH_BYTES, LENGTH_BYTES + length)), cached.length)
    except Damaged as error:
        raise CheckpointError(
            f"{file.shown}: expected a safetensors file, found a damaged one ({error}). "
            f"Was it uploaded whole, and from a source that you trust?"
        ) from error


def _part(tensor: StoredTensor, rows: slice | None) -> tuple[int, int, tuple[int, ...]]:
    """Where some rows of a tensor lie, and their shape; with a step, all rows between the first and the last."""
    if rows is None or not tensor.shape:
        return tensor.start, tensor.stop, tensor.shape
    first, last, step = rows.indices(tensor.shape[0])
    if step < 1:
        raise ValueError(f"rows are read forwards, found the step {step}")
    last = max(first, last)
    width = (tensor.stop - tensor.start) // (tensor.shape[0] or 1)
    return tensor.start + first * width, tensor.start + last * width, (last - first, *tensor.shape[1:])
