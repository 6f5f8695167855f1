"""Which targets are among the k highest (lowest) logits of each head, and at which place, without a full ranking.

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

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

FIRST_LOOK = 512, 1536
"""Tokens in the first look, at least and at most; between them, FIRST_SHARE of the vocabulary. A smaller look takes
less time for every source, and leaves more pairs open, the more the larger the vocabulary and k are."""

FIRST_SHARE = 1 / 96

EARLY = 4096
"""Tokens of the vocabulary after which, and after twice as many and so on, a head's open pairs are counted: few of
them go on as outputs."""

GROUP = 16
"""Tokens that are compared as one, by their highest logit; single ones only where that leaves a pair open."""

LIMIT_GROUPS = 64
"""Parts of the first look, each of which stands for one token where the k-th highest logit is wanted."""

SMALLEST_BLOCK, LARGEST_BLOCK = 512, 4096
"""Tokens of the vocabulary that a later look takes at once; multiples of GROUP."""

BLOCK_ELEMENTS = 1024 * 1024
"""Logits to hold at once, so that memory stays small and caches are used."""

MAX_NEAR = 2048
"""With more tokens than this within rounding of its target, a pair is decided in float64 against all tokens."""

MISS = -1
"""The rank of a target that is not among the k highest (lowest)."""

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


Limits = dict[int, tuple["Tensor", "Tensor"]]
"""For each k: below which logit a source's target is not among the k highest, since so many tokens of the sample surely
beat it, and above which it is not among the k lowest: Float[Tensor, "n_sources"] each."""


@dataclass(frozen=True)
class Heads:
    """The heads of a layer, as `RankSearch.heads` prepares them.

    Args:
        x, W_V, W_O, kv_head: as given.
        values: `x @ W_V` of each kv head.
        margins: how far apart logits must be for their order to be sure, of each head and source.
        limits: what the sample of the vocabulary decides, of each head.
    """

    x: Tensor
    W_V: Tensor
    W_O: Tensor
    kv_head: Sequence[int]
    values: list[Tensor]
    margins: list[Tensor]
    limits: list[Limits]

    @property
    def n_heads(self) -> int:
        return len(self.W_O)

    def value(self, head: int) -> Tensor:
        """What the head reads of each source: Float[Tensor, "n_sources d_head"]."""
        return self.values[self.kv_head[head]]


@dataclass(frozen=True)
class CellBlock:
    """Sources and targets, each of which with each is a question.

    Args:
        source: index of each source among the input vectors, Int[Tensor, "n_rows"].
        target: index of each target among `RankSearch.targets`, Int[Tensor, "n_columns"].
        k: how many highest logits count; one that occurs among the pairs.
    """

    source: Tensor
    target: Tensor
    k: int


@dataclass(frozen=True)
class Cells:
    """Cells of blocks: number of the block, side (1: suppressed), row and column in it; all Int[Tensor, "n_cells"]."""

    block: Tensor
    side: Tensor
    row: Tensor
    column: Tensor

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def joined(cls, parts: Sequence[Cells]) -> Cells:
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _OF_CELL))

    def chosen(self, which: Tensor) -> Cells:
        return Cells(self.block[which], self.side[which], self.row[which], self.column[which])


_OF_CELL = ("block", "side", "row", "column")


class _Asked(Protocol):
    """What the questions of a search are, by place; and whether the rank of a hit matters, not only that it is one."""

    exact_ranks: bool

    def of(self, place: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """head, side, source, target (its index among `RankSearch.targets`) and k of each place."""
        ...


class _AllPairs:
    """All pairs of all heads, on both sides; a place is (head, side, pair)."""

    exact_ranks = True

    def __init__(self, search: RankSearch) -> None:
        self._search = search

    def of(self, place: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        search, n_pairs = self._search, len(self._search.source)
        pair, head_side = place % n_pairs, place // n_pairs
        return head_side // 2, head_side % 2, search.source[pair], search.target[pair], search.k[pair]


class _SomeCells:
    """Cells of each head, one head after the other."""

    exact_ranks = False

    def __init__(
        self, search: RankSearch, blocks: Sequence[CellBlock], asked: Sequence[Cells], ends: list[int]
    ) -> None:
        device = search.W_U.device
        self.ends = ends
        self._head = torch.arange(len(asked), device=device).repeat_interleave(
            torch.tensor([len(each) for each in asked], device=device)
        )
        joined = Cells.joined(asked)
        self._block, self._side, row, column = joined.block, joined.side, joined.row, joined.column
        starts = [
            torch.tensor([0, *(len(getattr(block, name)) for block in blocks)]).cumsum(0)[:-1].to(device)
            for name in ("source", "target")
        ]
        self._source = torch.cat([block.source for block in blocks])[starts[0][self._block] + row]
        self._target = torch.cat([block.target for block in blocks])[starts[1][self._block] + column]
        self._k = torch.tensor([block.k for block in blocks], device=device)[self._block]

    def of(self, place: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self._head[place], self._side[place], self._source[place], self._target[place], self._k[place]


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
        self.targets, self.target = self.target_ids.unique(return_inverse=True)
        self.W_U_targets = W_U[self.targets].T.contiguous()
        self.sample: Tensor | None = None
        first = _first_tokens(self.d_vocab).to(device)
        if 0 < 2 * len(first) < self.d_vocab:
            self.sample = W_U[first].T.contiguous()
        self.work = Work()

    def heads(self, x: Tensor, W_V: Tensor, W_O: Tensor, kv_head: Sequence[int]) -> Heads:
        """The heads of one layer with their values.

        Args:
            x: input vectors, Float[Tensor, "n_sources d_model"].
            W_V: Float[Tensor, "n_kv_heads d_model d_head"].
            W_O: Float[Tensor, "n_heads d_head d_model"].
            kv_head: the kv head that each head reads, of length n_heads.

        Raises:
            OverflowError: a head's output exceeds what float32 can hold; its argument is the head.
        """
        values = list(self._workers.map(lambda factor: x @ factor, W_V))
        lengths = [_lengths(x, factor, value) for factor, value in zip(W_V, values, strict=True)]
        margins = [_margin(lengths[kv], W_O[head], self.largest_norm) for head, kv in enumerate(kv_head)]
        for head, margin in enumerate(margins):
            if not torch.isfinite(margin).all():
                raise OverflowError(head)

        def limits_of(head: int) -> Limits:
            return self._limits(values[kv_head[head]], W_O[head], margins[head])

        return Heads(x, W_V, W_O, kv_head, values, margins, list(self._workers.map(limits_of, range(len(W_O)))))

    def pairs(self, heads: Heads) -> tuple[Tensor, Tensor]:
        """All pairs for all heads of a layer.

        Returns:
            promoted, suppressed: Int32[Tensor, "n_heads n_pairs"], on the CPU: how many other tokens have a logit of
            at least (at most) the target's where those are fewer than k, else MISS.
        """
        self.work.full += heads.n_heads * len(heads.x) * self.d_vocab
        n_places = heads.n_heads * 2 * len(self.source)
        ranks = self._search(heads, _AllPairs(self), self._first_look, n_places)
        promoted, suppressed = ranks.view(heads.n_heads, 2, -1).cpu().unbind(1)
        return promoted, suppressed

    def candidates(self, heads: Heads, blocks: Sequence[CellBlock], keep: Callable[[int, Cells], Cells]) -> list[Cells]:
        """The cells that the sample does not show to be misses, and of those what is wanted, head by head.

        Args:
            blocks: sources and targets, each of which with each is a cell.
            keep: given a head and some of its cells, those that are wanted; called before there are many.
        """

        def find(head: int) -> Cells:
            value, limits = heads.value(head), heads.limits[head]
            projected = heads.W_O[head] @ self.W_U_targets
            kept, fresh, n_fresh = [], [], 0
            for number, block in enumerate(blocks):
                of_targets = projected[:, block.target]
                at_once = max(1, BLOCK_ELEMENTS // max(1, of_targets.shape[1]))
                for start, rows in zip(itertools.count(0, at_once), block.source.split(at_once), strict=False):
                    logits = value[rows] @ of_targets
                    highest, lowest = (limit[rows, None] for limit in limits[block.k])
                    for side, is_open in enumerate((logits >= highest, logits <= lowest)):
                        row, column = is_open.nonzero(as_tuple=True)
                        number_of, side_of = torch.full_like(row, number), torch.full_like(row, side)
                        fresh.append(Cells(number_of, side_of, row + start, column))
                        n_fresh += len(row)
                    if n_fresh > BLOCK_ELEMENTS:
                        kept.append(keep(head, Cells.joined(fresh)))
                        fresh, n_fresh = [], 0
            return Cells.joined([*kept, keep(head, Cells.joined(fresh))] if fresh else kept)

        return list(self._workers.map(find, range(heads.n_heads)))

    def cells(self, heads: Heads, blocks: Sequence[CellBlock], asked: Sequence[Cells]) -> list[Tensor]:
        """Which of the asked cells are hits, for each head: Bool[Tensor, "n_cells"], on the device."""
        ends = torch.tensor([0, *(len(each) for each in asked)]).cumsum(0).tolist()
        known = _SomeCells(self, blocks, asked, ends)
        ranks = self._search(heads, known, functools.partial(self._cell_tasks, asked=known), ends[-1])
        return [ranks[first:last] != MISS for first, last in itertools.pairwise(ends)]

    def _search(
        self, heads: Heads, asked: _Asked, first_look: Callable[[int, Heads, Work], _Tasks], n_places: int
    ) -> Tensor:
        """The rank of each question, or MISS; questions that the first look drops are misses."""
        ranks = torch.full((n_places,), MISS, dtype=torch.int32, device=self.W_U.device)
        spans = _spans(self.d_vocab)
        _, d_head, d_model = heads.W_O.shape
        # More rows than this are cheaper as values, with W_O multiplied into the vocabulary.
        many = d_model * d_head / (d_model - d_head) if d_model > d_head else math.inf

        def search_head(head: int) -> tuple[int, _Tasks, _Notes, Work]:
            work, notes = Work(), _Notes()
            tasks = first_look(head, heads, work)
            done = 0
            for start, stop in spans:
                if len(tasks.rows) <= many:
                    break
                self._look_through(tasks, heads.W_O[head], start, stop, notes, work)
                done = stop
            if done == self.d_vocab:
                self._conclude(tasks, ranks, notes, asked.exact_ranks)
            else:
                tasks.rows = tasks.rows @ heads.W_O[head]
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
                self._conclude(tasks, ranks, notes, asked.exact_ranks)
            return notes, work

        per_head = list(self._workers.map(search_head, range(heads.n_heads)))
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
        self._decide_in_float64(all_notes, ranks, heads, asked)
        return ranks

    def _first_look(self, head: int, heads: Heads, work: Work) -> _Tasks:
        """The tasks that the sample leaves open; all of them where the vocabulary is too small to take a sample."""
        value, W_O = heads.value(head), heads.W_O[head]
        target_logit = (value[self.source] * (W_O @ self.W_U_targets).T[self.target]).sum(1)
        if self.sample is not None:
            work.logits += len(value) * self.sample.shape[1]
        highest, lowest = (torch.empty_like(target_logit) for _ in range(2))
        for k, limits in heads.limits[head].items():
            of_k = self.k == k
            highest[of_k], lowest[of_k] = (limit[self.source[of_k]] for limit in limits)
        pairs = [(target_logit >= highest).nonzero()[:, 0], (target_logit <= lowest).nonzero()[:, 0]]
        pair = torch.cat(pairs)
        side = torch.zeros_like(pair)
        side[len(pairs[0]) :] = 1
        sign = 1.0 - 2.0 * side
        used, row = (self.source[pair] + side * len(value)).unique(return_inverse=True)
        return _Tasks(
            rows=torch.cat([value, -value])[used],
            row=row,
            target_logit=target_logit[pair] * sign,
            margin=heads.margins[head][self.source[pair]],
            k=self.k[pair],
            target_id=self.target_ids[pair],
            place=(head * 2 + side) * len(self.source) + pair,
            beaten=torch.zeros_like(pair),
            near=torch.zeros_like(pair),
        )

    def _cell_tasks(self, head: int, heads: Heads, work: Work, asked: _SomeCells) -> _Tasks:
        """All cells of a head that are asked, as tasks."""
        value, W_O = heads.value(head), heads.W_O[head]
        place = torch.arange(*asked.ends[head : head + 2], device=value.device)
        _, side, source, target, k = asked.of(place)
        sign = 1.0 - 2.0 * side
        used, row = (source + side * len(value)).unique(return_inverse=True)
        return _Tasks(
            rows=torch.cat([value, -value])[used],
            row=row,
            target_logit=(value[source] * (W_O @ self.W_U_targets).T[target]).sum(1) * sign,
            margin=heads.margins[head][source],
            k=k,
            target_id=self.targets[target],
            place=place,
            beaten=torch.zeros_like(place),
            near=torch.zeros_like(place),
        )

    def _limits(self, value: Tensor, W_O: Tensor, margin: Tensor) -> Limits:
        wanted = self.k.unique().tolist()
        # A head that writes nothing ties all tokens, so that none is a hit.
        silent = ~((value != 0).any(1) & (W_O != 0).any())
        nothing = torch.where(silent, torch.inf, -torch.inf).to(margin.dtype)
        if self.sample is None:
            return {k: (nothing, -nothing) for k in wanted}
        projected = W_O @ self.sample
        most = min(max(wanted), LIMIT_GROUPS)
        highest, lowest = [], []
        for rows in value.split(max(1, BLOCK_ELEMENTS // projected.shape[1])):
            logits = (rows @ projected).view(len(rows), projected.shape[1] // LIMIT_GROUPS, LIMIT_GROUPS)
            highest.append(logits.amax(1).topk(most, dim=1).values)
            lowest.append(logits.amin(1).topk(most, dim=1, largest=False).values)
        upper, lower = torch.cat(highest), torch.cat(lowest)
        # A group stands for one token, so that at least k tokens reach the k-th highest group.
        return {
            k: (
                (upper[:, k - 1] - margin).masked_fill(silent, torch.inf),
                (lower[:, k - 1] + margin).masked_fill(silent, -torch.inf),
            )
            if k <= LIMIT_GROUPS
            else (nothing, -nothing)
            for k in wanted
        }

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

    def _conclude(self, tasks: _Tasks, ranks: Tensor, notes: _Notes, exact_rank: bool) -> None:
        """At the vocabulary's end: what is left are hits, as far as near tokens have no say (in their rank either)."""
        sure = tasks.near == 0 if exact_rank else tasks.beaten + tasks.near < tasks.k
        ranks[tasks.place[sure]] = tasks.beaten[sure].int()
        notes.unsure.append((tasks.place[~sure], tasks.beaten[~sure]))

    def _decide_in_float64(self, notes: _Notes, ranks: Tensor, heads: Heads, asked: _Asked) -> None:
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
        if not undecided:
            return
        of_head: dict[int, list[tuple[int, int, Tensor | None]]] = {}
        places = torch.tensor([place for place, _, _ in undecided], device=ranks.device)
        for head, each in zip(asked.of(places)[0].tolist(), undecided, strict=True):
            of_head.setdefault(head, []).append(each)

        def decide(head: int) -> None:
            places = torch.tensor([place for place, _, _ in of_head[head]], device=ranks.device)
            _, side, source, target, k = asked.of(places)
            vectors, W_O = heads.x[source].double(), heads.W_O[head].double()
            W_V = heads.W_V[heads.kv_head[head]].double()
            values = vectors @ W_V
            ties = _margin(_lengths(vectors, W_V, values), W_O, self.largest_norm.double())
            outputs = values @ W_O * (1 - 2 * side)[:, None]
            least = (self.W_U[self.targets[target]].double() * outputs).sum(1) - ties
            for number, (place, beaten, tokens) in enumerate(of_head[head]):
                blocks = [self.W_U[tokens]] if tokens is not None else self.W_U.split(LARGEST_BLOCK)
                counts = (int((block.double() @ outputs[number] >= least[number]).sum()) for block in blocks)
                # The target itself is among all tokens, but not among those near it.
                rank = beaten + sum(counts) - (tokens is None)
                if rank < k[number]:
                    ranks[place] = rank

        list(self._workers.map(decide, of_head))


def _spans(d_vocab: int) -> list[tuple[int, int]]:
    """The vocabulary in parts, each as long as all before it: (first token, first token of the next part)."""
    ends, end = [], EARLY
    while end < d_vocab:
        ends.append(end)
        end *= 2
    return list(zip([0, *ends], [*ends, d_vocab], strict=True))


def _first_tokens(d_vocab: int) -> Tensor:
    """Token ids of the first look, in a number that LIMIT_GROUPS divides.

    They lie denser among low ids, which most tokenizers give to common words: those beat a target more often, and on
    the demo model leave half as many pairs open as an even sample.
    """
    least, most = FIRST_LOOK
    number = min(max(round(d_vocab * FIRST_SHARE), least), most)
    share = (torch.arange(number) + 0.5) / number
    ids = (d_vocab * share**3).long().unique()
    return ids[: len(ids) // LIMIT_GROUPS * LIMIT_GROUPS]


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
