"""Pairs that a vector in the place of a head's output hits: against full sorting, and as the identity's head."""

import pytest
import torch

from headatlas.scoring import MISS, Copying, RankSearch, hit_by_vectors

D_MODEL, N_SOURCES, N_PAIRS = 23, 31, 211


def make_case(d_vocab=20_011, seed=0, rounded=False):
    """Vectors of which a third lie close to their targets; whole numbers with `rounded`, so that logits tie."""
    g = torch.Generator().manual_seed(seed)
    W_U, x = torch.randn(d_vocab, D_MODEL, generator=g), torch.randn(N_SOURCES, D_MODEL, generator=g)
    source = torch.randint(N_SOURCES, (N_PAIRS,), generator=g)
    target = torch.randint(d_vocab, (N_PAIRS,), generator=g)
    W_U[target[::3]] += x[source[::3]]
    if rounded:
        W_U, x = W_U.round(), x.round()
    return W_U, x, source, target, torch.tensor([1, 10, 25]).repeat(N_PAIRS)[:N_PAIRS]


def by_sorting(W_U, x, source, target, k):
    logits = x.double() @ W_U.double().T
    others = [int((row >= row[at]).sum()) - 1 for row, at in zip(logits[source], target.tolist(), strict=True)]
    return torch.tensor(others) < k


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("d_vocab", [499, 20_011])
@pytest.mark.parametrize("threads", [1, 3])
def test_hits_are_those_of_full_sorting(d_vocab, rounded, threads):
    case = make_case(d_vocab, rounded=rounded)
    W_U, x, source, target, k = case
    found = hit_by_vectors(RankSearch(W_U, source, target, k, threads), x)
    expected = by_sorting(*case)
    assert torch.equal(found, expected) and 0 < expected.sum() < N_PAIRS


def test_hits_are_those_of_a_head_that_is_the_identity():
    W_U, x, source, target, k = make_case()
    search, identity = RankSearch(W_U, source, target, k), torch.eye(D_MODEL)[None]
    promoted, _ = search.pairs(search.heads(x, identity, identity, [0]))
    assert torch.equal(hit_by_vectors(search, x), promoted[0] != MISS)


def test_only_the_wanted_pairs_are_decided():
    W_U, x, source, target, k = make_case()
    search = RankSearch(W_U, source, target, k)
    wanted = torch.arange(N_PAIRS) % 2 == 0
    whole, before = hit_by_vectors(search, x), search.work.logits
    half = hit_by_vectors(search, x, wanted)
    assert torch.equal(half, whole & wanted)
    assert search.work.logits - before < before
    assert not hit_by_vectors(search, x, torch.zeros(N_PAIRS, dtype=torch.bool)).any()


def test_a_vector_of_zeros_hits_nothing():
    W_U, x, source, target, k = make_case()
    assert not hit_by_vectors(RankSearch(W_U, source, target, k), torch.zeros_like(x)).any()


def test_copying_is_what_any_vector_of_the_word_or_the_layers_input_hits():
    W_U, x, source, target, k = make_case()
    search, g = RankSearch(W_U, source, target, k), torch.Generator().manual_seed(5)
    gain = torch.exp(torch.randn(D_MODEL, generator=g))
    vectors = [x, x * gain, x / gain]
    hits = [hit_by_vectors(search, each) for each in vectors]
    assert all((hits[at] & ~hits[other]).any() for at, other in ((0, 1), (1, 0), (2, 0), (2, 1)))
    copying = Copying(search, vectors[:2])
    assert torch.equal(copying.by_word, hits[0] | hits[1])
    padded = torch.nn.functional.pad(vectors[2], (0, 1), value=1.0)  # a column for the bias of the values
    for of_layer, expected in ((padded, hits[0] | hits[1] | hits[2]), (x, hits[0] | hits[1])):
        assert torch.equal(copying.layer(of_layer), expected) and torch.equal(copying.layer(of_layer), expected)
