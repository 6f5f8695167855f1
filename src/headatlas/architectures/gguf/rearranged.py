"""Tensors of attention and of experts in the layout of transformers' modules, from the layout of a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.checkpoints.gguf.tensors import Stored, Tensor, Wrapped

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Unpaired(Wrapped):
    """Queries or keys whose file stores the two rows of each rotary pair next to each other, in each head."""

    n_heads: int

    def read(self, rows: slice) -> torch.Tensor:
        stored = self.inner.read(slice(None))
        pairs = stored.view(self.n_heads, -1, 2, *self.shape[1:])
        return pairs.transpose(1, 2).reshape(self.shape)[rows]


@dataclass(frozen=True)
class Interleaved(Wrapped):
    """Queries, keys and values grouped by kv head; the file stores all queries, then all keys, then all values."""

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
    """Gate and up projections of all experts in one tensor: (experts, 2 * d_mlp, d_model), gates first.

    With `alternating` (GPT-OSS), rows of gate and up alternate, and weights are (experts, d_model, 2 * d_mlp).
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
            result[at] = _alternated(gate, up) if self.alternating else torch.cat((gate, up))
        return result


def _alternated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    import torch

    both = torch.stack((gate, up), 1).flatten(0, 1)
    return both.T if both.ndim == 2 else both


@dataclass(frozen=True)
class KeysAndValues:
    """`kv_b` of latent attention (MLA): newer files store its key and value parts apart, the keys transposed."""

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
