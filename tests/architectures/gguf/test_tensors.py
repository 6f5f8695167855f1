"""Tensors that do not fit their architecture are refused, and the tables agree with the libraries' own."""

import gguf
import numpy as np
import pytest
import torch
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from gguf_models import CASES, make_model, write
from headatlas.architectures.gguf.table import ARCHITECTURES, VARIANTS
from headatlas.architectures.open import open_checkpoint
from headatlas.checkpoints.gguf.names import stems
from headatlas.errors import CheckpointError


def message(path):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path).config  # noqa: B018
    return str(caught.value)


def put(key, value, kind=gguf.GGUFValueType.UINT32):
    def more(writer):
        data = writer.kv_data[0]
        data.pop(key, None)
        data[key] = gguf.GGUFValue(value, kind)

    return more


def test_a_tensor_that_the_architecture_does_not_have(tmp_path):
    path = tmp_path / "m.gguf"

    def change(name, values):
        return (
            [(name, values), ("blk.1.attn_sub_norm.weight", values)]
            if name == "blk.1.attn_norm.weight"
            else [(name, values)]
        )

    write(make_model("llama"), "llama", path, change=change)
    assert message(path) == (
        f"{path}: expected the tensors of a model of 'llama', found 'blk.1.attn_sub_norm.weight', "
        f"which such a model does not have. Use the model's safetensors checkpoint."
    )


def test_layers_for_multi_token_prediction_are_ignored(tmp_path):
    def change(name, values):
        twin = [(name.replace("blk.2.", "blk.3."), values)] if name.startswith("blk.2.") else []
        return [(name, values), *twin]

    def more(writer):
        put("glm4.block_count", 4)(writer)
        put("glm4.nextn_predict_layers", 1)(writer)

    checkpoint = open_checkpoint(write(make_model("glm4"), "glm4", tmp_path / "m.gguf", more=more, change=change))
    assert checkpoint.config.num_hidden_layers == 3
    assert not any(".3." in name for name in checkpoint.names())


def test_a_weight_is_multiplied_by_its_scale(tmp_path):
    def change(name, values):
        more = [("blk.1.attn_v.scale", np.array([0.25], np.float32))] if name == "blk.1.attn_v.weight" else []
        return [(name, values), *more]

    model = make_model("llama")
    name = "model.layers.1.self_attn.v_proj.weight"
    checkpoint = open_checkpoint(write(model, "llama", tmp_path / "m.gguf", change=change))
    assert torch.equal(checkpoint.read(name, slice(2, 5)), model.state_dict()[name][2:5] / 4)

    def several(name, values):
        return [(n, v.repeat(2) if n.endswith(".scale") else v) for n, v in change(name, values)]

    path = write(model, "llama", tmp_path / "m.gguf", change=several)
    assert message(path) == (
        f"{path}: expected one number in tensor 'blk.1.attn_v.scale', found the shape (2,). "
        f"Use the model's safetensors checkpoint."
    )


def test_another_number_of_experts(tmp_path):
    path = write(make_model("qwen3_moe"), "qwen3_moe", tmp_path / "m.gguf", more=put("qwen3moe.expert_count", 2**31))
    assert message(path) == (
        f"{path}: expected 2147483648 experts in tensor 'blk.0.ffn_gate_exps.weight' (its expert_count), found 5. "
        f"Fetch the file again."
    )


def test_gate_and_up_projections_of_different_shapes(tmp_path):
    def change(name, values):
        return [(name, values[:, 1:] if name == "blk.1.ffn_up_exps.weight" else values)]

    path = write(make_model("mixtral"), "mixtral", tmp_path / "m.gguf", change=change)
    assert message(path) == (
        f"{path}: expected gate and up projections of one shape in layer 1, found (5, 37, 48) and (5, 36, 48). "
        f"Use the model's safetensors checkpoint."
    )


def test_gate_and_up_projections_in_one_tensor(tmp_path):
    """As the converter's `--fuse-gate-up-exps` writes them."""
    model, kept = make_model("qwen3_moe"), {}

    def change(name, values):
        if "_gate_exps" in name:
            kept["gate"] = values
            return []
        if "_up_exps" in name:
            return [(name.replace("_up_", "_gate_up_"), np.concatenate((kept["gate"], values), axis=1))]
        return [(name, values)]

    checkpoint = open_checkpoint(write(model, "qwen3_moe", tmp_path / "m.gguf", change=change))
    name = "model.layers.0.mlp.experts.gate_up_proj"
    assert torch.equal(checkpoint.read(name), model.state_dict()[name])


def test_latent_values_in_one_tensor_and_parts_that_do_not_fit(tmp_path):
    """Older files store keys and values together, and state other sizes."""
    model = make_model("deepseek_v2")
    name = "model.layers.0.self_attn.kv_b_proj.weight"

    def whole(name, values):
        if ".attn_k_b." in name:
            layer = name.split(".")[1]
            return [
                (
                    f"blk.{layer}.attn_kv_b.weight",
                    model.state_dict()[f"model.layers.{layer}.self_attn.kv_b_proj.weight"].numpy(),
                )
            ]
        return [] if ".attn_v_b." in name else [(name, values)]

    def older(writer):
        for key in ("key_length_mla", "value_length_mla"):
            del writer.kv_data[0][f"deepseek2.attention.{key}"]
        put("deepseek2.attention.key_length", 10)(writer)
        put("deepseek2.attention.value_length", 9)(writer)

    checkpoint = open_checkpoint(write(model, "deepseek_v2", tmp_path / "m.gguf", more=older, change=whole))
    assert torch.equal(checkpoint.read(name), model.state_dict()[name])
    assert (checkpoint.config.qk_nope_head_dim, checkpoint.config.v_head_dim) == (6, 9)

    def cut(name, values):
        return [(name, values[:5] if name == "blk.0.attn_v_b.weight" else values)]

    path = write(model, "deepseek_v2", tmp_path / "m.gguf", change=cut)
    assert message(path) == (
        f"{path}: expected parts that fit each other in 'blk.0.attn_k_b.weight' and 'blk.0.attn_v_b.weight', "
        f"found (6, 14, 6) and (5, 9, 14). Use the model's safetensors checkpoint."
    )


@pytest.mark.parametrize(
    ("case", "key", "value", "what"),
    [
        ("mpt", "mpt.attention.head_count_kv", 2, "6 for 'mpt.attention.head_count_kv', found 2"),
        ("bloom", "bloom.feed_forward_length", 96, "192 for 'bloom.feed_forward_length', found 96"),
        ("gemma", "gemma.attention.key_length", 12, "keys as long as values (10), found 12"),
        (
            "deepseek_v2",
            "deepseek2.leading_dense_block_count",
            0,
            "a first layer with one MLP, found a mixture of experts in it",
        ),
        (
            "falcon",
            "falcon.attention.head_count",
            5,
            "rows of 'transformer.h.0.self_attention.query_key_value.weight' for 5 heads and 1 key-value heads, "
            "found 64",
        ),
    ],
)
def test_what_transformers_module_cannot_hold(tmp_path, case, key, value, what):
    path = write(make_model(case), case, tmp_path / "m.gguf", more=put(key, value))
    assert message(path) == f"{path}: expected {what}. Use the model's safetensors checkpoint."


ENTRIES = {
    **{name: [entry] for name, entry in ARCHITECTURES.items()},
    **{name: [ARCHITECTURES[name], variant.entry] for name, variant in VARIANTS.items()},
}


def test_every_entry_has_a_case():
    assert {(case[0], case[1]) for case in CASES.values()} == {
        (name, entry.model_type) for name, entries in ENTRIES.items() for entry in entries
    }


@pytest.mark.parametrize("name", ENTRIES)
def test_gguf_knows_every_name(name):
    for entry in ENTRIES[name]:
        assert set(stems(name, entry.tensors).values()) == set(entry.tensors)


@pytest.mark.parametrize("name", sorted(set(ENTRIES) & set(GGUF_CONFIG_MAPPING)))
def test_keys_are_those_of_transformers_table(name):
    """Except for what it leaves at a default, or derives from the shapes of tensors."""
    theirs = GGUF_CONFIG_MAPPING[name]
    entry = ARCHITECTURES[name]
    for key, config in (entry.config | entry.optional).items():
        if (found := theirs.get(key)) is not None:
            same = {
                ("n_positions", "n_ctx"),
                ("n_inner", "feed_forward_length"),
                ("ffn_hidden_size", "intermediate_size"),
            }
            assert found == config or (config, found) in same, key
