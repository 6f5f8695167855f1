"""Where each family keeps its heads: one declarative entry per family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headatlas.architectures.layouts import Layout, concatenated, grouped, one_or_grouped, separate


@dataclass(frozen=True)
class Validity:
    """How far `x @ W_V @ W_O` is what the head writes for a token that it attends to.

    Args:
        kind: one of VALIDITIES.
        why: what makes it less than exact.
        clips: the model clips large values.
    """

    kind: str
    why: str = ""
    clips: bool = False


VALIDITIES = ("exact", "exact up to scale", "approximate", "not applicable")
"""`exact up to scale`: up to a positive factor per token, which changes no rank."""


def _exact(config: Any, layer: int) -> Validity:
    return Validity("exact")


def clip_limit(config: Any) -> float | None:
    """The size at which values are clipped (MPT, OLMo)."""
    return getattr(getattr(config, "attn_config", config), "clip_qkv", None)


def _clipped(config: Any, layer: int) -> Validity:
    limit = clip_limit(config)
    if not limit:
        return Validity("exact")
    return Validity("approximate", f"values beyond {limit:g} are clipped", clips=True)


def _latent(config: Any, layer: int) -> Validity:
    return Validity("exact up to scale", "a norm of the latent values scales each token")


def _gated(config: Any, layer: int) -> Validity:
    return Validity("approximate", "a gate of the attending token scales each channel of the head")


def _sinks(config: Any, layer: int) -> Validity:
    return Validity("exact up to scale", "the attention sink takes a share of the head")


def _gemma4(config: Any, layer: int) -> Validity:
    if (stored := _gemma4_value_layer(config, layer)) != layer:
        return Validity("approximate", f"the values are computed from the input of layer {stored}")
    return Validity("exact up to scale", "a norm of the values scales each token")


def _gemma4_value_layer(config: Any, layer: int) -> int:
    """The layer whose values a layer reads: the last one of its type that has its own."""
    modes, types = config.kv_sharing_modes, config.layer_types
    if modes[layer] != "reuse":
        return layer
    return max(other for other in range(layer) if modes[other] == "store" and types[other] == types[layer])


def _n_kv_heads(config: Any) -> int:
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def _falcon_kv_heads(config: Any) -> int:
    if config.new_decoder_architecture:
        return config.num_kv_heads
    return 1 if config.multi_query else config.num_attention_heads


@dataclass(frozen=True)
class Family:
    """The names of a family's modules in transformers, and the layout of its values.

    Args:
        model_types: its names in `config.json`.
        layers: path of the list of layers in the base model.
        attention: the attention module in a layer; layers without it have no softmax heads.
        value, output: modules of the values and of the output projection in the attention module.
        key_as_value: the module whose output serves as the values in layers without a `value` module.
        layout: which rows of `value` are the values.
        latent: the values are computed from a latent vector (multi-head latent attention).
        n_kv_heads: number of key-value heads according to the config.
        value_layer: the layer whose values a layer reads, according to the config.
        validity: validity of a layer's heads, according to the config.
        final_norm: the norm before the unembedding, in the base model.
        norm_after_attention: a norm of the attention's output, in a layer; MAPS leaves its gain out.
        after_embedding: a module between the embedding and the first layer, in the base model.
        before_unembedding: a linear module right before the unembedding, in the base model.
    """

    model_types: tuple[str, ...]
    layers: str = "layers"
    attention: str = "self_attn"
    value: str = "v_proj"
    output: str = "o_proj"
    key_as_value: str | None = None
    layout: Layout = separate
    latent: bool = False
    n_kv_heads: Callable[[Any], int] = _n_kv_heads
    value_layer: Callable[[Any, int], int] = lambda config, layer: layer
    validity: Callable[[Any, int], Validity] = _exact
    final_norm: str | None = "norm"
    norm_after_attention: str | None = None
    after_embedding: str | None = None
    before_unembedding: str | None = None


FAMILIES = (
    Family(
        (
            "apertus", "arcee", "cohere", "cohere2", "cwm", "ernie4_5", "ernie4_5_moe", "gemma", "glm", "glm4_moe",
            "granite", "granitemoe", "helium", "llama", "llama4_text", "ministral", "ministral3", "mistral", "mixtral",
            "nemotron", "phimoe", "qwen2", "qwen2_5_vl_text", "qwen2_moe", "qwen2_vl_text", "qwen3", "qwen3_moe",
            "qwen3_vl_text", "seed_oss", "smollm3", "stablelm", "starcoder2",
        )
    ),
    Family(("olmo", "olmoe"), validity=_clipped),
    Family(
        ("exaone4", "gemma2", "gemma3_text", "olmo2", "olmo3"),
        norm_after_attention="post_attention_layernorm",
    ),
    Family(("glm4",), norm_after_attention="post_self_attn_layernorm"),
    Family(
        ("gemma4_text",),
        key_as_value="k_proj",
        value_layer=_gemma4_value_layer,
        validity=_gemma4,
        norm_after_attention="post_attention_layernorm",
    ),
    Family(("gpt_oss",), validity=_sinks),
    Family(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), validity=_gated),
    Family(("deepseek_v2", "deepseek_v3", "glm4_moe_lite"), latent=True, validity=_latent),
    Family(("phi3",), value="qkv_proj", layout=concatenated),
    Family(("phi",), output="dense", final_norm="final_layernorm"),
    Family(("persimmon",), value="query_key_value", output="dense", layout=grouped, final_norm="final_layernorm"),
    Family(("gpt2",), "h", "attn", "c_attn", "c_proj", layout=concatenated, final_norm="ln_f"),
    Family(("gpt_bigcode",), "h", "attn", "c_attn", "c_proj", layout=one_or_grouped,
           n_kv_heads=lambda config: 1 if config.multi_query else config.num_attention_heads,
           final_norm="ln_f"),
    Family(("gptj",), "h", "attn", output="out_proj", final_norm="ln_f"),
    Family(("gpt_neo",), "h", "attn.attention", output="out_proj", final_norm="ln_f"),
    Family(
        ("gpt_neox",), "layers", "attention", "query_key_value", "dense", layout=grouped, final_norm="final_layer_norm"
    ),
    Family(
        ("bloom",),
        "h", "self_attention", "query_key_value", "dense",
        layout=grouped,
        final_norm="ln_f",
        after_embedding="word_embeddings_layernorm",
    ),
    Family(
        ("falcon",),
        "h", "self_attention", "query_key_value", "dense",
        layout=grouped,
        n_kv_heads=_falcon_kv_heads,
        final_norm="ln_f",
    ),
    Family(
        ("mpt",), "blocks", "attn", "Wqkv", "out_proj", layout=concatenated, validity=_clipped, final_norm="norm_f"
    ),
    Family(
        ("opt",),
        "decoder.layers",
        output="out_proj",
        final_norm="decoder.final_layer_norm",
        after_embedding="decoder.project_in",
        before_unembedding="decoder.project_out",
    ),
)  # fmt: skip
"""The entries. A module that a model of the family lacks (such as OPT's projections) is skipped."""

KNOWN_MODEL_TYPES = tuple(sorted(name for family in FAMILIES for name in family.model_types))


def find_family(model_type: str) -> Family | None:
    """The entry of a model type, as the language model's own config names it."""
    return next((family for family in FAMILIES if model_type in family.model_types), None)
