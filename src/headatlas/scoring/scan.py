"""Going through the vocabulary, a block of tokens at a time, until each task is decided.

A task asks whether fewer than k other tokens have a logit of at least the target's. Tokens are compared in groups, by
their highest logit, and one by one only in groups that could matter. Comparisons that float32 cannot decide are noted
for float64. Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headatlas.scoring.close_calls import CloseCalls

FIRST_STOP = 4096
"""Tokens of the vocabulary after which the scan of a head first stops to count its open tasks; it stops again after
twice as many tokens, and so on."""

GROUP = 16
"""Tokens that are compared as one, by their highest logit."""

SMALLEST_BLOCK, LARGEST_BLOCK = 512, 4096
"""Tokens of the vocabulary in one block of a scan; multiples of GROUP."""

BLOCK_ELEMENTS = 1024 * 1024
"""Logits to hold at once, so that memory stays small and caches are used."""

PRODUCTS_AT_ONCE = 512

MAX_NEAR = 2048
"""With more tokens than this within rounding of its target, a task is decided in float64 against all tokens."""


@dataclass
class Work:
    """What a search has done, in counts that do not depend on the machine.

    Args:
        logits: logits computed.
        full: logits that a full ranking for all heads and sources would take.
        in_float64: decisions (pair, head, side) that float32 could not make.
    """

    logits: int = 0
    full: int = 0
    in_float64: int = 0

    def add(self, other: Work) -> None:
        self.logits += other.logits
        self.full += other.full
        self.in_float64 += other.in_float64


@dataclass
class Tasks:
    """Undecided questions: do fewer than `k` other tokens have a logit of at least the target's?

    Args:
        rows: vectors that tasks share, negated for suppression, so that only the highest logits count: values
            (d_head) or outputs (d_model).
        row: of each task, among `rows`.
        target_logit: logit of the target, of the negated vector for suppression.
        margin: the difference beyond which the order of two logits is certain.
        k: how many highest logits count.
        target_id: token id of the target.
        place: of the question.
        beaten: how many tokens certainly have a higher logit, so far.
        near: how many tokens are within `margin`, so far.
    """

    rows: Tensor
    row: Tensor
    target_logit: Tensor
    margin: Tensor
    k: Tensor
    target_id: Tensor
    place: Tensor
    beaten: Tensor
    near: Tensor

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def start(
        cls,
        value: Tensor,
        source: Tensor,
        side: Tensor,
        target_logit: Tensor,
        margin: Tensor,
        k: Tensor,
        target_id: Tensor,
        place: Tensor,
        **_: object,
    ) -> Tasks:
        """Tasks of one head that have seen no token yet.

        Args:
            value: Float[Tensor, "n_sources d_head"].
            source: of each task, the row of `value`.
            side: 0 for the highest logits, 1 for the lowest.
            target_logit: of the vector that is not negated.
        """
        used, row = (source + side * len(value)).unique(return_inverse=True)
        return cls(
            rows=torch.cat([value, -value])[used],
            row=row,
            target_logit=target_logit * (1.0 - 2.0 * side),
            margin=margin,
            k=k,
            target_id=target_id,
            place=place,
            beaten=torch.zeros_like(place),
            near=torch.zeros_like(place),
        )

    def keep(self, chosen: Tensor) -> None:
        """Drop all tasks but the chosen ones, and the rows that no task needs any more."""
        for name in _PER_TASK:
            setattr(self, name, getattr(self, name)[chosen])
        used, self.row = self.row.unique(return_inverse=True)
        self.rows = self.rows[used]

    def split(self, n_parts: int) -> list[Tasks]:
        """The tasks in parts with about as many rows each."""
        part_of_task = self.row * n_parts // max(1, len(self.rows))
        parts = []
        for part in range(n_parts):
            chosen = Tasks(**{name: getattr(self, name) for name in ("rows", *_PER_TASK)})
            chosen.keep((part_of_task == part).nonzero()[:, 0])
            parts.append(chosen)
        return parts

    @classmethod
    def joined(cls, parts: Sequence[Tasks]) -> Tasks:
        """Tasks of several heads as one set."""
        return cls(**joined_rows(parts, ("rows", *_PER_TASK)))


_PER_TASK = ("row", "target_logit", "margin", "k", "target_id", "place", "beaten", "near")


def joined_rows(parts: Sequence[Any], names: Sequence[str]) -> dict[str, Tensor]:
    """The named tensors of all parts one after the other, with `row` counted through all `rows`."""
    whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    offsets = torch.tensor([0, *(len(part.rows) for part in parts[:-1])]).cumsum(0).tolist()
    whole["row"] = torch.cat([part.row + offset for part, offset in zip(parts, offsets, strict=True)])
    return whole


class Columns:
    """The vocabulary as columns that are multiplied with rows: of the unembedding, or of a head's W_O with it.

    Args:
        W_U: Float[Tensor, "d_vocab d_model"].
        W_O: Float[Tensor, "d_head d_model"]; None if rows are outputs.
        kept_bytes: of products with W_O that are kept for another scan.
    """

    def __init__(self, W_U: Tensor, W_O: Tensor | None = None, kept_bytes: int = 0) -> None:
        self._W_U, self._W_O = W_U, W_O
        self._n_kept = 0 if W_O is None else kept_bytes // (W_O.element_size() * len(W_O) * LARGEST_BLOCK)
        self._kept: dict[int, Tensor] = {}
        self._last: tuple[int, Tensor] | None = None

    def at(self, start: int, stop: int) -> Tensor:
        """Columns of tokens from `start` up to `stop` or, if that is earlier, a multiple of LARGEST_BLOCK:
        Float[Tensor, "d n"]."""
        first = start // LARGEST_BLOCK * LARGEST_BLOCK
        here = slice(start - first, min(stop, first + LARGEST_BLOCK) - first)
        rows = self._W_U[first : first + LARGEST_BLOCK]
        if self._W_O is None:
            return rows[here].T
        block = self._kept.get(first)
        if block is None and self._last is not None and self._last[0] == first:
            block = self._last[1]
        if block is None:
            block = self._W_O @ rows.T
            self._last = first, block
            if len(self._kept) < self._n_kept:
                self._kept[first] = block
        return block[:, here]

    def kept(self, start: int, stop: int) -> bool:
        """Whether the products of all tokens from `start` up to `stop` are at hand."""
        return all(first in self._kept for first in range(start // LARGEST_BLOCK * LARGEST_BLOCK, stop, LARGEST_BLOCK))


def inner_products(a: Tensor, row: Tensor, b: Tensor, other: Tensor) -> Tensor:
    """The product of a row of `a` with a row of `b` for each pair of them: Float[Tensor, "n"].

    Args:
        a, b: Float[Tensor, "n_a d"], Float[Tensor, "n_b d"].
        row, other: of a and of b, Int[Tensor, "n"].
    """
    # A few at once, so that they stay in caches.
    parts = zip(row.split(PRODUCTS_AT_ONCE), other.split(PRODUCTS_AT_ONCE), strict=True)
    return torch.cat([(a[some] * b[others]).sum(1) for some, others in parts])


def stops(d_vocab: int) -> list[tuple[int, int]]:
    """The vocabulary in parts, each as long as all before it: (first token, first token of the next part)."""
    ends, end = [], FIRST_STOP
    while end < d_vocab:
        ends.append(end)
        end *= 2
    return list(zip([0, *ends], [*ends, d_vocab], strict=True))


def fitting_stop(n_rows: int, start: int, stop: int) -> int:
    """The end of a block of tokens whose logits for all rows can be held at once."""
    fitting = BLOCK_ELEMENTS // n_rows // 64 * 64
    return min(start + min(max(fitting, SMALLEST_BLOCK), LARGEST_BLOCK), stop)


def scan(tasks: Tasks, columns: Columns, start: int, stop: int, close_calls: CloseCalls, work: Work) -> None:
    """Go through tokens `start` to `stop` of the vocabulary; tasks that are beaten often enough are dropped.

    Args:
        columns: of the vocabulary, for the rows of the tasks.
        close_calls: gets the tokens near a target, and the tasks with too many of them, which are dropped.
        work: gets the number of logits.
    """
    while start < stop and len(tasks):
        block = columns.at(start, fitting_stop(len(tasks.rows), start, stop))
        logits = tasks.rows @ block
        work.logits += logits.numel()
        if padding := -block.shape[1] % GROUP:
            # A padding token of the last block beats no target.
            logits = torch.nn.functional.pad(logits, (0, padding), value=-torch.inf)
        logits = logits.view(len(logits), GROUP, -1)
        highest = logits.amax(1)[tasks.row]
        above = (tasks.target_logit + tasks.margin)[:, None]
        below = (tasks.target_logit - tasks.margin)[:, None]
        unbeaten = tasks.beaten + (highest > above).sum(1) < tasks.k
        task, group = ((highest >= below) & unbeaten[:, None]).nonzero(as_tuple=True)
        close = logits[tasks.row[task], :, group]
        certain = close > above[task]
        tasks.beaten.index_add_(0, task, certain.sum(1))
        entry, member = ((close >= below[task]) & ~certain).nonzero(as_tuple=True)
        near, token = task[entry], start + member * logits.shape[2] + group[entry]
        other = token != tasks.target_id[near]
        near, token = near[other], token[other]
        tasks.near.index_add_(0, near, torch.ones_like(near))
        close_calls.nears.append((tasks.place[near], token))
        crowded = tasks.near > MAX_NEAR
        close_calls.crowded.append(tasks.place[crowded & unbeaten])
        tasks.keep((unbeaten & (tasks.beaten < tasks.k) & ~crowded).nonzero()[:, 0])
        start += block.shape[1]


def finish(tasks: Tasks, ranks: Tensor, close_calls: CloseCalls, exact_ranks: bool) -> None:
    """At the end of the vocabulary: the tasks left are hits, unless near tokens decide them.

    Args:
        ranks: of each place; gets those of the hits.
        close_calls: gets the tasks that near tokens decide.
        exact_ranks: whether a near token that can only change a hit's rank matters.
    """
    certain = tasks.near == 0 if exact_ranks else tasks.beaten + tasks.near < tasks.k
    ranks[tasks.place[certain]] = tasks.beaten[certain].int()
    close_calls.uncertain.append((tasks.place[~certain], tasks.beaten[~certain]))
