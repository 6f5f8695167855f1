"""Which pairs a head hits that only copies its input: vectors in the place of a head's output.

Many targets lie near their source in the vocabulary: a head that hands its word on hits them without any knowledge of
the relation. A pair is counted for a vector exactly as for the output of a head: with the same k, ties against the
target, close calls in float64.

This module knows arrays; it knows neither models nor relations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from headatlas.scoring.close_calls import CloseCalls, decide_close_calls
from headatlas.scoring.questions import AllPairs
from headatlas.scoring.rank_search import MISS
from headatlas.scoring.rounding import Reach, vector_margin, vector_underflow
from headatlas.scoring.sample import find_limits
from headatlas.scoring.scaling import Scaled, power_of_outputs
from headatlas.scoring.scan import Columns, Tasks, Work, finish, inner_products, scan

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.scoring.rank_search import RankSearch


@dataclass(frozen=True)
class _Vectors:
    """Vectors in the place of a head's output.

    Args:
        x: Float[Tensor, "n_sources d_model"].
    """

    x: Tensor

    def exact_outputs(self, head: int, source: Tensor, reach: Reach) -> tuple[Tensor, Tensor]:
        """See `headatlas.scoring.close_calls.ExactOutputs`."""
        x = self.x[source].double()
        return x, vector_margin(x, reach)


def hit_by_vectors(search: RankSearch, x: Tensor, wanted: Tensor | None = None) -> Tensor:
    """Whether each pair's target is among the k highest logits `x @ W_U` of its source: Bool[Tensor, "n_pairs"].

    Args:
        search: for the pairs.
        x: one vector for each source, Float[Tensor, "n_sources d_model"], on the search's device.
        wanted: the pairs to decide, Bool[Tensor, "n_pairs"]; the others are misses. Default: all.
    """
    stored, scaled = x, Scaled.of(x, power_of_outputs(search.reach.power))
    x = scaled.values
    margin = (vector_margin(x, search.reach) + vector_underflow(x.shape[1], scaled.below, search.reach.power)).to(
        x.dtype
    )
    silent = ~(stored != 0).any(1)
    limits = find_limits(search.sample, x, None, margin, silent, search.k.unique().tolist())
    target_logit = inner_products(x, search.source, search.W_U, search.target_ids)
    highest = torch.empty_like(target_logit)
    for k, of_k in limits.items():
        highest[search.k == k] = of_k.highest[search.source[search.k == k]]
    is_open = target_logit >= highest
    if wanted is not None:
        is_open &= wanted.to(is_open.device)
    pair = is_open.nonzero()[:, 0]
    tasks = Tasks.start(
        x,
        source=search.source[pair],
        side=torch.zeros_like(pair),
        target_logit=target_logit[pair],
        margin=margin[search.source[pair]],
        k=search.k[pair],
        target_id=search.target_ids[pair],
        place=pair,
    )
    questions = AllPairs(1, search.source, search.target, search.k)
    ranks = torch.full((questions.n_places,), MISS, dtype=torch.int32, device=x.device)

    def look(part: Tasks) -> tuple[CloseCalls, Work]:
        close_calls, work = CloseCalls(), Work()
        scan(part, Columns(search.W_U), 0, search.d_vocab, close_calls, work)
        finish(part, ranks, close_calls, exact_ranks=False)
        return close_calls, work

    all_close_calls = CloseCalls()
    for close_calls, work in search.workers.map(look, tasks.split(search.threads)):
        search.work.add(work)
        all_close_calls.add(close_calls)
    decide_close_calls(
        all_close_calls, _Vectors(stored), questions, search.W_U, search.reach, search.targets, ranks, search.workers
    )
    return ranks[: len(search.source)] != MISS


class Copying:
    """The pairs that copying hits in each layer: those of the word's own vectors, or of the layer's input.

    Args:
        search: for the pairs.
        own: vectors of the word itself in the place of a head's output, such as its embedding; each has a row for each
            source, Float[Tensor, "n_sources d_model"], on the search's device.
    """

    def __init__(self, search: RankSearch, own: Sequence[Tensor]) -> None:
        self._search, self._d_model = search, search.W_U.shape[1]
        self.by_word = torch.zeros(len(search.source), dtype=torch.bool, device=search.W_U.device)
        for x in own:
            self.by_word |= hit_by_vectors(search, x, ~self.by_word)
        self._last: tuple[Tensor, Tensor] | None = None

    def layer(self, x: Tensor) -> Tensor:
        """The pairs that copying hits in a layer: Bool[Tensor, "n_pairs"].

        Args:
            x: input of the layer's heads, Float[Tensor, "n_sources d_model"]; further columns are ignored, such as the
                one for the bias of the values.
        """
        if self._last is None or self._last[0] is not x:
            by_input = hit_by_vectors(self._search, x[:, : self._d_model], ~self.by_word)
            self._last = x, self.by_word | by_input
        return self._last[1]
