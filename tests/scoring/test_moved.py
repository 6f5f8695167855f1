"""How far logits move: the fast form agrees with the logits themselves."""

import torch

from headatlas.scoring.moved import movement, vocabulary_products


def test_it_is_the_spread_of_the_difference_of_logits(monkeypatch):
    monkeypatch.setattr("headatlas.scoring.moved.ROWS", 4)
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(2, 5, 3, generator=generator) for _ in range(2)]
    outputs = [torch.randn(4, 3, 7, generator=generator) for _ in range(2)]
    W_U = [torch.randn(11, 7, generator=generator) + 2 for _ in range(2)]
    one, two = W_U
    products = vocabulary_products(one, one), vocabulary_products(one, two), vocabulary_products(two, two)
    found = movement((values[0], values[1]), (outputs[0], outputs[1]), products, [0, 0, 1, 1])
    for head, kv_head in enumerate([0, 0, 1, 1]):
        logits = [
            v[kv_head].double() @ o[head].double() @ u.T.double() for v, o, u in zip(values, outputs, W_U, strict=True)
        ]
        expected = (logits[1] - logits[0]).std(-1, correction=0)
        torch.testing.assert_close(found[head], expected)


def test_what_does_not_differ_does_not_move():
    generator = torch.Generator().manual_seed(0)
    values, outputs = torch.randn(2, 5, 3, generator=generator), torch.randn(4, 3, 7, generator=generator)
    own = vocabulary_products(outputs[0], outputs[0])
    found = movement((values, values), (outputs, outputs), (own, own, own), [0, 0, 1, 1])
    assert not found.any()
