"""Attention of heads that read what earlier heads would have written, on repeated random tokens; no forward pass.

A head of the previous token writes, at each token of the first copy, about the token before it; later heads read that
in their keys. An induction head writes, at each token of the second copy, about the token behind the earlier one; later
heads read that in their queries. Each sender writes as if all of its attention were on that one token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from headatlas.measuring.running.attention import watch_attention
from headatlas.measuring.running.writes import ComposedInputs, Writes, random_turn
from headatlas.scoring.composition import induction_contrast, induction_share

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

PREVIOUS, INDUCTION = "previous", "induction"


class Sender(NamedTuple):
    """A head that writes about one token: the previous one, or that of the induction place."""

    about: str
    layer: int
    head: int


class Seen(NamedTuple):
    """What the heads of some layers do: `induction_contrast` and `induction_share`, (layer, sequence, head); NaN in
    layers that read nothing new."""

    contrast: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class Composer:
    """Repeated random tokens, and what each layer would read for them.

    Args:
        writes: what heads write.
        ids: Int[Tensor, "n_sequences n_tokens"].
        inputs: predicted, layer -> Float[Tensor, "n_sequences n_tokens d_model"].
    """

    writes: Writes
    ids: Tensor
    inputs: Mapping[int, Tensor]

    @property
    def n_random(self) -> int:
        """Different tokens of a sequence."""
        return (self.ids.shape[1] - 1) // 2

    def places(self, about: str) -> tuple[slice, slice]:
        """The tokens that are written about, and those at which that is written."""
        n = self.n_random
        if about == PREVIOUS:
            return slice(1, n), slice(2, n + 1)
        return slice(2, n + 1), slice(n + 1, 2 * n)

    def written(self, sender: Sender, turned: Tensor | None = None) -> Tensor:
        """What a sender writes at all places, as `inputs`."""
        import torch

        read, at = self.places(sender.about)
        x = self.inputs[self.writes.running.heads.attention.value_layer(sender.layer)]
        whole = torch.zeros_like(x)
        whole[:, at] = self.writes.of(sender.layer, sender.head, x[:, read], turned)
        return whole

    def composed(self, senders: Iterable[tuple[Sender, Tensor | None]], changed_only: bool = False) -> ComposedInputs:
        """What the layers read if some senders, turned or not, have written."""
        written: dict[int, list[Tensor]] = defaultdict(list)
        for sender, turned in senders:
            written[sender.layer].append(self.written(sender, turned))
        return ComposedInputs(self.writes, self.inputs, written, changed_only)

    def watch(self, instead: Sequence[Mapping[int, Tensor]]) -> list[Seen]:
        """What all heads would do with each of some inputs."""
        import numpy as np

        running, n = self.writes.running, self.n_random
        shape = (len(running.layers), len(self.ids), running.heads.n_heads)
        seen = [Seen(np.full(shape, np.nan), np.full(shape, np.nan)) for _ in instead]

        def see(layer: int, _: Tensor, __: Tensor, *others: Tensor | None) -> None:
            at = running.layers.index(layer)
            for found, attention in zip(seen, others, strict=True):
                if attention is not None:
                    found.contrast[at], found.share[at] = (
                        induction_contrast(attention, n),
                        induction_share(attention, n),
                    )

        watch_attention(running, self.ids, see, instead)
        return seen

    def value_strengths(self, senders: Sequence[tuple[Sender, Tensor | None]]) -> np.ndarray:
        """How much of what tells tokens apart in the values of later heads is what one sender wrote: a ratio of norms.

        Args:
            senders: each for itself, turned or not; all of one layer, about the same.

        Returns:
            Float64[ndarray, "n_senders n_layers n_heads"]; NaN where the layer is not later, or its values are those
            of another.
        """
        import numpy as np

        running = self.writes.running
        attention = running.heads.attention
        _, at = self.places(senders[0][0].about)
        written = [self.written(*each)[:, at] for each in senders]
        found = np.full((len(senders), len(running.layers), running.heads.n_heads), np.nan)
        for number, layer in enumerate(running.layers):
            if layer <= senders[0][0].layer or attention.value_layer(layer) != layer:
                continue
            W_V, _ = self.writes.circuits(layer)
            x = self.inputs[layer][:, at]
            own = _size((x - x.mean((0, 1))), W_V).clamp(min=1e-30)
            for each, new in zip(found, written, strict=True):
                each[number] = (_size(self.writes.read(layer, new), W_V) / own).double().numpy()
        return found


def _size(rows: Tensor, W_V: Tensor) -> Tensor:
    """The norm of the values of some rows, by head."""
    return (rows.flatten(0, 1) @ W_V).square().sum((1, 2)).sqrt()


def random_senders(layer: int, about: str, n_heads: int, d_head: int, draws: int) -> list[tuple[Sender, Tensor]]:
    """Random heads of a layer: each reads and writes where one of its heads does, and joins both at random."""
    import random

    import torch

    numbers = random.Random(f"random senders {layer} {about}")
    generator = torch.Generator().manual_seed(numbers.getrandbits(32))
    order = [head for _ in range(-(-draws // n_heads)) for head in numbers.sample(range(n_heads), n_heads)][:draws]
    return [(Sender(about, layer, head), random_turn(d_head, generator)) for head in order]
