"""The model itself, running: its real modules with all weights, watched and changed at the heads by hooks.

Knows modules and token ids; knows neither relations nor atlases. Prompts run in batches of one length, so that no
family's way of padding matters.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headatlas.architectures import HeadModel

TOKENS_AT_ONCE = 512
"""Tokens of a batch, about."""

ROOM = 1.25
"""Memory asked for, over the weights: activations, and a tensor that is being decoded."""

LAST = slice(-1, None)

NEAR = 1e-3
"""Largest difference, relative to the largest logit, of a run that continues from cached keys and values."""


@dataclass
class Watched:
    """What heads did in a run, at one token of each prompt.

    Args:
        outputs: layer -> what each head hands to the output projection at the last token,
            Float[Tensor, "n_prompts n_heads d_head"].
        values: layer -> the values of each prompt's source token, Float[Tensor, "n_prompts n_kv_heads d_head"].
    """

    outputs: dict[int, Tensor]
    values: dict[int, Tensor]


class RunningModel:
    """A model that runs, in float32 and eval mode; transformers' own modules, and no code of the checkpoint.

    Args:
        heads: where its heads are.
        device: `cpu`, `cuda` or `cuda:N`.
        progress: called with bytes done and of how many, where weights travel.

    Raises:
        ArchitectureError: it cannot fit into memory, or the checkpoint lacks a tensor.
    """

    def __init__(
        self, heads: HeadModel, device: str = "cpu", progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.heads, self.device = heads, device
        tree = heads.tree
        if (why := heads.checkpoint.why_not_run) is not None:
            raise ArchitectureError(
                f"{heads.checkpoint.source}: cannot be run: {why}. Use the model's safetensors checkpoint with --model."
            )
        _check_memory(heads, device)
        stored = {tree.stored_as(name) for name in tree.model.state_dict()} | {tree.unembedding}
        heads.checkpoint.fetch([(name, None) for each in sorted(stored) for name in tree.sources(each)], progress)
        self.model: Any = tree.fill_model()
        self.model.to(device)
        inner = tree.base_path.removesuffix(".")
        self.base: nn.Module = getattr(self.model, inner) if inner else self.model
        self.layers = [layer for layer in range(heads.n_layers) if heads.has_heads(layer)]
        self._last_only = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        self._W_U = None if self.model.get_output_embeddings() is not None else heads.W_U().to(device)

    def watch(self, ids: Tensor, source: Tensor) -> Watched:
        """Run prompts of one length and see what the heads do.

        Args:
            ids: Int[Tensor, "n_prompts n_tokens"].
            source: place of each prompt's source token, Int[Tensor, "n_prompts"].
        """
        import torch

        n_prompts, n_tokens = ids.shape
        watched, hooks, rows = Watched({}, {}), [], torch.arange(n_prompts, device=self.device)
        source, limit = source.to(self.device), self.heads.value_limit
        readers: dict[str, list[tuple[int, Tensor]]] = defaultdict(list)
        for layer in self.layers:
            path, places = self.heads.attention.value_place(layer)
            readers[path].append((layer, places.to(self.device)))

            def see_output(module: nn.Module, args: tuple, layer: int = layer) -> None:
                last = args[0].reshape(n_prompts, n_tokens, -1)[:, -1]
                watched.outputs[layer] = last.reshape(n_prompts, self.heads.n_heads, -1)

            hooks.append(self._module(self.heads.attention.output_path(layer)).register_forward_pre_hook(see_output))
        for path, of_layers in readers.items():

            def see_values(module: nn.Module, args: tuple, output: Tensor, of_layers: list = of_layers) -> None:
                at_source = output.reshape(n_prompts, n_tokens, -1)[rows, source]
                if limit is not None:
                    at_source = at_source.clamp(-limit, limit)
                for layer, places in of_layers:
                    watched.values[layer] = at_source[:, places.flatten()].view(n_prompts, *places.shape)

            hooks.append(self._module(path).register_forward_hook(see_values))
        try:
            with torch.inference_mode():
                self.base(input_ids=ids.to(self.device), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return watched

    def read_by_values(self, ids: Tensor, layer: int) -> Tensor:
        """What a layer's values are computed from at the last token: Float[Tensor, "n_prompts d_model"]."""
        import torch

        seen: list[Tensor] = []
        attention = self.heads.attention

        def see(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            seen.append(x.reshape(*ids.shape, -1)[:, -1].float().cpu())

        reader = attention.value_reader(attention.value_layer(layer))
        hook = self._module(reader).register_forward_pre_hook(see, with_kwargs=True)
        try:
            with torch.inference_mode():
                self.base(input_ids=ids.to(self.device), use_cache=False)
        finally:
            hook.remove()
        return seen[0]

    def last_logits(self, ids: Tensor, past: Any = None) -> Tensor:
        """Logits behind the last token: Float[Tensor, "n_prompts d_vocab"].

        Args:
            past: keys and values of tokens before; it is changed.
        """
        return self.logits(ids, 1, past)[:, -1]

    def logits(self, ids: Tensor, last: int, past: Any = None) -> Tensor:
        """Logits behind the last tokens: Float[Tensor, "n_prompts last d_vocab"].

        Args:
            last: number of tokens.
            past: as for `last_logits`.
        """
        import torch

        options: dict[str, Any] = {"use_cache": False} if past is None else {"past_key_values": past, "use_cache": True}
        if self._last_only:
            options["logits_to_keep"] = last
        with torch.inference_mode():
            out = self.model(input_ids=ids.to(self.device), **options)
            if self._W_U is None:
                return out.logits[:, -last:]
            return out.last_hidden_state[:, -last:] @ self._W_U.T

    def traced_logits(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Logits behind the last token as the unembedding gives them, and as the model does (scaled, capped).

        Both are Float[Tensor, "n_prompts d_vocab"] and can be differentiated by what hooks make of the modules.
        """
        import torch

        seen: list[Tensor] = []
        module = self.model.get_output_embeddings()
        options: dict[str, Any] = {"logits_to_keep": 1} if self._last_only else {}
        hooks = [] if module is None else [module.register_forward_hook(lambda _, __, output: seen.append(output))]
        try:
            with torch.enable_grad():
                out = self.model(input_ids=ids.to(self.device), use_cache=False, **options)
                if self._W_U is not None:
                    logits = out.last_hidden_state[:, -1] @ self._W_U.T
                    return logits, logits
        finally:
            for hook in hooks:
                hook.remove()
        return seen[-1].reshape(len(ids), -1, seen[-1].shape[-1])[:, -1], out.logits[:, -1]

    def past(self, ids: Tensor) -> Any:
        """Keys and values of tokens, for `last_logits` of the token that follows."""
        import torch

        with torch.inference_mode():
            return self.base(input_ids=ids.to(self.device), use_cache=True).past_key_values

    def can_continue(self, ids: Tensor) -> bool:
        """Whether a run that continues from kept keys and values gives the logits of a whole run, for these tokens."""
        if ids.shape[1] < 2:
            return False
        whole = self.last_logits(ids)
        try:
            found = self.last_logits(ids[:, -1:], self.past(ids[:, :-1]))
        except Exception:  # each family keeps what it likes
            return False
        return float((found - whole).abs().max()) <= NEAR * float(whole.abs().max())

    @contextlib.contextmanager
    def without(
        self, removed: dict[int, list[int]], instead: dict[int, Tensor] | None = None, tokens: slice = LAST
    ) -> Iterator[None]:
        """Inside the block, the output of some heads at the last token is replaced by zeros, or by `instead`.

        Args:
            removed: layer -> heads.
            instead: layer -> Float[Tensor, "n_heads d_head"].
            tokens: at which it is replaced; default: the last one.
        """
        hooks = []
        for layer, heads in removed.items():

            def remove(module: nn.Module, args: tuple, layer: int = layer, heads: list[int] = heads) -> tuple:
                joined = args[0].clone()
                by_head = joined.view(*joined.shape[:-1], self.heads.n_heads, -1)
                by_head[..., tokens, heads, :] = 0.0 if instead is None else instead[layer][heads].to(joined)
                return (joined, *args[1:])

            hooks.append(self._module(self.heads.attention.output_path(layer)).register_forward_pre_hook(remove))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def mean_outputs(self, ids: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
        """The mean output of each head over all tokens but the first: layer -> Float[Tensor, "n_heads d_head"]."""
        import torch

        found, hooks = {}, []
        for layer in layers:

            def see(module: nn.Module, args: tuple, layer: int = layer) -> None:
                by_head = args[0].reshape(*ids.shape, self.heads.n_heads, -1)
                found[layer] = by_head[:, 1:].mean((0, 1))

            hooks.append(self._module(self.heads.attention.output_path(layer)).register_forward_pre_hook(see))
        try:
            with torch.inference_mode():
                self.base(input_ids=ids.to(self.device), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _module(self, path: str) -> nn.Module:
        return self.base.get_submodule(path)


class Continuations:
    """The next tokens of prompts, with heads removed at the last token.

    Nothing at the last token changes the tokens before it, so their keys and values are cached, if the cache of the
    family gives the logits of a whole run.
    """

    def __init__(self, running: RunningModel, prompts: Sequence[Sequence[int]]) -> None:
        self.running, self.n_prompts = running, len(prompts)
        found = list(batches(prompts))
        keeps = bool(found) and running.can_continue(found[-1][1][:2])
        self._batches = [
            (places, ids, self.running.past(ids[:, :-1]) if keeps and ids.shape[1] > 1 else None)
            for places, ids in found
        ]

    def greedy(self) -> list[int]:
        """The token with the highest logit behind each prompt."""
        said = [0] * self.n_prompts
        for places, logits in self.logits():
            for place, token in zip(places, logits.argmax(-1).tolist(), strict=True):
                said[place] = token
        return said

    def logits(self) -> Iterator[tuple[list[int], Tensor]]:
        """Batches of the logits behind each prompt: (places of the prompts, Float[Tensor, "n_prompts d_vocab"])."""
        for places, ids, past in self._batches:
            if past is None:
                yield places, self.running.last_logits(ids)
            else:
                yield places, self.running.last_logits(ids[:, -1:], copy.deepcopy(past))


class Replay:
    """Runs of the same sequences that differ only from some layer on: the layers before it are not computed again.

    Families whose layers hand more to later ones than their output are run whole.

    Args:
        ids: Int[Tensor, "n_prompts n_tokens"].
        layers: from which runs will differ.
        last: tokens behind which `logits` are wanted.
    """

    def __init__(self, running: RunningModel, ids: Tensor, layers: Sequence[int], last: int) -> None:
        self.running, self.ids, self.last = running, ids, last
        path = running.heads.family.layers
        self._modules = list(running.base.get_submodule(path).children())
        self._kept: dict[int, Any] = {}
        hooks = []
        for layer in set(layers) - {0}:

            def keep(module: nn.Module, args: tuple, output: Any, layer: int = layer) -> None:
                self._kept[layer] = output

            hooks.append(self._modules[layer - 1].register_forward_hook(keep))
        try:
            self.base = running.logits(ids, last)
        finally:
            for hook in hooks:
                hook.remove()
        if self._kept and not self._agrees(max(self._kept)):
            self._kept = {}

    def logits(self, layer: int) -> Tensor:
        """Float[Tensor, "n_prompts last d_vocab"], of a run that differs from this layer on only."""
        if layer not in self._kept:
            return self.running.logits(self.ids, self.last)
        skipped, output = self._modules[:layer], self._kept[layer]
        for module in skipped:
            module.forward = lambda *args, **kwargs: output
        try:
            return self.running.logits(self.ids, self.last)
        finally:
            for module in skipped:
                del module.forward

    def _agrees(self, layer: int) -> bool:
        try:
            found = self.logits(layer)
        except Exception:  # each family hands on what it likes
            return False
        return float((found - self.base).abs().max()) <= NEAR * float(self.base.abs().max())


def batches(prompts: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor]]:
    """Prompts in batches of one length each: (places in the sequence, Int[Tensor, "n_prompts n_tokens"])."""
    import torch

    of_length: dict[int, list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        of_length[len(prompt)].append(place)
    for length, places in sorted(of_length.items()):
        at_once = max(1, TOKENS_AT_ONCE // length)
        for start in range(0, len(places), at_once):
            part = places[start : start + at_once]
            yield part, torch.tensor([list(prompts[place]) for place in part])


def running_packages() -> dict[str, str]:
    """The versions of the packages that run a model."""
    from importlib.metadata import version

    return {name: version(name).split("+")[0] for name in ("torch", "transformers")}


def memory_needed(heads: HeadModel) -> int:
    """Bytes that the running model takes, an estimate from its parameters in float32."""
    tree = heads.tree
    shapes = {tree.stored_as(name): value.shape for name, value in tree.model.state_dict().items()}
    shapes[tree.unembedding] = tree.shape(tree.unembedding)
    return round(ROOM * 4 * sum(math.prod(shape) for shape in shapes.values()))


def memory_available() -> int | None:
    """Bytes that programs on this machine can still take; None where nobody says."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("utf-8").splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup")
        limit, used = ((folder / f"memory.{name}").read_text("utf-8") for name in ("max", "current"))
        if limit.strip() != "max":
            # Pages of files count as used, but give way.
            cached = next(
                line.split()[1]
                for line in (folder / "memory.stat").read_text("utf-8").splitlines()
                if line[:5] == "file "
            )
            found.append(int(limit) - int(used) + int(cached))
    return min(found, default=None)


def _check_memory(heads: HeadModel, device: str) -> None:
    import torch

    needed, there = memory_needed(heads), {"this machine": memory_available()}
    if torch.device(device).type == "cuda":
        there[device] = torch.cuda.mem_get_info(device)[0]
    for where, free in there.items():
        if free is not None and needed > free:
            raise ArchitectureError(
                f"{heads.checkpoint.source}: running the whole model in float32 needs about {needed / 1e9:.1f} GB of "
                f"memory; {where} has {free / 1e9:.1f} GB left. Use a machine with more, or a smaller model."
            )
