"""The heads of a model's layers: modules, sizes, and the rows of the values in their weights.

The only place that knows grouped, fused and latent attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from headatlas.architectures.empty_model import common
from headatlas.architectures.families import Family
from headatlas.architectures.layouts import Sizes, separate
from headatlas.architectures.module_tree import ModuleTree
from headatlas.architectures.structure import find_input_norm
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor, nn


class AttentionLayers:
    """The attention of each layer of a model; no weights are read.

    Args:
        tree: the model's modules.
        family: the names and the layout of the modules.

    Attributes:
        n_layers, n_heads: counts.
        all_sizes: the sizes of each layer; None for a layer without softmax attention.

    Raises:
        ArchitectureError: the config contradicts itself, or no layer has heads.
    """

    def __init__(self, tree: ModuleTree, family: Family) -> None:
        self.tree, self.family, self.source = tree, family, tree.checkpoint.source
        self.n_heads = self._whole("n_heads, one for all layers", common(tree.config, "num_attention_heads"))
        layers = tree.module(family.layers)
        self.n_layers = 0 if layers is None else len(list(layers.children()))
        if not self.n_layers:
            raise ArchitectureError(
                f"{self.source}: config: expected a positive whole number for n_layers, found "
                f"{tree.config.num_hidden_layers!r}."
            )
        self.all_sizes = [self._read_sizes(layer) for layer in range(self.n_layers)]
        if not any(self.all_sizes):
            raise ArchitectureError(
                f"{self.source}: expected layers with attention heads, found none ({type(tree.base).__name__})."
            )

    def has_heads(self, layer: int) -> bool:
        """Whether the layer has softmax attention; a layer of linear attention or state space has none."""
        return self.all_sizes[layer] is not None

    def sizes(self, layer: int) -> Sizes:
        """Counts and widths of a layer's heads; raises `ArchitectureError` if it has none."""
        sizes = self.all_sizes[layer]
        if sizes is None:
            raise ArchitectureError(f"{self.source}: layer {layer} has no attention heads.")
        return sizes

    def kv_head_of(self, layer: int) -> Sequence[int]:
        """The kv head that each head of a layer reads, of length n_heads."""
        per_group = self.n_heads // self.sizes(layer).n_kv_heads
        return [head // per_group for head in range(self.n_heads)]

    def path(self, layer: int) -> str:
        """The attention module of a layer, in the base model."""
        return f"{self.family.layers}.{layer}.{self.family.attention}"

    def module(self, layer: int) -> nn.Module:
        """The empty attention module of a layer."""
        return self.tree.base.get_submodule(self.path(layer))

    def output_path(self, layer: int) -> str:
        """The output projection of a layer, in the base model; its input holds the heads one after the other."""
        return f"{self.path(layer)}.{self.family.output}"

    def value_layer(self, layer: int) -> int:
        """The layer whose values a layer's heads read; nearly always the layer itself."""
        return self.family.value_layer(self.tree.config, layer)

    def values_are_keys(self, layer: int) -> bool:
        """Whether the attention has no values of its own and its heads read the keys instead."""
        module = self.module(self.value_layer(layer))
        return self.family.key_as_value is not None and getattr(module, self.family.value, None) is None

    def value_path(self, layer: int) -> str:
        """The module with a layer's values, in the base model; for latent values, the up-projection per head."""
        if self.family.latent:
            return f"{self.path(layer)}.kv_b_proj"
        family, layer = self.family, self.value_layer(layer)
        if self.values_are_keys(layer):
            return f"{self.path(layer)}.{family.key_as_value}"
        if getattr(self.module(layer), family.value, None) is None:
            raise ArchitectureError(f"{self.source}: layer {layer}: expected values in {family.value!r}, found none.")
        return f"{self.path(layer)}.{family.value}"

    def value_reader(self, layer: int) -> str:
        """The module that reads the residual for a layer's values, in the base model."""
        return f"{self.path(layer)}.kv_a_proj_with_mqa" if self.family.latent else self.value_path(layer)

    @cached_property
    def input_norm_name(self) -> str | None:
        """The norm in a layer whose output its attention reads; None if there is none."""
        first = next(layer for layer in range(self.n_layers) if self.has_heads(layer))
        return find_input_norm(self.tree, self.family.layers, first, self.family.attention)

    def value_place(self, layer: int) -> tuple[str, Tensor]:
        """Where a running model computes the values that a layer's heads read.

        Returns:
            The module in the base model, and the indices of the values in its output, Int[Tensor, "n_kv_heads d_head"].
            A norm of the values after that module is left out; large values may be clipped (`clip_limit`).
        """
        import torch

        sizes, path = self.sizes(layer), self.value_path(layer)
        if not self.family.latent:
            return path, self.family.layout(sizes).reshape(sizes.n_kv_heads, sizes.d_head)
        n_rows = self.tree.shape(f"{self.tree.path_of(path)}.weight")[0]
        return path, torch.arange(n_rows).view(sizes.n_heads, -1)[:, -sizes.d_head :]

    def value_rows(self, layer: int) -> tuple[Tensor, slice | None]:
        """The rows of the values in their weight, and the slice of the weight to read for them (None: all of it)."""
        path = self.value_path(layer)
        parameter = f"{self.tree.path_of(path)}.weight"
        self.tree.check_shape(parameter)
        rows, transposed = self.family.layout(sizes := self.sizes(layer)), self.is_transposed(path)
        stored = self.tree.shape(parameter)[1 if transposed else 0]
        if int(rows.max()) >= stored:
            raise ArchitectureError(
                f"{self.source}: layer {layer}: expected {int(rows.max()) + 1} or more rows in the weight "
                f"of the values (n_heads={sizes.n_heads}, n_kv_heads={sizes.n_kv_heads}, d_head={sizes.d_head}), "
                f"found {stored}."
            )
        return rows, None if transposed else slice(int(rows.min()), int(rows.max()) + 1)

    def is_transposed(self, path: str) -> bool:
        """Whether a linear module of the base model stores its weight as (in, out), as GPT-2's do."""
        from transformers.pytorch_utils import Conv1D

        return isinstance(self.tree.base.get_submodule(path), Conv1D)

    def _read_sizes(self, layer: int) -> Sizes | None:
        output = self.output_path(layer)
        if self.tree.module(self.path(layer)) is None or self.tree.module(output) is None:
            return None
        config, family = self.tree.config, self.family
        shape = self.tree.shape(f"{self.tree.path_of(output)}.weight")
        joined = shape[0 if self.is_transposed(output) else 1]
        d_head = joined // self.n_heads
        if family.latent:
            n_kv_heads = self.n_heads
        elif family.layout is separate:
            n_rows = self.tree.shape(f"{self.tree.path_of(self.value_path(layer))}.weight")[0]
            n_kv_heads = n_rows // d_head if d_head else 0
        else:
            n_kv_heads = self._whole("n_kv_heads", family.n_kv_heads(config))
        if joined != d_head * self.n_heads or not n_kv_heads or self.n_heads % n_kv_heads:
            raise ArchitectureError(
                f"{self.source}: config: expected a number of heads that {n_kv_heads} key-value heads divide, found "
                f"{self.n_heads}."
            )
        return Sizes(self.n_heads, n_kv_heads, self.tree.config.hidden_size, d_head)

    def _whole(self, name: str, value: object) -> int:
        if not isinstance(value, int) or not 0 < value < 2**31:
            raise ArchitectureError(
                f"{self.source}: config: expected a positive whole number for {name}, found {value!r}."
            )
        return value
