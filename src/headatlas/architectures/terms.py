"""Terms that may be counted in addition to the OV circuits: the bias of the values, and gains of norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.architectures.attention import AttentionLayers
from headatlas.architectures.module_tree import ModuleTree
from headatlas.architectures.ov_circuits import has_value_bias
from headatlas.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """What is counted in addition to the OV circuits; MAPS counts none of these, and each may change ranks.

    Args:
        value_bias: the bias of the values.
        attention_gain: the gain per channel of a norm that follows the attention (Gemma 2 to 4, OLMo 2 and 3).
        final_norm_gain: the gain per channel of the norm before the unembedding.
    """

    value_bias: bool = False
    attention_gain: bool = False
    final_norm_gain: bool = False


def check_terms(terms: Terms, attention: AttentionLayers) -> None:
    """Raise `SettingsError` if a requested term does not exist in the model."""
    family, tree = attention.family, attention.tree
    layers = [layer for layer in range(attention.n_layers) if attention.has_heads(layer)]
    norm = attention_norm(attention, layers[0])
    there = {
        "value_bias": any(has_value_bias(attention, layer) for layer in layers),
        "attention_gain": norm is not None and tree.module(norm) is not None,
        "final_norm_gain": family.final_norm is not None and tree.module(family.final_norm) is not None,
    }
    for term, is_there in there.items():
        if getattr(terms, term) and not is_there:
            raise SettingsError(f"{term}: {tree.checkpoint.name} has none. Omit this option.")


def attention_norm(attention: AttentionLayers, layer: int) -> str | None:
    """The norm that follows a layer's attention, in the base model; None if the family has none."""
    name = attention.family.norm_after_attention
    return None if name is None else f"{attention.family.layers}.{layer}.{name}"


def norm_gain(tree: ModuleTree, norm: str, d_model: int) -> Tensor:
    """The gain of a norm of the base model, per channel, up to a common positive factor: Float[Tensor, "d_model"].

    Measured on the module itself, because some families store the gain minus one. An input of alternating +1 and -1
    has mean 0 and root mean square 1, so half the difference between the outputs for it and for its negative is the
    gain.
    """
    import torch

    signs = torch.ones(d_model)
    signs[1::2] = -1
    module = tree.fill(norm)
    with torch.no_grad():
        return ((module(signs[None]) - module(-signs[None])) / 2)[0] * signs
