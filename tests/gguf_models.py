"""Tiny models written as GGUF files the way llama.cpp's converter does it, in F32, according to its source.

https://github.com/ggml-org/llama.cpp/tree/master/conversion.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import gguf
import numpy as np
import torch

N_LAYERS, N_HEADS, D_HEAD, D_VOCAB, D_MLP = 3, 6, 8, 101, 37
D_MODEL = N_HEADS * D_HEAD
N_EXPERTS, D_EXPERT = 5, 13
N_GROUPED_EXPERTS = 8

_BASE = {
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "hidden_size": D_MODEL,
    "intermediate_size": D_MLP,
    "vocab_size": D_VOCAB,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rope_theta": 700.0,
}
_USUAL = {"rope_theta": 10_000.0}
"""Of models whose converter does not write the base of the rotary positions."""
_GROUPED = _BASE | {"num_key_value_heads": 2}
_TIED = {"tie_word_embeddings": True}


def _yarn(**more):
    yarn = {"rope_type": "yarn", "rope_theta": 700.0, "factor": 4.0, "original_max_position_embeddings": 64}
    return yarn | {"beta_fast": 0.3, "beta_slow": 0.1} | more


_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 700.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_DEEPSEEK = _BASE | {
    "num_key_value_heads": N_HEADS,
    "kv_lora_rank": 14,
    "q_lora_rank": 7,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 6,
    "v_head_dim": 9,
    "first_k_dense_replace": 1,
    "n_routed_experts": N_GROUPED_EXPERTS,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "moe_intermediate_size": D_EXPERT,
    "n_group": 4,
    "topk_group": 3,
    "routed_scaling_factor": 1.5,
    "norm_topk_prob": True,
}

CASES: dict[str, tuple[str, str, dict]] = {
    "llama": ("llama", "llama", _GROUPED | {"head_dim": 10, "rms_norm_eps": 3e-6}),
    "llama-biases": ("llama", "llama", _GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "llama-tied": ("llama", "llama", _BASE | {"num_key_value_heads": 1} | _TIED),
    "llama-llama3": ("llama", "llama", _GROUPED | {"head_dim": 10, "rope_parameters": dict(_LLAMA3)}),
    "llama-linear": (
        "llama",
        "llama",
        _GROUPED | {"rope_parameters": {"rope_type": "linear", "rope_theta": 700.0, "factor": 3.0}},
    ),
    "llama-yarn": ("llama", "llama", _GROUPED | {"rope_parameters": _yarn(attention_factor=1.25)}),
    "mixtral": (
        "llama",
        "mixtral",
        _GROUPED | {"num_local_experts": N_EXPERTS, "num_experts_per_tok": 2, "head_dim": 10},
    ),
    "qwen2": ("qwen2", "qwen2", _GROUPED),
    "qwen3": ("qwen3", "qwen3", _GROUPED | {"head_dim": 14}),
    "qwen2_moe": (
        "qwen2moe",
        "qwen2_moe",
        _GROUPED
        | {
            "num_experts": N_EXPERTS,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": D_EXPERT,
            "shared_expert_intermediate_size": 17,
        },
    ),
    "qwen3_moe": (
        "qwen3moe",
        "qwen3_moe",
        _GROUPED
        | {
            "num_experts": N_EXPERTS,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": D_EXPERT,
            "head_dim": 10,
            "norm_topk_prob": True,
        },
    ),
    "gpt2": (
        "gpt2",
        "gpt2",
        {
            "n_layer": N_LAYERS,
            "n_head": N_HEADS,
            "n_embd": D_MODEL,
            "n_inner": D_MLP,
            "vocab_size": D_VOCAB,
            "n_positions": 64,
            "layer_norm_epsilon": 2e-5,
        },
    ),
    "gpt_neox": ("gptneox", "gpt_neox", _BASE | _USUAL | {"use_parallel_residual": True, "layer_norm_eps": 2e-5}),
    "gpt_neox-serial": ("gptneox", "gpt_neox", _BASE | _USUAL | {"use_parallel_residual": False}),
    "phi": ("phi2", "phi", _BASE | _USUAL),
    "phi3": ("phi3", "phi3", _GROUPED | {"partial_rotary_factor": 0.75}),
    "phi3-long": (
        "phi3",
        "phi3",
        _GROUPED
        | {
            "original_max_position_embeddings": 4,
            "sliding_window": 3,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 700.0,
                "short_factor": [1.0, 1.25, 1.5, 2.0],
                "long_factor": [1.5, 2.5, 3.0, 4.0],
                "original_max_position_embeddings": 4,
            },
        },
    ),
    "gemma": ("gemma", "gemma", _GROUPED | _USUAL | _TIED | {"head_dim": 10}),
    "gemma2": (
        "gemma2",
        "gemma2",
        _GROUPED | _USUAL | _TIED | {"head_dim": 10, "sliding_window": 3, "query_pre_attn_scalar": 10},
    ),
    "gemma3": (
        "gemma3",
        "gemma3_text",
        _GROUPED | _TIED | {"head_dim": 10, "sliding_window": 3, "query_pre_attn_scalar": 10},
    ),
    "gemma3-linear": (
        "gemma3",
        "gemma3_text",
        _GROUPED
        | _TIED
        | {
            "head_dim": 10,
            "sliding_window": 3,
            "query_pre_attn_scalar": 10,
            "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 700.0, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
            },
        },
    ),
    "falcon": (
        "falcon",
        "falcon",
        _BASE
        | _USUAL
        | _TIED
        | {"multi_query": True, "new_decoder_architecture": False, "ffn_hidden_size": D_MLP, "bias": False},
    ),
    "falcon-new": (
        "falcon",
        "falcon",
        _BASE | _USUAL | {"num_kv_heads": 2, "new_decoder_architecture": True, "ffn_hidden_size": D_MLP, "bias": False},
    ),
    "falcon-new-one-norm": (
        "falcon",
        "falcon",
        _BASE
        | _USUAL
        | {
            "num_kv_heads": 3,
            "new_decoder_architecture": True,
            "ffn_hidden_size": D_MLP,
            "bias": False,
            "num_ln_in_parallel_attn": 1,
        },
    ),
    "bloom": (
        "bloom",
        "bloom",
        _TIED
        | {"n_layer": N_LAYERS, "n_head": N_HEADS, "hidden_size": D_MODEL, "vocab_size": D_VOCAB, "bos_token_id": 1},
    ),
    "mpt": (
        "mpt",
        "mpt",
        _TIED
        | {
            "n_layers": N_LAYERS,
            "n_heads": N_HEADS,
            "d_model": D_MODEL,
            "vocab_size": D_VOCAB,
            "max_seq_len": 64,
            "attn_config": {"model_type": "", "clip_qkv": 7.5},
        },
    ),
    "starcoder2": ("starcoder2", "starcoder2", _GROUPED | _TIED),
    "stablelm": ("stablelm", "stablelm", _GROUPED),
    "stablelm-qk-norm": ("stablelm", "stablelm", _GROUPED | {"qk_layernorm": True, "partial_rotary_factor": 0.5}),
    "stablelm-parallel": ("stablelm", "stablelm", _GROUPED | {"use_parallel_residual": True, "use_qkv_bias": True}),
    "cohere": ("command-r", "cohere", _GROUPED | _TIED | {"logit_scale": 0.125}),
    "cohere-qk-norm": ("command-r", "cohere", _GROUPED | _TIED | {"use_qk_norm": True}),
    "cohere2": ("cohere2", "cohere2", _GROUPED | _TIED | {"head_dim": 8, "sliding_window": 3}),
    "olmo": ("olmo", "olmo", _GROUPED | {"clip_qkv": 6.5}),
    "olmo2": ("olmo2", "olmo2", _GROUPED),
    "olmo3": ("olmo2", "olmo3", _GROUPED | {"sliding_window": 3}),
    "olmo3-listed": (
        "olmo2",
        "olmo3",
        _GROUPED
        | {
            "sliding_window": 3,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": _yarn(),
                "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
            },
        },
    ),
    "nemotron": ("nemotron", "nemotron", _GROUPED | {"head_dim": 8, "norm_eps": 2e-5}),
    "glm4": ("glm4", "glm4", _GROUPED | {"head_dim": 10, "attention_bias": True}),
    "granite": (
        "granite",
        "granite",
        _GROUPED
        | {
            "attention_multiplier": 0.5,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.25,
            "logits_scaling": 8.0,
        },
    ),
    "smollm3": ("smollm3", "smollm3", _GROUPED),
    "arcee": ("arcee", "arcee", _GROUPED | {"head_dim": 10}),
    "seed_oss": ("seed_oss", "seed_oss", _GROUPED | {"head_dim": 10, "attention_bias": True}),
    "exaone4": ("exaone4", "exaone4", _GROUPED | {"sliding_window": 3, "rope_parameters": dict(_LLAMA3)}),
    "exaone4-full": (
        "exaone4",
        "exaone4",
        _GROUPED | {"sliding_window": None, "layer_types": ["full_attention"] * N_LAYERS},
    ),
    "gpt_oss": (
        "gpt-oss",
        "gpt_oss",
        _GROUPED
        | {
            "num_local_experts": N_EXPERTS,
            "num_experts_per_tok": 2,
            "head_dim": 10,
            "intermediate_size": D_EXPERT,
            "sliding_window": 3,
            "rope_parameters": _yarn(truncate=False),
        },
    ),
    "mistral": ("mistral3", "mistral", _GROUPED | {"head_dim": 10, "sliding_window": None}),
    "ministral3": (
        "mistral3",
        "ministral3",
        _GROUPED
        | {
            "head_dim": 10,
            "rope_parameters": _yarn(
                mscale=1.5, mscale_all_dim=1.5, llama_4_scaling_beta=0.25, original_max_position_embeddings=3
            ),
        },
    ),
    "ernie4_5": ("ernie4_5", "ernie4_5", _GROUPED | {"head_dim": 10}),
    "ernie4_5-biases": ("ernie4_5", "ernie4_5", _GROUPED | {"head_dim": 10, "use_bias": True}),
    "olmoe": (
        "olmoe",
        "olmoe",
        _GROUPED | {"num_experts": N_EXPERTS, "num_experts_per_tok": 2, "norm_topk_prob": False},
    ),
    "glm4_moe": (
        "glm4moe",
        "glm4_moe",
        _GROUPED
        | {
            "head_dim": 10,
            "use_qk_norm": True,
            "attention_bias": True,
            "first_k_dense_replace": 1,
            "n_routed_experts": N_GROUPED_EXPERTS,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "moe_intermediate_size": D_EXPERT,
            "n_group": 4,
            "topk_group": 3,
            "routed_scaling_factor": 2.5,
        },
    ),
    "deepseek_v2": ("deepseek2", "deepseek_v2", _DEEPSEEK | {"topk_method": "group_limited_greedy"}),
    "deepseek_v2-yarn": (
        "deepseek2",
        "deepseek_v2",
        _DEEPSEEK
        | {"topk_method": "group_limited_greedy", "rope_parameters": _yarn(mscale=0.707, mscale_all_dim=0.707)},
    ),
    "deepseek_v2-lite": ("deepseek2", "deepseek_v2", _DEEPSEEK | {"q_lora_rank": None, "n_group": 1, "topk_group": 1}),
    "deepseek_v3": ("deepseek2", "deepseek_v3", _DEEPSEEK),
}
"""Name of the case -> GGUF's architecture, transformers' model type, and its config."""


def make_model(case: str, seed: int = 0, **changes):
    """A transformers model of a case, every parameter random."""
    from transformers import AutoConfig, AutoModelForCausalLM

    _, model_type, settings = CASES[case]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings | changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + 0.05)
    return model.eval()


def metadata(writer: gguf.GGUFWriter, case: str, config) -> None:
    """The metadata that the converter writes for a config."""
    get = lambda *names: next((v for n in names if (v := getattr(config, n, None)) is not None), None)  # noqa: E731
    model_type = config.model_type
    d_model, n_heads = get("hidden_size", "n_embd", "d_model"), get("num_attention_heads", "n_head", "n_heads")
    writer.add_block_count(get("num_hidden_layers", "n_layer", "n_layers"))
    writer.add_embedding_length(d_model)
    writer.add_context_length(get("max_position_embeddings", "n_positions", "max_seq_len") or 64)
    four_times = model_type in ("bloom", "mpt")
    writer.add_feed_forward_length(
        4 * d_model if four_times else get("ffn_hidden_size", "intermediate_size", "n_inner")
    )
    writer.add_head_count(n_heads)
    if model_type == "falcon":
        writer.add_head_count_kv(config.num_kv_heads if config.new_decoder_architecture else 1)
    elif model_type.startswith("deepseek"):
        writer.add_head_count_kv(1)
        writer.add_kv_lora_rank(config.kv_lora_rank)
        writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
        writer.add_value_length(config.kv_lora_rank)
        writer.add_key_length_mla(config.qk_nope_head_dim + config.qk_rope_head_dim)
        writer.add_value_length_mla(config.v_head_dim)
        writer.add_rope_dimension_count(config.qk_rope_head_dim)
        writer.add_expert_gating_func(
            gguf.ExpertGatingFuncType.SIGMOID if model_type == "deepseek_v3" else gguf.ExpertGatingFuncType.SOFTMAX
        )
        if config.q_lora_rank:
            writer.add_q_lora_rank(config.q_lora_rank)
    elif (n_kv_heads := get("num_key_value_heads")) is not None and model_type not in ("gpt_neox", "gpt2"):
        writer.add_head_count_kv(n_kv_heads)
    if (n_dense := get("first_k_dense_replace")) is not None:
        writer.add_leading_dense_block_count(n_dense)
        writer.add_expert_shared_count(config.n_shared_experts)
        writer.add_expert_weights_scale(config.routed_scaling_factor)
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)
        if config.norm_topk_prob:
            writer.add_expert_weights_norm(True)
    _positions(writer, config)
    if "head_dim" in CASES[case][2]:
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if (eps := get("rms_norm_eps")) is not None:
        writer.add_layer_norm_rms_eps(eps)
    if (eps := get("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")) is not None:
        writer.add_layer_norm_eps(eps)
    if model_type == "olmo":
        writer.add_layer_norm_eps(1e-5)
    if (n_experts := get("num_local_experts", "num_experts", "n_routed_experts")) is not None:
        writer.add_expert_count(n_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        if model_type not in ("mixtral", "olmoe"):
            writer.add_expert_feed_forward_length(get("moe_intermediate_size", "intermediate_size"))
    if (width := get("shared_expert_intermediate_size")) is not None:
        writer.add_expert_shared_feed_forward_length(width)
    if model_type == "phi3":
        writer.add_sliding_window(config.sliding_window or 0)
    elif CASES[case][2].get("sliding_window") is not None:
        writer.add_sliding_window(config.sliding_window)
        if model_type in ("olmo3", "exaone4"):
            writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
    if model_type == "gpt_neox":
        writer.add_parallel_residual(config.use_parallel_residual)
    if model_type.startswith("cohere"):
        writer.add_logit_scale(config.logit_scale)
    if model_type == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if model_type == "mpt":
        writer.add_max_alibi_bias(8.0)
    clip = config.attn_config.clip_qkv if model_type == "mpt" else get("clip_qkv")
    if clip is not None:
        writer.add_clamp_kqv(clip)
    writer.add_vocab_size(config.vocab_size)


NO_BASE = ("falcon", "gemma", "gemma2", "gpt_neox", "phi")
PARTIAL = ("cohere2", "glm4", "glm4_moe", "gpt_neox", "nemotron", "phi", "phi3", "stablelm")


def _positions(writer: gguf.GGUFWriter, config) -> None:
    """Rotary positions, as the converter's base class writes them, and what it adds for some models."""
    rope = getattr(config, "rope_parameters", None)
    if rope is None:
        return
    full, sliding = rope.get("full_attention", rope), rope.get("sliding_attention", {})
    if config.model_type not in NO_BASE:
        writer.add_rope_freq_base(full["rope_theta"])
    if "rope_theta" in sliding:
        writer.add_rope_freq_base_swa(sliding["rope_theta"])
    if config.model_type in PARTIAL:
        d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_rope_dimension_count(int(d_head * full.get("partial_rotary_factor", 1)))
    elif config.model_type in PAIRED:
        writer.add_rope_dimension_count(getattr(config, "head_dim", None) or D_HEAD)
    if config.model_type.startswith("cohere"):
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    if config.model_type == "phi3":
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
        if "long_factor" in full:
            scale = config.max_position_embeddings / config.original_max_position_embeddings
            attention = math.sqrt(1 + math.log(scale) / math.log(config.original_max_position_embeddings))
            writer.add_rope_scaling_attn_factors(attention)
    elif full["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(full["factor"])
    elif full["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(full["factor"])
        writer.add_rope_scaling_orig_ctx_len(full["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(full["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(full["beta_slow"])
        if "attention_factor" in full:
            writer.add_rope_scaling_yarn_attn_factor(full["attention_factor"])
        if "mscale_all_dim" in full:
            tenth = 0.1 if config.model_type.startswith("deepseek") else 1
            writer.add_rope_scaling_yarn_log_mul(tenth * full["mscale_all_dim"])
    if config.model_type == "ministral3":
        writer.add_attn_temperature_scale(full["llama_4_scaling_beta"])


def factors_of_positions(config):
    """Tensors of rotary positions that the converter adds."""
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        for kind in ("long", "short"):
            yield f"rope_factors_{kind}.weight", np.array(rope[f"{kind}_factor"], np.float32)
    if rope.get("rope_type") == "llama3":
        d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        frequencies = 1 / rope["rope_theta"] ** (np.arange(0, d_head, 2) / d_head)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        turns = rope["original_max_position_embeddings"] * frequencies / (2 * np.pi)
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        yield "rope_freqs.weight", (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)


def add_tokenizer(writer: gguf.GGUFWriter, n_words: int) -> None:
    letters = [chr(code) for code in range(97, 123)]
    words = ["Ġ", "Ġa", "Ġab", "Ġabc"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["<|end|>", *letters, *words, *(f"<{number}>" for number in range(n_words - 31))])
    writer.add_token_types([3] + [1] * (n_words - 1))
    writer.add_token_merges(["Ġ a", "Ġa b", "Ġab c"])
    writer.add_eos_token_id(0)


PAIRED = ("arcee", "granite", "llama", "ministral3", "mistral", "mixtral", "olmo", "smollm3")
"""Model types whose rotary pairs of rows of queries and keys the converter stores next to each other."""


def converted(model, architecture: str):
    """The converter's names and arrays, in the order of the model's."""
    config = model.config
    kinds = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[architecture], N_LAYERS)
    n_heads = getattr(config, "num_attention_heads", None) or config.n_heads

    for name, value in model.state_dict().items():
        if name.startswith("lm_head.") and getattr(config, "tie_word_embeddings", False):
            continue
        parts = [(name, value.float())]
        if config.model_type == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            parts = [(name, value.T)]
        elif config.model_type in ("gemma", "gemma2", "gemma3_text", "nemotron") and name.endswith("norm.weight"):
            parts = [(name, value + 1)]
        elif config.model_type in ("gpt_neox", "bloom") and "query_key_value" in name:
            split = value.reshape(n_heads, 3, D_HEAD, *value.shape[1:])
            parts = [(name, torch.cat([split[:, which].reshape(-1, *value.shape[1:]) for which in range(3)]))]
        elif config.model_type == "falcon" and "query_key_value" in name:
            n_kv = config.num_kv_heads if config.new_decoder_architecture else 1
            split = value.view(n_kv, n_heads // n_kv + 2, D_HEAD, D_MODEL)
            pieces = (split[:, :-2], split[:, [-2]], split[:, [-1]])
            parts = [(name, torch.cat([piece.reshape(-1, D_MODEL) for piece in pieces]))]
        elif config.model_type == "gpt_oss" and "experts" in name:
            stem, is_bias = re.sub("_bias$", "", name), name.endswith("_bias")
            value = value if is_bias else value.transpose(-1, -2)
            end = ".bias" if is_bias else ".weight"
            if "gate_up" in name:
                gate_up = (value[:, ::2], value[:, 1::2])
                parts = [
                    (stem.replace("gate_up", which) + end, v) for which, v in zip(("gate", "up"), gate_up, strict=True)
                ]
            else:
                parts = [(stem + end, value)]
        elif name.endswith("experts.gate_up_proj"):
            half = value.shape[1] // 2
            stem = name.removesuffix("gate_up_proj")
            parts = [(f"{stem}gate_proj.weight", value[:, :half]), (f"{stem}up_proj.weight", value[:, half:])]
        elif name.endswith("experts.down_proj"):
            parts = [(f"{name}.weight", value)]
        elif "_layernorm.norms." in name:
            stem, _, head = name.removesuffix(".weight").rpartition(".norms.")
            if head != "0":
                continue
            norms = model.get_submodule(stem).norms
            parts = [(f"{stem}.weight", torch.stack([norm.weight for norm in norms]))]
        elif name.endswith("shared_expert_gate.weight"):
            parts = [(name, value.squeeze())]
        elif name.endswith("sinks"):
            parts = [(f"{name}.weight", value)]
        elif name.endswith("kv_b_proj.weight"):
            n_keys, n_values = config.qk_nope_head_dim, config.v_head_dim
            keys, values = torch.split(value.view(n_heads, n_keys + n_values, -1), [n_keys, n_values], dim=1)
            stem = name.removesuffix("kv_b_proj.weight")
            parts = [(f"{stem}k_b_proj.weight", keys.transpose(1, 2)), (f"{stem}v_b_proj.weight", values)]
        elif name.endswith("e_score_correction_bias"):
            parts = [(name.replace("e_score_correction_bias", "e_score_correction.bias"), value)]
        elif config.model_type in PAIRED and (of := re.search("[.]([qk])_proj[.]", name)):
            n = n_heads if of[1] == "q" else config.num_key_value_heads
            parts = [(name, value.view(n, 2, -1, *value.shape[1:]).transpose(1, 2).reshape(value.shape))]
        for theirs, tensor in parts:
            if config.model_type == "bloom":
                theirs = theirs.removeprefix("transformer.")
            stem, _, end = theirs.rpartition(".")
            ours = names.get_name(stem) or names.get_name(theirs)
            assert ours is not None, theirs
            yield f"{ours}.{end}", np.ascontiguousarray(tensor.detach().numpy())


def write(
    model, case: str, path: Path, more=lambda writer: None, change=lambda name, values: [(name, values)], **options
):
    """Write the model; `more` adds or changes metadata, `change` gives other tensors for one."""
    architecture = CASES[case][0]
    writer = gguf.GGUFWriter(path, architecture, **options)
    metadata(writer, case, model.config)
    add_tokenizer(writer, model.config.vocab_size)
    more(writer)
    for name, values in [*factors_of_positions(model.config), *converted(model, architecture)]:
        for ours, array in change(name, values):
            writer.add_tensor(ours, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
