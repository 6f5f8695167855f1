"""Rows that go through the vocabulary once for all of their targets, and those remembered for later targets."""

import pytest
import torch

from headatlas.scoring.close_calls import CloseCalls
from headatlas.scoring.row_scan import GROUPS, SPARE, Rows, SeenRows, finish_rows, scan_rows
from headatlas.scoring.scan import Columns, Work

D_HEAD, D_MODEL, D_VOCAB, N_SOURCES, N_TARGETS = 7, 23, 9_001, 13, 5


@pytest.fixture
def arrays():
    """Each of 13 sources has five targets among its 20 highest logits, and as many among its 20 lowest."""
    g = torch.Generator().manual_seed(5)
    value, W_O, W_U = (
        torch.randn(*shape, generator=g) for shape in ((N_SOURCES, D_HEAD), (D_HEAD, D_MODEL), (D_VOCAB, D_MODEL))
    )
    order = (value @ W_O @ W_U.T).argsort(descending=True)
    rank = torch.stack([torch.randperm(20, generator=g)[:N_TARGETS] for _ in range(2 * N_SOURCES)]).flatten()
    row = torch.arange(2 * N_SOURCES).repeat_interleave(N_TARGETS)
    source, side = row % N_SOURCES, row // N_SOURCES
    target_id = torch.where(side == 0, order[source, rank], order[source, D_VOCAB - 1 - rank])
    return value, W_O, W_U, source, side, target_id, rank


def start(arrays, chosen=slice(None), margin=1e-4, **options):
    value, W_O, W_U, source, side, target_id, _ = arrays
    source, side, target_id = source[chosen], side[chosen], target_id[chosen]
    return Rows.start(
        value,
        source=source,
        side=side,
        target_logit=(value @ W_O @ W_U.T)[source, target_id],
        margin=torch.full((len(source),), margin),
        k=torch.where(torch.arange(len(source)) % 3 > 0, 10, 2),
        target_id=target_id,
        place=torch.arange(len(source)),
        most=10,
        **options,
    )


def expected_ranks(rank):
    k = torch.where(torch.arange(len(rank)) % 3 > 0, 10, 2)
    return torch.where(rank < k, rank, -1).tolist()


def go(tasks, columns, work=None):
    close_calls = CloseCalls()
    for first, last in ((0, 1_000), (1_000, D_VOCAB)):
        scan_rows(tasks, columns, first, last, close_calls, work or Work())
    return tasks


@pytest.mark.parametrize("n_parts", [1, 3])
@pytest.mark.parametrize("as_outputs", [False, True])
@pytest.mark.parametrize("remember", [False, True])
@pytest.mark.parametrize("largest", GROUPS)
def test_ranks_are_found_from_values_and_outputs_in_any_number_of_parts(
    arrays, n_parts, as_outputs, remember, largest, monkeypatch
):
    monkeypatch.setattr("headatlas.scoring.row_scan.GROUPS", (GROUPS[0], largest))
    _, W_O, W_U, *_, rank = arrays
    tasks = start(arrays, remember=remember)
    if as_outputs:
        tasks.rows = tasks.rows @ W_O
    columns, work = Columns(W_U, None if as_outputs else W_O), Work()
    ranks, close_calls = torch.full((len(rank),), -1, dtype=torch.int32), CloseCalls()
    parts = tasks.split(n_parts)
    assert sum(map(len, parts)) == len(rank)
    for part in [Rows.joined(parts[:2]), *parts[2:]]:
        finish_rows(go(part, columns, work), ranks, close_calls, exact_ranks=True)
    assert ranks.tolist() == expected_ranks(rank)
    # Each row is multiplied once, whatever the number of its targets.
    assert 0 < work.logits <= 2 * N_SOURCES * D_VOCAB and not close_calls.calls()


def test_remembered_rows_decide_other_targets_without_another_look(arrays):
    _, W_O, W_U, *_, rank = arrays
    first_of_row = torch.arange(0, len(rank), N_TARGETS)
    first_of_row = first_of_row[rank[first_of_row] < 2]
    assert len(first_of_row) > 1
    seen = SeenRows([go(start(arrays, first_of_row, head=1, remember=True), Columns(W_U, W_O))], 4 * N_SOURCES)
    tasks, work = start(arrays, head=1), Work()
    ranks, close_calls = torch.full((len(rank),), -1, dtype=torch.int32), CloseCalls()
    known = seen.take_from(tasks)
    assert len(known.rows) == len(first_of_row) and len(known) == N_TARGETS * len(first_of_row)
    finish_rows(known, ranks, close_calls, exact_ranks=True)
    finish_rows(go(tasks, Columns(W_U, W_O), work), ranks, close_calls, exact_ranks=True)
    assert ranks.tolist() == expected_ranks(rank)
    assert work.logits <= (2 * N_SOURCES - len(first_of_row)) * D_VOCAB
    # The same source of another head is another row.
    assert not len(seen.take_from(start(arrays, head=0)))


def test_more_near_tokens_than_can_be_noted_are_left_to_a_look_at_all_tokens(arrays):
    _, W_O, W_U, _, _, target_id, rank = arrays
    chosen = (rank == 1).nonzero()[:1, 0]
    W_U[3_000 : 3_000 + 10 + SPARE + 1] = W_U[target_id[chosen[0]]].clone()
    tasks = go(start(arrays, chosen), Columns(W_U, W_O))
    close_calls, ranks = CloseCalls(), torch.full((1,), -1, dtype=torch.int32)
    finish_rows(tasks, ranks, close_calls, exact_ranks=True)
    (call,) = close_calls.calls()
    assert call.tokens is None and ranks.tolist() == [-1]


def test_near_tokens_are_told_from_the_target(arrays):
    _, W_O, W_U, _, _, target_id, rank = arrays
    chosen = (rank == 4).nonzero()[1:2, 0]
    W_U[17] = W_U[target_id[chosen[0]]].clone()
    close_calls, ranks = CloseCalls(), torch.full((1,), -1, dtype=torch.int32)
    tasks = start(arrays, chosen)
    tasks.k[:] = 10
    finish_rows(go(tasks, Columns(W_U, W_O)), ranks, close_calls, exact_ranks=True)
    (call,) = close_calls.calls()
    assert call.beaten == 4 and call.tokens.tolist() == [17] and ranks.tolist() == [-1]
    finish_rows(tasks, ranks, close_calls, exact_ranks=False)
    assert ranks.tolist() == [4]
