"""Run a model up to its unembedding in float64, with the weights of one layer at a time in memory."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from headatlas.architectures.kept_states import KeptRun, for_sequences, output_of, residuals_of
from headatlas.architectures.run_modules import in_float64
from headatlas.errors import ArchitectureError, HeadatlasError

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.architectures.heads import HeadModel
    from headatlas.architectures.module_tree import ModuleTree

SEQUENCES_AT_ONCE = 512
"""Sequences that pass through a layer together."""

See = Callable[[int, "Tensor"], None]


def run_streamed(
    heads: HeadModel,
    ids: Tensor,
    see: See,
    kept: Any = None,
    keep: bool = False,
    first: int = 0,
    earlier: KeptRun | None = None,
) -> Any:
    """Run sequences of one length through transformers' own modules.

    Args:
        ids: Int[Tensor, "n_sequences n_tokens"].
        see: called with each layer that has heads, in order, and the input of its heads at the last token,
            Float64[Tensor, "n_sequences d_model"].
        kept: keys and values of tokens that precede each of the sequences; they are not changed.
        keep: run to the end, and return the model's cache for a run that continues this one.
        first: the first layer that has to be seen; earlier ones are left out as far as `earlier` allows.
        earlier: what an interrupted run has kept of its residuals, and where this one keeps its own.

    Returns:
        The cache, usually keys and values; None unless `keep`.

    Raises:
        ArchitectureError: the model cannot run.
    """
    import torch

    tree, layers = heads.tree, heads.family.layers
    base = _base_without_layers(tree, layers)
    run = _Run(heads, ids, see, kept, keep, first, earlier)
    for number, layer in enumerate(base.get_submodule(layers).children()):
        layer.forward = run.forward_of(number)
    options = {} if run.kept is None else {"past_key_values": run.kept}
    try:
        with torch.no_grad(), in_float64(throughout=True):
            out = base(input_ids=ids, use_cache=keep or kept is not None, **options)
            return getattr(out, "past_key_values", None)
    except _LastLayerRead:
        return None
    except HeadatlasError:
        raise
    except (RuntimeError, IndexError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise ArchitectureError(
            f"{heads.checkpoint.source}: transformers' {type(base).__name__} cannot run with this config "
            f"({type(error).__name__}: {str(error)[:200]}). Is config.json from the same model?"
        ) from error


class _InputRead(Exception):
    """Ends the last layer once its heads have read their input."""


class _LastLayerRead(Exception):
    """Ends a run behind the last layer."""


class _Run:
    """The layers of one run: each is filled when the model calls it, and dropped afterwards."""

    def __init__(
        self, heads: HeadModel, ids: Tensor, see: See, kept: Any, keep: bool, first: int, earlier: KeptRun | None
    ) -> None:
        self.heads, self.see, self.keep = heads, see, keep
        self.n_sequences, self.n_tokens = ids.shape
        self.kept = copy.copy(kept)
        if self.kept is not None:
            self.kept.layers = list(self.kept.layers)
        self.last = max(layer for layer in range(heads.n_layers) if heads.has_heads(layer))
        self.read: dict[int, Tensor] = {}
        # The last layer whose heads read the values of each layer; nearly always the layer itself.
        self.needed_until = {
            heads.attention.value_layer(layer): layer for layer in range(self.last + 1) if heads.has_heads(layer)
        }
        # A layer that reads what an earlier one has computed, other than its output, cannot be the first to run.
        read = [layer for layer in range(self.last + 1) if heads.has_heads(layer)]
        in_turn = all(heads.attention.value_layer(layer) == layer for layer in read)
        self.earlier = earlier if in_turn else None
        found = None if self.earlier is None else self.earlier.load(first)
        self.first, self.output = (0, None) if found is None else (found[0], output_of(found[1]))

    def forward_of(self, number: int) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._forward(number, args, kwargs)

    def _forward(self, number: int, args: tuple, kwargs: dict[str, Any]) -> Any:
        import torch

        if number < self.first:
            return self.output
        self.output = None
        heads, seen, outputs = self.heads, [], []
        is_last = number == self.last and not self.keep
        layer = heads.tree.fill(f"{heads.family.layers}.{number}")
        if reads := heads.has_heads(number) and heads.attention.value_layer(number) == number:
            reader = heads.attention.value_reader(number).removeprefix(f"{heads.family.layers}.{number}.")
            layer.get_submodule(reader).register_forward_pre_hook(self._note(seen, is_last), with_kwargs=True)
        kept_layers = [] if self.kept is None else self.kept.layers
        before = kept_layers[number : number + 1]
        for n, part_args, part_kwargs in _parts(self.n_sequences, args, kwargs):
            kept_layers[number : number + 1] = [for_sequences(each, n) for each in before]
            with suppress(_InputRead):
                outputs.append(layer(*part_args, **part_kwargs))
        kept_layers[number : number + 1] = before
        layer.to_empty(device="meta")  # modules refer to each other, so their weights would stay for a while
        if reads:
            self.read[number] = torch.cat(seen)
        if heads.has_heads(number):
            self.see(number, self.read[heads.attention.value_layer(number)])
            self.read = {layer: x for layer, x in self.read.items() if self.needed_until[layer] > number}
        if is_last:
            raise _LastLayerRead
        output = _joined(outputs)
        if self.earlier is not None and not _shares(kwargs) and (residuals := residuals_of(output)) is not None:
            self.earlier.save(number + 1, residuals)
        return output

    def _note(self, seen: list[Tensor], is_last: bool) -> Callable[..., None]:
        def note(_: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            seen.append(x.reshape(-1, self.n_tokens, x.shape[-1])[:, -1])
            if is_last:
                raise _InputRead

        return note


def _base_without_layers(tree: ModuleTree, layers: str) -> Any:
    """The base model with all weights outside its layers; rows of embeddings are read on demand."""
    import torch
    from torch.nn import Embedding, Parameter

    base = tree.empty_base()
    inside = set(base.get_submodule(layers).modules())
    for name, module in base.named_modules():
        if module in inside:
            continue
        # Position embeddings such as OPT's take more arguments than ids; they are small.
        if isinstance(module, Embedding) and len(inspect.signature(module.forward).parameters) == 1:
            module.forward = _rows_on_demand(tree, f"{tree.path_of(name)}.weight", module, type(module).forward)
            module.weight = Parameter(torch.empty(0, module.embedding_dim), requires_grad=False)
            continue
        for own, _ in list(module.named_parameters(recurse=False)):
            stored = tree.stored_as(tree.path_of(f"{name}.{own}" if name else own))
            setattr(module, own, Parameter(tree.read(stored), requires_grad=False))
    return base


def _rows_on_demand(tree: ModuleTree, parameter: str, module: Any, forward: Callable[..., Tensor]) -> Callable:
    """The forward of an embedding that reads only the rows of its input tokens, as float64."""
    from torch.nn import Parameter

    def embed(ids: Tensor) -> Tensor:
        used, places = ids.unique(return_inverse=True)
        empty, module.padding_idx = module.weight, None
        rows = tree.read_rows(tree.stored_as(parameter), used)
        module.weight = Parameter(rows.double(), requires_grad=False)
        try:
            return forward(module, places)
        finally:
            module.weight = empty

    return embed


def _parts(n: int, args: tuple, kwargs: dict[str, Any]) -> Iterator[tuple[int, tuple, dict[str, Any]]]:
    """The arguments of a layer, split by sequences: (number of sequences, args, kwargs)."""
    if n <= SEQUENCES_AT_ONCE or _shares(kwargs):
        yield n, args, kwargs
        return
    for start in range(0, n, SEQUENCES_AT_ONCE):
        part = slice(start, min(start + SEQUENCES_AT_ONCE, n))
        named = {name: _sliced(value, n, part) for name, value in kwargs.items()}
        yield part.stop - part.start, _sliced(args, n, part), named


def _shares(kwargs: dict[str, Any]) -> bool:
    """Whether layers pass keys and values to later layers, in a dictionary that covers all sequences."""
    return any(isinstance(value, MutableMapping) for value in kwargs.values())


def _sliced(value: Any, n: int, part: slice) -> Any:
    """The slice of a value for some of `n` sequences; a tensor may have several rows per sequence (one per head)."""
    import torch

    if isinstance(value, torch.Tensor):
        each, rest = divmod(len(value), n) if value.ndim else (0, 0)
        return value[part.start * each : part.stop * each] if each and not rest else value
    if isinstance(value, tuple | list):
        return type(value)(_sliced(item, n, part) for item in value)
    return value


def _joined(outputs: list[Any]) -> Any:
    import torch

    first = outputs[0]
    if isinstance(first, torch.Tensor) and len(outputs) > 1:
        return torch.cat(outputs)
    if isinstance(first, tuple | list) and len(outputs) > 1:
        return type(first)(_joined(list(items)) for items in zip(*outputs, strict=True))
    return first
