"""Which targets are among the k highest (lowest) logits of each head, without a full ranking.

A pair is decided as soon as k other tokens are known to beat its target. A first look at a sample of the
vocabulary decides nearly all pairs; the others go on through the whole vocabulary, a block of tokens at a time, until
they are decided. While a head has many open pairs, its W_O is multiplied with the block of W_U; a few are cheaper as
outputs of the head, and those of all heads of a layer go on together.

Float32 decides only where the difference of two logits exceeds what rounding could have done; what is closer is
decided in float64. So neither batching nor threads nor the device can change a hit.

Suppression is the score of the negated head: one search serves both.

This module knows arrays; it knows neither models nor relations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

FIRST_LOOK, FIRST_STEP = 1536, 512
"""Tokens in the first look, at most, and those of them that all pairs are compared with; the others are only for pairs
that these leave open."""

EARLY = 4096
"""Tokens of the vocabulary after which, and after twice as many and so on, a head's open pairs are counted: few of
them go on as outputs."""

GROUP = 16
"""Tokens that are compared as one, by their highest logit; single ones only where that leaves a pair open."""

SMALLEST_BLOCK, LARGEST_BLOCK = 512, 4096
"""Tokens of the vocabulary that a later look takes at once; multiples of GROUP."""

BLOCK_ELEMENTS = 1024 * 1024
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


class _Notes:
    """What looking through the vocabulary leaves to float64, as places of tasks.

    Attributes:
        nears: (place, token), tokens within rounding of the task's target.
        unsure: (place, beaten), tasks at the vocabulary's end that their near tokens decide.
        crowded: tasks with too many near tokens to note; all tokens decide them.
    """

    def __init__(self) -> None:
        self.nears: list[tuple[Tensor, Tensor]] = []
        self.unsure: list[tuple[Tensor, Tensor]] = []
        self.crowded: list[Tensor] = []

    def add(self, other: _Notes) -> None:
        self.nears += other.nears
        self.unsure += other.unsure
        self.crowded += other.crowded


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
        target_ids, self.target = self.target_ids.unique(return_inverse=True)
        self.W_U_targets = W_U[target_ids].T.contiguous()
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
        lengths = [_lengths(x, factor, value) for factor, value in zip(W_V, values, strict=True)]
        spans = _spans(self.d_vocab)
        # More rows than this are cheaper as values, with W_O multiplied into the vocabulary.
        many = d_model * d_head / (d_model - d_head) if d_model > d_head else math.inf

        def search_head(head: int) -> tuple[int, _Tasks, _Notes, Work]:
            work, notes, kv = Work(), _Notes(), kv_head[head]
            margin = _margin(lengths[kv], W_O[head], self.largest_norm)
            if not torch.isfinite(margin).all():
                raise OverflowError(head)
            tasks = self._first_look(head, values[kv], W_O[head], margin, work)
            done = 0
            for start, stop in spans:
                if len(tasks.rows) <= many:
                    break
                self._look_through(tasks, W_O[head], start, stop, notes, work)
                done = stop
            if done == self.d_vocab:
                self._conclude(tasks, hits, notes)
            else:
                tasks.rows = tasks.rows @ W_O[head]
            return done, tasks, notes, work

        def search_pool(pools: dict[int, _Tasks]) -> tuple[_Notes, Work]:
            work, notes = Work(), _Notes()
            tasks: _Tasks | None = None
            for start, stop in spans:
                here = [each for each in (tasks, pools.get(start)) if each is not None]
                if here:
                    tasks = _Tasks.joined(here)
                    self._look_through(tasks, None, start, stop, notes, work)
            if tasks is not None:
                self._conclude(tasks, hits, notes)
            return notes, work

        per_head = list(self._workers.map(search_head, range(n_heads)))
        pools: list[dict[int, _Tasks]] = [{} for _ in range(self.threads)]
        for start, _ in spans:
            if here := [tasks for done, tasks, _, _ in per_head if done == start and len(tasks)]:
                for pool, part in zip(pools, _Tasks.joined(here).split(self.threads), strict=True):
                    pool[start] = part
        all_notes = _Notes()
        found = [(notes, work) for _, _, notes, work in per_head]
        for notes, work in [*found, *self._workers.map(search_pool, pools)]:
            self.work.add(work)
            all_notes.add(notes)
        self._decide_in_float64(all_notes, hits, x, W_V, W_O, kv_head)
        promoted, suppressed = hits.view(n_heads, 2, -1).cpu().unbind(1)
        return promoted, suppressed

    def _first_look(self, head: int, value: Tensor, W_O: Tensor, margin: Tensor, work: Work) -> _Tasks:
        """The tasks that the sample leaves open; all of them where the vocabulary is too small to take a sample."""
        target_logit = (value[self.source] * (W_O @ self.W_U_targets).T[self.target]).sum(1)
        margin = margin[self.source]
        # A head that writes nothing ties all tokens, so that none is a hit.
        alive = ((value != 0).any(1) & (W_O != 0).any())[self.source].nonzero()[:, 0]
        pairs = [alive, alive]
        if self.sample is not None:
            pairs = self._open_after_sample(value, W_O @ self.sample, target_logit, margin, alive, work)
        pair = torch.cat(pairs)
        side = torch.zeros_like(pair)
        side[len(pairs[0]) :] = 1
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

    def _open_after_sample(
        self, value: Tensor, projected: Tensor, target_logit: Tensor, margin: Tensor, alive: Tensor, work: Work
    ) -> list[Tensor]:
        """The pairs of which fewer than k tokens of the sample beat the target: [promoted, suppressed].

        Args:
            projected: `W_O @ W_U` of the sample's tokens, Float[Tensor, "d_head n_tokens"].
            alive: the pairs to be looked at.
        """
        pairs, beaten = [alive, alive], [torch.zeros_like(alive)] * 2
        above, below = target_logit + margin, target_logit - margin
        for first, last in ((0, FIRST_STEP), (FIRST_STEP, projected.shape[1])):
            if first == last or not len(pairs[0]) + len(pairs[1]):
                continue
            rows, places = self.source[torch.cat(pairs)].unique(return_inverse=True)
            logits = (value[rows] @ projected[:, first:last]).view(len(rows), GROUP, -1)
            work.logits += logits.numel()
            split = places.split([len(pairs[0]), len(pairs[1])])
            for side, extreme in enumerate((logits.amax(1), logits.amin(1))):
                of_pair, pair = extreme[split[side]], pairs[side]
                beats = of_pair < below[pair, None] if side else of_pair > above[pair, None]
                count = beaten[side] + beats.sum(1)
                still = count < self.k[pair]
                pairs[side], beaten[side] = pair[still], count[still]
        return pairs

    def _look_through(
        self, tasks: _Tasks, W_O: Tensor | None, start: int, stop: int, notes: _Notes, work: Work
    ) -> None:
        """Go through tokens `start` to `stop` of the vocabulary; tasks that are beaten often enough are dropped.

        Args:
            tasks: their rows are values (d_head) where `W_O` is given, and outputs (d_model) where it is None.
        """
        while start < stop and len(tasks):
            fitting = BLOCK_ELEMENTS // len(tasks.rows) // GROUP * GROUP
            block = self.W_U[start : min(start + min(max(fitting, SMALLEST_BLOCK), LARGEST_BLOCK), stop)]
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
            notes.nears.append((tasks.place[near], token))
            in_crowd = tasks.near > MAX_NEAR
            notes.crowded.append(tasks.place[in_crowd & unbeaten])
            tasks.keep((unbeaten & (tasks.beaten < tasks.k) & ~in_crowd).nonzero()[:, 0])
            start += len(block)

    def _conclude(self, tasks: _Tasks, hits: Tensor, notes: _Notes) -> None:
        """At the vocabulary's end: tasks that stay below k with all their near tokens are hits."""
        sure_hit = tasks.beaten + tasks.near < tasks.k
        hits[tasks.place[sure_hit]] = True
        notes.unsure.append((tasks.place[~sure_hit], tasks.beaten[~sure_hit]))

    def _decide_in_float64(
        self, notes: _Notes, hits: Tensor, x: Tensor, W_V: Tensor, W_O: Tensor, kv_head: Sequence[int]
    ) -> None:
        undecided: list[tuple[int, int, Tensor | None]] = []
        if notes.unsure and len(place := torch.cat([each for each, _ in notes.unsure])):
            beaten = torch.cat([each for _, each in notes.unsure])
            near_place, near_token = (torch.cat(column) for column in zip(*notes.nears, strict=True))
            wanted = torch.isin(near_place, place)
            order = near_place[wanted].argsort()
            near_place, near_token = near_place[wanted][order], near_token[wanted][order]
            first, last = (torch.searchsorted(near_place, place, right=right).tolist() for right in (False, True))
            undecided += [
                (at, often, near_token[first[number] : last[number]])
                for number, (at, often) in enumerate(zip(place.tolist(), beaten.tolist(), strict=True))
            ]
        if notes.crowded:
            undecided += [(at, 0, None) for at in torch.cat(notes.crowded).tolist()]
        self.work.in_float64 += len(undecided)
        n_pairs = len(self.source)
        of_head: dict[int, list[tuple[int, int, Tensor | None]]] = {}
        for each in undecided:
            of_head.setdefault(each[0] // (2 * n_pairs), []).append(each)

        def decide(head: int) -> None:
            places = torch.tensor([place for place, _, _ in of_head[head]], device=x.device)
            pair, sign = places % n_pairs, 1 - 2 * (places // n_pairs % 2)
            vectors, W_V64, W_O64 = x[self.source[pair]].double(), W_V[kv_head[head]].double(), W_O[head].double()
            values = vectors @ W_V64
            ties = _margin(_lengths(vectors, W_V64, values), W_O64, self.largest_norm.double())
            outputs = values @ W_O64 * sign[:, None]
            least = (self.W_U[self.target_ids[pair]].double() * outputs).sum(1) - ties
            for number, (place, beaten, tokens) in enumerate(of_head[head]):
                blocks = [self.W_U[tokens]] if tokens is not None else self.W_U.split(LARGEST_BLOCK)
                counts = (int((block.double() @ outputs[number] >= least[number]).sum()) for block in blocks)
                # The target itself is among all tokens, but not among those near it.
                hits[place] = beaten + sum(counts) - (tokens is None) < self.k[pair[number]]

        list(self._workers.map(decide, of_head))


def _spans(d_vocab: int) -> list[tuple[int, int]]:
    """The vocabulary in parts, each as long as all before it: (first token, first token of the next part)."""
    ends, end = [], EARLY
    while end < d_vocab:
        ends.append(end)
        end *= 2
    return list(zip([0, *ends], [*ends, d_vocab], strict=True))


def _first_tokens(d_vocab: int) -> Tensor:
    """Token ids of the first look: FIRST_STEP of them, then the others, each in a number that GROUP divides.

    They lie denser among low ids, which most tokenizers give to common words: those beat a target more often, and on
    the demo model leave half as many pairs open as an even sample.
    """
    share = (torch.arange(FIRST_LOOK) + 0.5) / FIRST_LOOK
    ids = (d_vocab * share**3).long().unique()
    step = len(ids) // FIRST_STEP
    first = torch.zeros(len(ids), dtype=torch.bool)
    first[torch.arange(FIRST_STEP) * step] = True
    rest = ids[~first]
    return torch.cat([ids[first], rest[: len(rest) // GROUP * GROUP]])


def _lengths(x: Tensor, W_V: Tensor, value: Tensor) -> Tensor:
    """Bound of what rounding in `x @ W_V` and of the values carries on, in lengths: Float[Tensor, "n_sources"]."""
    return torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(W_V) + 2 * torch.linalg.vector_norm(
        value, dim=1
    )


def _margin(lengths: Tensor, W_O: Tensor, largest_norm: Tensor) -> Tensor:
    """How far apart two logits of a source must be for their order to be sure: Float[Tensor, "n_sources"].

    A dot product's rounding error is about epsilon x the product of both norms; each of the three products
    contributes, carried on to the logits by the norms of the factors that follow. A head's output is at most as long
    as its value times the norm of W_O, in whatever order the products are taken.
    """
    carried = lengths * torch.linalg.vector_norm(W_O)
    return 2 * ALLOWANCE * torch.finfo(lengths.dtype).eps * carried * largest_norm
