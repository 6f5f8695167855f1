"""Where each family keeps its heads: one declarative entry per family."""

from __future__ import annotations

from dataclasses import dataclass

from headatlas.architectures.layouts import PER_HEAD_QUERY_KEY_VALUE, QUERY_KEY_VALUE, SEPARATE, Layout
from headatlas.errors import ArchitectureError


@dataclass(frozen=True)
class Family:
    """The names of a family's modules in transformers, and the layout of its values.

    Args:
        model_types: names of the family in `config.json`.
        base: prefix of the model without its head; missing from checkpoints that were saved without one.
        layers: path of the list of layers in the base model.
        embedding, unembedding: modules of W_E (in the base model) and W_U.
        value, output: modules of the values and of the output projection in a layer.
        norm_before_mlp, mlp: modules in a layer; the norm may be one that attention shares.
        layout: which rows of `value` are the values.
        transposed: weights are stored as (in, out), as GPT-2's Conv1D does.
    """

    model_types: tuple[str, ...]
    base: str
    layers: str
    embedding: str
    value: str
    output: str
    norm_before_mlp: str
    mlp: str
    layout: Layout = SEPARATE
    unembedding: str = "lm_head"
    transposed: bool = False


FAMILIES = (
    Family(
        model_types=(
            "arcee",
            "glm",
            "helium",
            "llama",
            "ministral",
            "mistral",
            "nemotron",
            "qwen2",
            "qwen3",
            "seed_oss",
            "smollm3",
            "starcoder2",
        ),
        base="model",
        layers="layers",
        embedding="embed_tokens",
        value="self_attn.v_proj",
        output="self_attn.o_proj",
        norm_before_mlp="post_attention_layernorm",
        mlp="mlp",
    ),
    Family(
        model_types=("gpt2",),
        base="transformer",
        layers="h",
        embedding="wte",
        value="attn.c_attn",
        output="attn.c_proj",
        norm_before_mlp="ln_2",
        mlp="mlp",
        layout=QUERY_KEY_VALUE,
        transposed=True,
    ),
    Family(
        model_types=("gpt_neox",),
        base="gpt_neox",
        layers="layers",
        embedding="embed_in",
        unembedding="embed_out",
        value="attention.query_key_value",
        output="attention.dense",
        norm_before_mlp="post_attention_layernorm",
        mlp="mlp",
        layout=PER_HEAD_QUERY_KEY_VALUE,
    ),
    Family(
        model_types=("phi",),
        base="model",
        layers="layers",
        embedding="embed_tokens",
        value="self_attn.v_proj",
        output="self_attn.dense",
        norm_before_mlp="input_layernorm",
        mlp="mlp",
    ),
    Family(
        model_types=("phi3",),
        base="model",
        layers="layers",
        embedding="embed_tokens",
        value="self_attn.qkv_proj",
        output="self_attn.o_proj",
        norm_before_mlp="post_attention_layernorm",
        mlp="mlp",
        layout=QUERY_KEY_VALUE,
    ),
    # Attention and MLP read the same norm.
    Family(
        model_types=("cohere", "cohere2"),
        base="model",
        layers="layers",
        embedding="embed_tokens",
        value="self_attn.v_proj",
        output="self_attn.o_proj",
        norm_before_mlp="input_layernorm",
        mlp="mlp",
    ),
    Family(
        model_types=("gptj",),
        base="transformer",
        layers="h",
        embedding="wte",
        value="attn.v_proj",
        output="attn.out_proj",
        norm_before_mlp="ln_1",
        mlp="mlp",
    ),
    Family(
        model_types=("gpt_neo",),
        base="transformer",
        layers="h",
        embedding="wte",
        value="attn.attention.v_proj",
        output="attn.attention.out_proj",
        norm_before_mlp="ln_2",
        mlp="mlp",
    ),
)

KNOWN_MODEL_TYPES = tuple(sorted(name for family in FAMILIES for name in family.model_types))


def find_family(model_type: str, where: str) -> Family:
    """The entry of a model type; raises `ArchitectureError` with the list of known ones."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    raise ArchitectureError(
        f"{where}: the model type {model_type!r} is not known. Known are {', '.join(KNOWN_MODEL_TYPES)}."
    )
