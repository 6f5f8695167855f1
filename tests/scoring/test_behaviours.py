"""Shares of attention by behaviour: against the plainest loop, and against shuffles."""

import math

import numpy as np
import pytest
import torch

from headatlas.scoring.behaviours import (
    ON_RANDOM,
    ON_TEXT,
    find_matches,
    find_text_matches,
    mean_interval,
    measure_rows,
    p_values,
)
from reference import looked_at

N_SEQUENCES, N_HEADS, N_TOKENS = 2, 3, 79


def make_rows(window=N_TOKENS, spent=1.0, seed=0):
    """Random attention within a window: ids, attention, visible tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(11, (N_SEQUENCES, N_TOKENS), generator=generator)
    scores = 3 * torch.randn(N_SEQUENCES, N_HEADS, N_TOKENS, N_TOKENS, generator=generator)
    at = torch.arange(N_TOKENS)
    back = at[:, None] - at
    visible = ((back >= 0) & (back < window)).expand(N_SEQUENCES, -1, -1)
    attention = scores.masked_fill(~visible[:, None], float("-inf")).softmax(-1) * spent
    return ids, attention, visible


@pytest.mark.parametrize("window, spent", [(N_TOKENS, 1.0), (13, 1.0), (13, 0.7), (N_TOKENS, 0.7)])
def test_shares_are_those_of_the_plain_loop(window, spent):
    ids, attention, visible = make_rows(window, spent)
    words, delimiters = ids // 2 - 1, ids == 7
    matches = find_text_matches(ids, words, delimiters) | find_matches(ids)
    found = measure_rows(attention, visible, matches)
    for s, h in np.ndindex(N_SEQUENCES, N_HEADS):
        a = attention[s, h].double()
        entropies, distances, spread_distances, weights = [], [], [], []
        for number, name in enumerate(matches):
            shares, chances, variances = [], [], []
            for i in range(1, N_TOKENS):
                seen = [j for j in range(N_TOKENS) if visible[s, i, j]]
                rest = [a[i, j].item() for j in seen if j > 0]
                if name == "sink":
                    numbers = [a[i, 0].item()] if 0 in seen else []
                    numbers += [1 - a[i].sum().item()] if spent < 1 else []
                    m, share, rest = len(numbers), sum(numbers), rest + numbers
                else:
                    named = [j for j in looked_at(name, ids[s], words[s], delimiters[s], i) if j in seen]
                    m, share = len(named), sum(a[i, j].item() for j in named)
                if m:
                    n = len(rest)
                    shares.append(share)
                    chances.append(m * np.mean(rest))
                    variances.append(np.var(rest) * m * (n - m) / max(1, n - 1))
            assert found.rows[s, number] == len(shares)
            if not shares:
                assert np.isnan(found.share[s, h, number])
                continue
            assert found.share[s, h, number] == pytest.approx(np.mean(shares), abs=1e-6)
            assert found.chance[s, h, number] == pytest.approx(np.mean(chances), abs=1e-6)
            assert found.variance[s, h, number] == pytest.approx(np.sum(variances) / len(shares) ** 2, rel=1e-4)
        for i in range(1, N_TOKENS):
            seen = [j for j in range(N_TOKENS) if visible[s, i, j]]
            numbers = [a[i, j].item() for j in seen] + ([1 - a[i].sum().item()] if spent < 1 else [])
            entropies.append(-sum(x * math.log(x) for x in numbers if x > 0) / math.log(len(numbers)))
            rest = [j for j in seen if j > 0]
            weights.append(sum(a[i, j].item() for j in rest))
            distances.append(sum(a[i, j].item() * (i - j) for j in rest))
            spread_distances.append(weights[-1] * np.mean([i - j for j in rest]))
        assert found.entropy[s, h] == pytest.approx(np.mean(entropies), rel=1e-5)
        assert found.distance[s, h] == pytest.approx(sum(distances) / sum(weights), rel=1e-5)
        assert found.distance_chance[s, h] == pytest.approx(sum(spread_distances) / sum(weights), rel=1e-5)


def test_chance_is_the_mean_over_shuffles():
    ids, attention, visible = make_rows(seed=1)
    matches = find_matches(ids)
    found = measure_rows(attention, visible, matches)
    generator = torch.Generator().manual_seed(2)
    draws = []
    for _ in range(200):
        shuffled = attention.clone()
        for i in range(2, N_TOKENS):
            order = 1 + torch.randperm(i, generator=generator)
            shuffled[:, :, i, 1 : i + 1] = attention[:, :, i, order]
        draws.append(measure_rows(shuffled, visible, matches).share)
    for number, name in enumerate(matches):
        if name != "sink":
            mean, variance = np.mean(draws, 0)[..., number], np.var(draws, 0)[..., number]
            error = np.sqrt(found.variance[..., number] / len(draws))
            assert (abs(mean - found.chance[..., number]) < 4 * error).all(), name
            assert variance == pytest.approx(found.variance[..., number], rel=0.5), name


def test_distances_and_the_sink_add_up():
    ids, attention, visible = make_rows(spent=0.8)
    found = measure_rows(attention, visible, find_text_matches(ids, ids, ids < 0))
    at = {name: number for number, name in enumerate(ON_TEXT)}
    whole = {name: found.share[..., number] * found.rows[:, None, number] for name, number in at.items()}
    parts = sum(whole[name] for name in ("self", "previous", "near", "middle", "long", "sink"))
    assert parts == pytest.approx(np.full(parts.shape, N_TOKENS - 1), rel=1e-6)
    assert whole["local"] == pytest.approx(whole["previous"] + whole["near"])


def test_uniform_attention_is_chance():
    ids, _, visible = make_rows()
    uniform = (visible / visible.sum(-1, keepdim=True))[:, None].expand(-1, N_HEADS, -1, -1)
    found = measure_rows(uniform, visible, find_text_matches(ids, ids, ids == 3))
    assert found.share == pytest.approx(found.chance, abs=1e-6) and found.entropy == pytest.approx(1)
    p = p_values(found.share - found.chance, found.variance, 1 / found.rows[:, None])
    assert p == pytest.approx(1, abs=1e-3)


def test_renumbered_heads_and_tokens():
    """Heads are apart from each other, and only equality of tokens counts."""
    ids, attention, visible = make_rows()
    found = measure_rows(attention, visible, find_matches(ids))
    order = [2, 0, 1]
    again = measure_rows(attention[:, order], visible, find_matches(500 - 3 * ids))
    assert (again.share == found.share[:, order]).all() and (again.variance == found.variance[:, order]).all()


def test_what_matches_by_hand():
    ids = torch.tensor([[9, 1, 2, 3, 1, 2]])
    matches = find_matches(ids)
    assert tuple(matches) == ON_RANDOM
    places = {name: [tuple(place) for place in each[0].nonzero().tolist()] for name, each in matches.items()}
    assert places["induction"] == [(4, 2), (5, 3)]
    assert places["duplicate"] == [(4, 1), (5, 2)]
    assert places["previous"] == [(2, 1), (3, 2), (4, 3), (5, 4)]
    # A token right behind its own copy: the token behind the copy is the token itself, which is not induction.
    places = find_matches(torch.tensor([[9, 4, 4]]))["induction"].nonzero().tolist()
    assert places == []


def test_p_values_bound_the_tail():
    """Of rows that put all attention on one of n tokens, the exact tail is binomial."""
    from scipy.stats import binom

    n, rows = 10, 97
    for hits in (0, 9, 15, 25, 60):
        share, chance = hits / rows, 1 / n
        variance = chance * (1 - chance) / rows
        p = p_values(np.array(share - chance), np.array(variance), np.array(1 / rows))
        assert binom.sf(hits - 1, rows, chance) <= p <= 1
    assert p < 1e-20


def test_intervals_over_sequences():
    from scipy import stats

    values = np.random.default_rng(0).random((7, 3))
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, 6, loc=values.mean(0), scale=stats.sem(values))
    assert mean == pytest.approx(values.mean(0)) and low == pytest.approx(expected[0])
    assert high == pytest.approx(expected[1])
    values[1:, 0], values[:, 1] = np.nan, np.nan
    mean, low, high = mean_interval(values)
    assert mean[0] == values[0, 0] and np.isnan([low[0], high[0], mean[1], low[1]]).all() and not np.isnan(low[2])
