"""Chance levels against plain loops over all re-pairings; the bound of the p-value against all permutations."""

import itertools
import math

import numpy as np
import pytest
import torch

from headatlas.scoring import MISS, ChanceLevels, RankSearch, chance
from headatlas.scoring.chance import p_value_bound
from headatlas.settings import MIN_UNCOPIED

N_HEADS, N_KV_HEADS, D_HEAD, D_MODEL = 6, 2, 7, 23
KV_HEAD = [0, 0, 0, 1, 1, 1]


def make_case(d_vocab=4_003, seed=0, sizes=(31, 43, 37), n_targets=(11, 3, 37)):
    """Relations with a few planted hits; the second has few distinct targets."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    x, W_V, W_O, W_U = draw(29, D_MODEL), draw(N_KV_HEADS, D_MODEL, D_HEAD), draw(N_HEADS, D_HEAD, D_MODEL), draw(
        d_vocab, D_MODEL
    )  # fmt: skip
    source = torch.cat([torch.randint(29, (size,), generator=g) for size in sizes])
    target = torch.cat(
        [1_000 * number + torch.randint(few, (size,), generator=g)
         for number, (size, few) in enumerate(zip(sizes, n_targets, strict=True))]
    )  # fmt: skip
    k = torch.cat([torch.full((size,), k) for size, k in zip(sizes, (10, 10, 1), strict=True)])
    for pair in range(0, len(source), 2):
        head = pair % N_HEADS
        sign = 1 if pair % 3 else -1
        W_U[target[pair]] += sign * 2 * (x[source[pair]] @ W_V[KV_HEAD[head]] @ W_O[head]) / D_MODEL**0.5
    ends = [0, *np.cumsum(sizes).tolist()]
    return (x, W_V, W_O, W_U), source, target, k, ends


def measure(case, threads=1, copied=None):
    (x, W_V, W_O, W_U), source, target, k, ends = case
    search = RankSearch(W_U, source, target, k, threads)
    heads = search.heads(x, W_V, W_O, KV_HEAD)
    is_hit = np.stack([(each != MISS).numpy() for each in search.pairs(heads)])
    hits = [np.add.reduceat(each, ends[:-1], axis=1, dtype=np.int64).T for each in is_hit]
    return np.stack(hits), ChanceLevels(search, ends).layer(heads, is_hit, copied)


def matrices(case, relation, head):
    """D of all pairs' sources with all pairs' targets, promoted and suppressed, by full sorting in float64."""
    (x, W_V, W_O, W_U), source, target, k, ends = case
    pairs = slice(ends[relation], ends[relation + 1])
    out = x[source[pairs]].double() @ W_V[KV_HEAD[head]].double() @ W_O[head].double()
    logits = out @ W_U.double().T
    of_targets = logits[:, target[pairs]]
    found = []
    for sign in (1, -1):
        ascending = (sign * logits).sort(dim=1).values
        below = torch.searchsorted(ascending, (sign * of_targets).contiguous())
        others = logits.shape[1] - below - 1
        found.append((others < k[pairs][0]).numpy())
    return found


@pytest.mark.parametrize("d_vocab", [3_011, 20_011])
def test_exact_levels_and_p_values_are_those_of_the_whole_matrix(d_vocab):
    case = make_case(d_vocab)
    hits, found = measure(case)
    assert (hits >= chance.FEWEST_HITS).any() and (hits < chance.FEWEST_HITS).any()
    for relation, head in itertools.product(range(3), range(N_HEADS)):
        for side, D in enumerate(matrices(case, relation, head)):
            assert hits[side, relation, head] == D.trace()
            place = side, relation, head
            if relation == 1 or D.trace() >= chance.FEWEST_HITS:
                assert found.exact[place] and found.level[place] == pytest.approx(D.mean(), abs=1e-12)
                bounds = [p_value_bound(D.sum(axis).astype(float), int(D.trace())) for axis in (0, 1)]
                assert found.p_value[place] == pytest.approx(min(bounds), rel=1e-6)
            else:
                assert not found.exact[place] and found.p_value[place] == 1


def test_pairs_that_copying_misses_are_a_relation_of_their_own():
    """Their levels and p-values are those of a relation with these pairs only."""
    case = make_case()
    tensors, source, target, k, ends = case
    copied = np.random.default_rng(3).random(len(source)) < 0.4
    copied[ends[2] : ends[3] - MIN_UNCOPIED + 1] = True
    hits, found = measure(case, copied=copied)
    kept = ~copied
    rest_ends = [0, *np.cumsum([kept[first:last].sum() for first, last in itertools.pairwise(ends)]).tolist()]
    rest_hits, rest = measure((tensors, source[kept], target[kept], k[kept], rest_ends))
    judged = 0
    for place in np.ndindex(hits.shape):
        if place[1] == 2 or not found.exact[place]:  # 9 pairs are too few
            assert np.isnan(found.uncopied_level[place]) and found.uncopied_p_value[place] == 1
        elif rest.exact[place]:
            judged += int(rest_hits[place] > 0)
            assert found.uncopied_level[place] == pytest.approx(rest.level[place], abs=1e-12)
            expected = rest.p_value[place] if rest_hits[place] else 1.0
            assert found.uncopied_p_value[place] == pytest.approx(expected, rel=1e-9)
    assert judged > 5
    for name in ("level", "exact", "p_value"):
        assert np.array_equal(getattr(found, name), getattr(measure(case)[1], name))


def test_levels_of_re_pairings_count_every_draw(monkeypatch):
    monkeypatch.setattr(chance, "FEWEST_HITS", 10**6)
    monkeypatch.setattr(chance, "RE_PAIRINGS", 10)  # enough that cells are drawn twice
    case = make_case()
    _, found = measure(case)
    _, source, target, k, ends = case
    relation, head = 0, 4
    pairs = slice(ends[relation], ends[relation + 1])
    drawn = chance._Relation(RankSearch(case[0][3], source, target, k), pairs)
    assert drawn.times.sum() == 10 * 31 and drawn.times.max() > 1
    for side, D in enumerate(matrices(case, relation, head)):
        of_place = np.zeros((len(drawn.sources), drawn.n_columns))
        of_place[drawn.row[:, None], drawn.column] = D
        expected = of_place.ravel()[drawn.drawn] @ drawn.times / 310
        assert not found.exact[side, relation, head] and found.level[side, relation, head] == pytest.approx(expected)


def test_levels_of_re_pairings_come_near_the_exact_ones(monkeypatch):
    monkeypatch.setattr(chance, "FEWEST_HITS", 10**6)
    monkeypatch.setattr(chance, "RE_PAIRINGS", 2)
    case = make_case()
    few = measure(case)[1]
    monkeypatch.setattr(chance, "RE_PAIRINGS", 31)
    many = measure(case)[1]
    for relation, head in itertools.product((0, 2), range(N_HEADS)):
        for side, D in enumerate(matrices(case, relation, head)):
            place = side, relation, head
            n = len(D)
            standard_error = math.sqrt(max(D.mean() * (1 - D.mean()), 1e-4) / (2 * n))
            assert abs(few.level[place] - D.mean()) < 6 * standard_error
            if not many.exact[place]:
                assert abs(many.level[place] - D.mean()) < 6 * standard_error * math.sqrt(2 / 31)


def test_threads_and_the_other_relations_change_nothing():
    case = make_case()
    tensors, source, target, k, ends = case
    copied = np.arange(len(source)) % 3 == 0
    whole = measure(case, copied=copied)[1]
    for name, array in vars(measure(case, threads=3, copied=copied)[1]).items():
        assert np.array_equal(array, getattr(whole, name), equal_nan=True), name
    third = slice(ends[2], None)
    alone = measure((tensors, source[third], target[third], k[third], [0, ends[3] - ends[2]]), copied=copied[third])[1]
    for name, array in vars(alone).items():
        assert np.array_equal(array[:, 0], getattr(whole, name)[:, 2], equal_nan=True), name


def test_large_relations_are_looked_at_in_parts(monkeypatch):
    case = make_case()
    copied = np.arange(len(case[1])) % 5 == 0
    whole = measure(case, copied=copied)[1]
    monkeypatch.setattr("headatlas.scoring.cell_search.BLOCK_ELEMENTS", 60)
    parts = measure(case, copied=copied)[1]
    for name, array in vars(whole).items():
        assert np.array_equal(array, getattr(parts, name), equal_nan=True), name
    monkeypatch.setattr(chance, "LARGEST_MATRIX", 31 * 11)
    limited = measure(case)[1]
    assert not limited.exact[:, 2].any() and (limited.p_value[:, 2] == 1).all() and limited.exact[:, 1].all()


def test_a_head_that_answers_everything_alike_is_no_better_than_chance():
    tensors, source, target, k, ends = make_case()
    x, W_V, W_O, W_U = tensors
    # Head 2 always writes the same direction, which contains the second relation's targets.
    x[:, 0] = 1
    W_V[KV_HEAD[2]] = 0
    W_V[KV_HEAD[2], 0, 0] = 1
    W_U[1_000:1_003] = 50 * W_O[2, 0]
    hits, found = measure((tensors, source, target, k, ends))
    n = ends[2] - ends[1]
    assert hits[0, 1, 2] == n and found.level[0, 1, 2] == 1 and found.p_value[0, 1, 2] == 1


def test_a_head_that_maps_each_source_to_its_target_is_far_beyond_chance():
    tensors, source, target, k, ends = make_case(n_targets=(31, 3, 37))
    x, W_V, W_O, W_U = tensors
    first = slice(0, ends[1])
    source[first] = torch.arange(31) % 29
    target[first] = torch.arange(31) + 100
    W_U[100:131] = 100 * (x[source[first]] @ W_V[KV_HEAD[3]] @ W_O[3])
    # Each target lies along its own source's output alone, as far as the head's width allows.
    hits, found = measure((tensors, source, target, k, ends))
    assert hits[0, 0, 3] >= 25 and found.level[0, 0, 3] < 0.7 and found.p_value[0, 0, 3] < 1e-4


@pytest.mark.parametrize("seed", range(40))
def test_the_bound_is_never_below_the_share_of_permutations(seed):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(2, 8))
    D = generator.random((n, n)) < generator.choice([0.1, 0.3, 0.6])
    if seed % 4 == 0:
        D[:, : n // 2] = True  # some targets are hit from everywhere
    orders = np.array(list(itertools.permutations(range(n))))
    found = D[np.arange(n), orders].sum(1)
    for hits in range(n + 1):
        exact = (found >= hits).mean()
        for axis in (0, 1):
            assert p_value_bound(D.sum(axis).astype(float), hits) >= exact


def test_the_bound_is_sharp_where_every_source_has_one_target():
    assert p_value_bound(np.ones(9), 9) == pytest.approx(1 / math.factorial(9))
    # As many hits as expected are no evidence.
    assert p_value_bound(np.full(40, 10.0), 10) > 0.5
    assert p_value_bound(np.full(600, 600.0), 600) == 1.0
    assert 0 < p_value_bound(np.full(2_000, 1.0), 1_500) < 1e-200
