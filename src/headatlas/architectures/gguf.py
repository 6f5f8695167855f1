"""What each architecture of GGUF is called in transformers, and what llama.cpp's converter changed in it.

One declarative entry per architecture. Names of tensors are transformers' (`{}` is the layer), which
`gguf.get_tensor_name_map` turns into the file's. The converter:
https://github.com/ggml-org/llama.cpp/tree/master/conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from headatlas.checkpoints.gguf.metadata import SPECIAL_TOKENS, Facts


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Args:
        model_type: its name in transformers.
        config: key in the file (behind the architecture's name) -> name in transformers' config; all must be there.
        optional: the same for keys that may be missing, where transformers' default holds.
        tensors: names without their ends, such as `.weight`.
        heads: names in the config of the number of kv heads and of the width of a head, where it has them.
        fixed: values in the config that no file says.
        more: values in the config that need a look at the file.
        transposed: ends of names of weights that transformers keeps as (in, out), and GGUF as (out, in).
        plus_one: weights of norms are stored with 1 added.
        interleaved: transformers keeps the fused queries, keys and values of each kv head together; GGUF does not.
        experts: how transformers lays out a mixture of experts: "joined" or "alternating"; None: has none.
        latent: values come from a latent vector (MLA), whose weight the file may hold in two parts.
        unread: tensors that no map needs and that have another form in transformers.
        paired: the rows of queries and keys are stored so that those which turn together stand side by side.
        runs: the config has all that the whole model needs to run, positions included, not only what a map needs.
    """

    model_type: str
    config: dict[str, str]
    tensors: tuple[str, ...]
    optional: dict[str, str] = field(default_factory=dict)
    heads: tuple[str | None, str | None] = ("num_key_value_heads", "head_dim")
    fixed: dict[str, Any] = field(default_factory=dict)
    more: Callable[[Facts], dict[str, Any]] = lambda facts: {}
    transposed: tuple[str, ...] = ()
    plus_one: bool = False
    interleaved: bool = False
    experts: str | None = None
    latent: bool = False
    unread: tuple[str, ...] = ()
    paired: bool = False
    runs: bool = False


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
_BEFORE = ("input_layernorm", "post_attention_layernorm")
_AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")
_AROUND = (*_BEFORE, "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _llama_names(*names: str) -> tuple[str, ...]:
    return _named("model.layers", *names, whole=_WHOLE)


def _biases(facts: Facts) -> dict[str, Any]:
    return {"attention_bias": facts.has("blk.0.attn_q.bias"), "mlp_bias": facts.has("blk.0.ffn_down.bias")}


def _attention_bias(facts: Facts) -> dict[str, Any]:
    return {"attention_bias": facts.has("blk.0.attn_q.bias")}


def _experts_of(facts: Facts) -> dict[str, Any]:
    return {
        "moe_intermediate_size": facts.whole("expert_feed_forward_length", facts.width("blk.0.ffn_down_exps.weight"))
    }


def _qwen2_moe(facts: Facts) -> dict[str, Any]:
    shared = facts.width("blk.0.ffn_down_shexp.weight")
    return _experts_of(facts) | {
        "shared_expert_intermediate_size": facts.whole("expert_shared_feed_forward_length", shared)
    }


def _falcon(facts: Facts) -> dict[str, Any]:
    if facts.has("blk.0.attn_qkv.bias"):
        raise facts.unlike("a Falcon without biases", "one with biases")
    n_kv_heads, two_norms = facts.whole("attention.head_count_kv", 1), facts.has("blk.0.attn_norm_2.weight")
    if n_kv_heads == facts.whole("attention.head_count"):
        raise facts.unlike("a Falcon with fewer key-value heads than heads", "as many")
    if n_kv_heads == 1 and not two_norms:
        return {"new_decoder_architecture": False}
    return {
        "num_kv_heads": n_kv_heads,
        "new_decoder_architecture": True,
        "num_ln_in_parallel_attn": 2 if two_norms else 1,
    }


def _bloom(facts: Facts) -> dict[str, Any]:
    facts.must_agree("feed_forward_length", 4 * facts.whole("embedding_length"))
    facts.must_agree("attention.head_count_kv", facts.whole("attention.head_count"))
    return {}


def _mpt(facts: Facts) -> dict[str, Any]:
    facts.must_agree("attention.head_count_kv", facts.whole("attention.head_count"))
    facts.must_agree("feed_forward_length", 4 * facts.whole("embedding_length"))
    return {"attn_config": {"model_type": "", "clip_qkv": facts.number("attention.clamp_kqv", None)}}


def _stablelm(facts: Facts) -> dict[str, Any]:
    return {
        "use_qkv_bias": facts.has("blk.0.attn_q.bias"),
        "qk_layernorm": facts.has("blk.0.attn_q_norm.weight"),
        "use_parallel_residual": not facts.has("blk.0.ffn_norm.weight"),
    }


def _cohere(facts: Facts) -> dict[str, Any]:
    return _attention_bias(facts) | {"use_qk_norm": facts.has("blk.0.attn_q_norm.weight")}


def _gpt_neox(facts: Facts) -> dict[str, Any]:
    facts.must_agree("attention.head_count_kv", facts.whole("attention.head_count"))
    return {
        "use_parallel_residual": facts.flag("use_parallel_residual", True),
        "attention_bias": facts.has("blk.0.attn_qkv.bias"),
    }


def _gpt_oss(facts: Facts) -> dict[str, Any]:
    return {"intermediate_size": facts.whole("expert_feed_forward_length", facts.width("blk.0.ffn_down_exps.weight"))}


def _deepseek(facts: Facts) -> dict[str, Any]:
    """Sizes of the latent attention; where the file keeps the two parts apart, its key length is the latent one."""
    rope, q_rank = facts.whole("rope.dimension_count"), facts.whole("attention.q_lora_rank", 0)
    key = facts.whole("attention.key_length_mla", facts.whole("attention.key_length"))
    settings = {
        "q_lora_rank": q_rank or None,
        "kv_lora_rank": facts.whole("attention.kv_lora_rank"),
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": key - rope,
        "v_head_dim": facts.whole("attention.value_length_mla", facts.whole("attention.value_length")),
        "num_key_value_heads": facts.whole("attention.head_count"),
        "attention_bias": False,
    }
    return settings | _routing(facts)


def _routing(facts: Facts) -> dict[str, Any]:
    """Of models whose first layers have one MLP."""
    n_dense = facts.whole("leading_dense_block_count", 0)
    if n_dense < 1:
        raise facts.unlike("a first layer with one MLP", "a mixture of experts in it")
    return {"first_k_dense_replace": n_dense, "norm_topk_prob": facts.flag("expert_weights_norm", False)}


def _glm4_moe(facts: Facts) -> dict[str, Any]:
    return _attention_bias(facts) | _routing(facts) | {"use_qk_norm": facts.has("blk.0.attn_q_norm.weight")}


def _starcoder2(facts: Facts) -> dict[str, Any]:
    return {"use_bias": facts.has("blk.0.attn_output.bias")}


_LIKE_LLAMA = Architecture(
    "llama", _SIZES | _RMS, _llama_names(*_BEFORE, *_ATTENTION, *_GATED), more=_biases, runs=True
)
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
    "olmo2", _SIZES | _RMS, _llama_names(*_AFTER, *_ATTENTION, *_QK_NORMS, *_GATED), more=_attention_bias
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
    more=_falcon,
    interleaved=True,
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
        "mlp.gate",
        "mlp.shared_experts.gate_proj",
        "mlp.shared_experts.up_proj",
        "mlp.shared_experts.down_proj",
    ),
    optional=_ROUTED,
    heads=(None, None),
    more=_deepseek,
    experts="joined",
    latent=True,
    unread=("exp_probs_b",),
)

ARCHITECTURES = {
    "arcee": Architecture(
        "arcee",
        _SIZES | _RMS,
        _llama_names(*_BEFORE, *_ATTENTION, "mlp.up_proj", "mlp.down_proj"),
        more=_biases,
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
        more=_bloom,
        interleaved=True,
    ),
    "cohere2": Architecture(
        "cohere2",
        _SIZES | {_EPSILON: "layer_norm_eps"},
        _llama_names("input_layernorm", *_ATTENTION, *_GATED),
        optional=_WINDOW | {"logit_scale": "logit_scale"},
        more=_attention_bias,
    ),
    "command-r": Architecture(
        "cohere",
        _SIZES | {_EPSILON: "layer_norm_eps"},
        _llama_names("input_layernorm", *_ATTENTION, *_QK_NORMS, *_GATED),
        optional={"logit_scale": "logit_scale"},
        more=_cohere,
    ),
    "deepseek2": _DEEPSEEK,
    "ernie4_5": Architecture(
        "ernie4_5",
        _SIZES | _RMS,
        _llama_names(*_BEFORE, *_ATTENTION, *_GATED),
        more=lambda facts: {"use_bias": facts.has("blk.0.attn_q.bias")},
    ),
    "exaone4": Architecture(
        "exaone4",
        _SIZES | _RMS,
        _llama_names(*_AFTER, *_ATTENTION, *_QK_NORMS, *_GATED),
        optional=_WINDOW,
    ),
    "falcon": _FALCON,
    "gemma": Architecture("gemma", _SIZES | _RMS, _llama_names(*_BEFORE, *_ATTENTION, *_GATED), plus_one=True),
    "gemma2": _GEMMA2,
    "gemma3": replace(
        _GEMMA2,
        model_type="gemma3_text",
        tensors=_llama_names(*_AROUND, *_ATTENTION, *_QK_NORMS, *_GATED),
        optional=_WINDOW | {"final_logit_softcapping": "final_logit_softcapping"},
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
        more=_attention_bias,
    ),
    "glm4moe": Architecture(
        "glm4_moe",
        _SIZES | _RMS,
        _llama_names(
            *_BEFORE,
            *_ATTENTION,
            *_QK_NORMS,
            *_GATED,
            "mlp.gate",
            "mlp.shared_experts.gate_proj",
            "mlp.shared_experts.up_proj",
            "mlp.shared_experts.down_proj",
        ),
        optional=_ROUTED,
        more=_glm4_moe,
        experts="joined",
        unread=("exp_probs_b",),
    ),
    "gpt-oss": Architecture(
        "gpt_oss",
        {key: name for key, name in _SIZES.items() if key != "feed_forward_length"}
        | _RMS
        | {"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        _llama_names(*_BEFORE, *_ATTENTION, "self_attn.sinks", "mlp.router"),
        optional=_WINDOW,
        more=_gpt_oss,
        experts="alternating",
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
        runs=True,
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
        more=_gpt_neox,
        interleaved=True,
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
        more=_biases,
        paired=True,
    ),
    "llama": _LLAMA,
    "mistral3": replace(_LLAMA, model_type="mistral", runs=False),
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
        more=_mpt,
    ),
    "nemotron": Architecture(
        "nemotron",
        _SIZES | {_EPSILON: "norm_eps"},
        _llama_names(*_BEFORE, *_ATTENTION, "mlp.up_proj", "mlp.down_proj"),
        more=_biases,
        plus_one=True,
    ),
    "olmo": Architecture(
        "olmo",
        _SIZES,
        _named("model.layers", *_ATTENTION, *_GATED, whole=("model.embed_tokens", "lm_head")),
        optional={"attention.clamp_kqv": "clip_qkv"},
        more=_attention_bias,
        paired=True,
    ),
    "olmo2": _OLMO2,
    "olmoe": Architecture(
        "olmoe",
        _ALL_EXPERTS,
        _llama_names(*_BEFORE, *_ATTENTION, *_QK_NORMS, "mlp.gate"),
        fixed={"norm_topk_prob": False},
        more=_attention_bias,
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
    ),
    "phi3": Architecture(
        "phi3",
        _SIZES | _RMS,
        _llama_names(*_BEFORE, "self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"),
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
        # llama.cpp takes these for granted.
        fixed={"norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
        more=_qwen2_moe,
        experts="joined",
    ),
    "qwen3": replace(_LIKE_LLAMA, model_type="qwen3", tensors=_llama_names(*_BEFORE, *_ATTENTION, *_QK_NORMS, *_GATED)),
    "qwen3moe": Architecture(
        "qwen3_moe",
        _ALL_EXPERTS,
        _llama_names(*_BEFORE, *_ATTENTION, *_QK_NORMS, "mlp.gate"),
        fixed={"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
        more=_experts_of,
        experts="joined",
    ),
    "seed_oss": Architecture(
        "seed_oss",
        _SIZES | _RMS,
        _llama_names(*_BEFORE, *_ATTENTION, *_GATED),
        more=lambda facts: _biases(facts) | {"attention_out_bias": facts.has("blk.0.attn_output.bias")},
    ),
    "smollm3": Architecture(
        "smollm3", _SIZES | _RMS, _llama_names(*_BEFORE, *_ATTENTION, *_GATED), more=_biases, paired=True
    ),
    "stablelm": Architecture(
        "stablelm",
        _SIZES | {_EPSILON: "layer_norm_eps"},
        _llama_names(*_BEFORE, *_ATTENTION, *_GATED),
        more=_stablelm,
        unread=("attn_q_norm", "attn_k_norm"),
    ),
    "starcoder2": Architecture(
        "starcoder2",
        _SIZES | {_EPSILON: "norm_epsilon"},
        _llama_names(*_BEFORE, *_ATTENTION, "mlp.c_fc", "mlp.c_proj"),
        more=_starcoder2,
    ),
}
"""By the file's own name of the architecture. Mistral models say `llama`."""

_SIGMOID = 2

VARIANTS: dict[str, tuple[Callable[[Facts], object], Architecture]] = {
    "deepseek2": (
        lambda facts: facts.whole("expert_gating_func", 1) == _SIGMOID,
        replace(_DEEPSEEK, model_type="deepseek_v3"),
    ),
    "falcon": (
        lambda facts: facts.has("blk.0.attn_norm_2.weight"),
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
    "llama": (lambda facts: facts.whole("expert_count", 0), _MIXTRAL),
    "mistral3": (
        lambda facts: facts.number("attention.temperature_scale", None) is not None,
        replace(_LLAMA, model_type="ministral3", runs=False),
    ),
    "olmo2": (
        lambda facts: facts.whole("attention.sliding_window", 0),
        replace(_OLMO2, model_type="olmo3", optional=_WINDOW),
    ),
}
"""Architectures of which files hold two kinds: whether it is the second one, and what that is."""


def find_architecture(facts: Facts) -> Architecture:
    """The entry for a file; raises `CheckpointError` with the list of known ones."""
    name = facts.architecture
    if name not in ARCHITECTURES:
        raise facts.unlike(f"a GGUF file of {', '.join(ARCHITECTURES)}", f"{name!r:.60}")
    if name in VARIANTS and VARIANTS[name][0](facts):
        return VARIANTS[name][1]
    if ARCHITECTURES[name].experts is None and facts.whole("expert_count", 0):
        raise facts.unlike(f"one MLP per layer in {name!r}", "a mixture of experts")
    return ARCHITECTURES[name]


def read_settings(architecture: Architecture, facts: Facts, n_layers: int) -> dict[str, Any]:
    """Values for transformers' config."""
    settings: dict[str, Any] = {name: facts.number(key) for key, name in architecture.config.items()}
    settings |= {
        name: facts.number(key) for key, name in architecture.optional.items() if facts.number(key, None) is not None
    }
    settings[architecture.config["block_count"]] = n_layers
    settings["vocab_size"] = facts.d_vocab()
    # Transformers' defaults are ids of one model, which another vocabulary may not have.
    settings |= {f"{name}_token_id": facts.token_id(key) for name, key in SPECIAL_TOKENS.items()}
    settings["tie_word_embeddings"] = not facts.has("output.weight")
    n_heads, d_model = facts.whole("attention.head_count"), facts.whole("embedding_length")
    kv_heads, head_width = architecture.heads
    if kv_heads:
        settings[kv_heads] = facts.whole("attention.head_count_kv", n_heads)
    if head_width:
        d_head = facts.whole("attention.value_length", d_model // n_heads if n_heads else 0)
        if facts.whole("attention.key_length", d_head) != d_head:
            raise facts.unlike(f"keys as long as values ({d_head})", str(facts.whole("attention.key_length")))
        settings[head_width] = d_head
    if (base := facts.number("rope.freq_base", None)) is not None:
        settings["rope_theta"] = base
    return settings | architecture.fixed | architecture.more(facts)
