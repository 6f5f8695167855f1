"""A GGUF model, in one file or several, as a checkpoint: its tensors under the names that transformers gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.checkpoints import config as config_file
from headatlas.checkpoints.families import Families
from headatlas.checkpoints.gguf.metadata import Metadata
from headatlas.checkpoints.gguf.names import parse_name
from headatlas.checkpoints.gguf.parts import open_parts
from headatlas.checkpoints.gguf.tensors import Tensor
from headatlas.checkpoints.gguf.tokenizer import load_tokenizer
from headatlas.checkpoints.tensor_store import BytesProgress
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

PLAIN_TYPES = ("F32", "F16", "BF16")

MAX_LAYERS = 9_999

EMBEDDING = "token_embd.weight"
IN_NOTE = ("token_embd.", "output.", ".attn_v", ".attn_qkv.", ".attn_kv_", ".attn_output.", "blk.0.ffn_")
"""Parts of the names of tensors whose quantisation the note states: those that a map reads."""


class GgufCheckpoint:
    """Weights of a GGUF file, or of all parts of a split one; see `Checkpoint`.

    Args:
        path: the file, or any of the parts.
        families: finds the model's family.
        source: what the user named; default: the path.

    Raises:
        CheckpointError: the file is damaged, a part is missing, or its architecture is unknown.
    """

    def __init__(self, path: Path, families: Families, source: str | None = None) -> None:
        parts = open_parts(path)
        self.path = path
        self.source = source or str(path)
        self.name = path.stem
        self._header = parts.first
        self._metadata = metadata = Metadata(path, parts.metadata, parts.tensors)
        self._family = families.gguf(metadata)
        self.model_type = self._family.model_type
        self._n_layers = _count_layers(metadata)
        self._tensors = self._family.tensors(self._n_layers)
        self.size = sum(tensor.n_bytes for tensor in metadata.tensors.values())

    @property
    def note(self) -> str | None:
        """The quantisation of the tensors that a map reads, the most frequent type first; None if there is none."""
        stored = self._metadata.tensors
        types = Counter(
            tensor.kind.name
            for name, tensor in stored.items()
            if any(part in name for part in IN_NOTE) and name.endswith(".weight") and not name.endswith("norm.weight")
        )
        if all(name in PLAIN_TYPES for name in types):
            return None
        embedding = stored[EMBEDDING].kind.name if EMBEDDING in stored else None
        others = [name for name, _ in types.most_common() if name != embedding or types[name] > 1]
        kinds = ", ".join(others or [str(embedding)])
        return f"Weights are quantised ({kinds}" + (f"; embedding {embedding})." if others != [embedding] else ").")

    @property
    def is_local(self) -> bool:
        return True  # one that is remote was transferred as a whole

    @property
    def why_not_run(self) -> str | None:
        return self._family.why_not_run

    @property
    def config(self) -> PretrainedConfig:
        # transformers reads a config from GGUF too, but knows fewer architectures, and its defaults are other models'.
        from transformers import AutoConfig

        settings = self._family.settings(self._n_layers)
        try:
            return AutoConfig.for_model(self.model_type, **settings)
        except Exception as error:  # transformers raises many kinds for an inconsistent config
            raise config_file.unreadable(self.path, error) from error

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self._header)

    def names(self) -> Iterable[str]:
        return self._tensors

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or self._family.aliases.get(name) in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensor(name).shape

    def n_bytes(self, name: str) -> int:
        return self._tensor(name).n_bytes

    def file_of(self, name: str) -> str:
        return self._tensor(name).file if name in self else self.path.name

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        return self._tensor(name).read(slice(None) if rows is None else rows)

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        """Do nothing: the file is local, and mapped."""

    def _tensor(self, name: str) -> Tensor:
        found = self._tensors.get(name) or self._tensors.get(self._family.aliases.get(name, name))
        if found is None:
            raise CheckpointError(f"{self.path}: expected a tensor {name!r}, found none. Is the file complete?")
        return found


def _count_layers(metadata: Metadata) -> int:
    """The model's own layers, without further ones that predict several tokens ahead."""
    n_blocks = metadata.integer("block_count")
    n_layers = n_blocks - metadata.integer("nextn_predict_layers", 0)
    if not 0 < n_layers <= n_blocks <= MAX_LAYERS:
        raise CheckpointError(
            f"{metadata.path}: expected a number of layers from 1 to {MAX_LAYERS:,}, found {n_layers}."
        )
    layers = (layer for name in metadata.tensors if (layer := parse_name(name).layer) is not None)
    n_found = 1 + max(layers, default=-1)
    if not n_layers <= n_found <= n_blocks:
        found = "more" if n_found > n_blocks else f"only {n_found}"
        raise CheckpointError(
            f"{metadata.path}: expected tensors of {n_blocks} layers, found {found}. Fetch the file again."
        )
    return n_layers
