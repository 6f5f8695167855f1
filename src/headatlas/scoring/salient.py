"""Salient operations: the inputs that a head amplifies most, and the tokens with the highest and lowest logits.

The length of a head's output is `sqrt(v @ W_O @ W_O.T @ v.T)` with `v = x @ W_V`, so that all inputs are compared
through matrices of `d_head x d_head`. float32 proposes candidates with a margin; float64 chooses and orders them, ties
by the smaller position. Knows arrays; knows nothing about models, tokens or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 4096
"""Inputs whose values are in memory at once."""

SLACK = 1e-4
"""Relative difference below the last chosen input within which an input is a candidate for float64 too."""

MOST_PROPOSED = 1024
"""Most candidates of a head, unless more inputs are wanted."""

EXTRA = 8
"""Tokens beyond the wanted ones that float32 proposes for float64 to order."""

CHUNK = 64
"""Logits of which only the largest is compared at first."""

LOGITS_AT_ONCE = 2**25
"""Logits in memory at once."""


def most_amplified(
    x: Tensor, lengths: Tensor, W_V: Tensor, W_O: Tensor, kv_head_of: Sequence[int], n_tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs with the largest `norm(x @ W_V @ W_O) / lengths`, of every head of a layer.

    Args:
        x: Float[Tensor, "n_inputs d_in"], in the order that decides ties.
        lengths: each output's length is divided by this, above 0: Float[Tensor, "n_inputs"].
        W_V: Float[Tensor, "n_kv_heads d_in d_head"].
        W_O: Float[Tensor, "n_heads d_head d_model"].
        kv_head_of: the kv head that each head reads, of length n_heads.
        n_tokens: how many inputs; all of them if there are fewer.

    Returns:
        Rows of x, Int64[Tensor, "n_heads n"], most amplified first; their amplification, Float64[Tensor, "n_heads n"];
        their outputs, Float64[Tensor, "n_heads n d_model"].
    """
    import torch

    from headatlas.scoring.scaling import Scaled

    n_kv_heads, d_in, d_head = W_V.shape
    n = min(n_tokens, len(x))
    stored_V, stored_O = W_V, W_O
    # The order within a head does not depend on the size of its factors, but whether squares fit float32 does.
    W_V, W_O = Scaled.of(W_V).values, Scaled.of(W_O).values
    joined = W_V.transpose(0, 1).reshape(d_in, n_kv_heads * d_head)
    gram = W_O @ W_O.transpose(1, 2)
    squares = torch.empty(len(W_O), len(x), device=W_O.device)
    for start in range(0, len(x), BLOCK):
        here = slice(start, start + BLOCK)
        part = Scaled.of(x[here].to(W_O.device))
        values = (part.values @ joined).view(-1, n_kv_heads, d_head)
        scale = (lengths[here].to(W_O.device) / 2.0 ** part.power.double()) ** 2
        for head, kv_head in enumerate(kv_head_of):
            v = values[:, kv_head]
            squares[head, here] = ((v @ gram[head]) * v).sum(-1) / scale
    rows, amplification, outputs = [], [], []
    for head, kv_head in enumerate(kv_head_of):
        proposed = _proposed(squares[head], n).cpu()
        out = x[proposed].to(W_O.device).double() @ stored_V[kv_head].double() @ stored_O[head].double()
        exact = out.norm(dim=-1).cpu() / lengths[proposed].cpu().double()
        # Proposals ascend, so that a stable sort leaves the smaller position first.
        order = exact.argsort(descending=True, stable=True)[:n]
        rows.append(proposed[order])
        amplification.append(exact[order])
        outputs.append(out[order.to(out.device)])
    return torch.stack(rows), torch.stack(amplification), torch.stack(outputs)


def _proposed(squares: Tensor, n: int) -> Tensor:
    """Ascending positions of the `n` largest values, and of values within rounding of the smallest of these."""
    least = squares.topk(n).values[-1]
    positions = (squares >= least * (1 - SLACK)).nonzero()[:, 0]
    if len(positions) > MOST_PROPOSED:
        largest = squares[positions].sort(descending=True, stable=True).indices[: max(n, MOST_PROPOSED)]
        positions = positions[largest.sort().values]
    return positions


def extreme_logits(outputs: Tensor, W_U: Tensor, left_out: Tensor, n_mapped: int) -> tuple[Tensor, Tensor]:
    """The tokens with the highest and the lowest logits for each output.

    Args:
        outputs: Float64[Tensor, "n d_model"]; an output of zeros gives the first tokens, which have no meaning.
        W_U: Float[Tensor, "d_vocab d_model"].
        left_out: tokens that do not compete, Int64[Tensor, "n_left_out"].
        n_mapped: how many of each; at most the number of tokens that compete.

    Returns:
        Token ids, Int64[Tensor, "n n_mapped"]: highest first, and lowest first.
    """
    import torch

    from headatlas.scoring.scaling import not_tiny, power_above, power_of_outputs

    highest, lowest = [], []
    # The order of the logits does not depend on the sizes of outputs and W_U, but whether they fit float32 does.
    outputs, W_U = outputs / outputs.norm(dim=-1, keepdim=True).clamp_min(1e-300), not_tiny(W_U)
    scale = 2.0 ** power_of_outputs(int(power_above(W_U)))
    for part in outputs.split(max(1, LOGITS_AT_ONCE // len(W_U))):
        logits = (scale * part).float() @ W_U.T
        for sign, found in ((1, highest), (-1, lowest)):
            if sign < 0:
                logits = logits.neg_()
            logits[:, left_out] = -torch.inf
            found.append(_ordered(sign * part, W_U, _largest(logits, n_mapped + EXTRA), n_mapped, left_out))
    return torch.cat(highest), torch.cat(lowest)


def _largest(values: Tensor, n: int) -> Tensor:
    """Positions of the `n` largest values of each row, in any order: they are in the `n` chunks with largest maxima."""
    import torch

    n_rows, width = values.shape
    if n * CHUNK >= width:
        return values.topk(min(n, width)).indices
    whole = width // CHUNK * CHUNK
    chunks = values[:, :whole].view(n_rows, -1, CHUNK)
    best = chunks.amax(-1).topk(min(n, chunks.shape[1])).indices
    positions = (best[..., None] * CHUNK + torch.arange(CHUNK, device=values.device)).flatten(1)
    rest = torch.arange(whole, width, device=values.device).expand(n_rows, -1)
    positions = torch.cat([positions, rest], dim=1)
    return positions.gather(1, values.gather(1, positions).topk(n).indices)


def _ordered(outputs: Tensor, W_U: Tensor, proposed: Tensor, n: int, left_out: Tensor) -> Tensor:
    """The `n` proposed tokens with the largest logits in float64; among equal logits, the smaller id comes first."""
    import torch

    proposed = proposed.sort(dim=1).values
    # Not a matrix product: its rows may be summed in different orders, and equal logits would differ.
    exact = (W_U[proposed].double() * outputs[:, None]).sum(-1)
    exact[torch.isin(proposed, left_out)] = -torch.inf
    return proposed.gather(1, exact.argsort(dim=1, descending=True, stable=True)[:, :n])
