"""Tensors of a GGUF file, decoded row by row, and simple rearrangements of them.

Each class is one tensor; `read` takes rows (first axis) and returns float32. Its peak memory is little more than its
result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from headatlas.checkpoints.gguf.header import StoredTensor
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch

VALUES_AT_ONCE = 2**17
"""Values decoded at a time; the gguf package needs about 20 bytes for each meanwhile. More are not faster."""


class Tensor(Protocol):
    """A tensor that can be read by rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def n_bytes(self) -> int: ...

    @property
    def file(self) -> str: ...

    def read(self, rows: slice) -> torch.Tensor: ...


@dataclass(frozen=True)
class Stored:
    """A tensor as the file stores it, in any type that the gguf package decodes."""

    name: str
    tensor: StoredTensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def n_bytes(self) -> int:
        return self.tensor.n_bytes

    @property
    def file(self) -> str:
        return self.tensor.file

    def read(self, rows: slice) -> torch.Tensor:
        wanted = range(self.shape[0])[rows]
        if wanted.step == 1:
            return self._decode(wanted.start, wanted.stop)
        return self.take(wanted)

    def take(self, rows: Iterable[int]) -> torch.Tensor:
        """Rows in any order; consecutive ones are read together."""
        import torch

        rows = list(rows)
        result = torch.empty(len(rows), *self.shape[1:])
        start = 0
        for at in range(1, len(rows) + 1):
            if at == len(rows) or rows[at] != rows[at - 1] + 1:
                result[start:at] = self._decode(rows[start], rows[at - 1] + 1)
                start = at
        return result

    def _decode(self, start: int, stop: int) -> torch.Tensor:
        import numpy as np
        import torch
        from gguf import GGML_QUANT_SIZES
        from gguf.quants import dequantize

        tensor = self.tensor
        block, block_bytes = GGML_QUANT_SIZES[tensor.kind]
        in_row = math.prod(self.shape[1:])
        result = torch.empty(max(0, stop - start), *self.shape[1:])
        # The rows of a one-dimensional tensor may begin inside a block.
        first, skipped = divmod(start * in_row, block)
        n_blocks = -(-(skipped + result.numel()) // block) if result.numel() else 0
        stored = np.frombuffer(tensor.content, np.uint8, n_blocks * block_bytes, tensor.start + first * block_bytes)
        stored, flat = stored.reshape(n_blocks, block_bytes), result.view(-1).numpy()
        step = max(1, VALUES_AT_ONCE // block)
        try:
            # Damaged scales may overflow; the caller checks that weights are finite.
            with np.errstate(all="ignore"):
                for at in range(0, n_blocks, step):
                    # As one row: the package takes ten times as long for many short ones.
                    values = dequantize(stored[at : at + step].reshape(1, -1), tensor.kind)[0]
                    to = at * block - skipped
                    values = values[max(0, -to) : len(flat) - to]
                    flat[max(0, to) : max(0, to) + len(values)] = values
        except NotImplementedError as error:
            raise CheckpointError(
                f"{self.file}: tensor {self.name!r} has the type {tensor.kind.name}, which the gguf package "
                f"cannot read. Use a file with another quantisation."
            ) from error
        return result


@dataclass(frozen=True)
class Wrapped:
    """Base of tensors that are another tensor in another order or shape."""

    inner: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    @property
    def n_bytes(self) -> int:
        return self.inner.n_bytes

    @property
    def file(self) -> str:
        return self.inner.file


@dataclass(frozen=True)
class Changed(Wrapped):
    """A tensor whose rows are each changed on their own, such as a norm's weight that is stored with 1 added."""

    change: Callable[[torch.Tensor], torch.Tensor]

    def read(self, rows: slice) -> torch.Tensor:
        return self.change(self.inner.read(rows))


@dataclass(frozen=True)
class Transposed(Wrapped):
    """A weight stored as (out, in) and wanted as (in, out); with a leading axis, each matrix on its own."""

    @property
    def shape(self) -> tuple[int, ...]:
        *before, n_out, n_in = self.inner.shape
        return (*before, n_in, n_out)

    def read(self, rows: slice) -> torch.Tensor:
        if len(self.shape) > 2:
            return self.inner.read(rows).transpose(-1, -2)
        return self.inner.read(slice(None)).T[rows].contiguous()


@dataclass(frozen=True)
class Reshaped(Wrapped):
    """A small tensor that was stored without an axis of length 1."""

    wanted: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.wanted

    def read(self, rows: slice) -> torch.Tensor:
        return self.inner.read(slice(None)).reshape(self.wanted)[rows]


@dataclass(frozen=True)
class Row(Wrapped):
    """One row of a tensor."""

    number: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape[1:]

    @property
    def n_bytes(self) -> int:
        return self.inner.n_bytes // self.inner.shape[0]

    def read(self, rows: slice) -> torch.Tensor:
        return self.inner.read(slice(self.number, self.number + 1))[0][rows]
