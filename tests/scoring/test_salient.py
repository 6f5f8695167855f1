"""Salient operations against the plain formula, ties, planted outputs and tokens that are left out."""

import pytest
import torch

from headatlas.scoring import extreme_logits, most_amplified, salient

N_INPUTS, D_MODEL, D_HEAD, D_VOCAB = 211, 23, 7, 397
KV_HEAD = [0, 0, 0, 1, 1, 1]


@pytest.fixture
def layer():
    generator = torch.Generator().manual_seed(3)
    x, W_V, W_O, W_U = (
        torch.randn(*shape, generator=generator)
        for shape in ((N_INPUTS, D_MODEL), (2, D_MODEL, D_HEAD), (6, D_HEAD, D_MODEL), (D_VOCAB, D_MODEL))
    )
    return x, W_V, W_O, W_U


def plain_amplification(x, W_V, W_O):
    outputs = torch.stack([x.double() @ W_V[kv].double() @ W_O[head].double() for head, kv in enumerate(KV_HEAD)])
    return outputs, outputs.norm(dim=-1) / x.double().norm(dim=-1)


def test_amplification_is_that_of_the_plain_formula(layer, monkeypatch):
    monkeypatch.setattr(salient, "BLOCK", 19)
    x, W_V, W_O, _ = layer
    outputs, plain = plain_amplification(x, W_V, W_O)
    rows, amplification, found = most_amplified(x, x.norm(dim=-1), W_V, W_O, KV_HEAD, 13)
    expected = plain.sort(descending=True)
    assert torch.equal(rows, expected.indices[:, :13])
    torch.testing.assert_close(amplification, expected.values[:, :13], rtol=1e-6, atol=0)
    torch.testing.assert_close(found, torch.stack([outputs[head, rows[head]] for head in range(6)]))


@pytest.mark.parametrize("n_equal", [5, 190])
def test_equal_inputs_come_in_their_order(layer, monkeypatch, n_equal):
    monkeypatch.setattr(salient, "MOST_PROPOSED", 100)
    x, W_V, W_O, _ = layer
    x[11 : 11 + n_equal] = 9 * x[11]
    _, plain = plain_amplification(x, W_V, W_O)
    rows, _, _ = most_amplified(x, x.norm(dim=-1), W_V, W_O, KV_HEAD, 60)
    expected = plain.argsort(dim=-1, descending=True, stable=True)[:, :60]
    for head in range(6):
        equal = [row for row in rows[head].tolist() if 11 <= row < 11 + n_equal]
        assert equal == list(range(11, 11 + len(equal)))
        assert {row for row in rows[head].tolist() if row not in equal} <= set(expected[head].tolist())
    assert any(11 in row for row in rows.tolist())


def test_float32_does_not_decide_the_order(layer):
    """Two inputs whose amplifications differ by less than float32 can show."""
    x, W_V, W_O, _ = layer
    x[7] = x[3]
    x[7, 0] *= 1 + 2e-7
    _, plain = plain_amplification(x, W_V, W_O)
    lengths = x.double().norm(dim=-1)
    rows, _, _ = most_amplified(x, lengths, W_V, W_O, KV_HEAD, N_INPUTS)
    assert torch.equal(rows, plain.argsort(dim=-1, descending=True, stable=True))


@pytest.mark.parametrize("at_once", [1, 5 * D_VOCAB, 2**25])
def test_logits_are_those_of_the_whole_vocabulary(layer, monkeypatch, at_once):
    monkeypatch.setattr(salient, "LOGITS_AT_ONCE", at_once)
    monkeypatch.setattr(salient, "CHUNK", 8)
    x, W_V, W_O, W_U = layer
    outputs, _ = plain_amplification(x, W_V, W_O)
    left_out = torch.tensor([0, *range(5, 300), D_VOCAB - 1])
    logits = outputs[2] @ W_U.double().T
    kept = torch.ones(D_VOCAB, dtype=torch.bool)
    kept[left_out] = False
    ids = kept.nonzero()[:, 0]
    highest, lowest = extreme_logits(1e25 * outputs[2], W_U, left_out, 5)
    assert torch.equal(highest, ids[logits[:, kept].argsort(dim=-1, descending=True)[:, :5]])
    assert torch.equal(lowest, ids[logits[:, kept].argsort(dim=-1)[:, :5]])


def test_equal_logits_come_in_the_order_of_ids(layer):
    x, W_V, W_O, W_U = layer
    outputs, _ = plain_amplification(x, W_V, W_O)
    W_U[[40, 300, 17]] = 50 * W_U[17]
    highest, lowest = extreme_logits(outputs[0], W_U, torch.tensor([], dtype=torch.int64), 3)
    found = [row for row in [*highest.tolist(), *lowest.tolist()] if 40 in row]
    assert len(found) > N_INPUTS / 2
    for row in found:
        equal = [token for token in row if token in (17, 40, 300)]
        assert equal == [17, 40, 300][: len(equal)]


def test_a_planted_output_gives_its_token(layer):
    *_, W_U = layer
    W_U = W_U / W_U.norm(dim=-1, keepdim=True)
    highest, lowest = extreme_logits(torch.stack([W_U[123], -W_U[77]]).double(), W_U, torch.tensor([5]), 4)
    assert highest[0, 0] == 123
    assert lowest[1, 0] == 77
