"""Which targets are among the k highest (lowest) logits of each head, and their ranks, without a full ranking.

A pair is decided as soon as k other tokens are known to beat its target. A sample of the vocabulary decides nearly all
pairs; a scan of the whole vocabulary, a block of tokens at a time, decides the others. While a head has many open
pairs, the scan multiplies its W_O with each block of W_U; a few pairs are cheaper as outputs of the head, and those of
all heads of a layer are scanned together.

Float32 decides only if the difference of two logits exceeds what rounding and underflow can cause; factors far from the
size of 1 are scaled before. Float64 decides the close calls, from the factors as they are stored. Therefore neither
batching nor threads nor the device can change a hit.

Suppression is the score of the negated head: one search serves both.

This module knows arrays; it knows neither models nor relations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from headatlas.scoring.close_calls import CloseCalls, decide_close_calls
from headatlas.scoring.extremes import heads_that_underflow, silent_sources
from headatlas.scoring.layer_heads import LayerHeads, Limits
from headatlas.scoring.questions import AllPairs, Questions
from headatlas.scoring.rounding import Reach, certain_margin, error_lengths, head_underflow
from headatlas.scoring.row_scan import Rows, SeenRows, finish_rows, scan_rows
from headatlas.scoring.sample import find_limits, sample_tokens
from headatlas.scoring.scaling import Scaled, not_tiny, power_of_outputs
from headatlas.scoring.scan import Columns, Tasks, Work, finish, inner_products, scan, stops

MISS = -1
"""The rank of a target that is not among the k highest (lowest)."""


MOST_NOTED = 128
"""The largest k for which the highest tokens of each vector are noted, which then decide all of its targets; with a
larger one, each target is compared with the vocabulary by itself."""

COLUMNS_BYTES = 2**28
"""Bytes of products of a layer's W_O with the vocabulary that the search of pairs keeps for that of cells."""


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
        self.W_U = W_U = not_tiny(W_U)
        self.d_vocab = W_U.shape[0]
        self.source, self.target_ids, self.k = source.to(device), target_ids.to(device), k.to(device)
        self.reach = Reach.of(W_U)
        self.targets, self.target = self.target_ids.unique(return_inverse=True)
        self.W_U_targets = W_U[self.targets].T.contiguous()
        self.sample: Tensor | None = None
        sampled = sample_tokens(W_U)
        if 0 < 2 * len(sampled) < self.d_vocab:
            self.sample = W_U[sampled].T.contiguous()
        # Tokens are noted for many rows at once, and must fit in memory.
        self.most = int(self.k.max())
        self.notes = self.most <= MOST_NOTED
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
        scaled_x, scaled_V, scaled_O = Scaled.of(x), Scaled.of(W_V), Scaled.of(W_O, power_of_outputs(self.reach.power))
        values = list(self.workers.map(lambda factor: scaled_x.values @ factor, scaled_V.values))
        lengths = [
            error_lengths(scaled_x.values, factor, value) for factor, value in zip(scaled_V.values, values, strict=True)
        ]
        lost = head_underflow(scaled_x, scaled_V, scaled_O, self.reach)
        margins = [
            (certain_margin(lengths[kv], factor, self.reach) + lost).to(x.dtype)
            for factor, kv in zip(scaled_O.values, kv_head, strict=True)
        ]
        underflows = heads_that_underflow(scaled_x, scaled_V, scaled_O, values, (x, W_V, W_O), kv_head)
        silent = [silent_sources(x, factor, value) for factor, value in zip(W_V, values, strict=True)]
        ks = self.k.unique().tolist()

        def limits_of(head: int) -> dict[int, Limits]:
            nothing, factor = silent[kv_head[head]], scaled_O.values[head]
            nothing = nothing if factor.any() else torch.ones_like(nothing)
            return find_limits(self.sample, values[kv_head[head]], factor, margins[head], nothing, ks)

        columns = [Columns(self.W_U, factor, COLUMNS_BYTES // len(W_O)) for factor in scaled_O.values]
        limits = list(self.workers.map(limits_of, range(len(W_O))))
        return LayerHeads(x, W_V, W_O, scaled_O.values, kv_head, values, margins, limits, columns, underflows)

    def pairs(self, heads: LayerHeads, remember: bool = False) -> tuple[Tensor, Tensor]:
        """All pairs for all heads of a layer.

        Args:
            remember: keep what a search of cells of the same layer can use.

        Returns:
            promoted, suppressed: Int32[Tensor, "n_heads n_pairs"], on the CPU: how many other tokens have a logit of
            at least (at most) the target's if those are fewer than k, else MISS.
        """
        self.work.full += heads.n_heads * len(heads.x) * self.d_vocab
        questions = AllPairs(heads.n_heads, self.source, self.target, self.k)
        remember &= self.notes
        ranks, ended = self.ranks(heads, questions, lambda head, work: self._open_pairs(head, heads, work, remember))
        if remember:
            heads.seen.extend(ended)
        promoted, suppressed = ranks.view(heads.n_heads, 2, -1).cpu().unbind(1)
        return promoted, suppressed

    def start_tasks(self, **arguments: Any) -> Any:
        """Tasks of one head that have seen no token yet, of the kind that this search uses: see `Rows.start`."""
        return Rows.start(**arguments, most=self.most) if self.notes else Tasks.start(**arguments)

    def ranks(
        self, heads: LayerHeads, questions: Questions, tasks_of: Callable[[int, Work], Any]
    ) -> tuple[Tensor, list[Any]]:
        """The rank of each question, or MISS.

        Args:
            tasks_of: the tasks of a head; questions that it leaves out are misses.

        Returns:
            Ranks, Int32[Tensor, "n_places"], on the device; the tasks that went through the whole vocabulary.
        """
        ranks = torch.full((questions.n_places,), MISS, dtype=torch.int32, device=self.W_U.device)
        parts = stops(self.d_vocab)
        go: Callable[..., None]
        end: Callable[..., None]
        go, end = (scan_rows, finish_rows) if self.notes else (scan, finish)
        seen = SeenRows(heads.seen, 2 * heads.n_heads * len(heads.x)) if heads.seen else None
        _, d_head, d_model = heads.W_O.shape
        # More rows than this are cheaper as values, with W_O multiplied into the vocabulary.
        many = d_model * d_head / (d_model - d_head) if d_model > d_head else math.inf

        def search_head(head: int) -> tuple[int, Any, CloseCalls, Work]:
            work, close_calls = Work(), CloseCalls()
            tasks, columns = tasks_of(head, work), heads.columns[head]
            if seen is not None:
                end(seen.take_from(tasks), ranks, close_calls, questions.exact_ranks)
            done = 0
            for start, stop in parts:
                if len(tasks.rows) <= many and not columns.kept(start, stop):
                    break
                go(tasks, columns, start, stop, close_calls, work)
                done = stop
            if done == self.d_vocab:
                end(tasks, ranks, close_calls, questions.exact_ranks)
            else:
                tasks.rows = tasks.rows @ heads.scaled_W_O[head]
            return done, tasks, close_calls, work

        def search_pool(pools: dict[int, Any]) -> tuple[Any, CloseCalls, Work]:
            work, close_calls = Work(), CloseCalls()
            tasks: Any = None
            for start, stop in parts:
                here = [each for each in (tasks, pools.get(start)) if each is not None]
                if here:
                    tasks = type(here[0]).joined(here)
                    go(tasks, Columns(self.W_U), start, stop, close_calls, work)
            if tasks is not None:
                end(tasks, ranks, close_calls, questions.exact_ranks)
            return tasks, close_calls, work

        per_head = list(self.workers.map(search_head, range(heads.n_heads)))
        ended = [tasks for done, tasks, _, _ in per_head if done == self.d_vocab]
        pools: list[dict[int, Any]] = [{} for _ in range(self.threads)]
        for start, _ in parts:
            if here := [tasks for done, tasks, _, _ in per_head if done == start and len(tasks)]:
                for pool, part in zip(pools, type(here[0]).joined(here).split(self.threads), strict=True):
                    pool[start] = part
        per_pool = list(self.workers.map(search_pool, pools))
        ended += [tasks for tasks, _, _ in per_pool if tasks is not None]
        all_close_calls = CloseCalls()
        for *_, close_calls, work in (*per_head, *per_pool):
            self.work.add(work)
            all_close_calls.add(close_calls)
        self.work.in_float64 += decide_close_calls(
            all_close_calls, heads, questions, self.W_U, self.reach, self.targets, ranks, self.workers
        )
        return ranks, ended

    def _open_pairs(self, head: int, heads: LayerHeads, work: Work, remember: bool) -> Any:
        """The pairs that the sample leaves open, as tasks; all pairs if the vocabulary is too small to sample."""
        value, W_O = heads.value(head), heads.scaled_W_O[head]
        projected = (W_O @ self.W_U_targets).T.contiguous()
        target_logit = inner_products(value, self.source, projected, self.target)
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
        return self.start_tasks(
            value=value,
            source=self.source[pair],
            side=side,
            target_logit=target_logit[pair],
            margin=heads.margins[head][self.source[pair]],
            k=self.k[pair],
            target_id=self.target_ids[pair],
            place=(head * 2 + side) * len(self.source) + pair,
            head=head,
            remember=remember,
        )
