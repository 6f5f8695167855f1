"""Terms that may be counted in addition to the OV circuits: the bias of the values, and the linear part of norms."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from headatlas.architectures.attention import AttentionLayers
from headatlas.architectures.module_tree import ModuleTree
from headatlas.architectures.ov_circuits import has_value_bias
from headatlas.errors import SettingsError

if TYPE_CHECKING:
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
    """

    value_bias: bool = False
    attention_gain: bool = False
    final_norm_gain: bool = False

    @classmethod
    def of_settings(cls, settings: Settings) -> Terms:
        """The terms of a measurement's settings."""
        return cls(**{each.name: getattr(settings, each.name) for each in fields(cls)})


NO_TERMS = Terms()


def terms_of(attention: AttentionLayers) -> Terms:
    """All terms that exist in the model."""
    family, tree = attention.family, attention.tree
    layers = [layer for layer in range(attention.n_layers) if attention.has_heads(layer)]
    norm = attention_norm(attention, layers[0])
    return Terms(
        value_bias=any(has_value_bias(attention, layer) for layer in layers),
        attention_gain=norm is not None and tree.module(norm) is not None,
        final_norm_gain=family.final_norm is not None and tree.module(family.final_norm) is not None,
    )


def check_terms(terms: Terms, attention: AttentionLayers) -> None:
    """Raise `SettingsError` if a requested term does not exist in the model."""
    there = terms_of(attention)
    for term in fields(Terms):
        if getattr(terms, term.name) and not getattr(there, term.name):
            raise SettingsError(f"{term.name}: {attention.tree.checkpoint.name} has none. Omit this option.")


def attention_norm(attention: AttentionLayers, layer: int) -> str | None:
    """The norm that follows a layer's attention, in the base model; None if the family has none."""
    name = attention.family.norm_after_attention
    return None if name is None else f"{attention.family.layers}.{layer}.{name}"


@dataclass(frozen=True)
class LinearPart:
    """What a norm does to a vector, up to a positive factor and a constant.

    Args:
        gain: per channel, Float[Tensor, "d_model"].
        centres: the mean over channels is subtracted first.
    """

    gain: Tensor
    centres: bool

    def of_outputs(self, rows: Tensor) -> Tensor:
        """The linear part of the norm, of vectors that it reads: Float[Tensor, "... d_model"]."""
        return (rows - rows.mean(-1, keepdim=True) if self.centres else rows) * self.gain

    def of_directions(self, rows: Tensor) -> Tensor:
        """The directions in front of the norm that have the products of these directions behind it."""
        rows = rows * self.gain
        return rows - rows.mean(-1, keepdim=True) if self.centres else rows


def linear_part(tree: ModuleTree, norm: str, d_model: int) -> LinearPart:
    """The linear part of a norm of the base model.

    Measured on the module itself, because some families store the gain minus one. An input of alternating +1 and -1
    has mean 0 and root mean square 1, so half the difference between the outputs for it and for its negative is the
    gain. An input of ones gives nothing only if the mean is subtracted.
    """
    import torch

    signs, ones = torch.ones(d_model), torch.ones(d_model)
    signs[1::2] = -1
    module = tree.fill(norm)
    with torch.no_grad():
        of_signs, of_ones = ((module(x[None]) - module(-x[None]))[0] / 2 for x in (signs, ones))
    return LinearPart(of_signs * signs, bool(of_ones.norm() < 1e-3 * of_signs.norm()))
