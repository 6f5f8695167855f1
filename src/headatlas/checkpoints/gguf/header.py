"""The header of a GGUF file: its metadata, and the place of each tensor.

This is our own reader, because a header cannot be trusted: every count is compared with the number of bytes left before
anything is allocated for it. It also reads 100,000 tokens in a tenth of a second; `gguf.GGUFReader` takes seconds.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. It does not know what a tensor means.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.errors import CheckpointError
from headatlas.regular_files import open_regular

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
MAX_KEYS, MAX_TENSORS, MAX_STRINGS = 10_000, 100_000, 3_000_000
"""Largest counts, of strings those in one array: each takes more memory than it has bytes. The largest models have 100
keys, 3,000 tensors and a million strings."""
MAX_NAME = 1_024
"""Bytes of a key or of a tensor's name; the format itself allows 64 for a tensor."""


@dataclass(frozen=True)
class StoredTensor:
    """The place of a tensor: `shape` with rows first, `start` and `n_bytes` in the mapped file."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int
    n_bytes: int
    content: mmap.mmap
    file: str


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key (of an array of strings, only its length), tensors by name, and the mapped file."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]
    content: mmap.mmap
    strings_at: dict[str, int]

    def strings(self, key: str) -> list[str]:
        """An array of strings; raises `CheckpointError` if the key holds something else."""
        if key not in self.strings_at:
            raise CheckpointError(f"{self.path}: expected an array of strings for {key!r}, found none.")
        reader = _Reader(self.content, self.strings_at[key])
        try:
            return [reader.text() for _ in range(self.metadata[key])]
        except _Damaged as error:
            raise _damaged(self.path, error) from error


class _Damaged(Exception):
    """The file is damaged; the message says how, as part of a sentence."""


def read_header(path: Path) -> GgufHeader:
    """Read a file's header; no tensor is read.

    Raises:
        CheckpointError: nothing there, no GGUF, or a header that does not agree with the file's length.
    """
    try:
        with open_regular(path) as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected a GGUF file, found nothing there.") from error
    except OSError as error:
        raise CheckpointError(f"{path}: expected a GGUF file, cannot read it ({error.strerror}).") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: expected a GGUF file, found an empty one. Fetch it again.") from error
    try:
        return _Reader(content).header(path)
    except _Damaged as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: _Damaged) -> CheckpointError:
    return CheckpointError(f"{path}: expected a GGUF file, found a damaged one ({error}). Fetch it again.")


class _Reader:
    """Reads forwards, and never beyond the end."""

    def __init__(self, content: mmap.mmap, at: int = 0) -> None:
        self.content, self.at = content, at
        self.strings_at: dict[str, int] = {}

    def header(self, path: Path) -> GgufHeader:
        if (magic := bytes(self.content[:4])) != b"GGUF":
            raise _Damaged(f"it begins with {magic!r}")
        self.at = 4
        version = self.number("I")
        if version not in VERSIONS:
            # A big-endian file shows its version in the upper bytes.
            what = "big-endian" if version & 0xFFFF == 0 else f"version {version}"
            raise _Damaged(f"it is {what}; expected little-endian version 2 or 3")
        n_tensors, n_keys = self.number("Q"), self.number("Q")
        metadata: dict[str, Any] = {}
        for _ in range(self.count(n_keys, 12, MAX_KEYS, "keys")):
            key = self.text(MAX_NAME)
            if key in metadata:
                raise _Damaged(f"the key {key!r} is there twice")
            metadata[key] = self.value(self.number("I"), key)
        entries = [self.entry() for _ in range(self.count(n_tensors, 24, MAX_TENSORS, "tensors"))]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise _Damaged(f"its alignment is {alignment!r}")
        data = -(-self.at // alignment) * alignment
        return GgufHeader(path, metadata, self.place(entries, data, path.name), self.content, self.strings_at)

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.text(MAX_NAME)
        n_dimensions = self.number("I")
        if n_dimensions > MAX_DIMENSIONS:
            raise _Damaged(f"the tensor {name!r} has {n_dimensions} dimensions")
        # The file's first dimension is the innermost.
        shape = tuple(reversed(self.numbers("Q", n_dimensions)))
        return name, shape, self.number("I"), self.number("Q")

    def place(
        self, entries: list[tuple[str, tuple[int, ...], int, int]], data: int, file: str
    ) -> dict[str, StoredTensor]:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        tensors: dict[str, StoredTensor] = {}
        for name, shape, number, offset in entries:
            if name in tensors:
                raise _Damaged(f"the tensor {name!r} is there twice")
            try:
                kind = GGMLQuantizationType(number)
            except ValueError:
                raise _Damaged(f"the tensor {name!r} has the unknown type {number}") from None
            block, block_bytes = GGML_QUANT_SIZES[kind]
            if not shape or 0 in shape or shape[-1] % block:
                raise _Damaged(f"the tensor {name!r} of type {kind.name} has the shape {shape}")
            n_bytes = math.prod(shape) // block * block_bytes
            if data + offset + n_bytes > len(self.content):
                raise _Damaged(f"it ends before the tensor {name!r} does")
            tensors[name] = StoredTensor(kind, shape, data + offset, n_bytes, self.content, file)
        end = data
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
            if tensor.start < end:
                raise _Damaged(f"the tensor {name!r} overlaps another one")
            end = tensor.start + tensor.n_bytes
        return tensors

    def value(self, kind: int, key: str) -> Any:
        if kind == STRING:
            return self.text()
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind != ARRAY:
            raise _Damaged(f"the key {key!r} has the unknown type {kind}")
        kind, count = self.number("I"), self.number("Q")
        if kind in SCALARS:
            import numpy as np

            dtype, start = np.dtype(f"<{SCALARS[kind]}"), self.at
            self.skip(count * dtype.itemsize)
            return np.frombuffer(self.content, dtype, count, start)  # a view: costs no memory
        if kind != STRING:
            raise _Damaged(f"the key {key!r} is an array of the unknown type {kind}")
        self.strings_at[key] = self.at
        for _ in range(self.count(count, 8, MAX_STRINGS, "strings")):
            self.skip(self.number("Q"))
        return count

    def number(self, code: str) -> Any:
        return self.numbers(code, 1)[0]

    def numbers(self, code: str, count: int) -> tuple:
        start = self.at
        self.skip(count * struct.calcsize(f"<{code}"))
        return struct.unpack_from(f"<{count}{code}", self.content, start)

    def text(self, longest: int | None = None) -> str:
        length = self.number("Q")
        start = self.at
        if longest is not None and longest < length <= len(self.content) - start:
            raise _Damaged(f"the name at byte {start:,} has {length:,} bytes")
        self.skip(length)
        try:
            return self.content[start : self.at].decode("utf-8")
        except UnicodeDecodeError:
            raise _Damaged(f"the text at byte {start:,} is not UTF-8") from None

    def skip(self, n_bytes: int) -> None:
        if n_bytes > len(self.content) - self.at:
            raise _Damaged(f"it ends inside its header: at byte {self.at:,}, {n_bytes:,} more were expected")
        self.at += n_bytes

    def count(self, count: int, smallest: int, most: int, what: str) -> int:
        if count * smallest > len(self.content) - self.at:
            raise _Damaged(f"it announces {count:,} {what}, more than it has room for")
        if count > most:
            raise _Damaged(f"it announces {count:,} {what}, more than the {most:,} of any model")
        return count
