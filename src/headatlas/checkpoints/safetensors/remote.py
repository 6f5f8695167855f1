"""Tensors of remote safetensors files: only the header of each file and the requested rows are read."""

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
from headatlas.checkpoints.tensor_store import TORCH_NAMES, BytesProgress, TensorFiles, torch_dtype
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch


class RemoteSafetensors(TensorFiles):
    """Tensors of remote safetensors files; see `TensorStore`.

    Args:
        where: what the user named, without a login, for messages.
        files: file name -> the file.

    Raises:
        CheckpointError: a file cannot be reached, or its header is damaged.
    """

    is_local = False
    _files: dict[str, RemoteSafetensorsFile]

    def __init__(self, where: str, files: dict[str, RemoteFile]) -> None:
        # Headers of many shards are fetched at the same time.
        with ThreadPoolExecutor(N_TRANSFERS, thread_name_prefix="headatlas-header") as pool:
            opened = dict(zip(files, pool.map(RemoteSafetensorsFile, files, files.values()), strict=True))
        super().__init__(where, opened)

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        """Bring parts of tensors into the cache, several at a time; progress counts bytes."""
        ranges = []
        for name, rows in wanted:
            file = self._holder(name)
            start, stop, _ = file.part(name, rows)
            ranges.append((file.cached, start, stop))
        fetch(ranges, progress)

    def _holder(self, name: str) -> RemoteSafetensorsFile:
        super()._holder(name)
        return self._files[self._file_of[name]]


class RemoteSafetensorsFile:
    """See `TensorFile`; opening it transfers only the header.

    Args:
        name: the file's name, for messages.
        file: where its bytes come from.
    """

    def __init__(self, name: str, file: RemoteFile) -> None:
        self.name = name
        self.cached = CachedFile(file)
        self._tensors = _read_header(self.cached)

    def names(self) -> Iterable[str]:
        return self._tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def dtype(self, name: str) -> str:
        return self._tensors[name].dtype

    def n_bytes(self, name: str) -> int:
        return self._tensors[name].stop - self._tensors[name].start

    def part(self, name: str, rows: slice | None) -> tuple[int, int, tuple[int, ...]]:
        """First byte, last byte + 1 and shape of some rows; with a step, of all rows from the first to the last."""
        tensor = self._tensors[name]
        if rows is None or not tensor.shape:
            return tensor.start, tensor.stop, tensor.shape
        first, last, step = rows.indices(tensor.shape[0])
        if step < 1:
            raise ValueError(f"rows are read forwards, found the step {step}")
        last = max(first, last)
        width = (tensor.stop - tensor.start) // (tensor.shape[0] or 1)
        return tensor.start + first * width, tensor.start + last * width, (last - first, *tensor.shape[1:])

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        """The tensor, or some of its rows, in its stored type; what is not in the cache is fetched."""
        import torch

        dtype = torch_dtype(self.dtype(name))
        if dtype is None:
            raise CheckpointError(
                f"{self.name}: tensor {name!r} has the type {self.dtype(name)}; expected one of "
                f"{', '.join(TORCH_NAMES)}. {config_file.QUANTISED}."
            )
        start, stop, shape = self.part(name, rows)
        if start == stop:
            return torch.empty(shape, dtype=dtype)
        # The tensor uses the bytes that were read, without a second copy.
        content = self.cached.read(start, stop)
        whole = torch.frombuffer(content, dtype=torch.uint8).view(dtype).reshape(shape)
        return whole if rows is None or rows.step in (None, 1) else whole[:: rows.step]


def _read_header(cached: CachedFile) -> dict[str, StoredTensor]:
    try:
        if cached.length < LENGTH_BYTES:
            raise Damaged(f"it has {cached.length:,} bytes")
        length = header_length(bytes(cached.read(0, LENGTH_BYTES)), cached.length)
        return parse_header(bytes(cached.read(LENGTH_BYTES, LENGTH_BYTES + length)), cached.length)
    except Damaged as error:
        raise CheckpointError(
            f"{cached.file.shown}: expected a safetensors file, found a damaged one ({error}). "
            f"Was it uploaded whole, and from a source that you trust?"
        ) from error
