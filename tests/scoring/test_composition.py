"""Induction in arrays of attention, against plain loops, and p-values against random pairs."""

import numpy as np
import pytest
import torch

from headatlas.scoring.composition import induction_contrast, induction_places, induction_share, p_of_random

N = 7


@pytest.fixture
def attention():
    """Of 3 sequences of a first token and 7 tokens twice, and 2 heads."""
    scores = torch.randn(3, 2, 2 * N + 1, 2 * N + 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return scores.masked_fill(~torch.ones(2 * N + 1, 2 * N + 1, dtype=torch.bool).tril(), -torch.inf).softmax(-1)


def test_both_measures_are_those_of_a_plain_loop(attention):
    for sequence in range(3):
        for head in range(2):
            a, shares, contrasts = attention[sequence, head].numpy(), [], []
            for t in range(1, N):  # the token of the second copy is at N + t, that behind its first copy at t + 1
                row = a[N + t]
                shares.append(row[t + 1] / row[1:].sum())
                others = [np.log(row[j]) for j in range(1, N + 1) if j != t + 1]
                contrasts.append(np.log(row[t + 1]) - np.mean(others))
            assert induction_share(attention, N)[sequence, head] == pytest.approx(np.mean(shares))
            assert induction_contrast(attention, N)[sequence, head] == pytest.approx(np.mean(contrasts))


def test_a_head_that_looks_there_alone(attention):
    attention[:] = 1e-40
    for t in range(1, N):
        attention[:, :, N + t, t + 1] = 1
    assert induction_share(attention, N) == pytest.approx(1)
    assert induction_places(attention, N).shape == (3, 2, N - 1)
    assert np.isfinite(induction_contrast(attention, N)).all() and (induction_contrast(attention, N) > 60).all()


@pytest.mark.parametrize(("left", "share"), [(1e-5, 1), (1e-7, 0), (0, 0)])
def test_a_head_that_never_leaves_the_first_token_is_no_induction_head(attention, left, share):
    attention[:] = 0
    attention[:, :, :, 0] = 1 - left
    for t in range(1, N):
        attention[:, :, N + t, t + 1] = left
    assert induction_share(attention, N) == pytest.approx(share)


def test_p_values_are_of_the_own_group():
    random = np.stack([np.linspace(-1, 1, 99), 100 * np.linspace(-1, 1, 99)])
    p = p_of_random(np.array([2.0, 2.0, 200.0, -300.0]), random, np.array([0, 1, 1, 1]))
    # In the second group, 2 is an ordinary strength: 49 random pairs of each group are above it.
    assert p == pytest.approx([1 / 199, 99 / 199, 1 / 199, 1])


def test_nothing_is_strong_where_random_pairs_are_all_the_same():
    p = p_of_random(np.array([5.0, 90.0]), np.array([[0.0] * 50, [*range(50)]]), np.array([0, 1]))
    assert p[0] > 0.5 > p[1]


def test_missing_random_pairs_are_left_out():
    known = np.array([[0.0, 1.0, 2.0]])
    with_nan = np.array([[0.0, 1.0, np.nan, 2.0]])
    found, groups = np.array([1.5]), np.array([0])
    assert p_of_random(found, with_nan, groups) == pytest.approx(p_of_random(found, known, groups))
