"""Which targets are among the k highest (lowest) logits of each head, and their ranks, without a full ranking.

A pair is decided as soon as k other tokens are known to beat its target. A sample of the vocabulary decides nearly all
pairs; a scan of the whole vocabulary, a block of tokens at a time, decides the others. While a head has many open
pairs, the scan multiplies its W_O with each block of W_U; a few pairs are cheaper as outputs of the head, and those of
all heads of a layer are scanned together.

Float32 decides only if the difference of two logits exceeds what rounding can cause; float64 decides the close calls.
Therefore neither batching nor threads nor the device can change a hit.

Suppression is the score of the negated head: one search serves both.

This module knows arrays; it knows neither models nor relations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from headatlas.scoring.close_calls import CloseCalls, decide_close_calls
from headatlas.scoring.layer_heads import LayerHeads, Limits
from headatlas.scoring.questions import AllPairs, CellBlock, Cells, ChosenCells, Questions
from headatlas.scoring.rounding import Reach, certain_margin, error_lengths
from headatlas.scoring.sample import find_limits, sample_tokens
from headatlas.scoring.scan import BLOCK_ELEMENTS, Columns, Tasks, Work, finish, scan, stops

MISS = -1
"""The rank of a target that is not among the k highest (lowest)."""


COLUMNS_BYTES = 2**28
"""Bytes of products of a layer's W_O with the vocabulary that the search of pairs keeps for that of cells."""


class HeadOverflowError(OverflowError):
    """The output of a head exceeds what float32 can hold.

    Args:
        head: its number in the layer.
    """

    def __init__(self, head: int) -> None:
        super().__init__(f"head {head}: its output exceeds what float32 can hold.")
        self.head = head


class RankSearch:
    """Decide every pair for every head of a layer.

    Args:
        W_U: unembedding as rows, Float[Tensor, "d_vocab d_model"], float32, on the device that does the work.
        source: index of each pair's source among the input vectors, Int[Tensor, "n_pairs"].
        target_ids: token id of each pair's target, Int[Tensor, "n_pairs"].
        k: how many highest logits count, Int[Tensor, "n_pairs"], at least 1.
        threads: heads that are searched at once. Each has one thread to itself: many short products shared between
            threads would wait for each other, and much longer while other programs run.
    """

    def __init__(self, W_U: Tensor, source: Tensor, target_ids: Tensor, k: Tensor, threads: int = 1) -> None:
        device = W_U.device
        self.threads = threads if device.type == "cpu" else 1
        self.workers = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
        self.W_U, self.d_vocab = W_U, W_U.shape[0]
        self.source, self.target_ids, self.k = source.to(device), target_ids.to(device), k.to(device)
        self.reach = Reach.of(W_U)
        self.targets, self.target = self.target_ids.unique(return_inverse=True)
        self.W_U_targets = W_U[self.targets].T.contiguous()
        self.sample: Tensor | None = None
        sampled = sample_tokens(self.d_vocab).to(device)
        if 0 < 2 * len(sampled) < self.d_vocab:
            self.sample = W_U[sampled].T.contiguous()
        self.work = Work()

    def heads(self, x: Tensor, W_V: Tensor, W_O: Tensor, kv_head: Sequence[int]) -> LayerHeads:
        """The heads of one layer with their values.

        Args:
            x: input vectors, Float[Tensor, "n_sources d_model"].
            W_V: Float[Tensor, "n_kv_heads d_model d_head"].
            W_O: Float[Tensor, "n_heads d_head d_model"].
            kv_head: the kv head that each head reads, of length n_heads.

        Raises:
            HeadOverflowError: the output of a head exceeds what float32 can hold.
        """
        values = list(self.workers.map(lambda factor: x @ factor, W_V))
        lengths = [error_lengths(x, factor, value) for factor, value in zip(W_V, values, strict=True)]
        margins = [certain_margin(lengths[kv], W_O[head], self.reach) for head, kv in enumerate(kv_head)]
        for head, margin in enumerate(margins):
            if not torch.isfinite(margin).all():
                raise HeadOverflowError(head)
        ks = self.k.unique().tolist()

        def limits_of(head: int) -> dict[int, Limits]:
            return find_limits(self.sample, values[kv_head[head]], W_O[head], margins[head], ks)

        columns = [Columns(self.W_U, factor, COLUMNS_BYTES // len(W_O)) for factor in W_O]
        limits = list(self.workers.map(limits_of, range(len(W_O))))
        return LayerHeads(x, W_V, W_O, kv_head, values, margins, limits, columns)

    def pairs(self, heads: LayerHeads) -> tuple[Tensor, Tensor]:
        """All pairs for all heads of a layer.

        Returns:
            promoted, suppressed: Int32[Tensor, "n_heads n_pairs"], on the CPU: how many other tokens have a logit of
            at least (at most) the target's if those are fewer than k, else MISS.
        """
        self.work.full += heads.n_heads * len(heads.x) * self.d_vocab
        questions = AllPairs(heads.n_heads, self.source, self.target, self.k)
        ranks = self._search(heads, questions, lambda head, work: self._open_pairs(head, heads, work))
        promoted, suppressed = ranks.view(heads.n_heads, 2, -1).cpu().unbind(1)
        return promoted, suppressed

    def candidates(
        self, heads: LayerHeads, blocks: Sequence[CellBlock], keep: Callable[[int, Cells], Cells]
    ) -> list[Cells]:
        """The wanted cells of each head, without those that the sample shows to be misses.

        Args:
            blocks: sources and targets, each source with each target is a cell.
            keep: given a head and some of its cells, returns those that are wanted; called before there are many.
        """

        def find(head: int) -> Cells:
            value, limits = heads.value(head), heads.limits[head]
            projected = heads.W_O[head] @ self.W_U_targets
            kept, fresh, n_fresh = [], [], 0
            for number, block in enumerate(blocks):
                of_targets = projected[:, block.target]
                highest, lowest = limits[block.k].highest, limits[block.k].lowest
                at_once = max(1, BLOCK_ELEMENTS // max(1, of_targets.shape[1]))
                for start, rows in zip(itertools.count(0, at_once), block.source.split(at_once), strict=False):
                    logits = value[rows] @ of_targets
                    for side, is_open in enumerate((logits >= highest[rows, None], logits <= lowest[rows, None])):
                        row, column = is_open.nonzero(as_tuple=True)
                        number_of, side_of = torch.full_like(row, number), torch.full_like(row, side)
                        fresh.append(Cells(number_of, side_of, row + start, column))
                        n_fresh += len(row)
                    if n_fresh > BLOCK_ELEMENTS:
                        kept.append(keep(head, Cells.joined(fresh)))
                        fresh, n_fresh = [], 0
            return Cells.joined([*kept, keep(head, Cells.joined(fresh))] if fresh else kept)

        return list(self.workers.map(find, range(heads.n_heads)))

    def cells(self, heads: LayerHeads, blocks: Sequence[CellBlock], chosen: Sequence[Cells]) -> list[Tensor]:
        """Which of the chosen cells are hits, for each head: Bool[Tensor, "n_cells"], on the device."""
        questions = ChosenCells(blocks, chosen)
        ranks = self._search(heads, questions, lambda head, work: self._all_cells(head, heads, questions))
        return [of_head != MISS for of_head in questions.split(ranks)]

    def _search(self, heads: LayerHeads, questions: Questions, open_tasks: Callable[[int, Work], Tasks]) -> Tensor:
        """The rank of each question, or MISS.

        Args:
            open_tasks: the tasks of a head; questions that it leaves out are misses.
        """
        ranks = torch.full((questions.n_places,), MISS, dtype=torch.int32, device=self.W_U.device)
        parts = stops(self.d_vocab)
        _, d_head, d_model = heads.W_O.shape
        # More rows than this are cheaper as values, with W_O multiplied into the vocabulary.
        many = d_model * d_head / (d_model - d_head) if d_model > d_head else math.inf

        def search_head(head: int) -> tuple[int, Tasks, CloseCalls, Work]:
            work, close_calls = Work(), CloseCalls()
            tasks = open_tasks(head, work)
            done = 0
            for start, stop in parts:
                if len(tasks.rows) <= many:
                    break
                scan(tasks, heads.columns[head], start, stop, close_calls, work)
                done = stop
            if done == self.d_vocab:
                finish(tasks, ranks, close_calls, questions.exact_ranks)
            else:
                tasks.rows = tasks.rows @ heads.W_O[head]
            return done, tasks, close_calls, work

        def search_pool(pools: dict[int, Tasks]) -> tuple[CloseCalls, Work]:
            work, close_calls = Work(), CloseCalls()
            tasks: Tasks | None = None
            for start, stop in parts:
                here = [each for each in (tasks, pools.get(start)) if each is not None]
                if here:
                    tasks = Tasks.joined(here)
                    scan(tasks, Columns(self.W_U), start, stop, close_calls, work)
            if tasks is not None:
                finish(tasks, ranks, close_calls, questions.exact_ranks)
            return close_calls, work

        per_head = list(self.workers.map(search_head, range(heads.n_heads)))
        pools: list[dict[int, Tasks]] = [{} for _ in range(self.threads)]
        for start, _ in parts:
            if here := [tasks for done, tasks, _, _ in per_head if done == start and len(tasks)]:
                for pool, part in zip(pools, Tasks.joined(here).split(self.threads), strict=True):
                    pool[start] = part
        all_close_calls = CloseCalls()
        found = [(close_calls, work) for _, _, close_calls, work in per_head]
        for close_calls, work in [*found, *self.workers.map(search_pool, pools)]:
            self.work.add(work)
            all_close_calls.add(close_calls)
        self.work.in_float64 += decide_close_calls(
            all_close_calls, heads, questions, self.W_U, self.reach, self.targets, ranks, self.workers
        )
        return ranks

    def _open_pairs(self, head: int, heads: LayerHeads, work: Work) -> Tasks:
        """The pairs that the sample leaves open, as tasks; all pairs if the vocabulary is too small to sample."""
        value, W_O = heads.value(head), heads.W_O[head]
        target_logit = (value[self.source] * (W_O @ self.W_U_targets).T[self.target]).sum(1)
        if self.sample is not None:
            work.logits += len(value) * self.sample.shape[1]
        highest, lowest = (torch.empty_like(target_logit) for _ in range(2))
        for k, limits in heads.limits[head].items():
            of_k = self.k == k
            highest[of_k], lowest[of_k] = (each[self.source[of_k]] for each in (limits.highest, limits.lowest))
        pairs = [(target_logit >= highest).nonzero()[:, 0], (target_logit <= lowest).nonzero()[:, 0]]
        pair = torch.cat(pairs)
        side = torch.zeros_like(pair)
        side[len(pairs[0]) :] = 1
        return Tasks.start(
            value,
            source=self.source[pair],
            side=side,
            target_logit=target_logit[pair],
            margin=heads.margins[head][self.source[pair]],
            k=self.k[pair],
            target_id=self.target_ids[pair],
            place=(head * 2 + side) * len(self.source) + pair,
        )

    def _all_cells(self, head: int, heads: LayerHeads, questions: ChosenCells) -> Tasks:
        """All cells of a head that are to be decided, as tasks."""
        value, W_O = heads.value(head), heads.W_O[head]
        places = questions.places(head)
        place = torch.arange(places.start, places.stop, device=value.device)
        asked = questions.at(place)
        return Tasks.start(
            value,
            source=asked.source,
            side=asked.side,
            target_logit=(value[asked.source] * (W_O @ self.W_U_targets).T[asked.target]).sum(1),
            margin=heads.margins[head][asked.source],
            k=asked.k,
            target_id=self.targets[asked.target],
            place=place,
        )
