"""A model's module tree as transformers builds it, without weights, and which stored tensor fills which parameter.

Checkpoints name tensors in other ways than today's modules do: an older name, a prefix more or less, one tensor per
expert where the module has one for all, a multimodal model around the language model. transformers' own conversion
rules say which is which; nothing of that is written down here a second time. They are internal to transformers: a
contract test holds them.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

    from headatlas.checkpoints.checkpoint import Checkpoint

NUMBERS_AT_ONCE = 1 << 24
"""Numbers of a large tensor that are decoded at a time."""

UNEMBEDDING = "lm_head.weight"
"""Name of the unembedding where transformers has no class for the language model with its head."""


MOST_OF_BUFFERS = 2**30
"""Bytes of a module's own constants, such as masks; a config can ask for any number."""

ROWS_AT_ONCE = 16_384
"""Rows of a large tensor that are in memory at once, if not all of it is needed."""


class ModuleTree:
    """The modules of a checkpoint's language model, on the meta device, and the way to fill them.

    Attributes:
        config: of the language model; of a multimodal model, its text part.
        model: the language model; its parameters are empty.
        base: the part of it before the unembedding; `base_path` is its name in `model`, with a dot, or nothing.
        embedding, unembedding: parameters of W_E and W_U; one and the same where they are tied.

    Raises:
        ArchitectureError: transformers cannot build the model, or the checkpoint does not hold its embedding.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        whole_config = checkpoint.config
        self.config, self.model = self._build(whole_config)
        # Llama 4's own name for its base is that of the multimodal model around it.
        inner = next((name for name in (self.model.base_model_prefix, "model") if hasattr(self.model, name)), "")
        self.base: PreTrainedModel = getattr(self.model, inner) if inner else self.model
        self.base_path = f"{inner}." if inner else ""
        self._parameters = self.model.state_dict()
        self._shapes = {name: tuple(value.shape) for name, value in self._parameters.items()}
        embedding = self._find_embedding()
        self.embedding = self._embedding_name = f"{self.base_path}{embedding}.weight"
        self._sources = self._find_sources(f"{embedding}.weight")
        if self.embedding not in self._sources and self._is_tied(whole_config):
            # Of two names of one tensor, some programs keep only the unembedding's.
            head = self._unembedding_name()
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
        """A module of the base model, as the whole model names it."""
        return f"{self.base_path}{module}"

    def module(self, path: str) -> nn.Module | None:
        """The empty module of this name in the base model; None where there is none."""
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
        return [name for name, _ in self._sources[parameter]]

    def is_plain(self, parameter: str) -> bool:
        """Whether one stored tensor fills the parameter as it is, so that rows of it can be read alone."""
        sources = self._sources.get(parameter, [])
        return len(sources) == 1 and sources[0][1] is None

    def shape(self, parameter: str) -> tuple[int, ...]:
        return self._shapes[parameter]

    def read(self, parameter: str, rows: slice | None = None) -> Tensor:
        """A parameter, or some of its rows, as float32: finite, and of the shape that the module has.

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
        # Decoded a part at a time: what is stored is never there as a whole beside what is made of it.
        values = torch.empty(last - first, *shape[1:])
        for row in range(first, last, at_once):
            part = self.checkpoint.read(name, slice(row, min(row + at_once, last)))
            values[row - first : row - first + len(part)] = _finite(name, part, self.checkpoint)
        return values

    def check_shape(self, parameter: str) -> None:
        """Before memory is taken for it: that what one stored tensor fills has the shape that the module has.

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
                f"({self._told()}) needs {expected}. Is config.json from the same model?"
            )

    def fill(self, module: str, blank: Iterable[str] = ()) -> nn.Module:
        """A copy of a module of the base model with its weights (float32), and buffers as transformers makes them.

        Args:
            module: its path in the base model.
            blank: beginnings of parameters' names in it that are zeros instead of read.
        """
        import torch

        path, filled = self.path_of(module), copy.deepcopy(self.base.get_submodule(module)).eval()
        self._fill_buffers(filled)
        state = {}
        for name, parameter in filled.state_dict().items():
            if name.startswith(tuple(blank)):
                # Of one number, seen in the needed shape: it costs no memory.
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
        """Some rows of a large parameter, in the order of `ids`, as `read`: Float[Tensor, "n_ids width"]."""
        import torch

        self.check_shape(parameter)
        n_rows, width = self.shape(parameter)
        rows = torch.empty(len(ids), width)
        # One read of many neighbours is quicker than one of each row.
        for start in range(0, n_rows, ROWS_AT_ONCE):
            here = (ids >= start) & (ids < start + ROWS_AT_ONCE)
            if here.any():
                first, last = int(ids[here].min()), int(ids[here].max())
                rows[here] = self.read(parameter, slice(first, last + 1))[ids[here] - first]
        return rows

    def fill_model(self) -> PreTrainedModel:
        """A copy of the whole language model with its weights (float32); what is tied is one tensor."""
        filled = copy.deepcopy(self.model).eval()
        self._fill_buffers(filled)
        state: dict[str, Tensor] = {}
        for name in filled.state_dict():
            stored = self.stored_as(name)
            state[name] = state[stored] if stored in state else self.read(stored)
        filled.load_state_dict(state, strict=True, assign=True)
        return filled

    def stored_as(self, parameter: str) -> str:
        """The parameter that the checkpoint keeps for one of the model's: another one only where they are tied."""
        if parameter == self._unembedding_name():
            return self.unembedding
        return self.embedding if parameter == self._embedding_name else parameter

    def unused(self, module: str) -> list[str]:
        """Stored tensors that lie under a module of the base model and have no place in it."""
        path = self.path_of(module)
        return [name for name, renamed in self._unplaced.items() if renamed.startswith(f"{path}.")]

    def beyond(self, layers: str, n_layers: int) -> str | None:
        """A stored tensor of a layer that the config does not know; layers of a multi-token prediction are known."""
        ahead = getattr(self.config, "num_nextn_predict_layers", None) or 0
        beginning = f"{self.path_of(layers)}.{n_layers}."
        return next((name for name, new in self._unplaced.items() if not ahead and new.startswith(beginning)), None)

    def _fill_buffers(self, filled: nn.Module) -> None:
        """What is in no tensor, such as the frequencies of rotary positions, as transformers makes it."""
        import torch

        for part in filled.modules():
            empty = [name for name, buffer in part.named_buffers(recurse=False) if buffer.is_meta]
            if sum(part.get_buffer(name).nbytes for name in empty) > MOST_OF_BUFFERS:
                raise ArchitectureError(
                    f"{self.checkpoint.source}: this config makes transformers' {type(part).__name__} fill more than "
                    f"{MOST_OF_BUFFERS:,} bytes with what is in no tensor. Is config.json from the same model?"
                )
            for name in empty:
                setattr(part, name, torch.zeros_like(part.get_buffer(name), device="cpu"))
            if empty:
                self.model._init_weights(part)

    def _build(self, whole_config: PretrainedConfig) -> tuple[PretrainedConfig, PreTrainedModel]:
        import torch
        from transformers import AutoModel, AutoModelForCausalLM

        source = self.checkpoint.source
        try:
            config = copy.deepcopy(whole_config.get_text_config(decoder=True))
            # transformers' eager attention of Falcon counts ALiBi twice, in the mask and by itself.
            twice = config.model_type == "falcon" and getattr(config, "alibi", False)
            config._attn_implementation = "sdpa" if twice else "eager"
            config._experts_implementation = "eager"
            known = type(config) in AutoModelForCausalLM._model_mapping
            # The language model inside a multimodal one may have no class with a head of its own.
            if not known and type(config) is type(whole_config):
                raise ValueError("Unrecognized configuration class")
            with torch.device("meta"):
                model = (AutoModelForCausalLM if known else AutoModel).from_config(config)
        except Exception as error:  # transformers raises many kinds for a config that makes no sense
            if "is not a valid model type" in str(error) or "Unrecognized configuration class" in str(error):
                raise ArchitectureError(
                    f"{source}: the model type {self.checkpoint.model_type!r} is no language model that transformers "
                    f"can build."
                ) from error
            raise ArchitectureError(
                f"{source}: transformers cannot build a model of this config "
                f"({type(error).__name__}: {str(error)[:200]}). Is the config complete?"
            ) from error
        return config, model.eval()

    def _find_embedding(self) -> str:
        try:
            embeddings = self.base.get_input_embeddings()
        except NotImplementedError:  # decoders that transformers wraps so that they stand alone
            embeddings = None
        found = [name for name, module in self.base.named_modules() if module is embeddings and name]
        if not found or getattr(embeddings, "weight", None) is None:
            raise ArchitectureError(
                f"{self.checkpoint.source}: the model type {self.checkpoint.model_type!r} has no embedding of tokens "
                f"that transformers names, so it cannot be read."
            )
        return found[0]

    def _find_sources(self, embedding: str) -> dict[str, list[tuple[str, tuple[Any, str, str] | None]]]:
        """Parameter -> stored tensors, each with the converter, its pattern and the first parameter that it makes."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        mapping = get_model_conversion_mapping(self.model)
        renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
        of_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
        prefix = self.base_path.removesuffix(".") or self.model.base_model_prefix
        sources: dict[str, list[tuple[str, tuple[Any, str, str] | None]]] = defaultdict(list)
        self._unplaced: dict[str, str] = {}
        for name, inner in self._inside_wrapper(embedding).items():
            renamed, pattern = rename_source_key(inner, renamings, converters, prefix, self._parameters)
            if renamed not in self._parameters and inner in self._parameters:
                renamed, pattern = inner, None
            if renamed not in self._parameters:
                if inner == UNEMBEDDING and self.base is self.model:
                    sources[UNEMBEDDING].append((name, None))
                else:
                    self._unplaced[name] = renamed
                continue
            if pattern is None:
                sources[renamed].append((name, None))
                continue
            converter = of_pattern[pattern]
            for target in converter.target_patterns:
                made = renamed.replace(converter.target_patterns[0], target)
                sources[made].append((name, (converter, pattern, renamed)))
        for parameter, found in sources.items():
            if len(found) > 1 and any(how is None for _, how in found):
                names = ", ".join(repr(name) for name, _ in found)
                raise ArchitectureError(
                    f"{self.checkpoint.source}: expected one tensor for {parameter!r}, found {names}."
                )
        return dict(sources)

    def _inside_wrapper(self, embedding: str) -> dict[str, str]:
        """Stored name -> name in the language model, where a multimodal model may stand around it."""
        names = list(self.checkpoint.names())
        plain = {embedding, self.base_path + embedding}
        outside = sorted(name.removesuffix(embedding) for name in names if name.endswith(f".{embedding}"))
        if plain & set(names) or not outside:
            return {name: name for name in names}
        inner = [prefix for prefix in outside if any(name.startswith(f"{prefix}layers.0.") for name in names)]
        if len(inner) != 1:
            return {name: name for name in names}
        inside = {name: self.base_path + name[len(inner[0]) :] for name in names if name.startswith(inner[0])}
        # Its head lies around it or in it; a tower of another kind may have one of its own.
        heads = [name for name in names if f".{name}".endswith(f".{UNEMBEDDING}")]
        heads = [name for name in heads if inner[0].startswith(name.removesuffix(UNEMBEDDING))]
        return inside | ({heads[0]: UNEMBEDDING} if len(heads) == 1 else {})

    def _find_unembedding(self, whole_config: PretrainedConfig) -> str:
        name = self._unembedding_name()
        if name in self._sources:
            return name
        if not self._is_tied(whole_config):
            raise ArchitectureError(
                f"{self.checkpoint.source}: expected the unembedding {name!r}, found none, and the config does not "
                f"tie it to the embedding. Use a checkpoint of the whole language model."
            )
        return self.embedding

    def _unembedding_name(self) -> str:
        output = self.model.get_output_embeddings()
        return next((f"{path}.weight" for path, module in self.model.named_modules() if module is output), UNEMBEDDING)

    def _is_tied(self, whole_config: PretrainedConfig) -> bool:
        return any(common(config, "tie_word_embeddings") is True for config in (self.config, whole_config))

    def _convert(self, parameter: str) -> Tensor:
        from transformers.core_model_loading import dot_natural_key

        sources = sorted(self._sources[parameter], key=lambda source: dot_natural_key(source[0]))
        how = sources[0][1]
        assert how is not None
        converter, first = copy.deepcopy(how[0]), how[2]
        for name, (_, pattern, _) in sources:  # type: ignore[misc]
            converter.add_tensor(first, name, pattern, self.checkpoint.read(name))
        made = converter.convert(first, model=self.model, config=self.config).get(parameter)
        value = made[0] if isinstance(made, Sequence) else made
        if value is None or tuple(value.shape) != self.shape(parameter):
            found = None if value is None else tuple(value.shape)
            raise ArchitectureError(
                f"{self.checkpoint.source}: the {len(sources)} tensors of {parameter!r} make the shape {found}; "
                f"this config needs {self.shape(parameter)}. Is config.json from the same model?"
            )
        return value

    def _told(self) -> str:
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


def common(config: PretrainedConfig, name: str) -> Any:
    """A config's value; None where it has none, or another one for some layers, which transformers refuses to say."""
    try:
        return getattr(config, name, None)
    except Exception:  # of a kind of its own, in transformers only
        return None


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
