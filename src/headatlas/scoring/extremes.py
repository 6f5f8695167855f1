"""Heads that are outside the range of float32: a running model would compute infinities, or nothing but zeros.

bfloat16 has the range of float32 and float16 a smaller one, so that these heads fit no type that models are run in.
Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from headatlas.scoring.scaling import Scaled

SAFE = 100
"""Sizes between 2**-100 and 2**100 need no closer look: their parts are not all beyond 2**-149 or 2**128."""


class HeadOverflowError(OverflowError):
    """The output of a head exceeds what float32 can hold.

    Args:
        head: its number in the layer.
    """

    def __init__(self, head: int) -> None:
        super().__init__(f"head {head}: its output exceeds what float32 can hold.")
        self.head = head


def heads_that_underflow(
    x: Scaled,
    W_V: Scaled,
    W_O: Scaled,
    values: Sequence[Tensor],
    stored: tuple[Tensor, Tensor, Tensor],
    kv_head: Sequence[int],
) -> list[int]:
    """Heads that write something, but so little that float32 rounds it to zeros for all sources.

    Args:
        x, W_V, W_O: of a layer, see `headatlas.scoring.layer_heads.LayerHeads`.
        values: `x.values @ W_V.values` of each kv head.
        stored: x, W_V and W_O as they are.
        kv_head: the kv head that each head reads.

    Raises:
        HeadOverflowError: an output, or a value, exceeds what float32 can hold.
    """
    of_values = [
        _norm(value, 1).log2() + x.power + power for value, power in zip(values, W_V.power.tolist(), strict=True)
    ]
    of_W_O = _norm(W_O.values, (1, 2)).log2() + W_O.power
    found = []
    for head, kv in enumerate(kv_head):
        of_outputs = of_values[kv] + of_W_O[head]
        large = torch.maximum(of_values[kv], of_outputs) > SAFE
        small = torch.minimum(of_values[kv], of_outputs).max() < -SAFE
        if not (small or large.any()) or not (stored[1][kv].any() and stored[2][head].any()):
            continue
        chosen = slice(None) if small else large
        inputs, of_V, of_O = stored[0][chosen].double(), stored[1][kv].double(), stored[2][head].double()
        exact = inputs @ of_V
        held = exact.float()
        output = (held.double() @ of_O).float()
        if not (torch.isfinite(held).all() and torch.isfinite(output).all()):
            raise HeadOverflowError(head)
        if small and not output.any() and (exact @ of_O).any():
            found.append(head)
    return found


def silent_sources(x: Tensor, W_V: Tensor, value: Tensor) -> Tensor:
    """Sources whose values are exactly zero, and not only for float32: Bool[Tensor, "n_sources"].

    Args:
        x: Float32[Tensor, "n_sources d_in"].
        W_V: Float32[Tensor, "d_in d_head"].
        value: `x @ W_V` in float32, up to powers of two, Float32[Tensor, "n_sources d_head"].
    """
    silent = ~(value != 0).any(1)
    at = (silent & (x != 0).any(1)).nonzero()[:, 0] if W_V.any() and silent.any() else silent.new_zeros(0).long()
    if len(at):
        silent[at] = ~((x[at].double() @ W_V.double()) != 0).any(1)
    return silent


def _norm(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    return torch.linalg.vector_norm(values, dim=dim, dtype=torch.float64)
