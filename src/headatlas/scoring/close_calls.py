"""Comparisons within rounding: noted while float32 scans the vocabulary, decided in float64.

Knows arrays only.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from headatlas.scoring.questions import Questions
    from headatlas.scoring.rounding import Reach

ROWS_AT_ONCE = 4096
"""Rows of W_U that are converted to float64 at once."""

OUTPUTS_AT_ONCE = 1024
"""Outputs that are compared with these rows at once."""


@dataclass
class CloseCalls:
    """What a scan leaves to float64, by the places of questions.

    Args:
        nears: (place, token), tokens within rounding of the target: two Int[Tensor, "n_nears"].
        uncertain: (place, beaten), questions at the end of the vocabulary that their near tokens decide, and how many
            tokens certainly beat their target: two Int[Tensor, "n_uncertain"].
        crowded: places of questions with too many near tokens to note; all tokens decide them.
    """

    nears: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    uncertain: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    crowded: list[Tensor] = field(default_factory=list)

    def add(self, other: CloseCalls) -> None:
        self.nears += other.nears
        self.uncertain += other.uncertain
        self.crowded += other.crowded

    def calls(self) -> list[_Call]:
        """One call for each question that is left to float64."""
        found: list[_Call] = []
        if self.uncertain and len(place := torch.cat([each for each, _ in self.uncertain])):
            beaten = torch.cat([each for _, each in self.uncertain])
            near_place, near_token = (torch.cat(column) for column in zip(*self.nears, strict=True))
            wanted = torch.isin(near_place, place)
            order = near_place[wanted].argsort()
            near_place, near_token = near_place[wanted][order], near_token[wanted][order]
            first, last = (torch.searchsorted(near_place, place, right=right).tolist() for right in (False, True))
            found += [
                _Call(at, n_beaten, near_token[first[number] : last[number]])
                for number, (at, n_beaten) in enumerate(zip(place.tolist(), beaten.tolist(), strict=True))
            ]
        if self.crowded:
            found += [_Call(at, 0, None) for at in torch.cat(self.crowded).tolist()]
        return found


@dataclass(frozen=True)
class _Call:
    """A question for float64.

    Args:
        place: of the question.
        beaten: how many tokens certainly beat the target.
        tokens: the tokens to compare with it, Int[Tensor, "n_tokens"]; None for all.
    """

    place: int
    beaten: int
    tokens: Tensor | None


class ExactOutputs(Protocol):
    """What is compared with the vocabulary, in float64."""

    def exact_outputs(self, head: int, source: Tensor, reach: Reach) -> tuple[Tensor, Tensor]:
        """Outputs of a head for some sources, and the difference up to which two of their logits are equal.

        Args:
            source: indices among the input vectors, Int[Tensor, "n_sources"].
            reach: of W_U.

        Returns:
            Float64[Tensor, "n_sources d_model"], Float64[Tensor, "n_sources"].
        """
        ...


def decide_close_calls(
    close_calls: CloseCalls,
    heads: ExactOutputs,
    questions: Questions,
    W_U: Tensor,
    reach: Reach,
    target_ids: Tensor,
    ranks: Tensor,
    workers: Executor,
) -> int:
    """Write the ranks of the hits among the close calls, and return how many calls there were.

    Logits that are equal within float64's rounding are ties, which count against the target.

    Args:
        W_U: Float[Tensor, "d_vocab d_model"].
        reach: of W_U.
        target_ids: of the search's distinct targets, Int[Tensor, "n_targets"].
        ranks: of each place, Int32[Tensor, "n_places"].
        workers: run one head each.
    """
    calls = close_calls.calls()
    if not calls:
        return 0
    of_head: dict[int, list[_Call]] = {}
    places = torch.tensor([call.place for call in calls], device=ranks.device)
    for head, call in zip(questions.at(places).head.tolist(), calls, strict=True):
        of_head.setdefault(head, []).append(call)

    def decide(head: int) -> None:
        asked = questions.at(torch.tensor([call.place for call in of_head[head]], device=ranks.device))
        outputs, ties = heads.exact_outputs(head, asked.source, reach)
        outputs = outputs * (1 - 2 * asked.side)[:, None]
        least = (W_U[target_ids[asked.target]].double() * outputs).sum(1) - ties
        crowded = [number for number, call in enumerate(of_head[head]) if call.tokens is None]
        reached = dict(zip(crowded, _count(W_U, outputs[crowded], least[crowded]), strict=True))
        for number, call in enumerate(of_head[head]):
            if call.tokens is None:
                rank = reached[number] - 1  # the target itself is among all tokens, but not among those near it
            else:
                rank = call.beaten + int((W_U[call.tokens].double() @ outputs[number] >= least[number]).sum())
            if rank < asked.k[number]:
                ranks[call.place] = rank

    list(workers.map(decide, of_head))
    return len(calls)


def _count(W_U: Tensor, outputs: Tensor, least: Tensor) -> list[int]:
    """How many tokens have a logit of at least `least`, for each output.

    Args:
        W_U: Float[Tensor, "d_vocab d_model"].
        outputs: Float64[Tensor, "n d_model"].
        least: Float64[Tensor, "n"].
    """
    counts = torch.zeros(len(outputs), dtype=torch.long, device=outputs.device)
    for rows in W_U.split(ROWS_AT_ONCE) if len(outputs) else ():
        exact = rows.double().T
        for start in range(0, len(outputs), OUTPUTS_AT_ONCE):
            here = slice(start, start + OUTPUTS_AT_ONCE)
            counts[here] += (outputs[here] @ exact >= least[here, None]).sum(1)
    return counts.tolist()
