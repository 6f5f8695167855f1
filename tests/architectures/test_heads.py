"""What does not fit is refused with one sentence; the same weights have the same fingerprint, other weights another."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.architectures.terms import Terms
from headatlas.errors import ArchitectureError, CheckpointError
from models import CASES, make_model, save_model


@pytest.fixture
def folder(tmp_path):
    return save_model(make_model("llama"), tmp_path / "tiny")


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def fingerprint(folder):
    return open_model(open_checkpoint(folder)).fingerprint()


def message(folder, kind=ArchitectureError):
    with pytest.raises(kind) as caught:
        fingerprint(folder)
    return str(caught.value)


def test_unknown_family(folder):
    change_config(folder, model_type="mamba")
    assert "the embedding 'backbone.embeddings.weight', found none" in message(folder)


def test_an_encoder_is_no_language_model(folder):
    change_config(folder, model_type="vit")
    assert message(folder) == (
        f"{folder}: expected a language model that transformers can build, found the model type 'vit'. "
        f"docs/families.md lists the supported ones."
    )


def test_wrong_shape(folder):
    change_weights(
        folder, lambda tensors: tensors.update({"model.layers.1.self_attn.v_proj.weight": torch.zeros(3, 48)})
    )
    opened = open_model(open_checkpoint(folder))
    with pytest.raises(ArchitectureError) as caught:
        opened.values_and_outputs(1)
    assert str(caught.value) == (
        "model.safetensors: tensor 'model.layers.1.self_attn.v_proj.weight' has shape (3, 48); this config (n_heads=6, "
        "n_kv_heads=2, d_head=10, d_model=48, d_vocab=101) needs (20, 48). Is config.json from the same model?"
    )


def test_wrong_vocabulary(folder):
    change_config(folder, vocab_size=97)
    opened = open_model(open_checkpoint(folder))
    with pytest.raises(ArchitectureError) as caught:
        opened.W_U()
    assert str(caught.value) == (
        "model.safetensors: tensor 'lm_head.weight' has shape (101, 48); this config (n_heads=6, n_kv_heads=2, "
        "d_head=10, d_model=48, d_vocab=97) needs (97, 48). Is config.json from the same model?"
    )


def test_missing_tensor(folder):
    change_weights(folder, lambda tensors: tensors.pop("model.layers.2.self_attn.o_proj.weight"))
    assert message(folder) == (
        f"{folder}: expected a tensor 'model.layers.2.self_attn.o_proj.weight', found none. Is the checkpoint complete?"
    )


def test_more_layers_than_the_config_says(folder):
    change_config(folder, num_hidden_layers=2)
    assert message(folder) == (
        "model.safetensors: expected layers up to 1 (n_layers=2 in this config), found tensor "
        "'model.layers.2.input_layernorm.weight'. Is config.json from the same model?"
    )


@pytest.mark.parametrize("changes", [{"mlp_bias": False}, {"mlp_bias": False, "attention_bias": False}])
def test_biases_that_the_config_does_not_know(folder, changes):
    change_config(folder, **changes)
    expected = (
        "model.safetensors: tensor 'model.layers.0.mlp.down_proj.bias' has no place in the model that this config "
        "describes; expected none. Is config.json from the same model?"
    )
    assert message(folder) == expected
    with pytest.raises(ArchitectureError) as caught:
        open_model(open_checkpoint(folder)).first_mlp(torch.zeros(1, 48))
    assert str(caught.value) == expected


def test_missing_unembedding(folder):
    change_weights(folder, lambda tensors: tensors.pop("lm_head.weight"))
    assert message(folder) == (
        f"{folder}: expected the unembedding 'lm_head.weight', found none, and the config does not tie it to the "
        f"embedding. Use a checkpoint of the whole language model."
    )


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.2.self_attn.v_proj.weight", "model.layers.0.mlp.up_proj.bias"]
)
def test_weights_that_are_not_finite(folder, name, bad):
    def spoil(tensors):
        tensors[name].view(-1)[[1, 5]] = bad

    change_weights(folder, spoil)
    assert message(folder) == (
        f"{folder}: {name} holds 2 values that are NaN or infinite; expected none. Are the weights damaged?"
    )


def test_all_values_that_are_not_finite_are_counted(folder, monkeypatch):
    """Also those in rows that were not read when the first was found."""
    monkeypatch.setattr("headatlas.architectures.fingerprint.ROWS_AT_ONCE", 16)

    def spoil(tensors):
        tensors["lm_head.weight"][[3, 50, 100]] = torch.nan

    change_weights(folder, spoil)
    assert message(folder) == (
        f"{folder}: lm_head.weight holds 144 values that are NaN or infinite; expected none. Are the weights damaged?"
    )


def test_heads_that_kv_heads_do_not_divide(folder):
    change_config(folder, num_key_value_heads=4)
    assert "expected a number of heads that 4 key-value heads divide, found 6" in message(folder)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hidden_act": "silt"}, "KeyError: 'silt'"),
        ({"rope_parameters": {"rope_type": "x", "rope_theta": 7.0}}, "KeyError: 'x'"),
    ],
)
def test_a_config_that_no_model_can_be_built_from(folder, change, why):
    change_config(folder, **change)
    assert message(folder) == (
        f"{folder}: transformers cannot build a model of this config ({why}). Is the config complete?"
    )


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_that_make_no_sense(folder, size):
    change_config(folder, num_hidden_layers=size)
    with pytest.raises((ArchitectureError, CheckpointError), match="config"):
        fingerprint(folder)


def test_a_base_model_without_prefix_and_head_is_read_where_the_embedding_is_tied(tmp_path):
    model = make_model("llama-tied")
    whole, base = save_model(model, tmp_path / "whole"), save_model(model.base_model, tmp_path / "base")
    assert "embed_tokens.weight" in load_file(base / "model.safetensors")
    assert fingerprint(whole) == fingerprint(base)


# A map reads embedding, unembedding, values, outputs, and the first MLP with its norm; nothing else.
READ = (
    "embed_tokens", "lm_head", "v_proj.weight", "o_proj.weight", "layers.0.mlp", "layers.0.post",
    "wte", "c_attn.weight", "attn.c_proj.weight", "h.0.mlp", "h.0.ln_2",
)  # fmt: skip


@pytest.mark.parametrize("case", ["llama", "gpt2"])
def test_the_fingerprint_is_of_the_weights(tmp_path, case):
    model = make_model(case)
    first = fingerprint(save_model(model, tmp_path / "a"))
    assert fingerprint(save_model(make_model(case), tmp_path / "b")) == first
    assert fingerprint(save_model(make_model(case, seed=1), tmp_path / "c")) != first
    changed = [name for name, _ in model.named_parameters()]
    for number, name in enumerate(changed):
        folder = save_model(model, tmp_path / f"d{number}")

        def nudge(tensors, name=name):
            tensors[name].view(-1)[0] += 1e-3

        change_weights(folder, nudge)
        assert (fingerprint(folder) != first) == any(part in name for part in READ), name


@pytest.mark.parametrize("change", [{"hidden_act": "gelu"}, {"rms_norm_eps": 1e-5}])
def test_what_changes_the_first_mlp_is_part_of_the_fingerprint(folder, change):
    first = fingerprint(folder)
    change_config(folder, rope_theta=77.0)
    assert fingerprint(folder) == first
    change_config(folder, **change)
    assert fingerprint(folder) != first


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("falcon-new", {"activation": "silu"}),
        ("gpt_oss", {"swiglu_alpha": 1.5}),
        ("ernie4_5_moe", {"moe_norm_min": 0.3}),
        ("mixtral", {"num_experts_per_tok": 1}),
        ("aria_text", {"moe_topk": 1}),
        ("minicpm3", {"scale_emb": 11}),
        ("hunyuan_v1_moe", {"hidden_act": "gelu"}),
    ],
)
def test_each_family_s_own_settings_of_the_first_mlp_are_part_of_the_fingerprint(tmp_path, case, change):
    folder = save_model(make_model(case), tmp_path / "tiny")
    first, ids = open_model(open_checkpoint(folder)), torch.arange(9)
    fingerprint_before, before = first.fingerprint(), first.first_mlp(first.W_E(ids))
    change_config(folder, **change)
    other = open_model(open_checkpoint(folder))
    assert not torch.equal(other.first_mlp(other.W_E(ids)), before)
    assert other.fingerprint() != fingerprint_before


def test_a_router_that_wants_more_experts_than_there_are(tmp_path):
    folder = save_model(make_model("mixtral"), tmp_path / "tiny")
    change_config(folder, num_experts_per_tok=7)
    opened = open_model(open_checkpoint(folder))
    with pytest.raises(ArchitectureError, match=r"tiny: transformers' modules of the first layer cannot run with this"):
        opened.first_mlp(opened.W_E(torch.arange(9)))


def test_layers_that_differ_in_the_sizes_of_the_message(tmp_path):
    folder = save_model(make_model("gemma4_text"), tmp_path / "tiny")
    change_config(folder, num_key_value_heads=1)
    assert message(folder) == (
        "model.safetensors: tensor 'model.layers.0.self_attn.v_proj.weight' has shape (20, 48); this config "
        "(n_heads=6, n_kv_heads=1, d_model=48, d_vocab=101) needs (10, 48). Is config.json from the same model?"
    )


# The epsilon of these families is fixed in transformers.
EPSILON_FIXED = ("mpt", "olmo", "opt")


@pytest.mark.parametrize(
    "case", sorted(case for case in CASES if not case.startswith(EPSILON_FIXED) or case in ("olmo2", "olmo3", "olmoe"))
)
def test_the_epsilon_of_every_family_s_norm_is_part_of_the_fingerprint(tmp_path, case):
    folder = save_model(make_model(case), tmp_path / "tiny")
    first = fingerprint(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    text = config.get("text_config", config)
    names = [name for name in text if "norm" in name and "eps" in name]
    assert names
    text |= dict.fromkeys(names, 0.01)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    assert fingerprint(folder) != first


def test_grouped_attention_is_repeated_ordinary_attention(tmp_path):
    grouped, repeated = make_model("llama", num_key_value_heads=2), make_model("llama", num_key_value_heads=6)
    state = grouped.state_dict()
    for name in state:
        if "v_proj" in name or "k_proj" in name:
            heads = state[name].view(2, 10, *state[name].shape[1:])
            state[name] = heads.repeat_interleave(3, 0).flatten(0, 1)
    repeated.load_state_dict(state)
    ours = [
        open_model(open_checkpoint(save_model(model, tmp_path / str(number))))
        for number, model in enumerate((grouped, repeated))
    ]
    for layer in range(3):
        circuits = [
            torch.stack([W_V[kv] @ W_O[head] for head, kv in enumerate(model.kv_head_of(layer))])
            for model in ours
            for W_V, W_O in [model.values_and_outputs(layer)]
        ]
        assert torch.equal(*circuits)


def test_rows_of_the_unembedding_are_compared_as_they_are_stored(tmp_path):
    """Also with the final norm's gain counted, of which a channel is 0."""
    model, generator = make_model("llama"), torch.Generator().manual_seed(3)
    with torch.no_grad():
        model.model.norm.weight.copy_(torch.exp(torch.randn(48, generator=generator)))
        model.model.norm.weight[5] = 0
        model.lm_head.weight[:, 5] = 0
    folder = save_model(model, tmp_path)
    counted = open_model(open_checkpoint(folder), Terms(final_norm_gain=True))
    stored, W_U = open_model(open_checkpoint(folder)).W_U(), counted.W_U()
    assert not torch.allclose(stored, W_U)
    torch.testing.assert_close(counted.outputs_like_rows(W_U[:7]) @ W_U.T, stored[:7] @ stored.T)
    assert torch.equal(open_model(open_checkpoint(folder)).outputs_like_rows(stored), stored)


def test_a_gain_leaves_what_the_checkpoint_holds(tmp_path):
    """The file is mapped; a gain that were applied in place would also scale the embedding that is tied to it."""
    model = make_model("llama", tie_word_embeddings=True)
    with torch.no_grad():
        model.model.norm.weight.fill_(3.0)
    opened = open_model(open_checkpoint(save_model(model, tmp_path)), Terms(final_norm_gain=True))
    ids = torch.arange(7)
    before = opened.W_E(ids).clone()
    first = opened.W_U().clone()
    assert torch.equal(opened.W_U(), first) and torch.equal(opened.W_E(ids), before)
    torch.testing.assert_close(first[:7], 3 * before)
