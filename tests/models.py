"""Tiny models of every family, with random weights from transformers' own classes and sizes that are all different."""

from __future__ import annotations

from pathlib import Path

import torch

N_LAYERS, N_HEADS, D_HEAD, D_VOCAB = 3, 6, 8, 101
D_MODEL = N_HEADS * D_HEAD  # some families need this
D_MLP = 37

_LLAMA_LIKE = {
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "hidden_size": D_MODEL,
    "intermediate_size": D_MLP,
    "vocab_size": D_VOCAB,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}

_MULTIMODAL_ROPE = _LLAMA_LIKE | {
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]},
}
_VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "image_size": 28,
    "patch_size": 14,
    "depth": 1,
    "num_heads": 2,
    "embed_dim": 24,
    "out_hidden_size": D_MODEL,
    "vision_output_dim": D_MODEL,
    "projector_input_dim": D_MODEL,
    "projector_output_dim": D_MODEL,
}
_GPT2_LIKE = {
    "n_layer": N_LAYERS,
    "n_head": N_HEADS,
    "n_embd": D_MODEL,
    "n_inner": D_MLP,
    "vocab_size": D_VOCAB,
    "n_positions": 64,
}
_LATENT = {
    "num_key_value_heads": N_HEADS,
    "kv_lora_rank": 18,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 4,
    "v_head_dim": 9,
}
_EXPERTS = {"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 11}
_FALCON = {
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "hidden_size": D_MODEL,
    "vocab_size": D_VOCAB,
    "tie_word_embeddings": False,
}
_GEMMA4 = _LLAMA_LIKE | {
    "num_key_value_heads": 2,
    "head_dim": 10,
    "global_head_dim": 14,
    "num_global_key_value_heads": 1,
    "attention_k_eq_v": True,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 5,
    "vocab_size_per_layer_input": D_VOCAB,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
}
_OPT = {
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "hidden_size": D_MODEL,
    "ffn_dim": D_MLP,
    "vocab_size": D_VOCAB,
    "word_embed_proj_dim": D_MODEL,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
_QWEN_NEXT = _LLAMA_LIKE | {
    "num_key_value_heads": 2,
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 6,
    "layer_types": ["linear_attention", "linear_attention", "full_attention"],
}

CASES: dict[str, tuple[str, dict]] = {
    "llama": (
        "llama",
        _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10, "attention_bias": True, "mlp_bias": True},
    ),
    "llama-ungrouped": ("llama", _LLAMA_LIKE | {"num_key_value_heads": N_HEADS}),
    "llama-tied": ("llama", _LLAMA_LIKE | {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "mistral": ("mistral", _LLAMA_LIKE | {"num_key_value_heads": 3, "head_dim": 14}),
    "qwen2": ("qwen2", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "qwen3": ("qwen3", _LLAMA_LIKE | {"num_key_value_heads": 3, "head_dim": 6}),
    "gpt2": (
        "gpt2",
        {
            "n_layer": N_LAYERS,
            "n_head": N_HEADS,
            "n_embd": D_MODEL,
            "n_inner": D_MLP,
            "vocab_size": D_VOCAB,
            "n_positions": 64,
        },
    ),
    "gpt_neox": ("gpt_neox", _LLAMA_LIKE | {"use_parallel_residual": True}),
    "gpt_neox-serial": ("gpt_neox", _LLAMA_LIKE | {"use_parallel_residual": False}),
    "phi": ("phi", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "phi3": ("phi3", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "arcee": ("arcee", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "glm": ("glm", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10, "attention_bias": True}),
    "helium": ("helium", _LLAMA_LIKE | {"num_key_value_heads": 3, "head_dim": 8}),
    "ministral": ("ministral", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 14}),
    "nemotron": ("nemotron", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 8}),
    "seed_oss": ("seed_oss", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10}),
    "smollm3": ("smollm3", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "starcoder2": ("starcoder2", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "cohere": ("cohere", _LLAMA_LIKE | {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "cohere2": ("cohere2", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": True}),
    "gptj": (
        "gptj",
        {
            "n_layer": N_LAYERS,
            "n_head": N_HEADS,
            "n_embd": D_MODEL,
            "n_inner": D_MLP,
            "rotary_dim": 4,
            "vocab_size": D_VOCAB,
            "n_positions": 64,
            "tie_word_embeddings": False,
        },
    ),
    "gpt_neo": (
        "gpt_neo",
        {
            "num_layers": N_LAYERS,
            "num_heads": N_HEADS,
            "hidden_size": D_MODEL,
            "intermediate_size": D_MLP,
            "vocab_size": D_VOCAB,
            "max_position_embeddings": 64,
            "attention_types": [[["global", "local", "global"], 1]],
        },
    ),
    "apertus": ("apertus", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "bloom": (
        "bloom",
        {"n_layer": N_LAYERS, "n_head": N_HEADS, "hidden_size": D_MODEL, "vocab_size": D_VOCAB, "pad_token_id": 0,
         "tie_word_embeddings": False},
    ),
    "cwm": ("cwm", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10}),
    "deepseek_v2": ("deepseek_v2", _LLAMA_LIKE | _LATENT | _EXPERTS | {"q_lora_rank": None, "n_shared_experts": 1,
                    "n_group": 1, "topk_group": 1, "topk_method": "greedy", "first_k_dense_replace": 1}),
    "deepseek_v3": ("deepseek_v3", _LLAMA_LIKE | _LATENT | _EXPERTS | {"q_lora_rank": 13, "n_shared_experts": 1,
                    "n_group": 2, "topk_group": 1, "first_k_dense_replace": 0}),
    "ernie4_5": ("ernie4_5", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10, "use_bias": True}),
    "ernie4_5_moe": ("ernie4_5_moe", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 8,
                     "moe_num_experts": 5, "moe_k": 2, "moe_intermediate_size": 11, "moe_layer_start_index": 0,
                     "moe_num_shared_experts": 1}),
    "exaone4": ("exaone4", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10, "sliding_window": 16,
                "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}),
    "falcon-new": ("falcon", _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-one-key": ("falcon", _FALCON | {"new_decoder_architecture": False, "multi_query": True}),
    "falcon-serial": ("falcon", _FALCON | {"new_decoder_architecture": False, "multi_query": False, "alibi": True,
                      "parallel_attn": False, "bias": True}),
    "gemma": ("gemma", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10}),
    "gemma2": ("gemma2", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10, "sliding_window": 16}),
    "gemma3_text": ("gemma3_text", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10, "sliding_window": 16}),
    "gemma4_text": ("gemma4_text", _GEMMA4),
    "gemma4_text-shared": ("gemma4_text", _GEMMA4 | {"num_hidden_layers": 5, "num_kv_shared_layers": 2,
                           "layer_types": ["sliding_attention", "full_attention"] * 2 + ["full_attention"]}),
    "glm4": ("glm4", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10, "attention_bias": True}),
    "glm4_moe": ("glm4_moe", _LLAMA_LIKE | _EXPERTS | {"num_key_value_heads": 2, "head_dim": 10, "n_group": 1,
                 "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1}),
    "glm4_moe_lite": ("glm4_moe_lite", _LLAMA_LIKE | _LATENT | _EXPERTS | {"q_lora_rank": 13, "n_group": 1,
                      "topk_group": 1, "n_shared_experts": 1}),
    "gpt_bigcode": ("gpt_bigcode", _GPT2_LIKE | {"multi_query": True, "tie_word_embeddings": False}),
    "gpt_bigcode-per-head": ("gpt_bigcode", _GPT2_LIKE | {"multi_query": False}),
    "gpt_oss": ("gpt_oss", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10, "num_local_experts": 5,
                "num_experts_per_tok": 2, "sliding_window": 16}),
    "granite": ("granite", _LLAMA_LIKE | {"num_key_value_heads": 2, "embedding_multiplier": 12.0,
                "residual_multiplier": 0.22, "logits_scaling": 8.0, "attention_multiplier": 0.1}),
    "granitemoe": ("granitemoe", _LLAMA_LIKE | {"num_key_value_heads": 2, "embedding_multiplier": 12.0,
                   "num_local_experts": 5, "num_experts_per_tok": 2}),
    "llama4_text": ("llama4_text", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10, "num_local_experts": 3,
                    "intermediate_size_mlp": 23, "interleave_moe_layer_step": 2,
                    "layer_types": ["chunked_attention", "chunked_attention", "full_attention"]}),
    "llama4_text-experts": ("llama4_text", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10,
                            "num_local_experts": 3, "interleave_moe_layer_step": 1,
                            "layer_types": ["chunked_attention", "chunked_attention", "full_attention"]}),
    "llava": ("llava", {"text_config": _LLAMA_LIKE | {"model_type": "llama", "num_key_value_heads": 2},
              "vision_config": _VISION | {"model_type": "clip_vision_model"}}),
    "qwen2_vl": ("qwen2_vl", {"text_config": _MULTIMODAL_ROPE, "vision_config": _VISION | {"hidden_size": D_MODEL}}),
    "qwen2_5_vl": ("qwen2_5_vl", {"text_config": _MULTIMODAL_ROPE, "vision_config": _VISION}),
    "qwen3_vl": ("qwen3_vl", {"text_config": _MULTIMODAL_ROPE | {"head_dim": 8},
                 "vision_config": _VISION | {"deepstack_visual_indexes": [0]}}),
    "gemma3": ("gemma3", {"text_config": _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10},
               "vision_config": _VISION}),
    "llama4": ("llama4", {"text_config": _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10,
               "num_local_experts": 3}, "vision_config": _VISION}),
    "ministral3": ("ministral3", _LLAMA_LIKE | {"num_key_value_heads": 2, "head_dim": 10}),
    "mixtral": ("mixtral", _LLAMA_LIKE | {"num_key_value_heads": 2, "num_local_experts": 5}),
    "mpt": ("mpt", {"n_layers": N_LAYERS, "n_heads": N_HEADS, "d_model": D_MODEL, "vocab_size": D_VOCAB,
            "expansion_ratio": 2, "max_seq_len": 64, "tie_word_embeddings": False}),
    "mpt-clipped": ("mpt", {"n_layers": N_LAYERS, "n_heads": N_HEADS, "d_model": D_MODEL, "vocab_size": D_VOCAB,
                    "expansion_ratio": 2, "max_seq_len": 64, "attn_config": {"clip_qkv": 6.0}}),
    "olmo": ("olmo", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "olmo-clipped": ("olmo", _LLAMA_LIKE | {"num_key_value_heads": 2, "clip_qkv": 5.0}),
    "olmo2": ("olmo2", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "olmo3": ("olmo3", _LLAMA_LIKE | {"num_key_value_heads": 2, "sliding_window": 16}),
    "olmoe": ("olmoe", _LLAMA_LIKE | {"num_key_value_heads": 2, "num_experts": 5, "num_experts_per_tok": 2}),
    "opt": ("opt", _OPT),
    "opt-narrow": ("opt", _OPT | {"word_embed_proj_dim": 23, "do_layer_norm_before": False}),
    "persimmon": ("persimmon", _LLAMA_LIKE),
    "phimoe": ("phimoe", _LLAMA_LIKE | {"num_key_value_heads": 2, "num_local_experts": 5}),
    "qwen2_moe": ("qwen2_moe", _LLAMA_LIKE | _EXPERTS | {"num_key_value_heads": 2, "num_experts": 5,
                  "shared_expert_intermediate_size": 13}),
    "qwen3_5_moe_text": ("qwen3_5_moe_text", _QWEN_NEXT | _EXPERTS | {"shared_expert_intermediate_size": 13,
                         "num_experts": 5}),
    "qwen3_5_text": ("qwen3_5_text", _QWEN_NEXT),
    "qwen3_moe": ("qwen3_moe", _LLAMA_LIKE | _EXPERTS | {"num_key_value_heads": 2, "head_dim": 10,
                  "num_experts": 5}),
    "qwen3_next": ("qwen3_next", _QWEN_NEXT | _EXPERTS | {"shared_expert_intermediate_size": 13, "num_experts": 5}),
    "stablelm": ("stablelm", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "stablelm-parallel": ("stablelm", _LLAMA_LIKE | {"num_key_value_heads": 2, "use_parallel_residual": True}),
}  # fmt: skip
"""Name of the case -> model type and config."""


def make_model(case: str, seed: int = 0, **changes):
    """A transformers model of a case, in eval mode, every parameter random (norms and biases too)."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    model_type, settings = (CASES | STRUCTURE_CASES | UNSUPPORTED_CASES)[case]
    config = AutoConfig.for_model(model_type, **settings | changes)
    config._experts_implementation = "eager"  # the others cannot compute in float64
    whole = AutoModelForImageTextToText if "text_config" in settings else AutoModelForCausalLM
    model = whole.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + 0.05)
    return model.eval()


def save_model(model, folder: Path, words: list[str] | None = None, **options) -> Path:
    """Save weights, config and a tokenizer, as Hugging Face lays them out."""
    model.save_pretrained(folder, **options)
    make_tokenizer(words or [first + second for first in "bcdfghjkl" for second in "aeiouwxyz"]).save_pretrained(folder)
    return folder


def make_tokenizer(words: list[str]):
    """A byte-level tokenizer like GPT-2's, in which each word behind a space is one token and all else is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {"<|end|>": 0} | {f"Ġ{word}": number for number, word in enumerate(dict.fromkeys(words), start=1)}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<|end|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<|end|>", eos_token="<|end|>")


STRUCTURE_CASES: dict[str, tuple[str, dict]] = {
    name: (name, _LLAMA_LIKE | ({} if "kv_lora_rank" in more else {"num_key_value_heads": 2, "head_dim": 10}) | more)
    for name, more in {
        "aria_text": _EXPERTS,
        "deepseek_v32": _LATENT | _EXPERTS | {"q_lora_rank": 13, "n_group": 1, "topk_group": 1},
        "exaone_moe": _EXPERTS | {"num_experts": 5},
        "flex_olmo": _EXPERTS | {"num_experts": 5},
        "hunyuan_v1_dense": {},
        "hunyuan_v1_moe": {"num_experts": 5, "moe_topk": 2},
        "internlm3": {},
        "jais2": {},
        "minicpm3": _LATENT | {"q_lora_rank": 13},
        "minimax_m2": _EXPERTS | {"num_local_experts": 5},
        "olmo_hybrid": {},
        "solar_open": _EXPERTS,
        "vaultgemma": {},
        "youtu": _LATENT | {"q_lora_rank": 13},
    }.items()
}
"""Model types without an entry that are read by module structure."""

UNSUPPORTED_CASES: dict[str, tuple[str, dict]] = {
    "afmoe": ("afmoe", _LLAMA_LIKE | _EXPERTS | {"num_key_value_heads": 2, "head_dim": 10, "num_experts": 5}),
    "diffllama": ("diffllama", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "nanochat": ("nanochat", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "doge": ("doge", _LLAMA_LIKE | {"num_key_value_heads": 2}),
    "minimax": ("minimax", _LLAMA_LIKE | _EXPERTS | {"num_key_value_heads": 2, "head_dim": 10, "num_local_experts": 5}),
    "openai-gpt": ("openai-gpt", _GPT2_LIKE),
    "mamba": ("mamba", {"num_hidden_layers": N_LAYERS, "hidden_size": D_MODEL, "vocab_size": D_VOCAB}),
}
"""Model types that are refused."""
