"""Induction on repeated random tokens: where a head looks in the first copy, and what random pairs of heads would give.

Arrays in, arrays out; knows no model. A sequence is a first token and `n` different tokens, twice. Token `t` of the
second copy has its induction place at token `t + 1` of the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

LEAST = 1e-30
"""Attention below this counts as this, so that its logarithm is finite."""

LEAST_SPENT = 1e-6
"""A head that leaves less attention than this to all tokens but the first looks at none of them."""


def induction_places(attention: Tensor, n_random: int) -> Tensor:
    """The attention of the second copy on its induction places: Float[Tensor, "n_sequences n_heads n_random-1"]."""
    import torch

    n, t = n_random, torch.arange(n_random - 1)
    return attention[:, :, n + 1 : 2 * n][..., t, t + 2]


def induction_contrast(attention: Tensor, n_random: int) -> np.ndarray:
    """How much more a head looks at the induction place than at the rest of the first copy.

    `mean over t of (log a_t,t+1 - mean over other j of log a_tj)`, for `j` in the first copy. That is a difference of
    scores before the softmax, in nats: what a head does with the first token, or with the second copy, does not matter.

    Args:
        attention: Float[Tensor, "n_sequences n_heads n_tokens n_tokens"].
        n_random: different tokens of a sequence.

    Returns:
        Float64[ndarray, "n_sequences n_heads"].
    """
    found = induction_places(attention, n_random).double().clamp(min=LEAST).log()
    rows = attention[:, :, n_random + 1 : 2 * n_random, 1 : n_random + 1].double().clamp(min=LEAST).log()
    others = (rows.sum(-1) - found) / (n_random - 1)
    return (found - others).mean(-1).cpu().numpy()


def induction_share(attention: Tensor, n_random: int) -> np.ndarray:
    """The attention on the induction place, as a share of what is not on the first token, 0 to 1.

    Predicted attention is too often on the first token, which says nothing about induction. A token that leaves less
    than LEAST_SPENT to the others counts as 0. Arguments as for `induction_contrast`.
    """
    found = induction_places(attention, n_random).double()
    spent = attention[:, :, n_random + 1 : 2 * n_random, 1:].double().sum(-1)
    return (found / spent).where(spent >= LEAST_SPENT, 0).mean(-1).cpu().numpy()


def p_of_random(found: np.ndarray, random: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How often random pairs are at least as strong as those found.

    Strengths are compared in standard deviations above the mean of the random pairs of their own group (the same two
    layers), and counted over the random pairs of all groups: `p = (1 + n_at_least) / (1 + n_random)`. In a group whose
    random pairs are all the same, nothing is strong.

    Args:
        found: strengths, Float64[ndarray, "n_found"].
        random: of random pairs, Float64[ndarray, "n_groups n_draws"]; NaN is left out.
        groups: the group of each that was found, Int[ndarray, "n_found"].

    >>> import numpy as np
    >>> p_of_random(np.array([9.0, 1.0]), np.array([[0.0, 1.0, 2.0]]), np.array([0, 0]))
    array([0.25, 0.75])
    """
    import numpy as np

    mean, spread = np.nanmean(random, 1, keepdims=True), np.nanstd(random, 1, keepdims=True)
    varies = spread > 1e-9
    scale = np.where(varies, spread, np.inf)
    drawn = np.sort(((random - mean) / scale)[np.isfinite(random)])
    z = (found - mean[groups, 0]) / scale[groups, 0]
    # Rounding decides no tie: a strength at most this much below a random one is as strong.
    at_least = len(drawn) - np.searchsorted(drawn, z - 1e-9)
    return (1 + at_least) / (1 + len(drawn))
