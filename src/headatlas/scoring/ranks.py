"""The ranks of single targets among all logits, for a few outputs; ties count against the target, as in the scores.

float32 counts, and float64 decides logits within rounding of the target. Knows arrays only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-5
"""Difference that float32 cannot resolve, as a share of the largest possible logit, with a safety margin."""

LOGITS_AT_ONCE = 2**25
"""Logits in memory at once."""


def target_ranks(outputs: Tensor, W_U: Tensor, target_ids: Tensor) -> Tensor:
    """One more than the number of other tokens whose logit is at least the target's.

    An output of zeros gives all tokens the same logit, so that every target comes last.

    Args:
        outputs: Float64[Tensor, "n d_model"].
        W_U: Float[Tensor, "d_vocab d_model"].
        target_ids: Int64[Tensor, "n"].

    Returns:
        Int64[Tensor, "n"], from 1 to d_vocab.
    """
    import torch

    outputs = outputs / outputs.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    lengths = W_U.norm(dim=-1).max()
    ranks = []
    at_once = max(1, LOGITS_AT_ONCE // len(W_U))
    for part, targets in zip(outputs.split(at_once), target_ids.split(at_once), strict=True):
        exact = (W_U[targets].double() * part).sum(-1)
        difference = part.float() @ W_U.T - exact.float()[:, None]
        # Outputs have length 1: no logit is larger than the longest row of W_U.
        near = difference.abs() <= ROUNDING * lengths
        rank = 1 + (difference > ROUNDING * lengths).sum(1)
        for row in range(len(part)):
            close = near[row].nonzero()[:, 0]
            close = close[close != targets[row]]
            rank[row] += int(((W_U[close].double() * part[row]).sum(-1) >= exact[row]).sum())
        ranks.append(rank)
    return torch.cat(ranks)
