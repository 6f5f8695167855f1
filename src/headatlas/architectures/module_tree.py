"""A model's module tree as transformers builds it, without weights, and the way to read and fill its parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from headatlas.architectures.empty_model import build_empty_model, common
from headatlas.architectures.parameter_sources import UNEMBEDDING, ParameterSources
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

    from headatlas.checkpoints.checkpoint import Checkpoint

NUMBERS_AT_ONCE = 1 << 24
"""Numbers of a large tensor that are decoded at a time."""

MOST_OF_BUFFERS = 2**30
"""Upper limit of the bytes of a module's own constants, such as masks; a config can request any number."""

ROWS_AT_ONCE = 16_384
"""Rows of a large tensor that are in memory at once, if not all of it is needed."""


class ModuleTree:
    """The modules of a checkpoint's language model, on the meta device, and the way to fill them.

    Attributes:
        config: the language model's config; for a multimodal model, that of its text part.
        model: the language model; its parameters are empty.
        base: the part of it before the unembedding; `base_path` is its name in `model` and a dot, or empty.
        embedding, unembedding: names of the parameters of W_E and W_U; the same name if they are tied.

    Raises:
        ArchitectureError: transformers cannot build the model, or the checkpoint does not hold its embedding.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        whole_config = checkpoint.config
        self.config, self.model = build_empty_model(checkpoint)
        # Llama 4's own name for its base is that of the multimodal model around it.
        inner = next((name for name in (self.model.base_model_prefix, "model") if hasattr(self.model, name)), "")
        self.base: PreTrainedModel = getattr(self.model, inner) if inner else self.model
        self.base_path = f"{inner}." if inner else ""
        self._shapes = {name: tuple(value.shape) for name, value in self.model.state_dict().items()}
        embedding = self._find_embedding()
        self.embedding = self._embedding_name = f"{self.base_path}{embedding}.weight"
        self._sources = ParameterSources(checkpoint, self.model, self.base_path, f"{embedding}.weight")
        if self.embedding not in self._sources and self._is_tied(whole_config):
            # Some programs store a tied tensor only under the name of the unembedding.
            head = self._unembedding_name
            self._shapes.setdefault(head, self._shapes[self.embedding])
            self.embedding = head if head in self._sources else self.embedding
        if self.embedding not in self._sources:
            raise ArchitectureError(
                f"{checkpoint.source}: expected the embedding {self.embedding!r}, found none. "
                f"Is the checkpoint complete?"
            )
        self._shapes.setdefault(UNEMBEDDING, self._shapes[self.embedding])
        self.unembedding = self._find_unembedding(whole_config)

    def path_of(self, module: str) -> str:
        """The name that a module of the base model has in the whole model."""
        return f"{self.base_path}{module}"

    def module(self, path: str) -> nn.Module | None:
        """The empty module of this name in the base model; None if there is none."""
        try:
            return self.base.get_submodule(path)
        except AttributeError:
            return None

    def __contains__(self, parameter: str) -> bool:
        """Whether the checkpoint can fill a parameter."""
        return parameter in self._sources

    def sources(self, parameter: str) -> list[str]:
        """The stored tensors that a parameter is made from.

        Raises:
            ArchitectureError: there are none.
        """
        if parameter not in self._sources:
            raise ArchitectureError(
                f"{self.checkpoint.source}: expected a tensor {parameter!r}, found none. Is the checkpoint complete?"
            )
        return [source.name for source in self._sources.of(parameter)]

    def is_plain(self, parameter: str) -> bool:
        """Whether one stored tensor fills the parameter unchanged, so that single rows can be read."""
        sources = self._sources.of(parameter)
        return len(sources) == 1 and sources[0].converter is None

    def shape(self, parameter: str) -> tuple[int, ...]:
        return self._shapes[parameter]

    def read(self, parameter: str, rows: slice | None = None) -> Tensor:
        """A parameter, or some of its rows, as float32, after a check of its shape and that it is finite.

        Raises:
            ArchitectureError: missing, of another shape, or not finite.
        """
        import torch

        names = self.sources(parameter)
        if not self.is_plain(parameter):
            return _finite(parameter, self._convert(parameter), self.checkpoint)[slice(None) if rows is None else rows]
        self.check_shape(parameter)
        (name,), shape = names, self.shape(parameter)
        first, last, _ = (rows or slice(None)).indices(shape[0] if shape else 1)
        at_once = max(1, NUMBERS_AT_ONCE * shape[0] // max(1, math.prod(shape))) if shape else 1
        if last - first <= at_once:
            return _finite(name, self.checkpoint.read(name, rows), self.checkpoint)
        # Decoded in parts, so that the whole stored tensor and the whole result are never in memory together.
        values = torch.empty(last - first, *shape[1:])
        for row in range(first, last, at_once):
            part = self.checkpoint.read(name, slice(row, min(row + at_once, last)))
            values[row - first : row - first + len(part)] = _finite(name, part, self.checkpoint)
        return values

    def check_shape(self, parameter: str) -> None:
        """Check that a parameter filled by one stored tensor has the module's shape, before memory is allocated.

        Raises:
            ArchitectureError: missing, or of another shape.
        """
        names = self.sources(parameter)
        if not self.is_plain(parameter):
            return
        expected, found = self.shape(parameter), self.checkpoint.shape(names[0])
        if found != expected:
            raise ArchitectureError(
                f"{self.checkpoint.file_of(names[0])}: tensor {names[0]!r} has shape {found}; this config "
                f"({self._sizes()}) needs {expected}. Is config.json from the same model?"
            )

    def fill(self, module: str, blank: Iterable[str] = ()) -> nn.Module:
        """A copy of a module of the base model with its weights (float32), and buffers as transformers makes them.

        Args:
            module: its path in the base model.
            blank: prefixes of names; parameters whose name begins with one are zeros instead of being read.
        """
        import torch

        path, filled = self.path_of(module), copy.deepcopy(self.base.get_submodule(module)).eval()
        self._fill_buffers(filled)
        state = {}
        for name, parameter in filled.state_dict().items():
            if name.startswith(tuple(blank)):
                # One number, expanded to the shape: it takes no memory.
                state[name] = torch.zeros(1).expand(parameter.shape)
            else:
                state[name] = self.read(f"{path}.{name}")
        filled.load_state_dict(state, strict=True, assign=True)
        return filled

    def empty_base(self) -> PreTrainedModel:
        """A copy of the base model with empty parameters, and buffers as transformers makes them."""
        base = copy.deepcopy(self.base).eval()
        self._fill_buffers(base)
        return base

    def read_rows(self, parameter: str, ids: Tensor) -> Tensor:
        """Rows of a large parameter, in the order of `ids`, checked like `read`: Float[Tensor, "n_ids width"]."""
        import torch

        self.check_shape(parameter)
        n_rows, width = self.shape(parameter)
        rows = torch.empty(len(ids), width)
        # One read of many neighbouring rows is faster than one read per row.
        for start in range(0, n_rows, ROWS_AT_ONCE):
            here = (ids >= start) & (ids < start + ROWS_AT_ONCE)
            if here.any():
                first, last = int(ids[here].min()), int(ids[here].max())
                rows[here] = self.read(parameter, slice(first, last + 1))[ids[here] - first]
        return rows

    def fill_model(self) -> PreTrainedModel:
        """A copy of the whole language model with its weights (float32); tied parameters share one tensor."""
        filled = copy.deepcopy(self.model).eval()
        self._fill_buffers(filled)
        state: dict[str, Tensor] = {}
        for name in filled.state_dict():
            stored = self.stored_as(name)
            state[name] = state[stored] if stored in state else self.read(stored)
        filled.load_state_dict(state, strict=True, assign=True)
        return filled

    def stored_as(self, parameter: str) -> str:
        """The parameter under which the checkpoint stores one of the model's; they differ only if they are tied."""
        if parameter == self._unembedding_name:
            return self.unembedding
        return self.embedding if parameter == self._embedding_name else parameter

    def unused(self, module: str) -> list[str]:
        """Stored tensors under the path of a module of the base model that the module does not take."""
        path = self.path_of(module)
        return [name for name, renamed in self._sources.unplaced.items() if renamed.startswith(f"{path}.")]

    def beyond(self, layers: str, n_layers: int) -> str | None:
        """A stored tensor of a layer beyond those of the config, or None; layers for multi-token prediction may be."""
        ahead = getattr(self.config, "num_nextn_predict_layers", None) or 0
        beginning = f"{self.path_of(layers)}.{n_layers}."
        return next(
            (name for name, new in self._sources.unplaced.items() if not ahead and new.startswith(beginning)), None
        )

    def _fill_buffers(self, filled: nn.Module) -> None:
        """Compute what no tensor stores, such as the frequencies of rotary positions, as transformers does."""
        import torch

        for part in filled.modules():
            empty = [name for name, buffer in part.named_buffers(recurse=False) if buffer.is_meta]
            if sum(part.get_buffer(name).nbytes for name in empty) > MOST_OF_BUFFERS:
                raise ArchitectureError(
                    f"{self.checkpoint.source}: with this config, transformers' {type(part).__name__} needs more than "
                    f"{MOST_OF_BUFFERS:,} bytes of buffers. Is config.json from the same model?"
                )
            for name in empty:
                setattr(part, name, torch.zeros_like(part.get_buffer(name), device="cpu"))
            if empty:
                self.model._init_weights(part)

    def _find_embedding(self) -> str:
        try:
            embeddings = self.base.get_input_embeddings()
        except NotImplementedError:  # the decoder of an encoder-decoder, which transformers wraps
            embeddings = None
        found = [name for name, module in self.base.named_modules() if module is embeddings and name]
        if not found or getattr(embeddings, "weight", None) is None:
            raise ArchitectureError(
                f"{self.checkpoint.source}: transformers names no token embedding for the model type "
                f"{self.config.model_type!r}. This model is not supported; docs/families.md lists the supported ones."
            )
        return found[0]

    def _find_unembedding(self, whole_config: PretrainedConfig) -> str:
        name = self._unembedding_name
        if name in self._sources:
            return name
        if not self._is_tied(whole_config):
            raise ArchitectureError(
                f"{self.checkpoint.source}: expected the unembedding {name!r}, found none, and the config does not "
                f"tie it to the embedding. Use a checkpoint of the whole language model."
            )
        return self.embedding

    @cached_property
    def _unembedding_name(self) -> str:
        output = self.model.get_output_embeddings()
        return next((f"{path}.weight" for path, module in self.model.named_modules() if module is output), UNEMBEDDING)

    def _is_tied(self, whole_config: PretrainedConfig) -> bool:
        return any(common(config, "tie_word_embeddings") is True for config in (self.config, whole_config))

    def _convert(self, parameter: str) -> Tensor:
        value = self._sources.convert(parameter)
        if value is None or tuple(value.shape) != self.shape(parameter):
            found = None if value is None else tuple(value.shape)
            raise ArchitectureError(
                f"{self.checkpoint.source}: the {len(self._sources.of(parameter))} tensors of {parameter!r} combine to "
                f"shape {found}; this config needs {self.shape(parameter)}. Is config.json from the same model?"
            )
        return value

    def _sizes(self) -> str:
        """The config's sizes, for messages."""
        config = self.config
        sizes = {
            "n_heads": common(config, "num_attention_heads"),
            "n_kv_heads": common(config, "num_key_value_heads"),
            "d_head": common(config, "head_dim"),
            "d_model": config.hidden_size,
            "d_vocab": config.vocab_size,
        }
        return ", ".join(f"{name}={value}" for name, value in sizes.items() if value is not None)


def _finite(name: str, values: Tensor, checkpoint: Checkpoint) -> Tensor:
    """The values, after refusing any that are NaN or infinite."""
    import torch

    # A NaN or an infinity shows in the extremes, which take no memory to find.
    if values.numel() and not all(torch.isfinite(extreme) for extreme in torch.aminmax(values)):
        whole = checkpoint.read(name) if name in checkpoint else values
        n_bad = int((~torch.isfinite(whole)).sum())
        raise ArchitectureError(
            f"{checkpoint.source}: {name} holds {n_bad:,} values that are NaN or infinite; expected none. "
            f"Are the weights damaged?"
        )
    return values
