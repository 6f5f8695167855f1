"""The family of a GGUF file: its config and its tensors as transformers has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headatlas.architectures.gguf.positions import UnknownPositionsError, layer_types, rotary_settings
from headatlas.architectures.gguf.table import Architecture, find_architecture
from headatlas.architectures.gguf.tensors import named_tensors
from headatlas.checkpoints.gguf.metadata import SPECIAL_TOKENS, Metadata
from headatlas.checkpoints.gguf.tensors import Tensor

ALIASES = {"lm_head.weight": "embed_out.weight"}
"""The unembedding of GPT-NeoX: transformers' module and its checkpoints call it differently."""


@dataclass(frozen=True)
class FileFamily:
    """See `headatlas.checkpoints.families.GgufFamily`."""

    architecture: Architecture
    metadata: Metadata

    @property
    def model_type(self) -> str:
        return self.architecture.model_type

    @property
    def why_not_run(self) -> str | None:
        if (why := self.architecture.why_not_run(self.metadata)) is not None:
            return why
        try:
            self._positions(self.metadata.integer("block_count") - self.metadata.integer("nextn_predict_layers", 0))
        except UnknownPositionsError as error:
            return str(error)
        return None

    @property
    def aliases(self) -> dict[str, str]:
        return ALIASES

    def tensors(self, n_layers: int) -> dict[str, Tensor]:
        return named_tensors(self.architecture, self.metadata, n_layers)

    def settings(self, n_layers: int) -> dict[str, Any]:
        architecture, metadata = self.architecture, self.metadata
        settings: dict[str, Any] = {name: metadata.number(key) for key, name in architecture.config.items()}
        found = {name: metadata.number(key, None) for key, name in architecture.optional.items()}
        settings |= {name: value for name, value in found.items() if value is not None}
        settings[architecture.config["block_count"]] = n_layers
        settings["vocab_size"] = metadata.d_vocab()
        # Transformers' defaults are ids of one model, which another vocabulary may not have.
        settings |= {f"{name}_token_id": metadata.token_id(key) for name, key in SPECIAL_TOKENS.items()}
        settings["tie_word_embeddings"] = not metadata.has_tensor("output.weight")
        settings |= self._heads()
        settings |= architecture.fixed | architecture.derived(metadata)
        try:
            return settings | self._positions(n_layers)
        except UnknownPositionsError:  # which do not matter unless the model runs, and it does not
            return settings

    def _positions(self, n_layers: int) -> dict[str, Any]:
        architecture, metadata = self.architecture, self.metadata
        n_heads, d_model = metadata.integer("attention.head_count"), metadata.integer("embedding_length")
        d_head = metadata.integer("attention.key_length", d_model // n_heads if n_heads else 0)
        if architecture.rotary == "latent":
            d_head = metadata.integer("rope.dimension_count")
        settings = rotary_settings(architecture.rotary, metadata, d_head, architecture.rope(metadata))
        return settings | (layer_types(metadata, n_layers) if architecture.listed_layers else {})

    def _heads(self) -> dict[str, int]:
        settings, metadata = {}, self.metadata
        n_heads, d_model = metadata.integer("attention.head_count"), metadata.integer("embedding_length")
        kv_heads, head_width = self.architecture.heads
        if kv_heads:
            settings[kv_heads] = metadata.integer("attention.head_count_kv", n_heads)
        if head_width:
            d_head = metadata.integer("attention.value_length", d_model // n_heads if n_heads else 0)
            if (found := metadata.integer("attention.key_length", d_head)) != d_head:
                raise metadata.unsupported(f"keys as long as values ({d_head})", str(found))
            settings[head_width] = d_head
        return settings


def find_family(metadata: Metadata) -> FileFamily:
    """The family of a file; raises `CheckpointError` if its architecture is not in the table."""
    return FileFamily(find_architecture(metadata), metadata)
