"""Tensors of a local file of `torch.save` (`pytorch_model.bin`), undecoded; no code from it is run.

Since torch 1.6 such a file is a zip archive of a pickle and one uncompressed entry per storage; before, it was several
pickles followed by the storages. In both cases the file is mapped, and only requested rows are read.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from headatlas.checkpoints.tensor_store import missing_file, torch_dtype
from headatlas.checkpoints.torch_bin.pickle import (
    LONGEST,
    NeedsCode,
    StoredTensor,
    Unreadable,
    read_pickle,
    tensors_of,
    width,
)
from headatlas.errors import CheckpointError
from headatlas.regular_files import open_regular

if TYPE_CHECKING:
    import torch

MOST_READ = 8 << 20
"""Most bytes of a zip archive's list of entries; that of 100,000 tensors has about as many."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class TorchFile:
    """See `TensorFile`.

    Raises:
        CheckpointError: the file is missing, damaged or needs code to be run.
    """

    def __init__(self, path: Path) -> None:
        try:
            with open_regular(path) as file:
                self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise missing_file(path) from error
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        self.path = path
        self.starts: dict[str, int] = {}
        """Key of a storage -> the byte at which its values begin."""
        try:
            if self.content[:4] == b"PK\x03\x04":
                self.tensors = self._read_zip()
            else:
                self.tensors = self._read_legacy()
            for tensor in self.tensors.values():
                self._check(tensor)
        except NeedsCode as error:
            raise CheckpointError(
                f"{path}: expected nothing but tensors, found {error}, which needs code to be run; that is never "
                f"done. Use the model's safetensors files."
            ) from error
        except Unreadable as error:
            raise _damaged(path, str(error)) from error

    def names(self) -> Iterable[str]:
        return self.tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def dtype(self, name: str) -> str:
        return self.tensors[name].dtype

    def n_bytes(self, name: str) -> int:
        return self.tensors[name].n_values * width(self.tensors[name].dtype)

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        import torch

        tensor = self.tensors[name]
        shape, strides, start = list(tensor.shape), list(tensor.strides), tensor.start
        step = 1
        if rows is not None and shape:
            first, last, step = rows.indices(shape[0])
            shape[0] = max(0, last - first) if step > 0 else shape[0]
            start += first * strides[0] if step > 0 else 0
        dtype = torch_dtype(tensor.dtype)
        if 0 in shape:
            return torch.empty(shape, dtype=dtype)
        n_values = sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True)) + 1
        begin = self.starts[tensor.storage.key] + start * width(tensor.dtype)
        # A copy: what is read must not depend on the file, nor be writable into it.
        copied = bytearray(self.content[begin : begin + n_values * width(tensor.dtype)])
        result = torch.frombuffer(copied, dtype=dtype).as_strided(shape, strides)
        if step != 1:
            return result[::step] if step > 0 else result[rows]
        return result if tensor.is_contiguous else result.contiguous()

    def _read_zip(self) -> dict[str, StoredTensor]:
        try:
            with open_regular(self.path) as file, zipfile.ZipFile(cast(BinaryIO, _Listing(file))) as archive:
                entries = {entry.filename: entry for entry in archive.infolist()}
        except Exception as error:  # zipfile raises many kinds for a damaged archive
            raise Unreadable(f"it is no zip archive that can be read: {str(error)[:200]}") from error
        main = next((name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if main is None:
            raise Unreadable("it holds no data.pkl")
        root = main.removesuffix("data.pkl")
        if f"{root}byteorder" in entries and self._bytes(entries[f"{root}byteorder"], 16) != b"little":
            raise Unreadable("its byte order is not little-endian")
        tensors = tensors_of(read_pickle(BytesIO(self._bytes(entries[main], LONGEST))))
        for tensor in tensors.values():
            key = tensor.storage.key
            if key not in self.starts:
                entry = entries.get(f"{root}data/{key}")
                n_bytes = tensor.storage.n_values * width(tensor.storage.dtype)
                if entry is None or entry.file_size != n_bytes:
                    raise Unreadable(
                        f"the storage {key[:200]!r} does not have the {n_bytes:,} bytes that are announced"
                    )
                self.starts[key] = self._start(entry)
        return tensors

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """The byte at which an entry's content begins: after a header of its own, whose names may be padded."""
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise Unreadable(f"its entry {entry.filename[:200]!r} is compressed or encrypted")
        header = self.content[entry.header_offset : entry.header_offset + 30] if entry.header_offset >= 0 else b""
        if len(header) != 30 or header[:4] != b"PK\x03\x04":
            raise Unreadable(f"its entry {entry.filename[:200]!r} is not where it is announced")
        start = entry.header_offset + 30 + int.from_bytes(header[26:28], "little")
        start += int.from_bytes(header[28:30], "little")
        if start + entry.file_size > len(self.content):
            raise Unreadable(f"it ends before the entry {entry.filename[:200]!r} does")
        return start

    def _bytes(self, entry: zipfile.ZipInfo, longest: int) -> bytes:
        start = self._start(entry)
        if entry.file_size > longest:
            raise Unreadable(f"its entry {entry.filename[:200]!r} has {entry.file_size:,} bytes")
        return self.content[start : start + entry.file_size]

    def _read_legacy(self) -> dict[str, StoredTensor]:
        content = self.content
        content.seek(0)
        if read_pickle(content) != LEGACY_MAGIC:
            raise Unreadable("it does not begin as torch's files do")
        _version, system, pickled, keys = (read_pickle(content) for _ in range(4))
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise Unreadable("its byte order is not little-endian")
        tensors = tensors_of(pickled)
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        at = content.tell()
        for key in keys if isinstance(keys, list) else ():
            if not isinstance(key, str) or key not in storages or key in self.starts:
                raise Unreadable("its list of storages is not that of its tensors")
            storage = storages[key]
            if int.from_bytes(content[at : at + 8], "little") != storage.n_values:
                raise Unreadable(f"the storage {key[:200]!r} does not have the {storage.n_values:,} values announced")
            self.starts[key] = at + 8
            at += 8 + storage.n_values * width(storage.dtype)
            if at > len(content):
                raise Unreadable(f"it ends before the storage {key[:200]!r} does")
        return tensors

    def _check(self, tensor: StoredTensor) -> None:
        if tensor.storage.key not in self.starts:
            raise Unreadable(f"the storage {tensor.storage.key[:200]!r} is missing")
        n_bytes = tensor.storage.n_values * width(tensor.storage.dtype)
        if self.starts[tensor.storage.key] + n_bytes > len(self.content):
            raise Unreadable(f"it ends before the storage {tensor.storage.key[:200]!r} does")


class _Listing:
    """A file for `zipfile`, which reads the whole list of entries at once, however long."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.seekable, self._file = file.seek, file.tell, file.seekable, file

    def read(self, n: int = -1) -> bytes:
        content = self._file.read(n if 0 <= n <= MOST_READ else MOST_READ + 1)
        if len(content) > MOST_READ:
            raise ValueError(f"its list of entries has more than {MOST_READ:,} bytes")
        return content


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: expected torch's file of tensors, found another or a damaged one ({what}). Fetch it again."
    )
