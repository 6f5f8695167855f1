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
}
"""Name of the case -> model type and config."""


def make_model(case: str, seed: int = 0, **changes):
    """A transformers model of a case, in eval mode, every parameter random (norms and biases too)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, settings = CASES[case]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings | changes))
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
