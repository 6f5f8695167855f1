"""Ranks of single targets against the plain count, with ties and logits that float32 cannot distinguish."""

import pytest
import torch

from headatlas.scoring import TargetRanks, ranks

N, D_MODEL, D_VOCAB = 31, 23, 397


@pytest.fixture
def arrays():
    generator = torch.Generator().manual_seed(7)
    outputs = torch.randn(N, D_MODEL, generator=generator, dtype=torch.float64)
    W_U = torch.randn(D_VOCAB, D_MODEL, generator=generator)
    targets = torch.randint(D_VOCAB, (N,), generator=generator)
    return outputs, W_U, targets


def plain(outputs, W_U, targets):
    logits = (outputs[:, None] * W_U.double()[None]).sum(-1)
    own = logits.gather(1, targets[:, None])
    return (logits >= own).sum(1)  # the target itself makes the 1


@pytest.mark.parametrize("at_once", [1, 3 * D_VOCAB, 2**25])
def test_ranks_are_those_of_the_plain_count(arrays, monkeypatch, at_once):
    monkeypatch.setattr(ranks, "LOGITS_AT_ONCE", at_once)
    outputs, W_U, targets = arrays
    assert torch.equal(TargetRanks(W_U).of(1e30 * outputs, targets), plain(*arrays))


def test_ties_count_against_the_target(arrays):
    outputs, W_U, targets = arrays
    W_U[100:140] = W_U[100]
    targets[:] = 117
    found = TargetRanks(W_U).of(outputs, targets)
    assert torch.equal(found, plain(outputs, W_U, targets))
    assert found.min() >= 40
    assert TargetRanks(W_U).of(torch.zeros(1, D_MODEL, dtype=torch.float64), targets[:1]).tolist() == [D_VOCAB]


def test_float64_decides_close_calls(arrays):
    outputs, W_U, targets = arrays
    W_U[200:260] = W_U[100] * (1 + 1e-7 * torch.arange(-30, 30))[:, None]
    targets[:] = 230
    assert torch.equal(TargetRanks(W_U).of(outputs, targets), plain(outputs, W_U, targets))
