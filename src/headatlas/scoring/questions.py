"""What a search is asked: all pairs of all heads, or chosen cells of blocks of sources and targets.

Every question has a place, a number from 0 on. Knows arrays only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Asked:
    """What some questions ask: is the target of this source among the k highest (lowest) logits of this head?

    Args:
        head, k: Int[Tensor, "n_questions"].
        side: 0 for the highest logits, 1 for the lowest, Int[Tensor, "n_questions"].
        source: index among the input vectors, Int[Tensor, "n_questions"].
        target: index among the search's distinct targets, Int[Tensor, "n_questions"].
    """

    head: Tensor
    side: Tensor
    source: Tensor
    target: Tensor
    k: Tensor


class Questions(Protocol):
    """All questions of a search.

    Attributes:
        n_places: how many there are.
        exact_ranks: whether the rank of a hit matters, and not only that it is a hit.
    """

    n_places: int
    exact_ranks: bool

    def at(self, place: Tensor) -> Asked:
        """The questions at some places, Int[Tensor, "n_questions"]."""
        ...


class AllPairs:
    """All pairs for all heads, on both sides; places are in the order of (head, side, pair).

    Args:
        n_heads: of the layer.
        source, target, k: of each pair, Int[Tensor, "n_pairs"].
    """

    exact_ranks = True

    def __init__(self, n_heads: int, source: Tensor, target: Tensor, k: Tensor) -> None:
        self.n_places = n_heads * 2 * len(source)
        self._source, self._target, self._k = source, target, k

    def at(self, place: Tensor) -> Asked:
        n_pairs = len(self._source)
        pair, head_side = place % n_pairs, place // n_pairs
        return Asked(head_side // 2, head_side % 2, self._source[pair], self._target[pair], self._k[pair])


@dataclass(frozen=True)
class CellBlock:
    """Sources and targets; each source with each target is a cell, which a search can decide.

    Args:
        source: index of each source among the input vectors, Int[Tensor, "n_rows"].
        target: index of each target among `RankSearch.targets`, Int[Tensor, "n_columns"].
        drawn: some of the cells, as ascending numbers `row * n_columns + column`: Int[Tensor, "n_drawn"].
        k: how many highest logits count; one that occurs among the search's pairs.
    """

    source: Tensor
    target: Tensor
    drawn: Tensor
    k: int


@dataclass(frozen=True)
class Cells:
    """Cells of blocks: number of the block, side (1: lowest logits), row and column, all Int[Tensor, "n_cells"], and
    the logit of the target, Float[Tensor, "n_cells"]."""

    block: Tensor
    side: Tensor
    row: Tensor
    column: Tensor
    logit: Tensor

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def joined(cls, parts: Sequence[Cells]) -> Cells:
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _OF_CELL))

    def chosen(self, which: Tensor) -> Cells:
        return Cells(**{name: getattr(self, name)[which] for name in _OF_CELL})


_OF_CELL = ("block", "side", "row", "column", "logit")


class ChosenCells:
    """The cells to be decided, one head after the other.

    Args:
        blocks: sources and targets.
        of_heads: cells of each head, of length n_heads.
    """

    exact_ranks = False

    def __init__(self, blocks: Sequence[CellBlock], of_heads: Sequence[Cells]) -> None:
        self._ends = torch.tensor([0, *(len(cells) for cells in of_heads)]).cumsum(0).tolist()
        self.n_places = self._ends[-1]
        joined = Cells.joined(of_heads)
        device = joined.row.device
        self._head = torch.arange(len(of_heads), device=device).repeat_interleave(
            torch.tensor([len(cells) for cells in of_heads], device=device)
        )
        self._side = joined.side
        first_row, first_column = (
            torch.tensor([0, *(len(getattr(block, name)) for block in blocks)]).cumsum(0)[:-1].to(device)
            for name in ("source", "target")
        )
        self._source = torch.cat([block.source for block in blocks])[first_row[joined.block] + joined.row]
        self._target = torch.cat([block.target for block in blocks])[first_column[joined.block] + joined.column]
        self._k = torch.tensor([block.k for block in blocks], device=device)[joined.block]

    def places(self, head: int) -> range:
        """Places of a head's cells."""
        return range(self._ends[head], self._ends[head + 1])

    def split(self, results: Tensor) -> list[Tensor]:
        """Results of all places, head by head."""
        return [results[first:last] for first, last in itertools.pairwise(self._ends)]

    def at(self, place: Tensor) -> Asked:
        return Asked(self._head[place], self._side[place], self._source[place], self._target[place], self._k[place])
