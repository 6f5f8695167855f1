"""A model's embedding, unembedding, heads and first MLP, whatever its family and file format.

The only place that knows grouped and fused attention. Weights are read when they are asked for, checked against the
config, and refused when they are not finite.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headatlas.architectures.families import Family, find_family
from headatlas.architectures.layouts import Sizes
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig

    from headatlas.checkpoints import Checkpoint

ROWS_AT_ONCE = 16_384
"""Rows of a large tensor that are in memory at once, where not all of it is needed."""


def open_model(checkpoint: Checkpoint) -> HeadModel:
    """Find the family of a checkpoint and the sizes of its heads.

    Raises:
        ArchitectureError: the family is unknown, or the config contradicts itself.
    """
    family = find_family(checkpoint.model_type, checkpoint.source)
    config = checkpoint.config
    return HeadModel(checkpoint, config, family, _read_sizes(config, checkpoint.source))


class HeadModel:
    """The parts of a model that its map is made from.

    Attributes:
        n_layers, n_heads, n_kv_heads, d_model, d_head, d_vocab: counts and widths.
        kv_head_of: the kv head that each head reads, of length n_heads.
        name, model_type, note: as the checkpoint tells them.
    """

    def __init__(self, checkpoint: Checkpoint, config: PretrainedConfig, family: Family, sizes: Sizes) -> None:
        self.checkpoint, self.family, self.sizes = checkpoint, family, sizes
        self._config = config
        self.name, self.model_type, self.note = checkpoint.name, checkpoint.model_type, checkpoint.note
        self.n_layers, self.n_heads, self.n_kv_heads = sizes.n_layers, sizes.n_heads, sizes.n_kv_heads
        self.d_model, self.d_head, self.d_vocab = sizes.d_model, sizes.d_head, sizes.d_vocab
        self.kv_head_of: Sequence[int] = [head // (sizes.n_heads // sizes.n_kv_heads) for head in range(sizes.n_heads)]
        # A base model that was saved without its head has no prefix.
        with_prefix = f"{family.base}.{family.embedding}.weight" in checkpoint
        self._base = f"{family.base}." if with_prefix else ""
        self._W_E = f"{self._base}{family.embedding}.weight"
        self._W_U = f"{family.unembedding}.weight"
        if self._W_U not in checkpoint:
            if not config.tie_word_embeddings:
                raise ArchitectureError(
                    f"{checkpoint.source}: expected the unembedding {self._W_U!r}, found none, and the config does not "
                    f"tie it to the embedding. Use a checkpoint of the whole language model."
                )
            self._W_U = self._W_E
        beyond = f"{self._in_layer(self.n_layers, family.output)}.weight"
        if beyond in checkpoint:
            raise ArchitectureError(
                f"{checkpoint.file_of(beyond)}: expected layers up to {self.n_layers - 1} (n_layers={self.n_layers} in "
                f"this config), found tensor {beyond!r}. Is config.json from the same model?"
            )

    def W_E(self, ids: Tensor) -> Tensor:
        """Embedding rows of some tokens: Float[Tensor, "n_ids d_model"]."""
        import torch

        self._check_shape(self._W_E, (self.d_vocab, self.d_model), "d_vocab, d_model")
        rows = torch.empty(len(ids), self.d_model)
        # One read of many neighbours is quicker than one of each row.
        for start in range(0, self.d_vocab, ROWS_AT_ONCE):
            here = (ids >= start) & (ids < start + ROWS_AT_ONCE)
            if here.any():
                first, last = int(ids[here].min()), int(ids[here].max())
                rows[here] = self.checkpoint.read(self._W_E, slice(first, last + 1))[ids[here] - first]
        return self._finite(self._W_E, rows)

    def W_U(self) -> Tensor:
        """The unembedding as rows: Float[Tensor, "d_vocab d_model"]."""
        self._check_shape(self._W_U, (self.d_vocab, self.d_model), "d_vocab, d_model")
        return self._finite(self._W_U, self.checkpoint.read(self._W_U))

    def values_and_outputs(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's OV circuits in factors.

        Returns:
            W_V: Float[Tensor, "n_kv_heads d_model d_head"].
            W_O: Float[Tensor, "n_heads d_head d_model"].
        """
        sizes, family = self.sizes, self.family
        value = self._linear(self._in_layer(layer, family.value), family.layout.n_rows(sizes), sizes.d_model)
        value = family.layout.values(value, sizes)
        output = self._linear(self._in_layer(layer, family.output), sizes.d_model, sizes.n_heads * sizes.d_head)
        W_V = value.reshape(sizes.n_kv_heads, sizes.d_head, sizes.d_model).transpose(1, 2).contiguous()
        W_O = output.T.reshape(sizes.n_heads, sizes.d_head, sizes.d_model).contiguous()
        return W_V, W_O

    def first_mlp(self, embedding: Tensor) -> Tensor:
        """`MLP_0(norm_0(embedding))`, the output of the first layer's MLP alone: Float[Tensor, "n_ids d_model"].

        The model's own modules, in float64, so that the number of threads changes nothing that float32 can show.
        """
        import torch

        norm, mlp = self._first_modules()
        with torch.no_grad():
            parts = [mlp(norm(rows.double())).float() for rows in embedding.split(512)]
        return self._finite("the first MLP's output", torch.cat(parts))

    def fingerprint(self, progress: Callable[[int, int], None] | None = None) -> str:
        """SHA-256 over all that a map reads: the tensors as float32, and the config of the first MLP.

        It does not depend on the file format: the same weights in shards, in one file or in GGUF have the same one.

        Raises:
            ArchitectureError: a tensor is missing, misshapen, or not finite.
        """
        digest = hashlib.sha256(json.dumps(self._meaning_of_config()).encode())
        names = self._tensor_names()
        for done, (role, name) in enumerate(names.items()):
            if progress is not None:
                progress(done, len(names))
            shape = self._shape(name)
            digest.update(json.dumps([role, shape]).encode())
            for start in range(0, shape[0], ROWS_AT_ONCE):
                rows = self.checkpoint.read(name, slice(start, start + ROWS_AT_ONCE))
                digest.update(self._finite(name, rows).contiguous().numpy().data)
        if progress is not None:
            progress(len(names), len(names))
        return digest.hexdigest()

    def _tensor_names(self) -> dict[str, str]:
        """Role -> tensor, of all that a map reads."""
        names = {"W_E": self._W_E} | ({"W_U": self._W_U} if self._W_U != self._W_E else {})
        norm, mlp = self._first_modules_on_meta()
        for path, module in ((self.family.norm_before_mlp, norm), (self.family.mlp, mlp)):
            for name in module.state_dict():
                names[f"first {path}.{name}"] = f"{self._in_layer(0, path)}.{name}"
        for layer in range(self.n_layers):
            names[f"W_V {layer}"] = f"{self._in_layer(layer, self.family.value)}.weight"
            names[f"W_O {layer}"] = f"{self._in_layer(layer, self.family.output)}.weight"
        return names

    def _meaning_of_config(self) -> list:
        """What changes the map but is in no tensor."""
        import struct

        config = self._config
        activation = next(
            (
                getattr(config, name)
                for name in ("hidden_act", "activation_function", "hidden_activation")
                if hasattr(config, name)
            ),
            None,
        )
        names = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon")
        # GGUF keeps these as float32.
        eps = [struct.pack("<f", getattr(config, name)).hex() for name in names if hasattr(config, name)]
        return [self.model_type, vars(self.sizes), activation, eps]

    def _in_layer(self, layer: int, module: str) -> str:
        return f"{self._base}{self.family.layers}.{layer}.{module}"

    def _linear(self, module: str, n_out: int, n_in: int) -> Tensor:
        """The weight of a linear module as (out, in)."""
        name = f"{module}.weight"
        shape = (n_in, n_out) if self.family.transposed else (n_out, n_in)
        heads = f"n_heads={self.n_heads}, n_kv_heads={self.n_kv_heads}, d_head={self.d_head}, d_model={self.d_model}"
        self._check_shape(name, shape, heads)
        weight = self._finite(name, self.checkpoint.read(name))
        return weight.T if self.family.transposed else weight

    def _first_modules_on_meta(self) -> tuple[nn.Module, nn.Module]:
        import copy

        import torch
        from transformers import AutoModel

        config = copy.deepcopy(self._config)
        config.num_hidden_layers = 1
        try:
            with torch.device("meta"):
                base = AutoModel.from_config(config)
        except Exception as error:  # transformers raises many kinds for a config that makes no sense
            raise ArchitectureError(
                f"{self.checkpoint.source}: transformers cannot build the first layer of this config "
                f"({type(error).__name__}: {str(error)[:200]}). Is the config complete?"
            ) from error
        layer = base.get_submodule(f"{self.family.layers}.0")
        norm, mlp = layer.get_submodule(self.family.norm_before_mlp), layer.get_submodule(self.family.mlp)
        self._refuse_unused_biases(self.family.norm_before_mlp, norm)
        self._refuse_unused_biases(self.family.mlp, mlp)
        return norm, mlp

    def _first_modules(self) -> tuple[nn.Module, nn.Module]:
        modules = self._first_modules_on_meta()
        for path, module in zip((self.family.norm_before_mlp, self.family.mlp), modules, strict=True):
            state = {}
            for name, empty in module.state_dict().items():
                stored = f"{self._in_layer(0, path)}.{name}"
                self._check_shape(stored, tuple(empty.shape), "its first MLP")
                state[name] = self._finite(stored, self.checkpoint.read(stored)).double()
            module.load_state_dict(state, strict=True, assign=True)
            module.eval()
        return modules

    def _refuse_unused_biases(self, path: str, module: nn.Module) -> None:
        """A bias that the checkpoint holds and the config does not know of would be left out in silence."""
        for name, part in module.named_modules():
            bias = ".".join(filter(None, (self._in_layer(0, path), name, "bias")))
            if "weight" in part._parameters and part._parameters.get("bias") is None and bias in self.checkpoint:
                raise ArchitectureError(
                    f"{self.checkpoint.file_of(bias)}: tensor {bias!r} has no place in the model that this config "
                    f"describes; expected none. Is config.json from the same model?"
                )

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self.checkpoint:
            raise ArchitectureError(
                f"{self.checkpoint.source}: expected a tensor {name!r}, found none. Is the checkpoint complete?"
            )
        return self.checkpoint.shape(name)

    def _check_shape(self, name: str, expected: tuple[int, ...], by: str) -> None:
        found = self._shape(name)
        if found == expected:
            return
        by = f"d_vocab={self.d_vocab}, d_model={self.d_model}" if by == "d_vocab, d_model" else by
        raise ArchitectureError(
            f"{self.checkpoint.file_of(name)}: tensor {name!r} has shape {found}; this config ({by}) needs {expected}. "
            f"Is config.json from the same model?"
        )

    def _finite(self, name: str, values: Tensor) -> Tensor:
        import torch

        # The sum of absolute values is finite just when all are, unless it overflows; only then is a count needed.
        if not torch.isfinite(values.abs().sum(dtype=torch.float64)):
            n_bad = self._count_not_finite(name) if name in self.checkpoint else int((~torch.isfinite(values)).sum())
            raise ArchitectureError(
                f"{self.checkpoint.source}: {name} holds {n_bad:,} values that are NaN or infinite; expected none. "
                f"Are the weights damaged?"
            )
        return values

    def _count_not_finite(self, name: str) -> int:
        """In the whole tensor, of which a part may have been read."""
        import torch

        starts = range(0, self.checkpoint.shape(name)[0], ROWS_AT_ONCE)
        parts = (self.checkpoint.read(name, slice(start, start + ROWS_AT_ONCE)) for start in starts)
        return sum(int((~torch.isfinite(part)).sum()) for part in parts)


def _read_sizes(config: PretrainedConfig, where: str) -> Sizes:
    n_heads, d_model = config.num_attention_heads, config.hidden_size
    n_kv_heads = getattr(config, "num_key_value_heads", None)
    n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
    d_head = getattr(config, "head_dim", None) or (n_heads and d_model // n_heads)
    sizes = Sizes(config.num_hidden_layers, n_heads, n_kv_heads, d_model, d_head, config.vocab_size)
    for name, value in vars(sizes).items():
        if not isinstance(value, int) or not 0 < value < 2**31:
            raise ArchitectureError(f"{where}: config: expected a positive whole number for {name}, found {value!r}.")
    if n_heads % n_kv_heads:
        raise ArchitectureError(
            f"{where}: config: expected a number of heads that {n_kv_heads} key-value heads divide, found {n_heads}."
        )
    return sizes
