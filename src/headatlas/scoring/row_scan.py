"""Deciding all targets of a vector in one pass over the vocabulary, for small k.

For each vector the tokens with the highest logits are noted, as many as a target's rank can depend on; they decide all
of its targets, and those that are asked for later too. Comparisons that float32 cannot decide are noted for float64.
Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headatlas.scoring.close_calls import CloseCalls
from headatlas.scoring.scan import Columns, Work, fitting_stop, joined_rows

SPARE = 7
"""Tokens noted beyond those that a task's `k` asks for, so that a few within rounding of a target can be told apart."""

GROUPS = 16, 64
"""Fewest and most tokens that are compared as one, by their highest logit."""

FEWEST_GROUPS = 32
"""Groups of a block, if its tokens are enough: maxima of fewer groups take much longer."""


@dataclass
class Rows:
    """Undecided tasks of vectors: do fewer than `k` other tokens have a logit of at least the target's?

    Args:
        rows: values (d_head) or outputs (d_model), negated for suppression, so that only the highest logits count.
        key: of each row, `(2 * head + side) * n_sources + source`.
        floor: logits below this matter to no task of the row.
        noted: the highest logits so far that matter, in descending order: Float[Tensor, "n_rows n_noted"].
        token: the tokens that have them, Int[Tensor, "n_rows n_noted"].
        row, target_logit, margin, k, target_id, place: of each task, as in `headatlas.scoring.scan.Tasks`.
        least: of each task, the least logit that matters.
    """

    rows: Tensor
    key: Tensor
    floor: Tensor
    noted: Tensor
    token: Tensor
    row: Tensor
    target_logit: Tensor
    margin: Tensor
    least: Tensor
    k: Tensor
    target_id: Tensor
    place: Tensor

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
        head: int = 0,
        most: int = 1,
        remember: bool = False,
    ) -> Rows:
        """Tasks of one head that have seen no token yet.

        Args:
            value: Float[Tensor, "n_sources d_head"].
            source: of each task, the row of `value`.
            side: 0 for the highest logits, 1 for the lowest.
            target_logit: of the vector that is not negated.
            most: the largest k of the search.
            remember: note also what only tasks that are asked for later may depend on.
        """
        used, row = _renumbered(source + side * len(value), 2 * len(value))
        noted = value.new_full((len(used), most + 1 + SPARE), -torch.inf)
        target_logit = target_logit * (1.0 - 2.0 * side)
        least = torch.full_like(target_logit, -torch.inf) if remember else target_logit - margin
        tasks = cls(
            rows=torch.cat([value, -value])[used],
            key=2 * head * len(value) + used,
            floor=noted[:, 0],
            noted=noted,
            token=torch.zeros_like(noted, dtype=torch.long),
            row=row,
            target_logit=target_logit,
            margin=margin,
            least=least,
            k=k,
            target_id=target_id,
            place=place,
        )
        tasks._find_floor()
        return tasks

    def keep(self, chosen: Tensor) -> None:
        """Drop all tasks but the chosen ones, and the rows that no task needs any more."""
        for name in _PER_TASK:
            setattr(self, name, getattr(self, name)[chosen])
        used, self.row = _renumbered(self.row, len(self.rows))
        for name in _PER_ROW:
            setattr(self, name, getattr(self, name)[used])
        self._find_floor()

    def _find_floor(self) -> None:
        self.floor = torch.full_like(self.noted[:, 0], torch.inf).scatter_reduce_(0, self.row, self.least, "amin")

    def chosen(self, which: Tensor) -> Rows:
        """Some of the tasks."""
        found = Rows(**{name: getattr(self, name) for name in (*_PER_ROW, *_PER_TASK)})
        found.keep(which)
        return found

    def split(self, n_parts: int) -> list[Rows]:
        """The tasks in parts with about as many rows each."""
        part_of_task = self.row * n_parts // max(1, len(self.rows))
        return [self.chosen((part_of_task == part).nonzero()[:, 0]) for part in range(n_parts)]

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """Tasks of several heads as one set."""
        return cls(**joined_rows(parts, (*_PER_ROW, *_PER_TASK)))


_PER_ROW = ("rows", "key", "floor", "noted", "token")
_PER_TASK = ("row", "target_logit", "margin", "least", "k", "target_id", "place")


class SeenRows:
    """Rows that have been compared with the whole vocabulary, and all that was noted of them.

    Args:
        parts: of heads of one layer, started with `remember`.
        n_keys: above the largest key.
    """

    def __init__(self, parts: Sequence[Rows], n_keys: int) -> None:
        self._noted, self._token = (torch.cat([getattr(part, name) for part in parts]) for name in ("noted", "token"))
        key = torch.cat([part.key for part in parts])
        self._place = torch.full((n_keys,), -1, device=key.device)
        self._place[key] = torch.arange(len(key), device=key.device)

    def take_from(self, tasks: Rows) -> Rows:
        """Tasks of seen rows, which are dropped from `tasks` and can be finished."""
        is_seen = (self._place[tasks.key] >= 0)[tasks.row]
        seen = tasks.chosen(is_seen.nonzero()[:, 0])
        place = self._place[seen.key]
        seen.noted, seen.token = self._noted[place], self._token[place]
        tasks.keep((~is_seen).nonzero()[:, 0])
        return seen


def _renumbered(numbers: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The distinct ones of numbers below `n`, ascending, and the place of each number among them."""
    used = torch.zeros(n, dtype=torch.bool, device=numbers.device)
    used[numbers] = True
    return used.nonzero()[:, 0], (used.cumsum(0) - 1)[numbers]


def scan_rows(tasks: Rows, columns: Columns, start: int, stop: int, close_calls: CloseCalls, work: Work) -> None:
    """Go through tokens `start` to `stop` of the vocabulary; tasks that are beaten often enough are dropped.

    Args:
        columns: of the vocabulary, for the rows of the tasks.
        close_calls: gets nothing before `finish_rows`.
        work: gets the number of logits.
    """
    while start < stop and len(tasks):
        block = columns.at(start, fitting_stop(len(tasks.rows), start, stop))
        logits = tasks.rows @ block
        work.logits += logits.numel()
        _note(tasks, logits, start)
        last = (tasks.k - 1).clamp(max=tasks.noted.shape[1] - 1)
        beaten = tasks.noted[tasks.row, last] > tasks.target_logit + tasks.margin
        if 8 * int(beaten.sum()) > len(tasks):
            tasks.keep((~beaten).nonzero()[:, 0])
        start += block.shape[1]


def _note(tasks: Rows, logits: Tensor, start: int) -> None:
    """Note the highest of some more logits.

    Args:
        logits: of tokens from `start` on, Float[Tensor, "n_rows n_tokens"].
    """
    n_noted, (group_size, largest) = tasks.noted.shape[1], GROUPS
    # At first, the highest of many groups tell which logits can matter.
    while start and group_size < largest and logits.shape[1] >= 2 * group_size * FEWEST_GROUPS:
        group_size *= 2
    if padding := -logits.shape[1] % group_size:
        logits = torch.nn.functional.pad(logits, (0, padding), value=-torch.inf)
    logits = logits.view(len(logits), group_size, -1)
    highest, n_groups = logits.amax(1), logits.shape[2]
    least = torch.maximum(tasks.floor, tasks.noted[:, -1])
    if start == 0 and n_groups >= n_noted:
        least = torch.maximum(least, highest.topk(n_noted).values[:, -1])
    row, group = (highest >= least[:, None]).nonzero(as_tuple=True)
    close = logits[row, :, group]
    entry, member = (close >= least[row, None]).nonzero(as_tuple=True)
    if not len(entry):
        return
    row, logit = row[entry], close[entry, member]
    token = start + member * n_groups + group[entry]
    changed, at = _renumbered(row, len(tasks.rows))
    count = torch.bincount(at)
    # Entries of a row follow each other.
    column = n_noted + torch.arange(len(at), device=at.device) - (count.cumsum(0) - count)[at]
    logit_of = logit.new_full((len(changed), n_noted + int(count.max())), -torch.inf)
    token_of = torch.zeros_like(logit_of, dtype=torch.long)
    logit_of[:, :n_noted], token_of[:, :n_noted] = tasks.noted[changed], tasks.token[changed]
    logit_of[at, column], token_of[at, column] = logit, token
    noted, order = logit_of.topk(n_noted)
    tasks.noted[changed], tasks.token[changed] = noted, token_of.gather(1, order)


def finish_rows(tasks: Rows, ranks: Tensor, close_calls: CloseCalls, exact_ranks: bool) -> None:
    """At the end of the vocabulary: the noted tokens decide all tasks, except where some are within rounding.

    Args:
        ranks: of each place; gets those of the hits.
        close_calls: gets the tasks that near tokens decide.
        exact_ranks: whether a near token that can only change a hit's rank matters.
    """
    noted, token = tasks.noted[tasks.row], tasks.token[tasks.row]
    above = noted > (tasks.target_logit + tasks.margin)[:, None]
    near = (noted >= (tasks.target_logit - tasks.margin)[:, None]) & ~above
    beaten = above.sum(1)
    is_open = beaten < tasks.k
    # More tokens than those noted may be near.
    crowded = is_open & near[:, -1]
    near &= token != tasks.target_id[:, None]
    n_near = near.sum(1)
    certain = is_open & ~crowded & (n_near == 0 if exact_ranks else beaten + n_near < tasks.k)
    ranks[tasks.place[certain]] = beaten[certain].int()
    uncertain = (is_open & ~crowded & ~certain).nonzero()[:, 0]
    task, number = near[uncertain].nonzero(as_tuple=True)
    close_calls.nears.append((tasks.place[uncertain[task]], token[uncertain[task], number]))
    close_calls.uncertain.append((tasks.place[uncertain], beaten[uncertain]))
    close_calls.crowded.append(tasks.place[crowded])
