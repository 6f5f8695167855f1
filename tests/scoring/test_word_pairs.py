"""Preferences and pairs against plain arithmetic, and on text against a fit by least squares."""

import math

import pytest
import torch

from headatlas.scoring.word_pairs import products, strongest_keys, strongest_pairs, take_apart, take_apart_text


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_what_a_query_adds_to_all_keys_changes_nothing():
    scores, of_query, of_key = random(3, 7, 7), random(3, 7, 1, seed=1), random(3, 1, 7, seed=2)
    preference, pairs = take_apart(scores)
    assert float(pairs.mean(1).abs().max()) < 1e-6 and float(pairs.mean(2).abs().max()) < 1e-6
    assert float(preference.mean(-1).abs().max()) < 1e-6
    changed, same = take_apart(scores + of_query + of_key)
    torch.testing.assert_close(same, pairs, rtol=0, atol=1e-5)
    torch.testing.assert_close(changed - preference, (of_key - of_key.mean(-1, keepdim=True))[:, 0], rtol=0, atol=1e-5)


def test_uniform_attention_prefers_nothing():
    preference, pairs = take_apart(torch.full((2, 5, 5), math.log(0.2)))
    assert float(preference.abs().max()) < 1e-6 and float(pairs.abs().max()) < 1e-6


def test_the_queries_that_look_for_something_most():
    pairs = torch.zeros(1, 5, 5)
    pairs[0, 3, 1], pairs[0, 3, 4], pairs[0, 0, 2] = 5, 3, 4
    queries, scores, keys = strongest_pairs(pairs, 2, 2)
    assert queries.tolist() == [[3, 0]]
    assert keys.tolist() == [[[1, 4], [2, 0]]] and scores.tolist() == [[[5, 3], [4, 0]]]
    assert strongest_keys(torch.tensor([[1.0, 2.0, 2.0]]), 2)[1].tolist() == [[1, 2]]


def test_a_text_is_taken_apart_as_by_least_squares():
    n = 23
    scores = random(2, n, n)
    seen = torch.ones(n, n, dtype=torch.bool).tril(-1)
    seen[:, 5] = False
    preference, pairs = take_apart_text(scores, seen)
    rows, columns = seen.nonzero(as_tuple=True)
    steps = (rows - columns).float().log2().floor().long()
    one_hot = [torch.nn.functional.one_hot(each).double() for each in (rows, columns, steps)]
    design = torch.cat(one_hot, 1)
    for head in range(2):
        values = scores[head][seen].double()
        fitted = torch.linalg.lstsq(design, values, driver="gelsd").solution
        expected = values - design @ fitted
        found = pairs[head][seen].double()
        assert float(torch.corrcoef(torch.stack([found, expected]))[0, 1]) > 0.995
    assert float(pairs[:, ~seen].abs().max()) == 0 and float(preference[:, [5, n - 1]].abs().max()) == 0
    weight = seen.sum(0)
    assert float((preference * weight).sum(1).abs().max()) < 1e-4


def test_a_key_that_is_looked_for_whoever_asks_is_found_on_text():
    n = 31
    seen = torch.ones(n, n, dtype=torch.bool).tril(-1)
    at = torch.arange(n)
    scores = 0.1 * random(1, n, n) - 0.3 * (at[:, None] - at).clamp_min(1).log2().floor() + random(1, n, 1, seed=1)
    scores[:, :, 7] += 3
    preference, pairs = take_apart_text(scores, seen)
    assert int(preference[0].argmax()) == 7 and float(preference[0, 7]) == pytest.approx(3, abs=0.5)
    assert float(pairs.abs().max()) < 0.6


def test_products_are_those_of_a_correlation():
    one, other = random(2, 40), random(2, 40, seed=1)
    one, other = (each - each.mean(-1, keepdim=True) for each in (one, other))
    both, squares, others = products(one, other)
    for head in range(2):
        r = torch.corrcoef(torch.stack([one[head], other[head]]))[0, 1]
        assert float(both[head] / (squares[head] * others[head]).sqrt()) == pytest.approx(float(r), abs=1e-6)
    twice = products(torch.cat([one, one], 1), torch.cat([other, other], 1))
    torch.testing.assert_close(products(one, other, torch.full((40,), 2)), twice)
