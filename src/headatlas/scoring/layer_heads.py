"""The heads of one layer, prepared for a search: their values, and what a sample of the vocabulary says about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headatlas.scoring.rounding import Reach, certain_margin, error_lengths

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.scoring.row_scan import Rows
    from headatlas.scoring.scan import Columns


@dataclass(frozen=True)
class Limits:
    """What the sample decides for one head and one k.

    Args:
        highest: a target whose logit is below this is not among the k highest, Float[Tensor, "n_sources"].
        lowest: a target whose logit is above this is not among the k lowest, Float[Tensor, "n_sources"].
    """

    highest: Tensor
    lowest: Tensor

    def of_side(self, side: int) -> Tensor:
        """The limit of the highest logits (side 0) or of the lowest (1)."""
        return self.lowest if side else self.highest


@dataclass(frozen=True)
class LayerHeads:
    """The heads of a layer, as `RankSearch.heads` prepares them: each times a power of two where its size needs that.

    Args:
        x, W_V, W_O: what scales and underflow do not touch, for decisions in float64: as for `RankSearch.heads`.
        scaled_W_O: what float32 multiplies with the values, Float[Tensor, "n_heads d_head d_model"].
        kv_head: the kv head that each head reads, of length n_heads.
        values: `x @ W_V` of each kv head, scaled, Float[Tensor, "n_sources d_head"].
        margins: for each head, the difference beyond which the order of two logits is certain,
            Float[Tensor, "n_sources"].
        limits: for each head and each k, what the sample decides.
        columns: for each head, the vocabulary behind its W_O.
        underflows: heads that write something, but so little that float32, and each smaller type, holds only zeros.
        seen: rows that a search has compared with the whole vocabulary, for the next one.
    """

    x: Tensor
    W_V: Tensor
    W_O: Tensor
    scaled_W_O: Tensor
    kv_head: Sequence[int]
    values: list[Tensor]
    margins: list[Tensor]
    limits: list[dict[int, Limits]]
    columns: list[Columns]
    underflows: list[int]
    seen: list[Rows] = field(default_factory=list)

    @property
    def n_heads(self) -> int:
        return len(self.W_O)

    def value(self, head: int) -> Tensor:
        """The values that a head reads: Float[Tensor, "n_sources d_head"]."""
        return self.values[self.kv_head[head]]

    def exact_outputs(self, head: int, source: Tensor, reach: Reach) -> tuple[Tensor, Tensor]:
        """See `headatlas.scoring.close_calls.ExactOutputs`."""
        x, W_O, W_V = self.x[source].double(), self.W_O[head].double(), self.W_V[self.kv_head[head]].double()
        values = x @ W_V
        return values @ W_O, certain_margin(error_lengths(x, W_V, values), W_O, reach)
