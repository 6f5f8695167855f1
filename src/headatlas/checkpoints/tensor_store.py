"""Tensors in files, as they are stored: what every place that holds them (a disk, a server) offers to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

BytesProgress = Callable[[int, int], None]
"""Called with the bytes that have come, and of how many."""


class TensorStore(Protocol):
    """Named tensors of one or several files, undecoded."""

    size: int
    """Bytes of all tensors."""

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
        """The tensor, or some of its rows (first axis), in its stored type on the CPU; only those are read."""
        ...

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        """Bring parts of tensors near before they are read, several at a time; nothing to do where they are local."""
        ...
