"""A GGUF file: quantised or not, its tensors under the names that transformers gives them."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.checkpoints import config_file
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Those of which GGUF stores values and outputs as the original checkpoint does, and that transformers reads."""

PLAIN_TYPES = ("F32", "F16", "BF16")


class GgufFile:
    """Weights of a GGUF file; see `Checkpoint`.

    Raises:
        CheckpointError: the file is damaged, split, or of an architecture that is not read yet.
    """

    def __init__(self, path: Path) -> None:
        from gguf import MODEL_ARCH_NAMES, GGUFReader, get_tensor_name_map

        self.path = path
        self.source = str(path)
        self.name = path.stem
        try:
            reader = GGUFReader(path)
            architecture = reader.fields["general.architecture"].contents()
            n_layers = int(reader.fields[f"{architecture}.block_count"].contents())
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: expected a GGUF file, found nothing there.") from error
        except Exception as error:  # the reader raises whatever a damaged header makes numpy raise
            what = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
            raise CheckpointError(
                f"{path}: expected a GGUF file, found a damaged one ({what}). Fetch it again."
            ) from error
        if "split.count" in reader.fields and int(reader.fields["split.count"].contents()) > 1:
            raise CheckpointError(
                f"{path}: expected a GGUF file in one piece, found a split one. Merge it with llama-gguf-split."
            )
        if architecture not in ARCHITECTURES:
            raise CheckpointError(
                f"{path}: expected a GGUF file of {', '.join(ARCHITECTURES)}, found {architecture!r}. "
                f"Use the model's safetensors checkpoint."
            )
        if not 0 < n_layers < 10_000:
            raise CheckpointError(f"{path}: expected a number of layers from 1 to 9,999, found {n_layers}.")
        self.model_type = architecture
        width = reader.fields.get(f"{architecture}.attention.value_length")
        self._d_head = None if width is None else int(width.contents())
        names = {name: number for number, name in MODEL_ARCH_NAMES.items()}
        self._gguf_names = get_tensor_name_map(names[architecture], n_layers)
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}

    @cached_property
    def note(self) -> str | None:
        """The quantisation of the tensors that a map reads, commonest first; None where there is none."""
        read = ("token_embd.", "output.", ".attn_v.", ".attn_output.", "blk.0.ffn_")
        types = Counter(
            tensor.tensor_type.name
            for name, tensor in self._tensors.items()
            if any(part in name for part in read) and not name.endswith("norm.weight")
        )
        if all(name in PLAIN_TYPES for name in types):
            return None
        embedding = (
            self._tensors["token_embd.weight"].tensor_type.name if "token_embd.weight" in self._tensors else None
        )
        others = [name for name, _ in types.most_common() if name != embedding or types[name] > 1]
        kinds = ", ".join(others or [str(embedding)])
        return f"Weights are quantised ({kinds}" + (f"; embedding {embedding})." if others != [embedding] else ").")

    @cached_property
    def config(self) -> PretrainedConfig:
        config = config_file.load_config(self.path.parent, self.path.name)
        # transformers reads the width of a head for some families only, and takes a default for the others.
        if self._d_head is not None:
            config.head_dim = self._d_head
        return config

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        return config_file.load_tokenizer(self.path.parent, self.path.name)

    def __contains__(self, name: str) -> bool:
        return self._gguf_name(name) in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(size) for size in reversed(self._tensor(name).shape))

    def file_of(self, name: str) -> str:
        return self.path.name

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        import numpy as np
        import torch
        from gguf.quants import dequantize

        tensor = self._tensor(name)
        stored = tensor.data if rows is None else tensor.data[rows]
        try:
            values = dequantize(stored, tensor.tensor_type)
        except NotImplementedError as error:
            raise CheckpointError(
                f"{self.path}: tensor {name!r} has the type {tensor.tensor_type.name}, which the gguf package "
                f"cannot read. Use a file with another quantisation."
            ) from error
        shape = (-1, *self.shape(name)[1:])
        return torch.from_numpy(np.array(values, dtype=np.float32, copy=True).reshape(shape))

    def _gguf_name(self, name: str) -> str:
        stem, _, suffix = name.rpartition(".")
        found = self._gguf_names.get_name(stem)
        return name if found is None else f"{found}.{suffix}"

    def _tensor(self, name: str):
        found = self._tensors.get(self._gguf_name(name))
        if found is None:
            raise CheckpointError(
                f"{self.path}: expected a tensor {self._gguf_name(name)!r}, found none. Is the file complete?"
            )
        return found
