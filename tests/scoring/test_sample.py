"""The sample of the vocabulary: its tokens, and limits that never exclude a hit."""

import pytest
import torch

from headatlas.scoring.sample import LIMIT_GROUPS, find_limits, sample_tokens


@pytest.mark.parametrize("d_vocab", [3, 61, 4_003, 50_257, 262_147])
def test_sampled_tokens_are_distinct_and_half_of_them_denser_among_low_ids(d_vocab):
    ids = sample_tokens(torch.randn(d_vocab, 2, generator=torch.Generator().manual_seed(3)))
    assert len(ids) % LIMIT_GROUPS == 0 and (ids.diff() > 0).all()
    assert not len(ids) or (ids[0] >= 0 and ids[-1] < d_vocab and (ids < d_vocab // 2).float().mean() > 0.6)


def test_tokens_far_from_the_mean_row_are_sampled():
    W_U = torch.randn(50_257, 7, generator=torch.Generator().manual_seed(4)) + 100
    far = torch.arange(25_000, 50_257, 251)
    W_U[far] = 100 + 3 * (W_U[far] - 100)
    W_U[30_000:30_100] = 100  # near the mean, although they are long
    ids = sample_tokens(W_U)
    assert torch.isin(far, ids).float().mean() > 0.7
    assert not torch.isin(torch.arange(30_000, 30_100), ids).any()


@pytest.mark.parametrize("k", [1, 3, LIMIT_GROUPS, LIMIT_GROUPS + 1])
def test_limits_exclude_no_hit(k):
    g = torch.Generator().manual_seed(1)
    value, W_O, W_U = (torch.randn(*shape, generator=g) for shape in ((31, 7), (7, 23), (4_003, 23)))
    sample = W_U[sample_tokens(W_U)].T.contiguous()
    limits = find_limits(sample, value, W_O, torch.full((31,), 1e-3), torch.zeros(31, dtype=torch.bool), [k])[k]
    logits = value @ W_O @ W_U.T
    assert (limits.highest <= logits.topk(k, dim=1).values[:, -1]).all()
    assert (limits.lowest >= logits.topk(k, dim=1, largest=False).values[:, -1]).all()
    assert torch.isfinite(limits.highest).all() == (k <= LIMIT_GROUPS)


@pytest.mark.parametrize("sampled", [True, False])
def test_a_head_that_writes_nothing_gets_limits_that_no_target_reaches(sampled):
    value = torch.randn(31, 7, generator=torch.Generator().manual_seed(2))
    silent = torch.arange(31) == 5
    sample = torch.ones(23, 640) if sampled else None
    limits = find_limits(sample, value, torch.ones(7, 23), torch.zeros(31), silent, [3])[3]
    assert limits.highest[5] == torch.inf and limits.lowest[5] == -torch.inf
    assert (limits.highest < torch.inf).sum() == 30
