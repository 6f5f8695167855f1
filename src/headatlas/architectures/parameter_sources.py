"""Which stored tensors fill which parameter of a model that transformers builds.

The names of tensors in a checkpoint can differ from those in today's modules: older names, an additional or missing
prefix, one tensor per expert instead of one for all, a multimodal model around the language model. transformers' own
conversion rules map them, and are not repeated here. They are internal to transformers, so a contract test covers them.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from headatlas.checkpoints.checkpoint import Checkpoint

UNEMBEDDING = "lm_head.weight"
"""Name of the unembedding if transformers has no class for the language model with its head."""


@dataclass(frozen=True)
class Source:
    """A stored tensor of a parameter.

    Args:
        name: the name of the stored tensor.
        converter: transformers' rule that computes the parameter from several tensors; None if the tensor is the
            parameter.
        pattern: the pattern of the rule that matched the name.
        first: the first parameter that the rule computes.
    """

    name: str
    converter: Any = None
    pattern: str = ""
    first: str = ""


class ParameterSources:
    """The stored tensors of each parameter.

    Args:
        checkpoint: the stored tensors.
        model: the empty language model; `base_path` is the name of its base in it and a dot, or empty.
        embedding: the parameter of the embedding, in the base.

    Attributes:
        unplaced: stored tensors that fill no parameter -> their names in transformers.

    Raises:
        ArchitectureError: two tensors claim one parameter.
    """

    def __init__(self, checkpoint: Checkpoint, model: PreTrainedModel, base_path: str, embedding: str) -> None:
        self.checkpoint, self.model, self.base_path = checkpoint, model, base_path
        self.unplaced: dict[str, str] = {}
        self._sources = self._find(embedding)

    def __contains__(self, parameter: str) -> bool:
        return parameter in self._sources

    def of(self, parameter: str) -> list[Source]:
        """The sources of a parameter; none if the checkpoint cannot fill it."""
        return self._sources.get(parameter, [])

    def convert(self, parameter: str) -> Any:
        """The value that transformers' rule computes from a parameter's tensors; None if it computes none."""
        from transformers.core_model_loading import dot_natural_key

        sources = sorted(self.of(parameter), key=lambda source: dot_natural_key(source.name))
        converter, first = copy.deepcopy(sources[0].converter), sources[0].first
        for source in sources:
            converter.add_tensor(first, source.name, source.pattern, self.checkpoint.read(source.name))
        made = converter.convert(first, model=self.model, config=self.model.config).get(parameter)
        value: Tensor | None = made[0] if isinstance(made, Sequence) else made
        return value

    def _find(self, embedding: str) -> dict[str, list[Source]]:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        parameters = self.model.state_dict()
        mapping = get_model_conversion_mapping(self.model)
        renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
        of_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
        prefix = self.base_path.removesuffix(".") or self.model.base_model_prefix
        sources: dict[str, list[Source]] = defaultdict(list)
        for name, inner in self._inside_wrapper(embedding).items():
            renamed, pattern = rename_source_key(inner, renamings, converters, prefix, parameters)
            if renamed not in parameters and inner in parameters:
                renamed, pattern = inner, None
            if renamed not in parameters:
                if inner == UNEMBEDDING and not self.base_path:
                    sources[UNEMBEDDING].append(Source(name))
                else:
                    self.unplaced[name] = renamed
                continue
            if pattern is None:
                sources[renamed].append(Source(name))
                continue
            converter = of_pattern[pattern]
            for target in converter.target_patterns:
                made = renamed.replace(converter.target_patterns[0], target)
                sources[made].append(Source(name, converter, pattern, renamed))
        for parameter, found in sources.items():
            if len(found) > 1 and any(source.converter is None for source in found):
                names = ", ".join(repr(source.name) for source in found)
                raise ArchitectureError(
                    f"{self.checkpoint.source}: expected one tensor for {parameter!r}, found {names}."
                )
        return dict(sources)

    def _inside_wrapper(self, embedding: str) -> dict[str, str]:
        """Stored name -> name in the language model, which may be part of a multimodal model."""
        names = list(self.checkpoint.names())
        plain = {embedding, self.base_path + embedding}
        outside = sorted(name.removesuffix(embedding) for name in names if name.endswith(f".{embedding}"))
        if plain & set(names) or not outside:
            return {name: name for name in names}
        inner = [prefix for prefix in outside if any(name.startswith(f"{prefix}layers.0.") for name in names)]
        if len(inner) != 1:
            return {name: name for name in names}
        inside = {name: self.base_path + name[len(inner[0]) :] for name in names if name.startswith(inner[0])}
        # Its head is stored inside it or in the model around it; another tower may have a head of its own.
        heads = [name for name in names if f".{name}".endswith(f".{UNEMBEDDING}")]
        heads = [name for name in heads if inner[0].startswith(name.removesuffix(UNEMBEDDING))]
        return inside | ({heads[0]: UNEMBEDDING} if len(heads) == 1 else {})
