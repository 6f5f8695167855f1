"""Which targets are among the k highest (lowest) logits of each head, without a full ranking.

A pair is decided as soon as k other tokens are known to beat its target. A first look at a sample of the
vocabulary decides nearly all pairs; the others go on through the whole vocabulary, a block of tokens at a time, until
they are decided. Float32 decides only where the difference of two logits exceeds what rounding could have done; what
is closer is decided in float64. So neither batching nor threads nor the device can change a hit.

Suppression is the score of the negated head: one search serves both.

This module knows arrays; it knows neither models nor relations.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

FIRST_LOOK = 1536
"""Tokens in the first look, at most."""

GROUP = 16
"""Tokens that are compared as one, by their highest logit; single ones only where that leaves a pair open."""

SMALLEST_BLOCK, LARGEST_BLOCK = 512, 8192
"""Tokens of the vocabulary that a later look takes at once; multiples of GROUP."""

BLOCK_ELEMENTS = 4 * 1024 * 1024
"""Logits to hold at once, so that memory stays small and caches are used."""

MAX_NEAR = 2048
"""With more tokens than this within rounding of its target, a pair is decided in float64 against all tokens."""

ALLOWANCE = 8.0
"""Rounding error allowed for, in units of epsilon x norms. Seen in practice: about a hundredth (see the benchmark)."""


@dataclass
class Work:
    """What a search has done, in counts that do not depend on the machine.

    Args:
        logits: logits computed.
        full: logits that rankings of all heads and sources would take.
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
class _Tasks:
    """Open questions: do fewer than `k` tokens have a logit of at least the target's, in the logits of `row`?

    All of one length, but `rows`: the vectors that the tasks share, negated for suppression.
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

    def keep(self, chosen: Tensor) -> None:
        """Drop all tasks but the chosen ones, and the rows that no task needs any more."""
        for name in _PER_TASK:
            setattr(self, name, getattr(self, name)[chosen])
        used, self.row = self.row.unique(return_inverse=True)
        self.rows = self.rows[used]

    def split(self, n_parts: int) -> list[_Tasks]:
        """The tasks in parts with about as many rows each."""
        part_of_task = self.row * n_parts // max(1, len(self.rows))
        parts = []
        for part in range(n_parts):
            chosen = _Tasks(**{name: getattr(self, name) for name in ("rows", *_PER_TASK)})
            chosen.keep((part_of_task == part).nonzero()[:, 0])
            parts.append(chosen)
        return parts

    @classmethod
    def joined(cls, parts: Sequence[_Tasks]) -> _Tasks:
        """Tasks of several heads as one set."""
        whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("rows", *_PER_TASK)}
        offsets = torch.tensor([0, *(len(part.rows) for part in parts[:-1])]).cumsum(0).tolist()
        whole["row"] = torch.cat([part.row + offset for part, offset in zip(parts, offsets, strict=True)])
        return cls(**whole)


_PER_TASK = ("row", "target_logit", "margin", "k", "target_id", "place", "beaten", "near")


@dataclass
class _Undecided:
    """Tasks that float32 cannot decide: where, how often beaten for sure, and the tokens within rounding of the target.

    `near_place` and `near_token` are of one length, one entry per such token; None means all tokens of the vocabulary.
    """

    place: Tensor
    beaten: Tensor
    near_place: Tensor | None
    near_token: Tensor | None


class RankSearch:
    """Decide every pair for every head of a layer.

    Args:
        W_U: unembedding as rows, Float[Tensor, "d_vocab d_model"], float32, on the device that does the work.
        source: index of each pair's source among the input vectors, Int[Tensor, "n_pairs"].
        target_ids: token id of each pair's target, Int[Tensor, "n_pairs"].
        k: how many highest logits count, Int[Tensor, "n_pairs"], at least 1.
        threads: heads that are searched at once. Each has one thread to itself: many short products shared between
            threads would wait for each other, and much longer where other programs run.
    """

    def __init__(self, W_U: Tensor, source: Tensor, target_ids: Tensor, k: Tensor, threads: int = 1) -> None:
        device = W_U.device
        self.threads = threads if device.type == "cpu" else 1
        self._workers = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
        self.W_U, self.d_vocab = W_U, W_U.shape[0]
        self.source, self.target_ids, self.k = source.to(device), target_ids.to(device), k.to(device)
        self.largest_norm = torch.linalg.vector_norm(W_U, dim=1).max()
        self.W_U_target = W_U[self.target_ids]
        self.sample: Tensor | None = None
        if self.d_vocab > 2 * FIRST_LOOK:
            self.sample = W_U[_first_tokens(self.d_vocab).to(device)].T.contiguous()
        self.work = Work()

    def layer(self, x: Tensor, W_V: Tensor, W_O: Tensor, kv_head: Sequence[int]) -> tuple[Tensor, Tensor]:
        """All heads of one layer.

        Args:
            x: input vectors, Float[Tensor, "n_sources d_model"].
            W_V: Float[Tensor, "n_kv_heads d_model d_head"].
            W_O: Float[Tensor, "n_heads d_head d_model"].
            kv_head: the kv head that each head reads, of length n_heads.

        Returns:
            promoted, suppressed: Bool[Tensor, "n_heads n_pairs"], on the CPU.

        Raises:
            OverflowError: a head's output exceeds what float32 can hold; its argument is the head.
        """
        n_heads, d_head, d_model = W_O.shape
        self.work.full += n_heads * len(x) * self.d_vocab
        # A place is (head, side, pair); side 0 is promoted, side 1 suppressed.
        hits = torch.zeros(n_heads * 2 * len(self.source), dtype=torch.bool, device=x.device)
        values = list(self._workers.map(lambda factor: x @ factor, W_V))

        def search_head(head: int) -> tuple[_Tasks | None, list[_Undecided], Work]:
            work, kv = Work(), kv_head[head]
            output = values[kv] @ W_O[head]
            margin = _margin(x, W_V[kv], values[kv], W_O[head], output, self.largest_norm)
            if not torch.isfinite(margin).all():
                raise OverflowError(head)
            tasks = self._first_look(head, values[kv], W_O[head], output, margin, work)
            # Few rows are cheaper as outputs, and those of all heads go through W_U together.
            if len(tasks.rows) * (d_model - d_head) > d_model * d_head:
                return None, self._look_through(tasks, W_O[head], hits, work), work
            tasks.rows = tasks.rows @ W_O[head]
            return tasks, [], work

        def search_pool(tasks: _Tasks) -> tuple[None, list[_Undecided], Work]:
            work = Work()
            return None, self._look_through(tasks, None, hits, work), work

        per_head = list(self._workers.map(search_head, range(n_heads)))
        pool = [tasks for tasks, _, _ in per_head if tasks is not None]
        parts = _Tasks.joined(pool).split(self.threads) if pool else []
        for _, undecided, work in [*per_head, *self._workers.map(search_pool, parts)]:
            self.work.add(work)
            for part in undecided:
                self._decide_in_float64(part, hits, x, W_V, W_O, kv_head)
        promoted, suppressed = hits.view(n_heads, 2, -1).cpu().unbind(1)
        return promoted, suppressed

    def _first_look(self, head: int, value: Tensor, W_O: Tensor, output: Tensor, margin: Tensor, work: Work) -> _Tasks:
        """The tasks that the sample leaves open; all of them where the vocabulary is too small to take a sample."""
        target_logit = (output[self.source] * self.W_U_target).sum(1)
        margin = margin[self.source]
        # A head that writes nothing ties all tokens, so that none is a hit.
        open_low = open_high = (output != 0).any(1)[self.source]
        if self.sample is not None:
            logits = (value @ (W_O @ self.sample)).view(len(value), GROUP, -1)
            work.logits += logits.numel()
            high, low = logits.amax(1)[self.source], logits.amin(1)[self.source]
            open_high = open_high & ((high > (target_logit + margin)[:, None]).sum(1) < self.k)
            open_low = open_low & ((low < (target_logit - margin)[:, None]).sum(1) < self.k)
        pair = torch.cat([open_high.nonzero()[:, 0], open_low.nonzero()[:, 0]])
        side = torch.zeros_like(pair)
        side[int(open_high.sum()) :] = 1
        sign = 1.0 - 2.0 * side
        used, row = (self.source[pair] + side * len(value)).unique(return_inverse=True)
        return _Tasks(
            rows=torch.cat([value, -value])[used],
            row=row,
            target_logit=target_logit[pair] * sign,
            margin=margin[pair],
            k=self.k[pair],
            target_id=self.target_ids[pair],
            place=(head * 2 + side) * len(self.source) + pair,
            beaten=torch.zeros_like(pair),
            near=torch.zeros_like(pair),
        )

    def _look_through(self, tasks: _Tasks, W_O: Tensor | None, hits: Tensor, work: Work) -> list[_Undecided]:
        """Go through the whole vocabulary, note the hits that are sure, and return what rounding leaves open.

        Args:
            tasks: their rows are values (d_head) where `W_O` is given, and outputs (d_model) where it is None.
        """
        nears: list[tuple[Tensor, Tensor]] = []
        crowded: list[Tensor] = []
        start = 0
        while start < self.d_vocab and len(tasks):
            fitting = BLOCK_ELEMENTS // len(tasks.rows) // GROUP * GROUP
            block = self.W_U[start : start + min(max(fitting, SMALLEST_BLOCK), LARGEST_BLOCK)]
            logits = tasks.rows @ (block.T if W_O is None else W_O @ block.T)
            work.logits += logits.numel()
            # A padding token of the last block beats nobody.
            logits = torch.nn.functional.pad(logits, (0, -len(block) % GROUP), value=-torch.inf)
            logits = logits.view(len(logits), GROUP, -1)
            highest = logits.amax(1)[tasks.row]
            above = (tasks.target_logit + tasks.margin)[:, None]
            below = (tasks.target_logit - tasks.margin)[:, None]
            unbeaten = tasks.beaten + (highest > above).sum(1) < tasks.k
            task, group = ((highest >= below) & unbeaten[:, None]).nonzero(as_tuple=True)
            close = logits[tasks.row[task], :, group]
            sure = close > above[task]
            tasks.beaten.index_add_(0, task, sure.sum(1))
            entry, member = ((close >= below[task]) & ~sure).nonzero(as_tuple=True)
            near, token = task[entry], start + member * logits.shape[2] + group[entry]
            other = token != tasks.target_id[near]
            near, token = near[other], token[other]
            tasks.near.index_add_(0, near, torch.ones_like(near))
            nears.append((tasks.place[near], token))
            in_crowd = tasks.near > MAX_NEAR
            crowded.append(tasks.place[in_crowd & unbeaten])
            tasks.keep((unbeaten & (tasks.beaten < tasks.k) & ~in_crowd).nonzero()[:, 0])
            start += len(block)
        sure_hit = tasks.beaten + tasks.near < tasks.k
        hits[tasks.place[sure_hit]] = True
        undecided = []
        if len(place := tasks.place[~sure_hit]):
            near_place, near_token = (torch.cat(column) for column in zip(*nears, strict=True))
            wanted = torch.isin(near_place, place)
            undecided.append(_Undecided(place, tasks.beaten[~sure_hit], near_place[wanted], near_token[wanted]))
        if crowded and len(place := torch.cat(crowded)):
            undecided.append(_Undecided(place, torch.zeros_like(place), None, None))
        return undecided

    def _decide_in_float64(
        self, part: _Undecided, hits: Tensor, x: Tensor, W_V: Tensor, W_O: Tensor, kv_head: Sequence[int]
    ) -> None:
        n_pairs = len(self.source)
        self.work.in_float64 += len(part.place)
        for place, beaten in zip(part.place.tolist(), part.beaten.tolist(), strict=True):
            head, side, pair = place // (2 * n_pairs), place // n_pairs % 2, place % n_pairs
            vector = x[self.source[pair]].double()[None]
            W_V64, W_O64 = W_V[kv_head[head]].double(), W_O[head].double()
            value = vector @ W_V64
            output = value @ W_O64
            tie = _margin(vector, W_V64, value, W_O64, output, self.largest_norm.double())
            output = output[0] * (1 - 2 * side)
            least = self.W_U[self.target_ids[pair]].double() @ output - tie
            if part.near_place is None or part.near_token is None:
                blocks = self.W_U.split(LARGEST_BLOCK)
                beaten = sum(int((block.double() @ output >= least).sum()) for block in blocks) - 1
            else:
                tokens = part.near_token[part.near_place == place]
                beaten += int((self.W_U[tokens].double() @ output >= least).sum())
            hits[place] = beaten < self.k[pair]


def _first_tokens(d_vocab: int) -> Tensor:
    """Token ids of the first look, in a number that is a multiple of GROUP.

    They lie denser among low ids, which most tokenizers give to common words: those beat a target more often, and on
    the demo model leave half as many pairs open as an even sample.
    """
    share = (torch.arange(FIRST_LOOK) + 0.5) / FIRST_LOOK
    ids = (d_vocab * share**3).long().unique()
    return ids[: len(ids) // GROUP * GROUP]


def _margin(x: Tensor, W_V: Tensor, value: Tensor, W_O: Tensor, output: Tensor, largest_norm: Tensor) -> Tensor:
    """How far apart two logits of a source must be for their order to be sure: Float[Tensor, "n_sources"].

    A dot product's rounding error is about epsilon x the product of both norms; each of the three products
    contributes, carried on to the logits by the norms of the factors that follow.
    """
    W_O_norm = torch.linalg.vector_norm(W_O)
    carried = torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(W_V)
    carried = (carried + torch.linalg.vector_norm(value, dim=1)) * W_O_norm + torch.linalg.vector_norm(output, dim=1)
    return 2 * ALLOWANCE * torch.finfo(x.dtype).eps * carried * largest_norm
