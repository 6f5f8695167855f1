"""What a sample of the vocabulary decides: it shows most targets to be no hits, without a look at all tokens.

Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from headatlas.scoring.layer_heads import Limits
from headatlas.scoring.scan import BLOCK_ELEMENTS

SAMPLE_SIZE = 512, 1536
"""Fewest and most tokens of the sample; between these limits it is SAMPLE_SHARE of the vocabulary. A smaller sample
takes less time for every source, and leaves more pairs open, the more the larger the vocabulary and k are."""

SAMPLE_SHARE = 1 / 96

ROWS_AT_ONCE = 16_384

LIMIT_GROUPS = 64
"""Parts of the sample, each of which counts as one token in the search for the k-th highest logit."""


def sample_tokens(W_U: Tensor) -> Tensor:
    """Ascending ids of the sampled tokens; LIMIT_GROUPS divides their number.

    Half of the sample is denser among low ids, which most tokenizers give to common words: these beat a target more
    often. The other half are the tokens whose rows are farthest from the mean row, which have the most extreme logits.
    On the demo model this leaves half as many pairs open as an even sample does, and the second half as many again.

    Args:
        W_U: unembedding as rows, Float[Tensor, "d_vocab d_model"].
    """
    d_vocab = len(W_U)
    fewest, most = SAMPLE_SIZE
    number = min(max(round(d_vocab * SAMPLE_SHARE), fewest), most)
    share = (torch.arange(number // 2) + 0.5) / (number // 2)
    common = (d_vocab * share**3).long().unique().to(W_U.device)
    mean = W_U.mean(0)
    distance = torch.cat([torch.linalg.vector_norm(rows - mean, dim=1) for rows in W_U.split(ROWS_AT_ONCE)])
    distance[common] = -1
    ids = torch.cat([common, distance.topk(min(number, d_vocab) - len(common)).indices])
    return ids[: len(ids) // LIMIT_GROUPS * LIMIT_GROUPS].sort().values


def find_limits(
    sample: Tensor | None, value: Tensor, W_O: Tensor | None, margin: Tensor, silent: Tensor, ks: Sequence[int]
) -> dict[int, Limits]:
    """The limits of one head for each k.

    Args:
        sample: the rows of W_U of the sampled tokens, transposed: Float[Tensor, "d_model n_sampled"]; None for a
            vocabulary that is too small to sample.
        value: Float[Tensor, "n_sources d_head"].
        W_O: Float[Tensor, "d_head d_model"]; None for values that are outputs already (d_head = d_model).
        margin: the difference beyond which the order of two logits is certain, Float[Tensor, "n_sources"].
        silent: sources for which the head writes nothing at all, Bool[Tensor, "n_sources"]: all tokens tie, and none
            is a hit.
        ks: each at least 1. Above LIMIT_GROUPS the sample decides nothing.
    """
    nothing = torch.where(silent, torch.inf, -torch.inf).to(margin.dtype)
    if sample is None:
        return {k: Limits(nothing, -nothing) for k in ks}
    projected = sample if W_O is None else W_O @ sample
    most = min(max(ks), LIMIT_GROUPS)
    highest, lowest = [], []
    for rows in value.split(max(1, BLOCK_ELEMENTS // projected.shape[1])):
        logits = (rows @ projected).view(len(rows), projected.shape[1] // LIMIT_GROUPS, LIMIT_GROUPS)
        highest.append(logits.amax(1).topk(most, dim=1).values)
        lowest.append(logits.amin(1).topk(most, dim=1, largest=False).values)
    upper, lower = torch.cat(highest), torch.cat(lowest)
    # A group counts as one token, so that at least k tokens reach the k-th highest group.
    return {
        k: Limits(
            (upper[:, k - 1] - margin).masked_fill(silent, torch.inf),
            (lower[:, k - 1] + margin).masked_fill(silent, -torch.inf),
        )
        if k <= LIMIT_GROUPS
        else Limits(nothing, -nothing)
        for k in ks
    }
