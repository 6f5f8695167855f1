"""The running model without some paths between heads: what one head writes is taken from what a later one reads.

Only the later head changes, and everything behind it: the other heads of its layer read what they did. On repeated
random tokens, keys and values read less of the sender at the first copy, queries at the second.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from headatlas.architectures.terms import attention_norm, input_norm
from headatlas.measuring.running.writes import Writes, residual_scale, scale_of
from headatlas.scoring.composition import induction_places

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Head = tuple[int, int]


class Path(NamedTuple):
    """What a sender writes, read by the keys, queries or values (`kind`) of a later head."""

    sender: Head
    receiver: Head
    kind: str


@dataclass
class Effects:
    """What the model does with or without some paths, for each sequence.

    Args:
        shares: receiver -> its attention on the induction place, Float64[ndarray, "n_sequences"].
        copying: probability of the token that follows in the first copy, Float64[ndarray, "n_sequences"].
    """

    shares: dict[Head, np.ndarray]
    copying: np.ndarray


def run_without(writes: Writes, ids: Tensor, paths: Sequence[Path], watched: Sequence[Head] = ()) -> Effects:
    """Run repeated random tokens without some paths.

    Args:
        ids: Int[Tensor, "n_sequences n_tokens"].
        watched: further heads whose shares are wanted.
    """
    import torch

    n = (ids.shape[1] - 1) // 2
    receivers = {path.receiver for path in paths} | set(watched)
    shares: dict[Head, np.ndarray] = {}
    with _Removal(writes, ids, paths, receivers, shares).hooked():
        logits = writes.running.logits(ids, n)[:, : n - 1]
    targets = ids[:, n + 2 : 2 * n + 1].to(logits.device)
    chances = logits.double().log_softmax(-1).gather(-1, targets[..., None])[..., 0].exp()
    return Effects(shares, torch.mean(chances, 1).cpu().numpy())


@dataclass
class _Removal:
    """The hooks of one run."""

    writes: Writes
    ids: Tensor
    paths: Sequence[Path]
    receivers: set[Head]
    shares: dict[Head, np.ndarray]
    _residual: dict[int, Tensor] = field(default_factory=dict)
    _joined: dict[int, Tensor] = field(default_factory=dict)
    _written: dict[Head, Tensor] = field(default_factory=dict)
    _instead: dict[Head, Tensor] = field(default_factory=dict)
    _busy: bool = False

    @contextlib.contextmanager
    def hooked(self) -> Iterator[None]:
        running = self.writes.running
        attention, base = running.heads.attention, running.base
        hooks = []
        senders: dict[int, set[int]] = defaultdict(set)
        for path in self.paths:
            senders[path.sender[0]].add(path.sender[1])
        for layer, heads in senders.items():
            place = base.get_submodule(attention.output_path(layer))
            hooks.append(place.register_forward_pre_hook(self._note_output(layer, heads)))
            norm = attention_norm(attention, layer)
            if layer in self.writes.outputs:
                hooks.append(base.get_submodule(str(norm)).register_forward_hook(self._scale_output(layer, heads)))
        for layer in {layer for layer, _ in self.receivers}:
            if layer in self.writes.inputs:
                norm = base.get_submodule(str(input_norm(attention, layer)))
                hooks.append(norm.register_forward_pre_hook(self._note_residual(layer)))
            module = base.get_submodule(attention.path(layer))
            hooks.append(module.register_forward_pre_hook(self._read_again(layer), with_kwargs=True))
            hooks.append(module.register_forward_hook(self._note_shares(layer)))
            place = base.get_submodule(attention.output_path(layer))
            hooks.append(place.register_forward_pre_hook(self._replace(layer)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _note_output(self, layer: int, heads: set[int]) -> Any:
        """What the senders of a layer write, in front of the norm behind the attention."""
        _, W_O = self.writes.circuits(layer)

        def note(module: Any, args: tuple) -> None:
            if self._busy:
                return
            by_head = args[0].detach().reshape(*self.ids.shape, self.writes.running.heads.n_heads, -1)
            scale = residual_scale(self.writes.running)
            for head in heads:
                self._written[layer, head] = by_head[:, :, head] @ W_O[head].to(args[0]) * scale

        return note

    def _scale_output(self, layer: int, heads: set[int]) -> Any:
        """The senders' shares of what a norm makes of the whole attention."""
        part = self.writes.outputs[layer].part

        def scale(module: Any, args: tuple, output: Tensor) -> None:
            by = scale_of(part, args[0].cpu(), output.cpu()).reshape(*self.ids.shape, 1).to(output)
            for head in heads:
                written = self._written[layer, head]
                self._written[layer, head] = part.of_outputs(written.cpu()).to(output) * by

        return scale

    def _note_residual(self, layer: int) -> Any:
        def note(module: Any, args: tuple) -> None:
            if not self._busy:
                self._residual[layer] = args[0].detach()

        return note

    def _read_again(self, layer: int) -> Any:
        """Run the attention again on what it reads without the senders, for each receiver of the layer."""

        def again(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            if self._busy:
                return
            x = args[0] if args else kwargs["hidden_states"]
            for receiver in sorted({path.receiver for path in self.paths if path.receiver[0] == layer}):
                own = [path for path in self.paths if path.receiver == receiver]
                read = self._without(layer, x, [path for path in own if path.kind != "value"])
                values = self._without(layer, x, [path for path in own if path.kind == "value"])
                self._busy = True
                try:
                    self._run(module, layer, receiver[1], args, kwargs, read, values)
                finally:
                    self._busy = False

        return again

    def _without(self, layer: int, x: Tensor, paths: Sequence[Path]) -> Tensor:
        """What a layer reads without what some senders wrote, at the copy that each kind stands for."""
        import torch

        if not paths:
            return x
        n = (self.ids.shape[1] - 1) // 2
        gone = torch.zeros_like(x)
        for path in paths:
            at = slice(n + 1, None) if path.kind == "query" else slice(1, n + 1)
            gone[:, at] += self._written[path.sender][:, at].to(x)
        if layer not in self.writes.inputs:
            return x - gone
        running = self.writes.running
        norm = running.base.get_submodule(str(input_norm(running.heads.attention, layer)))
        self._busy = True
        try:
            return norm(self._residual[layer] - gone)
        finally:
            self._busy = False

    def _run(
        self, module: Any, layer: int, head: int, args: tuple, kwargs: dict[str, Any], read: Tensor, values: Tensor
    ) -> None:
        """Note what a head does if its queries and keys read one input, and its values another."""
        running = self.writes.running
        attention = running.heads.attention
        path, places = attention.value_place(layer)
        own_values = attention.value_layer(layer) == layer and not attention.values_are_keys(layer)
        value_module = running.base.get_submodule(path)
        kept: list[Tensor] = []
        hooks = []
        if own_values:
            keep = value_module.register_forward_hook(lambda _, __, output: kept.append(output.detach()))
            try:
                _forward(module, args, kwargs, values)
            finally:
                keep.remove()

            def mix(_: Any, __: tuple, output: Tensor) -> Tensor:
                mixed = output.clone()
                at = places.flatten().to(output.device)
                mixed[..., at] = kept[0][..., at]
                return mixed

            hooks.append(value_module.register_forward_hook(mix))

        def note(_: Any, inputs: tuple) -> None:
            by_head = inputs[0].detach().reshape(*self.ids.shape, running.heads.n_heads, -1)
            self._instead[layer, head] = by_head[:, :, head]

        hooks.append(running.base.get_submodule(attention.output_path(layer)).register_forward_pre_hook(note))
        try:
            output = _forward(module, args, kwargs, read)
        finally:
            for hook in hooks:
                hook.remove()
        self.shares[layer, head] = self._share(output, head)

    def _share(self, output: Any, head: int) -> np.ndarray:
        n_sequences, n_tokens = self.ids.shape
        expected = (n_sequences, self.writes.running.heads.n_heads, n_tokens, n_tokens)
        attention = next(part for part in output if getattr(part, "shape", None) == expected)
        return induction_places(attention[:, [head]], (n_tokens - 1) // 2).double().mean((1, 2)).cpu().numpy()

    def _note_shares(self, layer: int) -> Any:
        """The shares of the heads that read what they always do."""

        def note(module: Any, args: tuple, output: Any) -> None:
            if self._busy:
                return
            for at, head in self.receivers:
                if at == layer and (at, head) not in self._instead:
                    self.shares[at, head] = self._share(output, head)

        return note

    def _replace(self, layer: int) -> Any:
        """The receivers hand on what they did without the senders."""

        def replace(module: Any, args: tuple) -> tuple | None:
            found = {head: each for (at, head), each in self._instead.items() if at == layer}
            if self._busy or not found:
                return None
            joined = args[0].clone()
            by_head = joined.view(*self.ids.shape, self.writes.running.heads.n_heads, -1)
            for head, each in found.items():
                by_head[:, :, head] = each
            return (joined, *args[1:])

        return replace


def _forward(module: Any, args: tuple, kwargs: dict[str, Any], x: Tensor) -> Any:
    if args:
        return module.forward(x, *args[1:], **kwargs)
    return module.forward(**kwargs | {"hidden_states": x})
