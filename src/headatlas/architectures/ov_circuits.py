"""The factors of a layer's OV circuits, read from its weights: values, their bias, and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headatlas.architectures.attention import AttentionLayers
from headatlas.architectures.parts import Part, Role

if TYPE_CHECKING:
    from torch import Tensor


def read_values(attention: AttentionLayers, layer: int, bias: bool = False) -> Tensor:
    """W_V of a layer: Float[Tensor, "n_kv_heads d_model d_head"]; with `bias`, the bias is one more row."""
    import torch

    sizes = attention.sizes(layer)
    value = _latent_values(attention, layer) if attention.family.latent else _values(attention, layer)
    if bias:
        value = torch.cat([value, read_bias(attention, layer)], dim=1)
    return value.reshape(sizes.n_kv_heads, sizes.d_head, -1).transpose(1, 2).contiguous()


def read_outputs(attention: AttentionLayers, layer: int) -> Tensor:
    """W_O of a layer: Float[Tensor, "n_heads d_head d_model"]."""
    sizes, path, tree = attention.sizes(layer), attention.output_path(layer), attention.tree
    output = tree.read(f"{tree.path_of(path)}.weight")
    output = output if attention.is_transposed(path) else output.T
    return output.reshape(sizes.n_heads, sizes.d_head, -1).contiguous()


def has_value_bias(attention: AttentionLayers, layer: int) -> bool:
    """Whether the values of a layer have a bias that can be read; False for latent values."""
    return not attention.family.latent and _bias_name(attention, layer) in attention.tree


def parts_of_layer(attention: AttentionLayers, layer: int, bias: bool) -> list[Part]:
    """The parts that a layer's OV circuits are read from.

    Args:
        bias: include the bias of the values, if there is one.
    """
    tree, family = attention.tree, attention.family
    path, values = tree.path_of(attention.path(layer)), f"{tree.path_of(attention.value_path(layer))}.weight"
    parts = []
    if family.latent:
        rank = tree.shape(f"{path}.kv_a_layernorm.weight")[0]
        parts += [
            Part(Role.LATENT, f"{path}.kv_a_proj_with_mqa.weight", slice(0, rank), layer),
            Part(Role.LATENT_GAIN, f"{path}.kv_a_layernorm.weight", layer=layer),
            Part(Role.VALUE, values, layer=layer),
        ]
    else:
        parts.append(Part(Role.VALUE, values, attention.value_rows(layer)[1], layer))
    parts.append(Part(Role.OUTPUT, f"{tree.path_of(attention.output_path(layer))}.weight", layer=layer))
    if bias and has_value_bias(attention, layer):
        parts.append(Part(Role.VALUE_BIAS, _bias_name(attention, layer), layer=layer))
    return parts


def _values(attention: AttentionLayers, layer: int) -> Tensor:
    """Float[Tensor, "n_kv_heads*d_head d_model"]."""
    rows, part = attention.value_rows(layer)
    weight = attention.tree.read(f"{attention.tree.path_of(attention.value_path(layer))}.weight", part)
    return weight.T[rows] if part is None else weight[rows - part.start]


def _latent_values(attention: AttentionLayers, layer: int) -> Tensor:
    """Values computed from a latent vector: `up * gain @ down`, Float[Tensor, "n_heads*d_head d_model"].

    The norm of the latent vector divides by one positive number per token, which is left out.
    """
    tree, sizes = attention.tree, attention.sizes(layer)
    path = tree.path_of(attention.path(layer))
    gain = tree.read(f"{path}.kv_a_layernorm.weight")
    down = tree.read(f"{path}.kv_a_proj_with_mqa.weight", slice(0, len(gain)))
    up = tree.read(f"{path}.kv_b_proj.weight").view(sizes.n_heads, -1, len(gain))[:, -sizes.d_head :]
    return ((up * gain).flatten(0, 1).double() @ down.double()).float()


def read_bias(attention: AttentionLayers, layer: int) -> Tensor:
    """The bias of a layer's values, Float[Tensor, "n_kv_heads*d_head 1"]; zeros if it has none."""
    import torch

    sizes = attention.sizes(layer)
    if not has_value_bias(attention, layer):
        return torch.zeros(sizes.n_kv_heads * sizes.d_head, 1)
    return attention.tree.read(_bias_name(attention, layer))[attention.family.layout(sizes), None]


def _bias_name(attention: AttentionLayers, layer: int) -> str:
    return f"{attention.tree.path_of(attention.value_path(layer))}.bias"
