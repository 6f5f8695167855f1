"""The architectures that GGUF files name, what transformers calls them, and what llama.cpp's converter changes.

One declarative entry per architecture. Names of tensors are those of transformers, with `{}` for the layer; the gguf
package translates them into the file's. The converter:
https://github.com/ggml-org/llama.cpp/tree/master/conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from headatlas.architectures.gguf.positions import Rotary
from headatlas.checkpoints.gguf.metadata import Metadata


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Args:
        model_type: its name in transformers.
        config: key in the file (without the architecture's name) -> name in transformers' config; all are required.
        optional: the same for keys that may be missing, in which case transformers' default applies.
        tensors: names without their ends, such as `.weight`.
        heads: the config's names for the number of kv heads and the width of a head; None if it has none.
        fixed: values in the config that no file states.
        derived: values in the config that are computed from the file.
        transposed: ends of the names of weights that transformers stores as (in, out), and GGUF as (out, in).
        plus_one: the weights of norms are stored with 1 added.
        interleaved: transformers groups the fused queries, keys and values by kv head; GGUF does not.
        one_kv_head: a file that does not state the number of kv heads has one.
        experts: how transformers arranges gate and up projections of a mixture of experts; None: there is none.
        latent: values come from a latent vector (MLA), whose weight the file may store in two parts.
        norms_by_head: the norms of queries and keys are one module per head; the file stores each kind in one tensor.
        paired: the two rows of each rotary pair of queries and keys are stored next to each other.
        rotary: which part of each head has rotary positions.
        rope: rotary parameters that only this architecture has.
        listed_layers: the file may list which layers have a sliding window.
        why_not_run: why a file that maps cannot be run; None if it can.
    """

    model_type: str
    config: dict[str, str]
    tensors: tuple[str, ...]
    optional: dict[str, str] = field(default_factory=dict)
    heads: tuple[str | None, str | None] = ("num_key_value_heads", "head_dim")
    fixed: dict[str, Any] = field(default_factory=dict)
    derived: Callable[[Metadata], dict[str, Any]] = lambda metadata: {}
    transposed: tuple[str, ...] = ()
    plus_one: bool = False
    interleaved: bool = False
    one_kv_head: bool = False
    experts: Literal["joined", "alternating"] | None = None
    latent: bool = False
    norms_by_head: bool = False
    paired: bool = False
    rotary: Rotary = "whole"
    rope: Callable[[Metadata], dict[str, Any]] = lambda metadata: {}
    listed_layers: bool = False
    why_not_run: Callable[[Metadata], str | None] = lambda metadata: None


def _named(in_layer: str, *names: str, whole: tuple[str, ...]) -> tuple[str, ...]:
    return (*whole, *(f"{in_layer}.{{}}.{name}" for name in names))


_SIZES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "context_length": "max_position_embeddings",
}
_RMS = {"attention.layer_norm_rms_epsilon": "rms_norm_eps"}
_EPSILON = "attention.layer_norm_epsilon"
_WINDOW = {"attention.sliding_window": "sliding_window"}

_WHOLE = ("model.embed_tokens", "model.norm", "lm_head")
_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_QK_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
_GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_ROUTER = ("mlp.gate", "mlp.gate.e_score_correction")
_BEFORE = ("input_layernorm", "post_attention_layernorm")
_AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")
_AROUND = (*_BEFORE, "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _llama_names(*names: str) -> tuple[str, ...]:
    return _named("model.layers", *names, whole=_WHOLE)


def _biases(metadata: Metadata) -> dict[str, Any]:
    return _attention_bias(metadata) | {"mlp_bias": metadata.has_tensor("blk.0.ffn_down.bias")}


def _attention_bias(metadata: Metadata) -> dict[str, Any]:
    return {"attention_bias": metadata.has_tensor("blk.0.attn_q.bias")}


def _expert_width(metadata: Metadata) -> int:
    return metadata.integer("expert_feed_forward_length", metadata.width("blk.0.ffn_down_exps.weight"))


def _experts_of(metadata: Metadata) -> dict[str, Any]:
    return {"moe_intermediate_size": _expert_width(metadata)}


def _qwen2_moe(metadata: Metadata) -> dict[str, Any]:
    shared = metadata.width("blk.0.ffn_down_shexp.weight")
    return _experts_of(metadata) | {
        "shared_expert_intermediate_size": metadata.integer("expert_shared_feed_forward_length", shared)
    }


def _falcon(metadata: Metadata) -> dict[str, Any]:
    if metadata.has_tensor("blk.0.attn_qkv.bias"):
        raise metadata.unsupported("a Falcon without biases", "one with biases")
    n_kv_heads = metadata.integer("attention.head_count_kv", 1)
    two_norms = metadata.has_tensor("blk.0.attn_norm_2.weight")
    if n_kv_heads == metadata.integer("attention.head_count"):
        raise metadata.unsupported("a Falcon with fewer key-value heads than heads", "as many")
    if n_kv_heads == 1 and not two_norms:
        return {"new_decoder_architecture": False}
    return {
        "num_kv_heads": n_kv_heads,
        "new_decoder_architecture": True,
        "num_ln_in_parallel_attn": 2 if two_norms else 1,
    }


def _bloom(metadata: Metadata) -> dict[str, Any]:
    metadata.require("feed_forward_length", 4 * metadata.integer("embedding_length"))
    metadata.require("attention.head_count_kv", metadata.integer("attention.head_count"))
    return {}


def _mpt(metadata: Metadata) -> dict[str, Any]:
    metadata.require("attention.head_count_kv", metadata.integer("attention.head_count"))
    metadata.require("feed_forward_length", 4 * metadata.integer("embedding_length"))
    return {"attn_config": {"model_type": "", "clip_qkv": metadata.number("attention.clamp_kqv", None)}}


def _stablelm(metadata: Metadata) -> dict[str, Any]:
    return {
        "use_qkv_bias": metadata.has_tensor("blk.0.attn_q.bias"),
        "qk_layernorm": metadata.has_tensor("blk.0.attn_q_norm.weight"),
        "use_parallel_residual": not metadata.has_tensor("blk.0.ffn_norm.weight"),
    }


def _bias_and_qk_norm(metadata: Metadata) -> dict[str, Any]:
    return _attention_bias(metadata) | {"use_qk_norm": metadata.has_tensor("blk.0.attn_q_norm.weight")}


def _gpt_neox(metadata: Metadata) -> dict[str, Any]:
    metadata.require("attention.head_count_kv", metadata.integer("attention.head_count"))
    return {
        "use_parallel_residual": metadata.flag("use_parallel_residual", True),
        "attention_bias": metadata.has_tensor("blk.0.attn_qkv.bias"),
    }


def _gpt_oss(metadata: Metadata) -> dict[str, Any]:
    return {"intermediate_size": _expert_width(metadata)}


def _deepseek(metadata: Metadata) -> dict[str, Any]:
    """Sizes of the latent attention; if the file stores the two parts apart, its key length is the latent one."""
    rope, q_rank = metadata.integer("rope.dimension_count"), metadata.integer("attention.q_lora_rank", 0)
    key = metadata.integer("attention.key_length_mla", metadata.integer("attention.key_length"))
    settings = {
        "q_lora_rank": q_rank or None,
        "kv_lora_rank": metadata.integer("attention.kv_lora_rank"),
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": key - rope,
        "v_head_dim": metadata.integer("attention.value_length_mla", metadata.integer("attention.value_length")),
        "num_key_value_heads": metadata.integer("attention.head_count"),
        "attention_bias": False,
    }
    return settings | _routing(metadata)


def _deepseek_v2(metadata: Metadata) -> dict[str, Any]:
    grouped = metadata.integer("expert_group_count", 1) > 1
    return _deepseek(metadata) | {"topk_method": "group_limited_greedy" if grouped else "greedy"}


def _routing(metadata: Metadata) -> dict[str, Any]:
    """Settings of models whose first layers have one MLP."""
    n_dense = metadata.integer("leading_dense_block_count", 0)
    if n_dense < 1:
        raise metadata.unsupported("a first layer with one MLP", "a mixture of experts in it")
    return {"first_k_dense_replace": n_dense, "norm_topk_prob": metadata.flag("expert_weights_norm", False)}


def _glm4_moe(metadata: Metadata) -> dict[str, Any]:
    return _bias_and_qk_norm(metadata) | _routing(metadata)


def _starcoder2(metadata: Metadata) -> dict[str, Any]:
    return {"use_bias": metadata.has_tensor("blk.0.attn_output.bias")}


def _seed_oss(metadata: Metadata) -> dict[str, Any]:
    return _biases(metadata) | {"attention_out_bias": metadata.has_tensor("blk.0.attn_output.bias")}


def _score_scale(layers_of_27b: int) -> Callable[[Metadata], dict[str, Any]]:
    """The scale of Gemma's attention scores, which no file states: the models of 27B, known by their layers, differ."""

    def derived(metadata: Metadata) -> dict[str, Any]:
        n_heads, d_model = metadata.integer("attention.head_count"), metadata.integer("embedding_length")
        d_head = metadata.integer("attention.key_length", d_model // n_heads if n_heads else 0)
        if metadata.integer("block_count") == layers_of_27b:
            d_head = d_model // n_heads if n_heads else 0
        return {"query_pre_attn_scalar": d_head}

    return derived


def _gemma3(metadata: Metadata) -> dict[str, Any]:
    settings = _score_scale(62)(metadata)
    if not metadata.integer("attention.sliding_window", 0):
        settings |= {"layer_types": ["full_attention"] * metadata.integer("block_count")}
    return settings


def _window_if_any(metadata: Metadata) -> dict[str, Any]:
    """A sliding window only if the file states one; transformers would assume one."""
    return {"sliding_window": metadata.integer("attention.sliding_window", 0) or None}


def _exaone4(metadata: Metadata) -> dict[str, Any]:
    settings = _window_if_any(metadata)
    if settings["sliding_window"] is None:
        settings |= {"layer_types": ["full_attention"] * metadata.integer("block_count")}
    return settings


def _gpt_oss_rope(metadata: Metadata) -> dict[str, Any]:
    # llama.cpp rounds the range that YaRN corrects; the model does not.
    return {"truncate": False} if f"{metadata.architecture}.rope.scaling.type" in metadata.values else {}


def _ministral3_rope(metadata: Metadata) -> dict[str, Any]:
    return {"llama_4_scaling_beta": metadata.number("attention.temperature_scale")}


def _why_not_mpt(metadata: Metadata) -> str | None:
    if (most := metadata.number("attention.max_alibi_bias", 8.0)) != 8:
        return f"transformers' model has ALiBi positions with a largest bias of 8; this file has {most:g}"
    return None


_LIKE_LLAMA = Architecture("llama", _SIZES | _RMS, _llama_names(*_BEFORE, *_ATTENTION, *_GATED), derived=_biases)
_LLAMA = replace(_LIKE_LLAMA, paired=True)
_MIXTRAL = Architecture(
    "mixtral",
    _SIZES | _RMS | {"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
    _llama_names(*_BEFORE, *_ATTENTION, "mlp.gate"),
    experts="joined",
    paired=True,
)
_ALL_EXPERTS = _SIZES | _RMS | {"expert_count": "num_experts", "expert_used_count": "num_experts_per_tok"}
_ROUTED = {
    "expert_count": "n_routed_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_shared_count": "n_shared_experts",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_weights_scale": "routed_scaling_factor",
    "expert_group_count": "n_group",
    "expert_group_used_count": "topk_group",
}
_OLMO2 = Architecture(
    "olmo2", _SIZES | _RMS, _llama_names(*_AFTER, *_ATTENTION, *_QK_NORMS, *_GATED), derived=_attention_bias
)
_GEMMA2 = Architecture(
    "gemma2",
    _SIZES | _RMS,
    _llama_names(*_AROUND, *_ATTENTION, *_GATED),
    optional=_WINDOW
    | {
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
    },
    derived=_score_scale(46),
    plus_one=True,
)
_FALCON = Architecture(
    "falcon",
    {key: name for key, name in _SIZES.items() if key != "feed_forward_length"}
    | {_EPSILON: "layer_norm_epsilon", "feed_forward_length": "ffn_hidden_size"},
    _named(
        "transformer.h",
        "input_layernorm",
        "self_attention.query_key_value",
        "self_attention.dense",
        "mlp.dense_h_to_4h",
        "mlp.dense_4h_to_h",
        whole=("transformer.word_embeddings", "transformer.ln_f", "lm_head"),
    ),
    heads=(None, None),
    fixed={"multi_query": True, "parallel_attn": True, "bias": False, "alibi": False},
    derived=_falcon,
    interleaved=True,
    one_kv_head=True,
)
_DEEPSEEK = Architecture(
    "deepseek_v2",
    _SIZES | _RMS,
    _llama_names(
        *_BEFORE,
        *_GATED,
        "self_attn.q_proj",
        "self_attn.q_a_proj",
        "self_attn.q_a_layernorm",
        "self_attn.q_b_proj",
        "self_attn.kv_a_proj_with_mqa",
        "self_attn.kv_a_layernorm",
        "self_attn.kv_b_proj",
        "self_attn.o_proj",
        *_ROUTER,
        "mlp.shared_experts.gate_proj",
        "mlp.shared_experts.up_proj",
        "mlp.shared_experts.down_proj",
    ),
    optional=_ROUTED,
    heads=(None, None),
    derived=_deepseek_v2,
    experts="joined",
    latent=True,
    rotary="latent",
)

ARCHITECTURES = {
    "arcee": Architecture(
        "arcee",
        _SIZES | _RMS,
        _llama_names(*_BEFORE, *_ATTENTION, "mlp.up_proj", "mlp.down_proj"),
        derived=_biases,
        paired=True,
    ),
    "bloom": Architecture(
        "bloom",
        {
            "block_count": "n_layer",
            "embedding_length": "hidden_size",
            "attention.head_count": "n_head",
            _EPSILON: "layer_norm_epsilon",
        },
        _named(
            "transformer.h",
            "input_layernorm",
            "post_attention_layernorm",
            "self_attention.query_key_value",
            "self_attention.dense",
            "mlp.dense_h_to_4h",
            "mlp.dense_4h_to_h",
            whole=(
                "transformer.word_embeddings",
                "transformer.word_embeddings_layernorm",
                "transformer.ln_f",
                "lm_head",
            ),
        ),
        heads=(None, None),
        derived=_bloom,
        interleaved=True,
        rotary="none",
    ),
    "cohere2": Architecture(
        "cohere2",
        _SIZES | {_EPSILON: "layer_norm_eps"},
        _llama_names("input_layernorm", *_ATTENTION, *_GATED),
        optional=_WINDOW | {"logit_scale": "logit_scale"},
        derived=_attention_bias,
    ),
    "command-r": Architecture(
        "cohere",
        _SIZES | {_EPSILON: "layer_norm_eps"},
        _llama_names("input_layernorm", *_ATTENTION, *_QK_NORMS, *_GATED),
        optional={"logit_scale": "logit_scale"},
        derived=_bias_and_qk_norm,
    ),
    "deepseek2": _DEEPSEEK,
    "ernie4_5": Architecture(
        "ernie4_5",
        _SIZES | _RMS,
        _llama_names(*_BEFORE, *_ATTENTION, *_GATED),
        derived=lambda metadata: {"use_bias": metadata.has_tensor("blk.0.attn_q.bias")},
    ),
    "exaone4": Architecture(
        "exaone4",
        _SIZES | _RMS,
        _llama_names(*_AFTER, *_ATTENTION, *_QK_NORMS, *_GATED),
        derived=_exaone4,
        listed_layers=True,
    ),
    "falcon": _FALCON,
    "gemma": Architecture("gemma", _SIZES | _RMS, _llama_names(*_BEFORE, *_ATTENTION, *_GATED), plus_one=True),
    "gemma2": _GEMMA2,
    "gemma3": replace(
        _GEMMA2,
        model_type="gemma3_text",
        tensors=_llama_names(*_AROUND, *_ATTENTION, *_QK_NORMS, *_GATED),
        optional=_WINDOW | {"final_logit_softcapping": "final_logit_softcapping"},
        derived=_gemma3,
        rotary="by layer type",
    ),
    "glm4": Architecture(
        "glm4",
        _SIZES | _RMS,
        _llama_names(
            *_BEFORE,
            "post_self_attn_layernorm",
            "post_mlp_layernorm",
            *_ATTENTION,
            "mlp.gate_up_proj",
            "mlp.down_proj",
        ),
        derived=_attention_bias,
        rotary="partial",
    ),
    "glm4moe": Architecture(
        "glm4_moe",
        _SIZES | _RMS,
        _llama_names(
            *_BEFORE,
            *_ATTENTION,
            *_QK_NORMS,
            *_GATED,
            *_ROUTER,
            "mlp.shared_experts.gate_proj",
            "mlp.shared_experts.up_proj",
            "mlp.shared_experts.down_proj",
        ),
        optional=_ROUTED,
        derived=_glm4_moe,
        experts="joined",
        rotary="partial",
    ),
    "gpt-oss": Architecture(
        "gpt_oss",
        {key: name for key, name in _SIZES.items() if key != "feed_forward_length"}
        | _RMS
        | {"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        _llama_names(*_BEFORE, *_ATTENTION, "self_attn.sinks", "mlp.router"),
        optional=_WINDOW,
        derived=_gpt_oss,
        experts="alternating",
        rope=_gpt_oss_rope,
    ),
    "gpt2": Architecture(
        "gpt2",
        {
            "block_count": "n_layer",
            "embedding_length": "n_embd",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            _EPSILON: "layer_norm_epsilon",
            "context_length": "n_positions",
        },
        _named(
            "transformer.h",
            "ln_1",
            "ln_2",
            "attn.c_attn",
            "attn.c_proj",
            "mlp.c_fc",
            "mlp.c_proj",
            whole=("transformer.wte", "transformer.wpe", "transformer.ln_f", "lm_head"),
        ),
        heads=(None, None),
        transposed=("c_attn.weight", "c_proj.weight", "c_fc.weight"),
        rotary="none",
    ),
    "gptneox": Architecture(
        "gpt_neox",
        _SIZES | {_EPSILON: "layer_norm_eps"},
        _named(
            "gpt_neox.layers",
            *_BEFORE,
            "attention.query_key_value",
            "attention.dense",
            "mlp.dense_h_to_4h",
            "mlp.dense_4h_to_h",
            whole=("gpt_neox.embed_in", "gpt_neox.final_layer_norm", "embed_out"),
        ),
        heads=(None, None),
        derived=_gpt_neox,
        interleaved=True,
        rotary="partial",
    ),
    "granite": Architecture(
        "granite",
        _SIZES | _RMS,
        _llama_names(*_BEFORE, *_ATTENTION, *_GATED),
        optional={
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
        derived=_biases,
        paired=True,
    ),
    "llama": _LLAMA,
    "mistral3": replace(
        _LLAMA, model_type="mistral", derived=lambda metadata: _biases(metadata) | _window_if_any(metadata)
    ),
    "mpt": Architecture(
        "mpt",
        {
            "block_count": "n_layers",
            "embedding_length": "d_model",
            "attention.head_count": "n_heads",
            "context_length": "max_seq_len",
            _EPSILON: "layer_norm_epsilon",
        },
        _named(
            "transformer.blocks",
            "norm_1",
            "norm_2",
            "attn.Wqkv",
            "attn.out_proj",
            "ffn.up_proj",
            "ffn.down_proj",
            whole=("transformer.wte", "transformer.norm_f", "lm_head"),
        ),
        heads=(None, None),
        derived=_mpt,
        rotary="none",
        why_not_run=_why_not_mpt,
    ),
    "nemotron": Architecture(
        "nemotron",
        _SIZES | {_EPSILON: "norm_eps"},
        _llama_names(*_BEFORE, *_ATTENTION, "mlp.up_proj", "mlp.down_proj"),
        derived=_biases,
        plus_one=True,
        rotary="partial",
    ),
    "olmo": Architecture(
        "olmo",
        _SIZES,
        _named("model.layers", *_ATTENTION, *_GATED, whole=("model.embed_tokens", "lm_head")),
        optional={"attention.clamp_kqv": "clip_qkv"},
        derived=_attention_bias,
        paired=True,
    ),
    "olmo2": _OLMO2,
    "olmoe": Architecture(
        "olmoe",
        _ALL_EXPERTS,
        _llama_names(*_BEFORE, *_ATTENTION, *_QK_NORMS, "mlp.gate"),
        fixed={"norm_topk_prob": False},
        derived=_attention_bias,
        experts="joined",
    ),
    "phi2": Architecture(
        "phi",
        _SIZES | {_EPSILON: "layer_norm_eps"},
        _named(
            "model.layers",
            "input_layernorm",
            *_ATTENTION[:3],
            "self_attn.dense",
            "mlp.fc1",
            "mlp.fc2",
            whole=("model.embed_tokens", "model.final_layernorm", "lm_head"),
        ),
        rotary="partial",
    ),
    "phi3": Architecture(
        "phi3",
        _SIZES | _RMS,
        _llama_names(*_BEFORE, "self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"),
        derived=_window_if_any,
        rotary="partial",
    ),
    "qwen2": replace(_LIKE_LLAMA, model_type="qwen2"),
    "qwen2moe": Architecture(
        "qwen2_moe",
        _ALL_EXPERTS,
        _llama_names(
            *_BEFORE,
            *_ATTENTION,
            "mlp.gate",
            "mlp.shared_expert_gate",
            "mlp.shared_expert.gate_proj",
            "mlp.shared_expert.up_proj",
            "mlp.shared_expert.down_proj",
        ),
        # llama.cpp assumes these.
        fixed={"norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
        derived=_qwen2_moe,
        experts="joined",
    ),
    "qwen3": replace(_LIKE_LLAMA, model_type="qwen3", tensors=_llama_names(*_BEFORE, *_ATTENTION, *_QK_NORMS, *_GATED)),
    "qwen3moe": Architecture(
        "qwen3_moe",
        _ALL_EXPERTS,
        _llama_names(*_BEFORE, *_ATTENTION, *_QK_NORMS, "mlp.gate"),
        fixed={"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
        derived=_experts_of,
        experts="joined",
    ),
    "seed_oss": Architecture(
        "seed_oss",
        _SIZES | _RMS,
        _llama_names(*_BEFORE, *_ATTENTION, *_GATED),
        derived=_seed_oss,
    ),
    "smollm3": Architecture(
        "smollm3", _SIZES | _RMS, _llama_names(*_BEFORE, *_ATTENTION, *_GATED), derived=_biases, paired=True
    ),
    "stablelm": Architecture(
        "stablelm",
        _SIZES | {_EPSILON: "layer_norm_eps"},
        _llama_names(*_BEFORE, *_ATTENTION, "self_attn.q_layernorm", "self_attn.k_layernorm", *_GATED),
        derived=_stablelm,
        norms_by_head=True,
        rotary="partial",
    ),
    "starcoder2": Architecture(
        "starcoder2",
        _SIZES | {_EPSILON: "norm_epsilon"},
        _llama_names(*_BEFORE, *_ATTENTION, "mlp.c_fc", "mlp.c_proj"),
        derived=_starcoder2,
    ),
}
"""The file's name of the architecture -> its entry. Files of Mistral models say `llama`."""

_SIGMOID = 2


@dataclass(frozen=True)
class Variant:
    """The second of two kinds of model that share an architecture's name.

    Args:
        applies: whether a file is of this kind.
        entry: its entry.
    """

    applies: Callable[[Metadata], object]
    entry: Architecture


VARIANTS = {
    "deepseek2": Variant(
        lambda metadata: metadata.integer("expert_gating_func", 1) == _SIGMOID,
        replace(_DEEPSEEK, model_type="deepseek_v3", derived=_deepseek),
    ),
    "falcon": Variant(
        lambda metadata: metadata.has_tensor("blk.0.attn_norm_2.weight"),
        replace(
            _FALCON,
            tensors=tuple(
                part
                for name in _FALCON.tensors
                for part in (
                    ("transformer.h.{}.ln_mlp", "transformer.h.{}.ln_attn")
                    if name.endswith("input_layernorm")
                    else (name,)
                )
            ),
        ),
    ),
    "llama": Variant(lambda metadata: metadata.integer("expert_count", 0), _MIXTRAL),
    "mistral3": Variant(
        lambda metadata: metadata.number("attention.temperature_scale", None) is not None,
        replace(_LLAMA, model_type="ministral3", rope=_ministral3_rope),
    ),
    "olmo2": Variant(
        lambda metadata: metadata.integer("attention.sliding_window", 0),
        replace(_OLMO2, model_type="olmo3", optional=_WINDOW, rotary="by layer type", listed_layers=True),
    ),
}
"""The file's name of the architecture -> its second kind."""


def find_architecture(metadata: Metadata) -> Architecture:
    """The entry of a file; raises `CheckpointError` with the list of known ones."""
    name = metadata.architecture
    if name not in ARCHITECTURES:
        raise metadata.unsupported(f"a GGUF file of {', '.join(ARCHITECTURES)}", f"{name!r:.60}")
    if name in VARIANTS and VARIANTS[name].applies(metadata):
        return VARIANTS[name].entry
    if ARCHITECTURES[name].experts is None and metadata.integer("expert_count", 0):
        raise metadata.unsupported(f"one MLP per layer in {name!r}", "a mixture of experts")
    return ARCHITECTURES[name]
