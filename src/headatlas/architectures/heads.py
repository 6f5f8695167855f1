"""A model's embedding, unembedding, heads and first MLP, whatever its family and file format.

The only place that knows grouped, fused and latent attention. Weights are read when they are asked for, checked
against the config, and refused when they are not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headatlas.architectures.families import Family, Validity, clip_limit, find_family
from headatlas.architectures.fingerprint import digest_parts, meaning_of_config, settings_of_modules
from headatlas.architectures.layouts import Sizes, separate
from headatlas.architectures.module_tree import ModuleTree, common
from headatlas.architectures.parts import Part, Role
from headatlas.architectures.run_modules import run_in_float64
from headatlas.architectures.structure import FirstMlp, find_first_mlp
from headatlas.errors import ArchitectureError, SettingsError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Terms:
    """What is counted beside the OV circuits; MAPS counts none of it, and each may change ranks.

    Args:
        value_bias: the bias of the values.
        attention_gain: the gain per channel of a norm that follows the attention (Gemma 2 to 4, OLMo 2 and 3).
        final_norm_gain: the gain per channel of the norm before the unembedding.
    """

    value_bias: bool = False
    attention_gain: bool = False
    final_norm_gain: bool = False


class HeadModel:
    """The parts of a model that its map is made from.

    Args:
        tree: the model's modules.
        family: where they keep the heads.
        terms: what is counted beside the OV circuits.

    Attributes:
        n_layers, n_heads, n_kv_heads, d_model, d_head, d_vocab: counts and widths; n_kv_heads and d_head are those of
            the first layer that has heads.
        validity: of the heads of each layer.
        name, note: from the checkpoint.
        model_type: of the language model, which for a multimodal model is not that of the whole.

    Raises:
        ArchitectureError: the config contradicts itself or the checkpoint.
        SettingsError: a term is asked for that the model does not have.
    """

    def __init__(self, tree: ModuleTree, family: Family, terms: Terms | None = None) -> None:
        self.tree, self.family, self.terms = tree, family, terms or Terms()
        self.checkpoint = checkpoint = tree.checkpoint
        self.name, self.model_type, self.note = checkpoint.name, tree.config.model_type, checkpoint.note
        config = tree.config
        self.d_vocab, self.d_model = tree.shape(tree.embedding)[0], config.hidden_size
        self.n_heads = self._whole("n_heads, one for all layers", common(config, "num_attention_heads"))
        layers = tree.module(family.layers)
        if layers is None or not len(list(layers.children())):
            raise ArchitectureError(
                f"{checkpoint.source}: config: expected a positive whole number for n_layers, found "
                f"{config.num_hidden_layers!r}."
            )
        self.n_layers = len(list(layers.children()))
        if (beyond := tree.beyond(family.layers, self.n_layers)) is not None:
            raise ArchitectureError(
                f"{checkpoint.file_of(beyond)}: expected layers up to {self.n_layers - 1} (n_layers={self.n_layers} in "
                f"this config), found tensor {beyond!r}. Is config.json from the same model?"
            )
        self._sizes = [self._read_sizes(layer) for layer in range(self.n_layers)]
        self.validity = [self._validity(layer) for layer in range(self.n_layers)]
        first = next((sizes for sizes in self._sizes if sizes is not None), None)
        if first is None:
            raise ArchitectureError(
                f"{checkpoint.source}: expected layers with attention heads, found none ({type(tree.base).__name__})."
            )
        self.n_kv_heads, self.d_head = first.n_kv_heads, first.d_head
        self._check_terms()

    @property
    def alike(self) -> bool:
        """Whether all layers with heads have as many kv heads, of the same width."""
        return len({sizes for sizes in self._sizes if sizes is not None}) == 1

    @property
    def has_entry(self) -> bool:
        """Whether the family is one of ours, not read by its modules' structure."""
        return find_family(self.tree.config.model_type) is self.family

    def has_heads(self, layer: int) -> bool:
        """Whether the layer has softmax attention; a layer of linear attention or state space has none."""
        return self._sizes[layer] is not None

    def validity_by_layers(self) -> list[dict[str, Any]]:
        """Each validity that occurs, as JSON types: `kind`, `why`, and the `layers` whose heads have it."""
        layers: dict[Validity, list[int]] = {}
        for layer, validity in enumerate(self.validity):
            layers.setdefault(validity, []).append(layer)
        return [{"kind": each.kind, "why": each.why, "layers": where} for each, where in layers.items()]

    def kv_head_of(self, layer: int) -> Sequence[int]:
        """The kv head that each head of a layer reads, of length n_heads."""
        per_group = self.n_heads // self._layer_sizes(layer).n_kv_heads
        return [head // per_group for head in range(self.n_heads)]

    def W_E(self, ids: Tensor) -> Tensor:
        """What the first layer is given for some tokens, positions left out: Float[Tensor, "n_ids d_model"].

        The embedding's rows, with the scale, norm or projection that the family puts behind them.
        """
        rows = self.tree.read_rows(self.tree.embedding, ids)
        rows *= self._embedding_scale()
        after = self.family.after_embedding
        if after is not None and self.tree.module(after) is not None:
            return run_in_float64(self.checkpoint.source, [self.tree.fill(after)], rows)
        return rows

    def W_U(self) -> Tensor:
        """The unembedding as rows: Float[Tensor, "d_vocab d_model"]."""
        W_U, before = self.tree.read(self.tree.unembedding), self.family.before_unembedding
        if before is not None and self.tree.module(before) is not None:
            W_U = W_U @ self.tree.read(f"{self.tree.path_of(before)}.weight")
        if self.terms.final_norm_gain:
            W_U *= self._gain(str(self.family.final_norm))
        return W_U

    def values_and_outputs(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's OV circuits in factors.

        Returns:
            W_V: Float[Tensor, "n_kv_heads d_model d_head"]; one row more, the bias, where `terms.value_bias` is set.
            W_O: Float[Tensor, "n_heads d_head d_model"].
        """
        import torch

        sizes = self._layer_sizes(layer)
        value = self._latent_values(layer) if self.family.latent else self._values(layer)
        if self.terms.value_bias:
            value = torch.cat([value, self._value_bias(layer)], dim=1)
        W_V = value.reshape(sizes.n_kv_heads, sizes.d_head, -1).transpose(1, 2).contiguous()
        output = self.tree.read(f"{self._output(layer)}.weight")
        output = output if self._transposed(self._output_module(layer)) else output.T
        if self.terms.attention_gain:
            output = output * self.attention_gain(layer)
        return W_V, output.reshape(sizes.n_heads, sizes.d_head, self.d_model).contiguous()

    def attention_gain(self, layer: int) -> Tensor:
        """The gain per channel of the norm behind a layer's attention, up to a common factor: `(d_model,)`."""
        return self._gain(f"{self.family.layers}.{layer}.{self.family.norm_after_attention}")

    def first_mlp(self, embedding: Tensor) -> Tensor:
        """`MLP_0(norm_0(embedding))`, the output of the first layer's MLP alone: Float[Tensor, "n_ids d_model"].

        The model's own modules, computing in float64, so that the number of threads changes nothing that float32
        can show.
        """
        return run_in_float64(
            self.checkpoint.source, [self.tree.fill(path) for path in self._first_mlp_paths()], embedding
        )

    def parts(self) -> list[Part]:
        """All that a map reads, and nothing else: what a fingerprint is of, and what has to travel."""
        return [part for layer in (None, *range(self.n_layers)) for part in self.parts_of(layer)]

    def parts_of(self, layer: int | None) -> list[Part]:
        """What a map reads of a layer; with None, what it reads beside the layers."""
        if layer is not None:
            return self._layer_parts(layer) if self.has_heads(layer) else []
        tree = self.tree
        parts = [Part(Role.EMBEDDING, tree.embedding)]
        if tree.unembedding != tree.embedding:
            parts.append(Part(Role.UNEMBEDDING, tree.unembedding))
        others = [module for module in (self.family.after_embedding, self.family.before_unembedding) if module]
        if self.terms.final_norm_gain:
            others.append(str(self.family.final_norm))
        for path in (*others, *self._first_mlp_paths()):
            if (module := tree.module(path)) is not None:
                parts += [
                    Part(Role.MODULE, f"{tree.path_of(path)}.{name}", path=f"{path}.{name}")
                    for name in module.state_dict()
                ]
        return parts

    def stored(self, parts: Iterable[Part]) -> list[tuple[str, slice | None]]:
        """The stored tensors behind parts, for `Checkpoint.fetch`."""
        return [
            (name, part.rows if self.tree.is_plain(part.parameter) else None)
            for part in parts
            for name in self.tree.sources(part.parameter)
        ]

    def fingerprint(
        self, progress: Callable[[int, int], None] | None = None, parts: Sequence[Part] | None = None
    ) -> str:
        """SHA-256 over all that a map reads: the tensors as float32, and what of the config changes the map.

        It does not depend on the file format: the same weights in shards, in one file or in GGUF have the same one.

        Args:
            parts: only of these.

        Raises:
            ArchitectureError: a tensor is missing, misshapen, or not finite.
        """
        sizes: list = [vars(each) if each is not None else None for each in self._sizes]
        counts = {"n_layers": self.n_layers, "d_vocab": self.d_vocab}
        meaning = meaning_of_config(self.tree, counts, sizes)
        # Nobody knows which of the names in an unknown family's config matter; its modules keep what they use of it.
        if not self.has_entry:
            meaning.append(settings_of_modules(self.tree, self._first_mlp_paths()))
        return digest_parts(self.tree, meaning, self.parts() if parts is None else parts, progress)

    def kinds_of_layers(self) -> dict[int, list[int]]:
        """The first layer with heads of each kind -> all layers of that kind (same modules, shapes and validity)."""
        kinds: dict[tuple, list[int]] = {}
        types = getattr(self.tree.config, "layer_types", None)
        for layer in range(self.n_layers):
            if not self.has_heads(layer):
                continue
            attention = self.attention(layer)
            shapes = tuple((name, tuple(each.shape)) for name, each in attention.named_parameters())
            key = (type(attention), types and types[layer], shapes, self.validity[layer].kind)
            kinds.setdefault(key, []).append(layer)
        return {layers[0]: layers for layers in kinds.values()}

    def attention_path(self, layer: int) -> str:
        """The attention module of a layer, in the base model."""
        return f"{self.family.layers}.{layer}.{self.family.attention}"

    def attention(self, layer: int) -> nn.Module:
        """The empty attention module of a layer."""
        return self.tree.base.get_submodule(self.attention_path(layer))

    def output_path(self, layer: int) -> str:
        """The output projection of a layer, in the base model; its input holds the heads one after the other."""
        return f"{self.attention_path(layer)}.{self.family.output}"

    def value_place(self, layer: int) -> tuple[str, Tensor]:
        """Where a running model holds the values that a layer's heads read.

        Returns:
            The module in the base model, and the places of the values in its output, Int[Tensor, "n_kv_heads d_head"].
            A norm of the values behind that module is left out; beyond `value_limit` they are clipped.
        """
        import torch

        sizes = self._layer_sizes(layer)
        if not self.family.latent:
            return self._value(layer), self.family.layout(sizes).reshape(sizes.n_kv_heads, sizes.d_head)
        n_rows = self.tree.shape(self.value_parameter(layer))[0]
        path = f"{self.attention_path(layer)}.kv_b_proj"
        return path, torch.arange(n_rows).view(sizes.n_heads, -1)[:, -sizes.d_head :]

    def value_layer(self, layer: int) -> int:
        """The layer whose values a layer's heads read; nearly always itself."""
        return self.family.value_layer(self.tree.config, layer)

    def values_read_by(self, layer: int) -> str:
        """The module, within the layer itself, that reads the residual for the layer's values."""
        name = "kv_a_proj_with_mqa" if self.family.latent else self._value(layer).rpartition(".")[2]
        return f"{self.family.attention}.{name}"

    @property
    def value_limit(self) -> float | None:
        """The size at which a running model clips its values; None where it does not."""
        return clip_limit(self.tree.config) if self.has_entry else None

    def values_are_keys(self, layer: int) -> bool:
        """Whether the attention has no values of its own and its heads read the keys instead."""
        family = self.family
        module = self.attention(family.value_layer(self.tree.config, layer))
        return family.key_as_value is not None and getattr(module, family.value, None) is None

    def value_parameter(self, layer: int) -> str:
        """The weight in which a layer keeps its values, in the model; for latent values, the part of each head."""
        if self.family.latent:
            return f"{self.tree.path_of(self.attention_path(layer))}.kv_b_proj.weight"
        return f"{self.tree.path_of(self._value(layer))}.weight"

    # Values and outputs

    def _value(self, layer: int) -> str:
        """The module with a layer's values, in the base model."""
        family, layer = self.family, self.family.value_layer(self.tree.config, layer)
        path = self.attention_path(layer)
        if self.values_are_keys(layer):
            return f"{path}.{family.key_as_value}"
        if getattr(self.attention(layer), family.value, None) is None:
            raise ArchitectureError(
                f"{self.checkpoint.source}: layer {layer}: expected values in {family.value!r}, found none."
            )
        return f"{path}.{family.value}"

    def _output(self, layer: int) -> str:
        return self.tree.path_of(f"{self.attention_path(layer)}.{self.family.output}")

    def _output_module(self, layer: int) -> nn.Module:
        return self.tree.base.get_submodule(f"{self.attention_path(layer)}.{self.family.output}")

    def _value_rows(self, layer: int) -> tuple[Tensor, slice | None]:
        """Rows of the values in their weight, and the part of it that has to be read for them."""
        self.tree.check_shape(self.value_parameter(layer))
        rows, transposed = self.family.layout(sizes := self._layer_sizes(layer)), self._value_is_transposed(layer)
        stored = self.tree.shape(self.value_parameter(layer))[1 if transposed else 0]
        if int(rows.max()) >= stored:
            raise ArchitectureError(
                f"{self.checkpoint.source}: layer {layer}: expected {int(rows.max()) + 1} or more rows in the weight "
                f"of the values (n_heads={sizes.n_heads}, n_kv_heads={sizes.n_kv_heads}, d_head={sizes.d_head}), "
                f"found {stored}."
            )
        return rows, None if transposed else slice(int(rows.min()), int(rows.max()) + 1)

    def _value_is_transposed(self, layer: int) -> bool:
        return self._transposed(self.tree.base.get_submodule(self._value(layer)))

    def _values(self, layer: int) -> Tensor:
        """Float[Tensor, "n_kv_heads*d_head d_model"]."""
        rows, part = self._value_rows(layer)
        weight = self.tree.read(self.value_parameter(layer), part)
        return weight.T[rows] if part is None else weight[rows - part.start]

    def _latent_values(self, layer: int) -> Tensor:
        """Values that are made from a latent vector: `up * gain @ down`, Float[Tensor, "n_heads*d_head d_model"].

        The norm of the latent vector divides by one positive number per token, which is left out.
        """
        sizes, path = self._layer_sizes(layer), self.tree.path_of(self.attention_path(layer))
        gain = self.tree.read(f"{path}.kv_a_layernorm.weight")
        down = self.tree.read(f"{path}.kv_a_proj_with_mqa.weight", slice(0, len(gain)))
        up = self.tree.read(f"{path}.kv_b_proj.weight").view(sizes.n_heads, -1, len(gain))[:, -sizes.d_head :]
        return ((up * gain).flatten(0, 1).double() @ down.double()).float()

    def _value_bias(self, layer: int) -> Tensor:
        """Float[Tensor, "n_kv_heads*d_head 1"]; zeros where the layer has none."""
        import torch

        sizes, name = self._layer_sizes(layer), f"{self.tree.path_of(self._value(layer))}.bias"
        if self.family.latent or name not in self.tree:
            return torch.zeros(sizes.n_kv_heads * sizes.d_head, 1)
        return self.tree.read(name)[self.family.layout(sizes), None]

    def _layer_parts(self, layer: int) -> list[Part]:
        path = self.tree.path_of(self.attention_path(layer))
        parts = []
        if self.family.latent:
            rank = self.tree.shape(f"{path}.kv_a_layernorm.weight")[0]
            parts += [
                Part(Role.LATENT, f"{path}.kv_a_proj_with_mqa.weight", slice(0, rank), layer),
                Part(Role.LATENT_GAIN, f"{path}.kv_a_layernorm.weight", layer=layer),
                Part(Role.VALUE, f"{path}.kv_b_proj.weight", layer=layer),
            ]
        else:
            parts.append(Part(Role.VALUE, self.value_parameter(layer), self._value_rows(layer)[1], layer))
        parts.append(Part(Role.OUTPUT, f"{self._output(layer)}.weight", layer=layer))
        bias = f"{self.tree.path_of(self._value(layer))}.bias" if not self.family.latent else ""
        if self.terms.value_bias and bias in self.tree:
            parts.append(Part(Role.VALUE_BIAS, bias, layer=layer))
        if self.terms.attention_gain:
            norm = f"{self.tree.path_of(self.family.layers)}.{layer}.{self.family.norm_after_attention}.weight"
            parts.append(Part(Role.ATTENTION_GAIN, norm, layer=layer))
        return parts

    # The rest

    @cached_property
    def first_mlp_modules(self) -> FirstMlp:
        """Which modules of layer 0 make the later layers' input."""
        return find_first_mlp(self.tree, self.family.layers)

    def _first_mlp_paths(self) -> list[str]:
        """The modules from the first layer's input to the later layers', in the base model."""
        modules = self.first_mlp_modules
        names = [*([] if modules.norm is None else [modules.norm]), *modules.parts]
        paths = [f"{self.family.layers}.0.{name}" for name in names]
        for path in paths:
            if unused := self.tree.unused(path):
                raise ArchitectureError(
                    f"{self.checkpoint.file_of(unused[0])}: tensor {unused[0]!r} has no place in the model that this "
                    f"config describes; expected none. Is config.json from the same model?"
                )
        return paths

    def _embedding_scale(self) -> float:
        embedding = self.tree.base.get_input_embeddings()
        return float(getattr(embedding, "scalar_embed_scale", 1)) * getattr(
            self.tree.config, "embedding_multiplier", 1.0
        )

    def _gain(self, norm: str) -> Tensor:
        """The gain of a norm, per channel, up to a common positive factor: Float[Tensor, "d_model"].

        Found by what the module does, as some families keep the gain less one: an input of +1 and -1 in turn has no
        mean and the length 1, so that half the difference of its answers to it and to its negative is its gain.
        """
        import torch

        signs = torch.ones(self.d_model)
        signs[1::2] = -1
        module = self.tree.fill(norm)
        with torch.no_grad():
            return ((module(signs[None]) - module(-signs[None])) / 2)[0] * signs

    def _check_terms(self) -> None:
        layers = [layer for layer in range(self.n_layers) if self.has_heads(layer)]
        norm = f"{self.family.layers}.{layers[0]}.{self.family.norm_after_attention}"
        has = {
            "value_bias": not self.family.latent
            and any(f"{self.tree.path_of(self._value(layer))}.bias" in self.tree for layer in layers),
            "attention_gain": self.family.norm_after_attention is not None and self.tree.module(norm) is not None,
            "final_norm_gain": self.family.final_norm is not None
            and self.tree.module(self.family.final_norm) is not None,
        }
        for term, there in has.items():
            if getattr(self.terms, term) and not there:
                raise SettingsError(f"{term}: {self.name} has none. Leave this option out.")

    def _validity(self, layer: int) -> Validity:
        if self.has_heads(layer):
            return self.family.validity(self.tree.config, layer)
        types = getattr(self.tree.config, "layer_types", None)
        kind = str(types[layer]).replace("_", " ") if types else "no softmax attention"
        return Validity("not applicable", kind)

    def _layer_sizes(self, layer: int) -> Sizes:
        sizes = self._sizes[layer]
        if sizes is None:
            raise ArchitectureError(f"{self.checkpoint.source}: layer {layer} has no attention heads.")
        return sizes

    def _read_sizes(self, layer: int) -> Sizes | None:
        path = self.attention_path(layer)
        if self.tree.module(path) is None or self.tree.module(f"{path}.{self.family.output}") is None:
            return None
        where, config, family = self.checkpoint.source, self.tree.config, self.family
        output = self._output_module(layer)
        shape = tuple(output.weight.shape)  # type: ignore[union-attr, arg-type]
        joined = shape[0] if self._transposed(output) else shape[1]
        d_head = joined // self.n_heads
        if family.latent:
            n_kv_heads = self.n_heads
        elif family.layout is separate:
            value = self.tree.base.get_submodule(self._value(layer))
            n_kv_heads = value.weight.shape[0] // d_head if d_head else 0  # type: ignore[union-attr, index]
        else:
            n_kv_heads = self._whole("n_kv_heads", family.n_kv_heads(config))
        if joined != d_head * self.n_heads or not n_kv_heads or self.n_heads % n_kv_heads:
            raise ArchitectureError(
                f"{where}: config: expected a number of heads that {n_kv_heads} key-value heads divide, found "
                f"{self.n_heads}."
            )
        return Sizes(self.n_heads, n_kv_heads, self.d_model, d_head)

    def _whole(self, name: str, value: object) -> int:
        if not isinstance(value, int) or not 0 < value < 2**31:
            raise ArchitectureError(
                f"{self.checkpoint.source}: config: expected a positive whole number for {name}, found {value!r}."
            )
        return value

    @staticmethod
    def _transposed(module: nn.Module) -> bool:
        """Whether a linear module keeps its weight as (in, out), as GPT-2's does."""
        from transformers.pytorch_utils import Conv1D

        return isinstance(module, Conv1D)
