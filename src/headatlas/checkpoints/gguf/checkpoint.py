"""A GGUF model, in one file or several: its tensors under the names that transformers gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.architectures.gguf import find_architecture, read_settings
from headatlas.checkpoints import config as config_file
from headatlas.checkpoints.gguf.metadata import Facts
from headatlas.checkpoints.gguf.names import UNREAD, named_tensors
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

OTHER_NAMES = {"lm_head.weight": "embed_out.weight"}
"""Transformers' module and its checkpoints do not agree on these."""


class GgufFile:
    """Weights of a GGUF file, or of all parts of a split one; see `Checkpoint`.

    Raises:
        CheckpointError: the file is damaged, a part is missing, or its architecture is not read.
    """

    def __init__(self, path: Path) -> None:
        parts = open_parts(path)
        self.path = path
        self.source = str(path)
        self.name = path.stem
        self._header = parts.first
        self._facts = facts = Facts(path, parts.metadata, parts.tensors)
        self._architecture = find_architecture(facts)
        self.model_type = self._architecture.model_type
        n_blocks = facts.whole("block_count")
        # Behind the model's own layers there may be some that predict further tokens.
        self._n_layers = n_blocks - facts.whole("nextn_predict_layers", 0)
        if not 0 < self._n_layers <= n_blocks <= MAX_LAYERS:
            raise CheckpointError(
                f"{path}: expected a number of layers from 1 to {MAX_LAYERS:,}, found {self._n_layers}."
            )
        n_found = 1 + max((_layer_of(name) for name in facts.tensors), default=-1)
        if not self._n_layers <= n_found <= n_blocks:
            found = "more" if n_found > n_blocks else f"those of {n_found}"
            raise CheckpointError(
                f"{path}: expected tensors of {n_blocks} layers, found {found}. Fetch the file again."
            )
        self._tensors = named_tensors(self._architecture, facts, self._n_layers)
        self.size = sum(tensor.n_bytes for tensor in facts.tensors.values())

    @property
    def note(self) -> str | None:
        """The quantisation of the tensors that a map reads, commonest first; None where there is none."""
        read = ("token_embd.", "output.", ".attn_v", ".attn_qkv.", ".attn_kv_", ".attn_output.", "blk.0.ffn_")
        stored = self._facts.tensors
        types = Counter(
            tensor.kind.name
            for name, tensor in stored.items()
            if any(part in name for part in read) and name.endswith(".weight") and not name.endswith("norm.weight")
        )
        if all(name in PLAIN_TYPES for name in types):
            return None
        embedding = stored["token_embd.weight"].kind.name if "token_embd.weight" in stored else None
        others = [name for name, _ in types.most_common() if name != embedding or types[name] > 1]
        kinds = ", ".join(others or [str(embedding)])
        return f"Weights are quantised ({kinds}" + (f"; embedding {embedding})." if others != [embedding] else ").")

    @property
    def why_not_run(self) -> str | None:
        """What of the running model is not known from this file; a map needs none of it."""
        facts = self._facts
        if not self._architecture.runs:
            return f"what its positions and scales are in a GGUF file of {facts.architecture!r} is not read"
        scaled = [name for name in facts.tensors if any(part in name for part in UNREAD)]
        kind = facts.metadata.get(f"{facts.architecture}.rope.scaling.type")
        if scaled or kind not in (None, "none"):
            return "the scale of its positions is not read from a GGUF file"
        return None

    @property
    def config(self) -> PretrainedConfig:
        # transformers reads a config from GGUF too, of fewer architectures and with values of other models as default.
        from transformers import AutoConfig

        settings = read_settings(self._architecture, self._facts, self._n_layers)
        try:
            return AutoConfig.for_model(self.model_type, **settings)
        except Exception as error:  # transformers raises many kinds for a config that makes no sense
            raise config_file.unreadable(self.path, error) from error

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self._header)

    def names(self) -> Iterable[str]:
        return self._tensors

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or OTHER_NAMES.get(name) in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensor(name).shape

    def n_bytes(self, name: str) -> int:
        return self._tensor(name).n_bytes

    def file_of(self, name: str) -> str:
        return self._tensor(name).file if name in self else self.path.name

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        return self._tensor(name).read(slice(None) if rows is None else rows)

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        """Nothing to do: the file is local, and mapped."""

    def _tensor(self, name: str) -> Tensor:
        found = self._tensors.get(name) or self._tensors.get(OTHER_NAMES.get(name, name))
        if found is None:
            raise CheckpointError(f"{self.path}: expected a tensor {name!r}, found none. Is the file complete?")
        return found


def _layer_of(name: str) -> int:
    first, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return int(number) if first == "blk" and number.isascii() and number.isdigit() and len(number) < 7 else -1
