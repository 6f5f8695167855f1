"""Tensors of a GGUF file as transformers has them: decoded row by row, with what llama.cpp's converter did undone.

Each class is one tensor; `read` takes rows (first axis) and gives float32. It holds little more than its result.
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
"""Values that are decoded at once; the gguf package needs some 20 bytes for each meanwhile. More are not quicker."""


class Tensor(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def n_bytes(self) -> int: ...

    @property
    def file(self) -> str: ...

    def read(self, rows: slice) -> torch.Tensor: ...


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in the file, in any type that the gguf package decodes."""

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
        """Rows in any order; neighbours are read together."""
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
        # Of a tensor of one dimension, rows may begin inside a block.
        first, skipped = divmod(start * in_row, block)
        n_blocks = -(-(skipped + result.numel()) // block) if result.numel() else 0
        stored = np.frombuffer(tensor.content, np.uint8, n_blocks * block_bytes, tensor.start + first * block_bytes)
        stored, flat = stored.reshape(n_blocks, block_bytes), result.view(-1).numpy()
        step = max(1, VALUES_AT_ONCE // block)
        try:
            # Damaged scales may overflow; whoever reads the weights looks for values that are not finite.
            with np.errstate(all="ignore"):
                for at in range(0, n_blocks, step):
                    # As one row, which the package decodes in one go; many short ones take it ten times as long.
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
class _Wrapped:
    """A tensor that is another one, in another order or shape."""

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
class Changed(_Wrapped):
    """A tensor of which each row is changed by itself, such as a norm's weight to which 1 was added."""

    change: Callable[[torch.Tensor], torch.Tensor]

    def read(self, rows: slice) -> torch.Tensor:
        return self.change(self.inner.read(rows))


@dataclass(frozen=True)
class Transposed(_Wrapped):
    """A weight that is stored as (out, in) and wanted as (in, out); of experts, each by itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        *before, n_out, n_in = self.inner.shape
        return (*before, n_in, n_out)

    def read(self, rows: slice) -> torch.Tensor:
        if len(self.shape) > 2:
            return self.inner.read(rows).transpose(-1, -2)
        return self.inner.read(slice(None)).T[rows].contiguous()


@dataclass(frozen=True)
class Reshaped(_Wrapped):
    """A small tensor that lost an axis of length 1."""

    wanted: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.wanted

    def read(self, rows: slice) -> torch.Tensor:
        return self.inner.read(slice(None)).reshape(self.wanted)[rows]


@dataclass(frozen=True)
class Unpaired(_Wrapped):
    """Queries or keys of which the file has the rows that turn together side by side, in each head."""

    n_heads: int

    def read(self, rows: slice) -> torch.Tensor:
        stored = self.inner.read(slice(None))
        pairs = stored.view(self.n_heads, -1, 2, *self.shape[1:])
        return pairs.transpose(1, 2).reshape(self.shape)[rows]


@dataclass(frozen=True)
class Interleaved(_Wrapped):
    """Queries, keys and values of one kv head after the other, where the file has all queries, keys, then values."""

    inner: Stored
    n_heads: int
    n_kv_heads: int

    def read(self, rows: slice) -> torch.Tensor:
        import numpy as np

        n_heads, n_kv_heads = self.n_heads, self.n_kv_heads
        d_head = self.shape[0] // (n_heads + 2 * n_kv_heads)
        queries, keys, values = np.split(np.arange(self.shape[0]).reshape(-1, d_head), [n_heads, n_heads + n_kv_heads])
        groups = (queries.reshape(n_kv_heads, -1, d_head), keys[:, None], values[:, None])
        return self.inner.take(np.concatenate(groups, axis=1).reshape(-1)[rows].tolist())


@dataclass(frozen=True)
class Experts:
    """Gates and ups of all experts in one tensor: (experts, 2 * d_mlp, d_model), gates first.

    With `alternating` (GPT-OSS) gate and up take turns, and weights are (experts, d_model, 2 * d_mlp).
    """

    gate: Tensor
    up: Tensor
    alternating: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        n_experts, n_rows, *d_model = self.gate.shape
        return (n_experts, *d_model, 2 * n_rows) if self.alternating else (n_experts, 2 * n_rows, *d_model)

    @property
    def n_bytes(self) -> int:
        return self.gate.n_bytes + self.up.n_bytes

    @property
    def file(self) -> str:
        return self.gate.file

    def read(self, rows: slice) -> torch.Tensor:
        import torch

        wanted = range(self.shape[0])[rows]
        result = torch.empty(len(wanted), *self.shape[1:])
        for at, expert in enumerate(wanted):
            gate, up = (part.read(slice(expert, expert + 1))[0] for part in (self.gate, self.up))
            result[at] = _in_turn(gate, up) if self.alternating else torch.cat((gate, up))
        return result


def _in_turn(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    import torch

    both = torch.stack((gate, up), 1).flatten(0, 1)
    return both.T if both.ndim == 2 else both


@dataclass(frozen=True)
class KeysAndValues:
    """MLA's `kv_b`: key and value part of each head, which newer files keep apart, the keys transposed."""

    keys: Tensor
    values: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        n_heads, d_value, d_latent = self.values.shape
        return (n_heads * (self.keys.shape[2] + d_value), d_latent)

    @property
    def n_bytes(self) -> int:
        return self.keys.n_bytes + self.values.n_bytes

    @property
    def file(self) -> str:
        return self.values.file

    def read(self, rows: slice) -> torch.Tensor:
        import torch

        keys = self.keys.read(slice(None)).transpose(1, 2)
        return torch.cat((keys, self.values.read(slice(None))), 1).flatten(0, 1)[rows]
