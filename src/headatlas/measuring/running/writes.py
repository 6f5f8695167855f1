"""What heads would write into the residual about tokens, and what the attention of later layers would read of it.

From the OV circuits and the linear parts of norms. A norm also divides by the size of what it reads, which is taken
from texts that the model wrote: its mean over their tokens, for each layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headatlas.architectures.ov_circuits import read_outputs, read_values
from headatlas.architectures.terms import LinearPart, attention_norm, input_norm, linear_part
from headatlas.measuring.running.model import TOKENS_AT_ONCE, RunningModel

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 8
"""Layers whose circuits stay in memory."""


@dataclass(frozen=True)
class ScaledNorm:
    """A norm as a linear map.

    Args:
        part: its linear part.
        scale: what it multiplies that by, in the mean over tokens.
    """

    part: LinearPart
    scale: float

    def __call__(self, rows: Tensor) -> Tensor:
        return self.part.of_outputs(rows) * self.scale


def scale_of(part: LinearPart, read: Tensor, returned: Tensor) -> Tensor:
    """What a norm multiplies its linear part by, for each vector that it read: Float[Tensor, "... 1"]."""
    linear = part.of_outputs(read.float())
    size = linear.square().sum(-1, keepdim=True).clamp(min=1e-30)
    return (returned.float() * linear).sum(-1, keepdim=True) / size


@dataclass
class Writes:
    """What the heads of a running model write, and what its layers read.

    Args:
        running: the model.
        inputs: layer -> the norm that its attention reads through; none of a model without.
        outputs: layer -> the norm behind its attention.
    """

    running: RunningModel
    inputs: Mapping[int, ScaledNorm]
    outputs: Mapping[int, ScaledNorm]
    _circuits: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def circuits(self, layer: int) -> tuple[Tensor, Tensor]:
        """W_V by head, Float[Tensor, "n_heads d_model d_head"], and W_O, Float[Tensor, "n_heads d_head d_model"]."""
        if layer not in self._circuits:
            if len(self._circuits) == KEPT:
                del self._circuits[next(iter(self._circuits))]
            attention = self.running.heads.attention
            W_V = read_values(attention, layer)[list(attention.kv_head_of(layer))]
            self._circuits[layer] = W_V, read_outputs(attention, layer)
        return self._circuits[layer]

    def of(self, layer: int, head: int, x: Tensor, turned: Tensor | None = None) -> Tensor:
        """What a head writes if it looks at one token alone, without what it writes about all tokens alike.

        Args:
            x: what its values are computed from, Float[Tensor, "n_sequences n_tokens d_model"].
            turned: turns the values before they are written, Float[Tensor, "d_head d_head"]: the head then reads and
                writes where it did, and as much, but joins both at random.
        """
        W_V, W_O = self.circuits(layer)
        values = x @ W_V[head]
        written = self._written(layer, values @ W_O[head])
        if turned is None:
            return written
        other = self._written(layer, values @ turned @ W_O[head])
        return other * (written.norm() / other.norm().clamp(min=1e-30))

    def _written(self, layer: int, rows: Tensor) -> Tensor:
        if layer in self.outputs:
            rows = self.outputs[layer](rows)
        return (rows - rows.mean((0, 1))) * residual_scale(self.running)

    def read(self, layer: int, written: Tensor) -> Tensor:
        """What the attention of a layer reads of something in the residual."""
        return self.inputs[layer](written) if layer in self.inputs else written


def residual_scale(running: RunningModel) -> float:
    """What a model multiplies the output of its attention by (Granite)."""
    return float(getattr(running.heads.tree.config, "residual_multiplier", None) or 1.0)


def watch_norms(running: RunningModel, samples: Tensor) -> Writes:
    """See what the norms of a model do to the tokens of some texts.

    Args:
        samples: Int[Tensor, "n_sequences n_tokens"]; their first tokens are left out.
    """
    import torch

    heads, found, hooks = running.heads, defaultdict(list), []
    parts: dict[tuple[str, int], LinearPart] = {}
    for kind, find in (("input", input_norm), ("output", attention_norm)):
        for layer in running.layers:
            path = find(heads.attention, layer)
            if path is None or heads.tree.module(path) is None:
                continue
            parts[kind, layer] = linear_part(heads.tree, path, heads.d_model)

            def note(module: Any, args: tuple, output: Tensor, key: tuple[str, int] = (kind, layer)) -> None:
                scale = scale_of(parts[key], args[0].cpu(), output.cpu())
                found[key].append(scale.reshape(-1, samples.shape[1])[:, 1:].flatten())

            hooks.append(running.base.get_submodule(path).register_forward_hook(note))
    try:
        with torch.inference_mode():
            for part in samples.split(max(1, TOKENS_AT_ONCE // samples.shape[1])):
                running.base(input_ids=part.to(running.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    norms = {key: ScaledNorm(part, float(torch.cat(found[key]).mean())) for key, part in parts.items()}
    return Writes(
        running,
        {layer: norm for (kind, layer), norm in norms.items() if kind == "input"},
        {layer: norm for (kind, layer), norm in norms.items() if kind == "output"},
    )


class ComposedInputs(Mapping[int, "Tensor"]):
    """What the layers read if earlier heads have written something more; computed when it is asked for.

    Args:
        writes: what layers read of it.
        inputs: layer -> what its attention reads otherwise, Float[Tensor, "n_sequences n_tokens d_model"].
        written: layer -> what its heads have written, as `inputs`.
        changed_only: only the layers that read something more.
    """

    def __init__(
        self,
        writes: Writes,
        inputs: Mapping[int, Tensor],
        written: Mapping[int, Sequence[Tensor]],
        changed_only: bool = False,
    ) -> None:
        self._writes, self._inputs = writes, inputs
        self._written = {layer: sum(each[1:], start=each[0]) for layer, each in written.items() if each}
        first = min(self._written, default=max(inputs)) if changed_only else -1
        self._layers = [layer for layer in inputs if layer > first]

    def __getitem__(self, layer: int) -> Tensor:
        if layer not in self._layers:
            raise KeyError(layer)
        before = [each for at, each in self._written.items() if at < layer]
        if not before:
            return self._inputs[layer]
        return self._inputs[layer] + self._writes.read(layer, sum(before[1:], start=before[0]))

    def __contains__(self, layer: object) -> bool:
        return layer in self._layers

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def random_turn(d_head: int, generator: Any) -> Tensor:
    """A random rotation of a head's values: Float[Tensor, "d_head d_head"]."""
    import torch

    return torch.linalg.qr(torch.randn(d_head, d_head, generator=generator, dtype=torch.float64))[0].float()
