"""Names of tensors in a GGUF file, in their parts and translated."""

import pytest

from headatlas.checkpoints.gguf.names import TensorName, parse_name, stems


@pytest.mark.parametrize(
    ("name", "layer", "stem", "end"),
    [
        ("blk.17.attn_v.weight", 17, "blk.{}.attn_v", ".weight"),
        ("token_embd.weight", None, "token_embd", ".weight"),
        ("blk.01.attn_v.weight", None, "blk.01.attn_v", ".weight"),
        ("blk.1234567.attn_v.weight", None, "blk.1234567.attn_v", ".weight"),
        ("blk.\u0661.attn_v.weight", None, "blk.\u0661.attn_v", ".weight"),
    ],
)
def test_the_parts_of_a_name(name, layer, stem, end):
    assert parse_name(name) == TensorName(layer, stem, end)


def test_the_kind_is_the_same_in_every_layer():
    assert parse_name("blk.3.attn_v.weight").kind == parse_name("blk.14.attn_v.bias").kind == "attn_v"


def test_names_of_transformers_are_translated_and_unknown_ones_left_out():
    names = ("model.embed_tokens", "lm_head", "model.layers.{}.self_attn.v_proj", "model.layers.{}.no_such_module")
    assert stems("gemma", names) == {
        "token_embd": "model.embed_tokens",
        "output": "lm_head",
        "blk.{}.attn_v": "model.layers.{}.self_attn.v_proj",
    }
    assert stems("bloom", ["transformer.word_embeddings"]) == {"token_embd": "transformer.word_embeddings"}
