"""A GGUF file: quantised or not, its tensors under the names that transformers gives them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.checkpoints import config_file
from headatlas.checkpoints.gguf_header import StoredTensor, read_header
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Architecture:
    """How GGUF keeps an architecture of which it stores values and outputs as the original checkpoint does.

    Args:
        config: key in the file (behind the architecture's name) -> name in transformers' config.
        transposed: ends of names of weights that transformers keeps as (in, out), and GGUF as (out, in).
    """

    config: dict[str, str]
    transposed: tuple[str, ...] = ()


_LLAMA_LIKE = Architecture(
    {
        "block_count": "num_hidden_layers",
        "embedding_length": "hidden_size",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.layer_norm_rms_epsilon": "rms_norm_eps",
        "context_length": "max_position_embeddings",
    }
)

ARCHITECTURES = {
    "gpt2": Architecture(
        {
            "block_count": "n_layer",
            "embedding_length": "n_embd",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
            "context_length": "n_positions",
        },
        transposed=("c_attn.weight", "c_proj.weight", "c_fc.weight"),
    ),
    "llama": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
}
"""By the file's own name of the architecture, which is also transformers' model type. Mistral models say `llama`."""

PLAIN_TYPES = ("F32", "F16", "BF16")


class GgufFile:
    """Weights of a GGUF file; see `Checkpoint`.

    Raises:
        CheckpointError: the file is damaged, split, or of an architecture that is not read yet.
    """

    def __init__(self, path: Path) -> None:
        from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

        self.path = path
        self.source = str(path)
        self.name = path.stem
        header = read_header(path)
        self._metadata, self._tensors, self._content = header.metadata, header.tensors, header.content
        if "split.count" in self._metadata and self._whole("split.count") > 1:
            raise CheckpointError(
                f"{path}: expected a GGUF file in one piece, found a split one. Merge it with llama-gguf-split."
            )
        self.model_type = self._value("general.architecture", str)
        if self.model_type not in ARCHITECTURES:
            raise CheckpointError(
                f"{path}: expected a GGUF file of {', '.join(ARCHITECTURES)}, found {self.model_type!r}. "
                f"Use the model's safetensors checkpoint."
            )
        self._architecture = ARCHITECTURES[self.model_type]
        if self._metadata.get(f"{self.model_type}.expert_count"):
            raise CheckpointError(
                f"{path}: expected one MLP per layer, found a mixture of experts. "
                f"Use the model's safetensors checkpoint."
            )
        n_layers = self._whole(f"{self.model_type}.block_count")
        if not 0 < n_layers < 10_000:
            raise CheckpointError(f"{path}: expected a number of layers from 1 to 9,999, found {n_layers}.")
        if any(name.startswith(f"blk.{n_layers}.") for name in self._tensors):
            raise CheckpointError(f"{path}: expected tensors of {n_layers} layers, found more. Fetch the file again.")
        numbers = {name: number for number, name in MODEL_ARCH_NAMES.items()}
        self._gguf_names = get_tensor_name_map(numbers[self.model_type], n_layers)

    @property
    def note(self) -> str | None:
        """The quantisation of the tensors that a map reads, commonest first; None where there is none."""
        read = ("token_embd.", "output.", ".attn_v.", ".attn_qkv.", ".attn_output.", "blk.0.ffn_")
        types = Counter(
            tensor.kind.name
            for name, tensor in self._tensors.items()
            if any(part in name for part in read) and name.endswith(".weight") and not name.endswith("norm.weight")
        )
        if all(name in PLAIN_TYPES for name in types):
            return None
        embedding = self._tensors["token_embd.weight"].kind.name if "token_embd.weight" in self._tensors else None
        others = [name for name, _ in types.most_common() if name != embedding or types[name] > 1]
        kinds = ", ".join(others or [str(embedding)])
        return f"Weights are quantised ({kinds}" + (f"; embedding {embedding})." if others != [embedding] else ").")

    @property
    def config(self) -> PretrainedConfig:
        # transformers reads a config from GGUF too, but parses the whole vocabulary for it, which takes seconds.
        from transformers import AutoConfig

        prefix = self.model_type
        settings: dict[str, Any] = {
            name: self._value(f"{prefix}.{key}", (int, float)) for key, name in self._architecture.config.items()
        }
        vocabulary = (f"{prefix}.vocab_size", "tokenizer.ggml.tokens")
        settings["vocab_size"] = self._whole(next((key for key in vocabulary if key in self._metadata), vocabulary[0]))
        settings["tie_word_embeddings"] = "output.weight" not in self._tensors
        if self._architecture is _LLAMA_LIKE:
            n_heads = settings["num_attention_heads"]
            settings["num_key_value_heads"] = self._whole(f"{prefix}.attention.head_count_kv", n_heads)
            d_head = settings["hidden_size"] // n_heads if n_heads else 0
            settings["head_dim"] = self._whole(f"{prefix}.attention.value_length", d_head)
            settings["rope_theta"] = self._value(f"{prefix}.rope.freq_base", (int, float), 10_000.0)
            settings["attention_bias"] = "blk.0.attn_q.bias" in self._tensors
            settings["mlp_bias"] = "blk.0.ffn_down.bias" in self._tensors
        try:
            return AutoConfig.for_model(self.model_type, **settings)
        except Exception as error:  # transformers raises many kinds for a config that makes no sense
            raise config_file.unreadable(self.path, error) from error

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        # `AutoTokenizer` gives the same tokenizer, but parses the file once more to guess its class.
        from transformers import PreTrainedTokenizerFast

        return config_file.load_tokenizer(self.path.parent, self.path.name, PreTrainedTokenizerFast)

    def __contains__(self, name: str) -> bool:
        return self._gguf_name(name) in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        shape = self._tensor(name).shape
        return shape[::-1] if self._is_transposed(name) else shape

    def file_of(self, name: str) -> str:
        return self.path.name

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        rows = slice(None) if rows is None else rows
        if len(self.shape(name)) == 1:
            return self._read_stored(name)[rows]
        if self._is_transposed(name):
            return self._read_stored(name).T[rows].contiguous()
        return self._read_stored(name, rows)

    def _read_stored(self, name: str, rows: slice = slice(None)) -> torch.Tensor:
        import numpy as np
        import torch
        from gguf import quant_shape_to_byte_shape
        from gguf.quants import dequantize

        tensor = self._tensor(name)
        stored = np.frombuffer(self._content, np.uint8, tensor.n_bytes, tensor.start)
        try:
            values = dequantize(stored.reshape(quant_shape_to_byte_shape(tensor.shape, tensor.kind))[rows], tensor.kind)
        except NotImplementedError as error:
            raise CheckpointError(
                f"{self.path}: tensor {name!r} has the type {tensor.kind.name}, which the gguf package "
                f"cannot read. Use a file with another quantisation."
            ) from error
        return torch.from_numpy(np.array(values, dtype=np.float32, copy=True).reshape(-1, *tensor.shape[1:]))

    def _is_transposed(self, name: str) -> bool:
        return name.endswith(self._architecture.transposed)

    def _gguf_name(self, name: str) -> str:
        stem, _, suffix = name.rpartition(".")
        found = self._gguf_names.get_name(stem)
        return name if found is None else f"{found}.{suffix}"

    def _tensor(self, name: str) -> StoredTensor:
        found = self._tensors.get(self._gguf_name(name))
        if found is None:
            raise CheckpointError(
                f"{self.path}: expected a tensor {self._gguf_name(name)!r}, found none. Is the file complete?"
            )
        return found

    def _whole(self, key: str, default: int | None = None) -> int:
        return self._value(key, int, default)

    def _value(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        value = self._metadata.get(key, default)
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
        expected = "a word" if kind is str else "a whole number" if kind is int else "a number"
        found = "nothing" if value is None else f"{value!r}" if isinstance(value, int | float | str) else "a list"
        raise CheckpointError(f"{self.path}: expected {expected} for {key!r}, found {found}. Fetch the file again.")
