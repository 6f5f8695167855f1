"""The scan of the vocabulary: its parts, and tasks that are split and joined."""

import pytest
import torch

from headatlas.scoring.close_calls import CloseCalls
from headatlas.scoring.scan import FIRST_STOP, Columns, Tasks, Work, finish, scan, stops

D_HEAD, D_MODEL, D_VOCAB = 7, 23, 3_001


@pytest.mark.parametrize("d_vocab", [61, FIRST_STOP, FIRST_STOP + 1, 50_257])
def test_parts_cover_the_vocabulary_and_double(d_vocab):
    parts = stops(d_vocab)
    assert parts[0][0] == 0 and parts[-1][1] == d_vocab
    assert [stop for _, stop in parts[:-1]] == [start for start, _ in parts[1:]]
    assert all(stop == 2 * start for start, stop in parts[1:-1])


def make_tasks(value, W_O, W_U, source, target_id, side):
    logits = value @ W_O @ W_U.T
    return Tasks.start(
        value,
        source=source,
        side=side,
        target_logit=logits[source, target_id],
        margin=torch.full((len(source),), 1e-4),
        k=torch.full((len(source),), 10),
        target_id=target_id,
        place=torch.arange(len(source)),
    )


@pytest.fixture
def arrays():
    g = torch.Generator().manual_seed(5)
    value, W_O, W_U = (
        torch.randn(*shape, generator=g) for shape in ((13, D_HEAD), (D_HEAD, D_MODEL), (D_VOCAB, D_MODEL))
    )
    source, side = torch.arange(26) % 13, torch.arange(26) // 13
    order = (value @ W_O @ W_U.T).argsort(descending=True)
    rank = torch.arange(26) % 5 * 4
    target_id = torch.where(side == 0, order[source, rank], order[source, D_VOCAB - 1 - rank])
    return value, W_O, W_U, source, target_id, side, rank


@pytest.mark.parametrize("n_parts", [1, 3])
@pytest.mark.parametrize(("as_outputs", "kept_bytes"), [(False, 0), (False, 10**6), (True, 0)])
def test_ranks_are_found_from_values_and_outputs_in_any_number_of_parts(arrays, n_parts, as_outputs, kept_bytes):
    value, W_O, W_U, source, target_id, side, rank = arrays
    tasks = make_tasks(value, W_O, W_U, source, target_id, side)
    if as_outputs:
        tasks.rows = tasks.rows @ W_O
    ranks, close_calls, work = torch.full((26,), -1, dtype=torch.int32), CloseCalls(), Work()
    columns = Columns(W_U, None if as_outputs else W_O, kept_bytes)
    parts = tasks.split(n_parts)
    assert sum(map(len, parts)) == 26
    for part in [Tasks.joined(parts[:2]), *parts[2:]]:
        for start, stop in ((0, 1_000), (1_000, D_VOCAB)):
            scan(part, columns, start, stop, close_calls, work)
        finish(part, ranks, close_calls, exact_ranks=True)
    assert ranks.tolist() == [int(each) if each < 10 else -1 for each in rank]
    assert 0 < work.logits <= 26 * D_VOCAB and not close_calls.calls()


def test_products_with_the_vocabulary_are_kept_as_far_as_they_fit(arrays, monkeypatch):
    _, W_O, W_U, *_ = arrays
    monkeypatch.setattr("headatlas.scoring.scan.LARGEST_BLOCK", 512)
    columns = Columns(W_U, W_O, kept_bytes=4 * D_HEAD * 512 * 2)
    starts = range(0, D_VOCAB, 512)
    for start in starts:
        torch.testing.assert_close(columns.at(start + 3, start + 50), W_O @ W_U[start + 3 : start + 50].T)
        torch.testing.assert_close(columns.at(start, 10**6), W_O @ W_U[start : start + 512].T)
    W_U.zero_()
    assert [bool(columns.at(start, start + 9).any()) for start in starts] == [True, True, False, False, False, False]
