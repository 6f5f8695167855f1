"""Terms that may be counted in addition to the OV circuits: the bias of the values, and the linear part of norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from headatlas.architectures.attention import AttentionLayers
from headatlas.architectures.module_tree import ModuleTree
from headatlas.architectures.ov_circuits import has_value_bias, read_bias
from headatlas.errors import SettingsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from headatlas.settings import Settings


@dataclass(frozen=True)
class Terms:
    """What is counted in addition to the OV circuits; MAPS counts none of these, and each may change ranks.

    Of a norm, its linear part is counted: the gain per channel and, for LayerNorm, the centring before it.

    Args:
        value_bias: the bias of the values.
        attention_gain: the norm that follows the attention (Gemma 2 to 4, OLMo 2 and 3).
        final_norm_gain: the norm before the unembedding.
        input_norm_gain: the norm before the attention. Words that pass through the model alone have been through it
            already: their input contains this term, which cannot be counted again.
    """

    value_bias: bool = False
    attention_gain: bool = False
    final_norm_gain: bool = False
    input_norm_gain: bool = False

    @classmethod
    def of_settings(cls, settings: Settings) -> Terms:
        """The terms of a measurement's settings."""
        return cls(**{each.name: getattr(settings, each.name) for each in fields(cls)})


NO_TERMS = Terms()


def terms_of(attention: AttentionLayers, alone: bool = False) -> Terms:
    """All terms that exist in the model.

    Args:
        alone: without those that the input of words that pass through the model alone contains.
    """
    family, tree = attention.family, attention.tree
    layers = _layers_with_heads(attention)
    norm = attention_norm(attention, layers[0])
    return Terms(
        value_bias=any(has_value_bias(attention, layer) for layer in layers),
        attention_gain=norm is not None and tree.module(norm) is not None,
        final_norm_gain=family.final_norm is not None and tree.module(family.final_norm) is not None,
        input_norm_gain=not alone and input_norm(attention, layers[0]) is not None,
    )


def left_out(attention: AttentionLayers, counted: Terms, alone: bool = False) -> tuple[str, ...]:
    """The names of the terms that the model has, that are not counted, and that may change ranks.

    A bias of zeros changes none, nor does a norm with one gain for all channels that does not subtract the mean.
    """
    exist = terms_of(attention, alone)
    missing = [each.name for each in fields(Terms) if getattr(exist, each.name) and not getattr(counted, each.name)]
    return tuple(name for name in missing if _matters(attention, name))


def _matters(attention: AttentionLayers, term: str) -> bool:
    layers, tree, d_model = _layers_with_heads(attention), attention.tree, attention.tree.config.hidden_size
    if term == "value_bias":
        return any(bool(read_bias(attention, layer).any()) for layer in layers)
    if term == "final_norm_gain":
        return not linear_part(tree, str(attention.family.final_norm), d_model).is_uniform
    find = attention_norm if term == "attention_gain" else input_norm
    return any(not linear_part(tree, str(find(attention, layer)), d_model).is_uniform for layer in layers)


def _layers_with_heads(attention: AttentionLayers) -> list[int]:
    return [layer for layer in range(attention.n_layers) if attention.has_heads(layer)]


def check_terms(terms: Terms, attention: AttentionLayers, alone: bool = False) -> None:
    """Raise `SettingsError` if a requested term does not exist in the model, or is in its input already."""
    if alone and terms.input_norm_gain:
        raise SettingsError(
            "input_norm_gain: words that pass through the model alone contain this gain already. Omit this option."
        )
    there = terms_of(attention)
    for term in fields(Terms):
        if getattr(terms, term.name) and not getattr(there, term.name):
            raise SettingsError(f"{term.name}: {attention.tree.checkpoint.name} has none. Omit this option.")


def attention_norm(attention: AttentionLayers, layer: int) -> str | None:
    """The norm that follows a layer's attention, in the base model; None if the family has none."""
    name = attention.family.norm_after_attention
    return None if name is None else f"{attention.family.layers}.{layer}.{name}"


def input_norm(attention: AttentionLayers, layer: int) -> str | None:
    """The norm that a layer's values read, in the base model; None if the attention reads the residual itself."""
    family, source = attention.family, attention.value_layer(layer)
    name = attention.input_norm_name
    path = f"{family.layers}.{source}.{name}"
    return None if name is None or attention.tree.module(path) is None else path


@dataclass(frozen=True)
class LinearPart:
    """What a norm does to a vector, up to a positive factor and a constant.

    Args:
        gain: per channel, Float[Tensor, "d_model"].
        centres: the mean over channels is subtracted first.
    """

    gain: Tensor
    centres: bool

    @property
    def is_uniform(self) -> bool:
        """Whether the norm only scales, which changes no rank."""
        spread = self.gain.max() - self.gain.min()
        return not self.centres and bool((self.gain.min() > 0) & (spread <= 1e-4 * self.gain.max()))

    def of_outputs(self, rows: Tensor) -> Tensor:
        """The linear part of the norm, of vectors that it reads: Float[Tensor, "... d_model"]."""
        return (rows - rows.mean(-1, keepdim=True) if self.centres else rows) * self.gain

    def of_directions(self, rows: Tensor) -> Tensor:
        """The directions in front of the norm that have the products of these directions behind it."""
        rows = rows * self.gain
        return rows - rows.mean(-1, keepdim=True) if self.centres else rows


def linear_part(tree: ModuleTree, norm: str, d_model: int) -> LinearPart:
    """The linear part of a norm of the base model, read from the checkpoint."""
    return linear_part_of(tree.fill(norm, blank=("bias",)), d_model)  # a bias is no part of it


def linear_part_of(norm: Callable[[Tensor], Tensor], d_model: int, device: torch.device | str = "cpu") -> LinearPart:
    """The linear part of a norm, from what it returns.

    Measured on the module itself, because some families store the gain minus one. An input of alternating +1 and -1
    has mean 0 and root mean square 1, so half the difference between the outputs for it and for its negative is the
    gain. An input of ones gives nothing only if the mean is subtracted.
    """
    import torch

    signs, ones = torch.ones(d_model, device=device), torch.ones(d_model, device=device)
    signs[1::2] = -1
    with torch.no_grad():
        of_signs, of_ones = ((norm(x[None]) - norm(-x[None]))[0] / 2 for x in (signs, ones))
    return LinearPart(of_signs * signs, bool(of_ones.norm() < 1e-3 * of_signs.norm()))
