"""The correlation of predicted with real attention scores, against scores that are known."""

import numpy as np
import torch

from headatlas.scoring.agreement import pooled_correlation, score_products

N, HEADS, TOKENS = 3, 5, 11
VISIBLE = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril().expand(N, -1, -1)


def attention_of(scores):
    return scores.masked_fill(~VISIBLE[:, None], -torch.inf).softmax(-1)


def random_scores(seed):
    return torch.randn(N, HEADS, TOKENS, TOKENS, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_correlation_of_scores_without_the_mean_of_their_rows():
    s, t = random_scores(0), random_scores(1) + random_scores(0)
    r, low, high = pooled_correlation(score_products(attention_of(s), attention_of(t), VISIBLE).numpy())
    for head in range(HEADS):
        ours, theirs = [], []
        for sequence in range(N):
            for row in range(1, TOKENS):
                one, other = s[sequence, head, row, : row + 1], t[sequence, head, row, : row + 1]
                ours += (one - one.mean()).tolist()
                theirs += (other - other.mean()).tolist()
        expected = float(np.dot(ours, theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs))
        assert abs(r[head] - expected) < 1e-5
    assert (low <= r).all() and (r <= high).all()


def test_shifts_and_factors_of_rows_do_not_matter_and_signs_do():
    s = random_scores(2)
    shifted = 0.5 * s + random_scores(3)[..., :1]
    for other, expected in ((shifted, 1.0), (-s, -1.0)):
        r, *_ = pooled_correlation(score_products(attention_of(s), attention_of(other), VISIBLE).numpy())
        assert np.allclose(r, expected, atol=1e-4)


def test_uniform_attention_agrees_with_nothing():
    flat = attention_of(torch.zeros(N, HEADS, TOKENS, TOKENS))
    products = score_products(flat, attention_of(random_scores(4)), VISIBLE).numpy()
    assert (products[1] < 1e-6 * products[2]).all()


def test_hidden_tokens_and_the_first_row_do_not_count():
    s = random_scores(5)
    window = VISIBLE & ~VISIBLE.roll(4, 1)
    hidden = attention_of(s)
    changed = torch.where(window[:, None], hidden, torch.rand(hidden.shape))
    changed[:, :, 0] = 0.5
    assert torch.allclose(score_products(hidden, hidden, window), score_products(changed, changed, window))


def test_a_head_without_scores_has_no_correlation():
    r, low, high = pooled_correlation(np.zeros((3, N, 2)))
    assert np.isnan(r).all() and np.isnan(low).all() and np.isnan(high).all()
