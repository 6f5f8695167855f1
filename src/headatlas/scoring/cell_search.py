"""Which cells of matrices of sources and targets are hits: each source of a block with each of its targets.

A sample of the vocabulary shows most cells to be misses. The others are decided together for each source, by one pass
over the vocabulary. Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headatlas.scoring.questions import CellBlock, Cells, ChosenCells
from headatlas.scoring.rank_search import MISS
from headatlas.scoring.scan import BLOCK_ELEMENTS

if TYPE_CHECKING:
    from headatlas.scoring.layer_heads import LayerHeads
    from headatlas.scoring.rank_search import RankSearch
    from headatlas.scoring.scan import Work


@dataclass(frozen=True)
class _Piece:
    """Rows of a block whose logits are in memory at once.

    Args:
        block: its number.
        first: the block's row that is the first of them.
        source: of each row, Int[Tensor, "n_rows"].
        drawn: the drawn cells of these rows, as numbers `row * n_columns + column`.
    """

    block: int
    first: int
    source: Tensor
    drawn: Tensor


class CellSearch:
    """Decide cells for every head of a layer.

    Args:
        search: for pairs with the sources and targets of the blocks.
        blocks: sources and targets.
    """

    def __init__(self, search: RankSearch, blocks: Sequence[CellBlock]) -> None:
        self._search, self._blocks = search, blocks
        self._pieces: list[_Piece] = []
        for number, block in enumerate(blocks):
            n_columns = len(block.target)
            at_once, first = max(1, BLOCK_ELEMENTS // n_columns), 0
            for source in block.source.split(at_once):
                start, stop = n_columns * first, n_columns * (first + len(source))
                here = block.drawn[(block.drawn >= start) & (block.drawn < stop)] - start
                self._pieces.append(_Piece(number, first, source, here))
                first += len(source)
        self._drawn = self._all_drawn()

    def _all_drawn(self) -> _Drawn:
        parts = []
        for piece in self._pieces:
            block = self._blocks[piece.block]
            row, column = piece.drawn // len(block.target), piece.drawn % len(block.target)
            of_all = (torch.full_like(row, number) for number in (piece.block, block.k))
            parts.append((*of_all, piece.source[row], row + piece.first, column))
        return _Drawn(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def candidates(self, heads: LayerHeads, whole: Tensor) -> list[Cells]:
        """The wanted cells of each head, without those that the sample shows to be misses.

        Args:
            whole: whether all cells of a block are wanted, or only those drawn: Bool[Tensor, "2 n_blocks n_heads"], on
                the CPU.
        """
        return list(
            self._search.workers.map(lambda head: self._of_head(heads, head, whole[..., head]), range(heads.n_heads))
        )

    def _of_head(self, heads: LayerHeads, head: int, whole: Tensor) -> Cells:
        value, limits, drawn = heads.value(head), heads.limits[head], self._drawn
        projected = (heads.scaled_W_O[head] @ self._search.W_U_targets).T.contiguous()
        found, of_drawn = [], []
        for piece in self._pieces:
            block = self._blocks[piece.block]
            logits = value[piece.source] @ projected[block.target].T
            of_drawn.append(logits.flatten()[piece.drawn])
            for side in whole[:, piece.block].nonzero()[:, 0].tolist():
                limit = limits[block.k].of_side(side)[piece.source, None]
                row, column = (logits <= limit if side else logits >= limit).nonzero(as_tuple=True)
                number_of, side_of = torch.full_like(row, piece.block), torch.full_like(row, side)
                found.append(Cells(number_of, side_of, row + piece.first, column, logits[row, column]))
        logit = torch.cat(of_drawn)
        for side in (0, 1):
            limit = torch.empty_like(logit)
            for k, of_k in limits.items():
                limit[drawn.k == k] = of_k.of_side(side)[drawn.source[drawn.k == k]]
            is_open = logit <= limit if side else logit >= limit
            is_open &= ~whole[side].to(is_open.device)[drawn.block]
            at = is_open.nonzero()[:, 0]
            found.append(Cells(drawn.block[at], torch.full_like(at, side), drawn.row[at], drawn.column[at], logit[at]))
        return Cells.joined(found)

    def decide(self, heads: LayerHeads, chosen: Sequence[Cells]) -> list[Tensor]:
        """Which of the chosen cells are hits, for each head: Bool[Tensor, "n_cells"], on the device."""
        questions = ChosenCells(self._blocks, chosen)

        def tasks_of(head: int, _: Work) -> Any:
            places = questions.places(head)
            place = torch.arange(places.start, places.stop, device=self._search.W_U.device)
            asked = questions.at(place)
            return self._search.start_tasks(
                value=heads.value(head),
                source=asked.source,
                side=asked.side,
                target_logit=chosen[head].logit,
                margin=heads.margins[head][asked.source],
                k=asked.k,
                target_id=self._search.targets[asked.target],
                place=place,
                head=head,
            )

        ranks, _ = self._search.ranks(heads, questions, tasks_of)
        return [of_head != MISS for of_head in questions.split(ranks)]


@dataclass(frozen=True)
class _Drawn:
    """The drawn cells of all blocks: number and k of the block, source, row and column, all Int[Tensor, "n_drawn"]."""

    block: Tensor
    k: Tensor
    source: Tensor
    row: Tensor
    column: Tensor
