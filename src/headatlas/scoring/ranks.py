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


class TargetRanks:
    """Ranks under one unembedding, of which all calls share the scaled copy and its longest row.

    Args:
        W_U: Float[Tensor, "d_vocab d_model"].
    """

    def __init__(self, W_U: Tensor) -> None:
        from headatlas.scoring.rounding import longest_row, vector_underflow
        from headatlas.scoring.scaling import not_tiny, power_above, power_of_outputs

        self._W_U = not_tiny(W_U)
        of_U = int(power_above(self._W_U))
        self._scale = 2.0 ** power_of_outputs(of_U)
        # Outputs have this length: no logit is larger than that of the longest row of W_U.
        largest = self._scale * float(longest_row(self._W_U))
        self._margin = ROUNDING * largest + vector_underflow(self._W_U.shape[1], 0, of_U)

    def of(self, outputs: Tensor, target_ids: Tensor) -> Tensor:
        """One more than the number of other tokens whose logit is at least the target's.

        An output of zeros gives all tokens the same logit, so that every target comes last.

        Args:
            outputs: Float64[Tensor, "n d_model"].
            target_ids: Int64[Tensor, "n"].

        Returns:
            Int64[Tensor, "n"], from 1 to d_vocab.
        """
        import torch

        W_U, scale, margin = self._W_U, self._scale, self._margin
        outputs = outputs / outputs.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        ranks = []
        at_once = max(1, LOGITS_AT_ONCE // len(W_U))
        for part, targets in zip(outputs.split(at_once), target_ids.split(at_once), strict=True):
            exact = (W_U[targets].double() * part).sum(-1)
            difference = (scale * part).float() @ W_U.T - (scale * exact).float()[:, None]
            near = difference.abs() <= margin
            rank = 1 + (difference > margin).sum(1)
            for row in range(len(part)):
                close = near[row].nonzero()[:, 0]
                close = close[close != targets[row]]
                rank[row] += int(((W_U[close].double() * part[row]).sum(-1) >= exact[row]).sum())
            ranks.append(rank)
        return torch.cat(ranks)
