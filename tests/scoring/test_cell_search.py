"""Cells of blocks of sources and targets against the whole matrix of logits."""

import numpy as np
import pytest
import torch

from headatlas.scoring import MISS, RankSearch, cell_search, rank_search
from headatlas.scoring.cell_search import CellSearch
from headatlas.scoring.questions import CellBlock

N_HEADS, N_KV_HEADS, D_HEAD, D_MODEL = 5, 2, 7, 23
KV_HEAD = [0, 0, 0, 1, 1]


def make_case(d_vocab):
    g = torch.Generator().manual_seed(11)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    x, W_V, W_O, W_U = draw(31, D_MODEL), draw(N_KV_HEADS, D_MODEL, D_HEAD), draw(N_HEADS, D_HEAD, D_MODEL), draw(
        d_vocab, D_MODEL
    )  # fmt: skip
    source, target_ids = torch.arange(62) % 31, torch.arange(62) * 11 % 47
    for pair in range(62):
        head = pair % N_HEADS
        W_U[target_ids[pair]] += 1.5 * (x[source[pair]] @ W_V[KV_HEAD[head]] @ W_O[head]) / D_MODEL**0.5
    k = torch.where(torch.arange(62) < 31, 10, 1)
    search = RankSearch(W_U, source, target_ids, k)
    block = lambda rows, columns, drawn, k: CellBlock(*map(torch.tensor, (rows, columns, drawn)), k)  # noqa: E731
    blocks = [
        block(range(19), range(3, 40), range(5, 600, 7), 10),
        block([2, 3, 5, 7, 11, 13, 17, 19, 23, 29], range(2, 47, 3), [0, 1, 14, 15, 77, 149], 1),
        block([4], [1, 6], [1], 10),
    ]
    return search, (x, W_V, W_O), blocks


def whole_matrices(search, tensors, block, head):
    """Promoted and suppressed cells of a block, by full sorting in float64."""
    x, W_V, W_O = (each.double() for each in tensors)
    logits = x[block.source] @ W_V[KV_HEAD[head]] @ W_O[head] @ search.W_U.double().T
    for sign in (1, -1):
        of_targets = (sign * logits)[:, search.targets[block.target]]
        above = torch.stack([(sign * logits >= column[:, None]).sum(1) for column in of_targets.T], dim=1)
        yield above - 1 < block.k


@pytest.mark.parametrize("d_vocab", [3_011, 20_011])
@pytest.mark.parametrize(("most_noted", "remember"), [(128, False), (128, True), (0, True)])
@pytest.mark.parametrize("elements", [None, 70])
def test_cells_are_those_of_the_whole_matrix(d_vocab, most_noted, remember, elements, monkeypatch):
    monkeypatch.setattr(rank_search, "MOST_NOTED", most_noted)
    if elements is not None:  # blocks in several pieces
        monkeypatch.setattr(cell_search, "BLOCK_ELEMENTS", elements)
    search, tensors, blocks = make_case(d_vocab)
    heads = search.heads(*tensors, KV_HEAD)
    promoted, _ = search.pairs(heads, remember)
    assert (promoted != MISS).sum() > 10 and bool(heads.seen) == (remember and most_noted > 0)
    whole = torch.from_numpy(np.random.default_rng(1).random((2, len(blocks), N_HEADS)) < 0.5)
    cells = CellSearch(search, blocks)
    chosen = cells.candidates(heads, whole)
    n_hits = 0
    for head, (asked, found) in enumerate(zip(chosen, cells.decide(heads, chosen), strict=True)):
        hits = asked.chosen(found.nonzero()[:, 0])
        for number, block in enumerate(blocks):
            for side, expected in enumerate(whole_matrices(search, tensors, block, head)):
                here = (hits.block == number) & (hits.side == side)
                got = torch.zeros_like(expected)
                got[hits.row[here], hits.column[here]] = True
                if not whole[side, number, head]:
                    drawn = torch.zeros(expected.numel(), dtype=torch.bool)
                    drawn[block.drawn] = True
                    expected = expected & drawn.view_as(expected)
                assert torch.equal(got, expected)
                assert int(here.sum()) == int(got.sum())  # each cell once
                n_hits += int(here.sum())
    assert n_hits > 20


def test_rows_that_the_search_of_pairs_has_seen_are_not_multiplied_again():
    looked_at = []
    for remember in (False, True):
        search, tensors, blocks = make_case(20_011)
        heads = search.heads(*tensors, KV_HEAD)
        search.pairs(heads, remember)
        before = search.work.logits
        cells = CellSearch(search, blocks)
        cells.decide(heads, cells.candidates(heads, torch.ones(2, len(blocks), N_HEADS, dtype=torch.bool)))
        looked_at.append(search.work.logits - before)
    assert looked_at[1] < 0.8 * looked_at[0]
