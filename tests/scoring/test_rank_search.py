"""The capped rank search against the plain loop, planted heads, ties, and the laws that scores must obey."""

import dataclasses

import pytest
import torch

from headatlas.scoring import MISS, HeadOverflowError, RankSearch, rank_search, sample, scan
from reference import plain_layer

N_HEADS, N_KV_HEADS, D_HEAD, D_MODEL = 6, 2, 7, 23
KV_HEAD = [0, 0, 0, 1, 1, 1]


@dataclasses.dataclass
class Case:
    """One layer and its pairs."""

    x: torch.Tensor
    W_V: torch.Tensor
    W_O: torch.Tensor
    W_U: torch.Tensor
    source: torch.Tensor
    target_ids: torch.Tensor
    k: torch.Tensor

    def search(self, **changed):
        case = dataclasses.replace(self, **changed)
        search = RankSearch(case.W_U, case.source, case.target_ids, case.k)
        promoted, suppressed = search.pairs(search.heads(case.x, case.W_V, case.W_O, KV_HEAD))
        return promoted != MISS, suppressed != MISS, search.work

    def loop(self, dtype=torch.float64):
        x, W_V, W_O, W_U = (each.to(dtype) for each in (self.x, self.W_V, self.W_O, self.W_U))
        return plain_layer(x, W_V, W_O, W_U, self.source, self.target_ids, self.k, KV_HEAD)


def make_case(d_vocab: int, seed: int = 0, n_sources: int = 31, n_pairs: int = 293) -> Case:
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    case = Case(
        x=draw(n_sources, D_MODEL),
        W_V=draw(N_KV_HEADS, D_MODEL, D_HEAD),
        W_O=draw(N_HEADS, D_HEAD, D_MODEL),
        W_U=draw(d_vocab, D_MODEL),
        source=torch.randint(n_sources, (n_pairs,), generator=g),
        target_ids=torch.randint(d_vocab, (n_pairs,), generator=g),
        k=torch.tensor([1, 10, 3])[torch.randint(3, (n_pairs,), generator=g)],
    )
    # Half of the targets are moved next to the top or bottom of some head, or no pair would be near a boundary.
    for pair in range(0, n_pairs, 2):
        head = pair % N_HEADS
        logits = case.x[case.source[pair]] @ case.W_V[KV_HEAD[head]] @ case.W_O[head] @ case.W_U.T
        rank = int(torch.randint(12, (), generator=g))
        case.target_ids[pair] = logits.topk(12, largest=pair % 4 == 0).indices[rank]
    return case


@pytest.fixture(params=["noted", "one by one"])
def kind(request, monkeypatch):
    """How targets are decided: by the tokens noted for their vector, or by themselves, as with a large k."""
    if request.param == "one by one":
        monkeypatch.setattr(rank_search, "MOST_NOTED", 0)


# Below and above the size that gets a first look, and with a last block that is no multiple of a group.
@pytest.mark.parametrize("d_vocab", [61, 1_021, 3_067, 3_079, 9_973, 20_011])
def test_every_hit_is_the_plain_loop_s(d_vocab, kind):
    case = make_case(d_vocab)
    promoted, suppressed, _ = case.search()
    expected_promoted, expected_suppressed = case.loop()
    assert promoted.sum() > 10 and suppressed.sum() > 10
    assert torch.equal(promoted, expected_promoted)
    assert torch.equal(suppressed, expected_suppressed)


def test_ranks_do_not_depend_on_how_targets_are_decided(monkeypatch):
    case = make_case(9_973, seed=6)
    found = []
    for most in (128, 0):
        monkeypatch.setattr(rank_search, "MOST_NOTED", most)
        search = RankSearch(case.W_U, case.source, case.target_ids, case.k)
        found.append(torch.stack(search.pairs(search.heads(case.x, case.W_V, case.W_O, KV_HEAD))))
    assert torch.equal(*found) and found[0].max() > 5


def test_float32_loop_agrees_too():
    case = make_case(9_973, seed=3)
    assert torch.equal(torch.stack(case.search()[:2]), torch.stack(case.loop(torch.float32)))


def test_rows_shared_out_over_many_blocks_change_nothing(monkeypatch, kind):
    case = make_case(20_011, seed=1)
    expected = torch.stack(case.search()[:2])
    for module in (sample, scan):
        monkeypatch.setattr(module, "BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(scan, "SMALLEST_BLOCK", 48)
    assert torch.equal(torch.stack(case.search()[:2]), expected)


def test_only_a_small_share_of_the_vocabulary_is_looked_at(kind):
    case = make_case(40_009)
    case.target_ids = torch.randint(40_009, case.target_ids.shape, generator=torch.Generator().manual_seed(5))
    *_, work = case.search()
    assert work.full == N_HEADS * len(case.x) * 40_009
    assert work.logits < 0.15 * work.full


def test_planted_head_is_found_there_and_nowhere_else():
    # 17 of the 23 directions are the words; head 4 carries word i to word i + 1 through its kv head.
    d_vocab, n_words = 3_001, D_HEAD
    g = torch.Generator().manual_seed(0)
    W_U = 0.01 * torch.randn(d_vocab, D_MODEL, generator=g)
    words = torch.arange(n_words)
    W_U[100 + words, words] = 1.0
    x = torch.zeros(n_words, D_MODEL)
    x[words, words] = 1.0
    W_V = torch.zeros(N_KV_HEADS, D_MODEL, D_HEAD)
    W_V[1, words, words] = 1.0
    W_O = torch.zeros(N_HEADS, D_HEAD, D_MODEL)
    W_O[4, words, (words + 1) % n_words] = 1.0
    case = Case(x, W_V, W_O, W_U, words, 100 + (words + 1) % n_words, torch.ones(n_words, dtype=torch.long))
    promoted, suppressed, _ = case.search()
    assert promoted.sum(1).tolist() == [0, 0, 0, 0, n_words, 0] and not suppressed.any()
    promoted, suppressed, _ = case.search(W_O=-W_O)
    assert suppressed.sum(1).tolist() == [0, 0, 0, 0, n_words, 0] and not promoted.any()


@pytest.mark.parametrize("d_vocab", [61, 4_003])
def test_ties_count_against_the_target(d_vocab, kind):
    case = make_case(d_vocab, seed=2)
    case.k[:] = 1
    case.target_ids[:] = 5
    case.W_U[5] *= 1_000.0
    alone = torch.stack(case.search()[:2])
    assert alone.any(0).float().mean() > 0.99
    # An exact double of the target, far away in the vocabulary, takes every hit.
    case.W_U[d_vocab - 2] = case.W_U[5]
    assert not torch.stack(case.search()[:2]).any()
    # With k = 2 the double is allowed for.
    case.k[:] = 2
    assert torch.equal(torch.stack(case.search()[:2]), alone)


def test_many_doubles_are_decided_in_float64(monkeypatch, kind):
    case = make_case(4_003, seed=2)
    case.W_U[2_499:] = 3 * case.W_U[2_499]
    case.target_ids[:] = 2_499
    expected = case.loop()
    for most in (2_048, 7):
        monkeypatch.setattr(scan, "MAX_NEAR", most)
        promoted, suppressed, work = case.search()
        assert torch.equal(promoted, expected[0]) and torch.equal(suppressed, expected[1])
        assert work.in_float64 > 0


def test_a_difference_within_float32_rounding_is_decided_in_float64(kind):
    # The rival beats or misses the target by 1e-9 of the logit: float32 products cannot show which.
    case = make_case(4_003, seed=4)
    case.k[:] = 1
    case.W_U[5] = 50 * torch.randn(D_MODEL, generator=torch.Generator().manual_seed(9))
    case.target_ids[:] = 5
    x, W_V, W_O = case.x.double(), case.W_V.double(), case.W_O.double()
    rival = case.W_U[5].clone()
    rival[3] = torch.nextafter(rival[3], torch.tensor(torch.inf))
    case.W_U[6] = rival
    output = x[case.source] @ W_V[0] @ W_O[0]
    rival_wins = (output @ rival.double()) > (output @ case.W_U[5].double())
    promoted, suppressed, work = case.search()
    assert work.in_float64 > 0
    expected = case.loop()
    assert torch.equal(promoted, expected[0]) and torch.equal(suppressed, expected[1])
    assert (promoted[0] & ~rival_wins).any() and not (promoted[0] & rival_wins).any()


def test_a_head_that_writes_nothing_scores_nothing():
    case = make_case(4_003)
    case.W_O[2] = 0
    case.W_V[1] = 0
    promoted, suppressed, work = case.search()
    assert not promoted[2:].any() and not suppressed[2:].any()
    assert work.in_float64 < 50


def test_overflow_names_the_head():
    case = make_case(61)
    case.W_O[3] = 1e38
    with pytest.raises(HeadOverflowError, match="head 3: its output exceeds what float32 can hold") as caught:
        case.search()
    assert caught.value.head == 3


def test_permuting_heads_permutes_rows():
    case = make_case(4_003)
    order = torch.tensor([2, 0, 1, 5, 3, 4])
    before, after = torch.stack(case.search()[:2]), torch.stack(case.search(W_O=case.W_O[order])[:2])
    assert torch.equal(after, before[:, order]) and not torch.equal(after, before)


def test_scaling_changes_nothing_and_negating_swaps_the_sides():
    case = make_case(4_003)
    promoted, suppressed, _ = case.search()
    for factor in (4.0, 1e-12, 1e12):
        assert torch.equal(torch.stack(case.search(W_O=case.W_O * factor)[:2]), torch.stack([promoted, suppressed]))
    negated = case.search(W_O=-case.W_O)
    assert torch.equal(negated[0], suppressed) and torch.equal(negated[1], promoted)


def test_renumbering_the_vocabulary_changes_nothing():
    case = make_case(4_003)
    order = torch.randperm(4_003, generator=torch.Generator().manual_seed(1))
    renumbered = case.search(W_U=case.W_U[order], target_ids=order.argsort()[case.target_ids])
    assert torch.equal(torch.stack(renumbered[:2]), torch.stack(case.search()[:2]))


def test_threads_change_nothing():
    case = make_case(9_973, seed=7)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(torch.stack(case.search()[:2]))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(each, results[0]) for each in results)
