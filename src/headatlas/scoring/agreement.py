"""How far predicted attention agrees with real attention: Pearson's correlation of the scores before the softmax.

Arrays in, arrays out; knows no model. The logarithm of a row of attention is its scores up to a constant, which is
taken off: `s_ij = log a_ij - mean over j of log a_ij`, over the tokens that the row may see. Per head and over all
rows, `r = sum s_ij t_ij / sqrt(sum s_ij^2 sum t_ij^2)`, for real scores `s` and predicted scores `t`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

RESAMPLED = 1000
"""Bootstrap samples of an interval."""


def score_products(real: Tensor, predicted: Tensor, visible: Tensor) -> Tensor:
    """The three sums that `r` is made of, for each sequence and head: Float64[Tensor, "3 n_sequences n_heads"].

    Rows count from the second token on, with the first token among those that they see.

    Args:
        real, predicted: attention of one layer, Float[Tensor, "n_sequences n_heads n_tokens n_tokens"].
        visible: the tokens that each may see, Bool[Tensor, "n_sequences n_tokens n_tokens"].
    """
    import torch

    s, t = (_centred(each, visible) for each in (real, predicted))
    return torch.stack([(one * other).sum((-1, -2), dtype=torch.float64) for one, other in ((s, t), (s, s), (t, t))])


def _centred(attention: Tensor, visible: Tensor) -> Tensor:
    import torch

    rows = visible[:, None].clone()
    rows[:, :, 0] = False
    scores = attention.float().clamp_min(torch.finfo(torch.float32).tiny).log()
    mean = (scores * rows).sum(-1, keepdim=True) / rows.sum(-1, keepdim=True).clamp_min(1)
    return (scores - mean) * rows


def pooled_correlation(products: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per head: `r` over all sequences, and a 95 % bootstrap interval over sequences; NaN if a head's rows are flat.

    Args:
        products: of `score_products`, Float64[ndarray, "3 n_sequences ..."].
    """
    import numpy as np

    n = products.shape[1]
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLED).astype(float)
    weights = np.concatenate([np.ones((1, n)), drawn])
    both, real, predicted = np.einsum("wn,cn...->cw...", weights, products)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = both / np.sqrt(real * predicted)
    r[~np.isfinite(r)] = np.nan
    low, high = np.quantile(r[1:], [0.025, 0.975], axis=0) if n > 1 else np.full((2, *r.shape[1:]), np.nan)
    return r[0], low, high
