"""LoRA adapters: compared with the formula, and each kind that cannot be added exactly.

The reading was also compared with PEFT 0.18 itself (its merged models, of these cases and more): not a bit differed.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from headatlas.architectures import open_model
from headatlas.architectures.open import FAMILIES, open_checkpoint
from headatlas.checkpoints.adapter import MERGE, UNTIE
from headatlas.errors import CheckpointError
from models import make_model, save_model

LAYER = "model.layers.1.self_attn.v_proj"
KEY = f"base_model.model.{LAYER}"
OTHER = KEY.replace("model.model.", "model.")  # as in an adapter of the base model
V_SHAPE = (20, 48)  # 2 kv heads of 10, d_model


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def factors(n_out, n_in, rank=3, key=KEY):
    return {f"{key}.lora_A.weight": random(rank, n_in), f"{key}.lora_B.weight": random(n_out, rank, seed=1)}


def write(folder, tensors=None, file="adapter_model.safetensors", **config):
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 7, "target_modules": ["v_proj"]} | config
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    tensors = factors(*V_SHAPE) if tensors is None else tensors
    if file.endswith(".bin"):
        torch.save(tensors, folder / file)
    else:
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / file)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(make_model("llama"), tmp_path_factory.mktemp("models") / "tiny")


def message(model, folder):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(model, folder)
    return str(caught.value)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 7 / 3),
        ({"use_rslora": True}, 7 / 3**0.5),
        ({"r": 5, "rank_pattern": {"v_proj": 3}}, 7 / 3),
        ({"alpha_pattern": {r"layers.\d.self_attn.v_proj": 2.5}}, 2.5 / 3),
        ({"alpha_pattern": {"o_proj": 2, "proj": 2, "^model.layers.1.self_attn.v_proj": 4, "v_proj": 5}}, 4 / 3),
        ({"target_modules": "all-linear", "lora_dropout": 0.1, "init_lora_weights": "gaussian"}, 7 / 3),
    ],
)
def test_the_formula(tmp_path, model, config, scale, file):
    base = open_checkpoint(model)
    adapted = open_checkpoint(model, write(tmp_path / "adapter", file=file, **config))
    name = f"{LAYER}.weight"
    a, b = factors(*V_SHAPE).values()
    expected = base.read(name) + torch.einsum("or,ri->oi", b, a) * scale
    torch.testing.assert_close(adapted.read(name), expected)
    for rows in (slice(3, 11), slice(0, 0), slice(None)):
        torch.testing.assert_close(adapted.read(name, rows), expected[rows])
    untouched = "model.layers.0.self_attn.v_proj.weight"
    assert torch.equal(adapted.read(untouched), base.read(untouched))
    assert list(adapted.names()) == list(base.names()) and name in adapted
    assert adapted.shape(name) == V_SHAPE and adapted.file_of(name) == "model.safetensors"
    assert adapted.n_bytes(name) == base.n_bytes(name) + 4 * 3 * sum(V_SHAPE)
    assert adapted.size == base.size + 4 * 3 * sum(V_SHAPE)
    assert adapted.note == "The LoRA adapter adapter is added." and adapted.name == "tiny + adapter"
    assert adapted.source == base.source and adapted.model_type == base.model_type
    assert open_model(adapted).fingerprint() != open_model(base).fingerprint()


def test_an_embedding(tmp_path, model):
    key = "base_model.model.model.embed_tokens"
    a, b = random(3, 101), random(48, 3, seed=1)
    tensors = {f"{key}.lora_embedding_A": a, f"{key}.lora_embedding_B": b}
    adapted = open_checkpoint(model, write(tmp_path / "a", tensors, target_modules=["embed_tokens"]))
    expected = open_checkpoint(model).read("model.embed_tokens.weight") + torch.einsum("dr,rv->vd", b, a) * (7 / 3)
    torch.testing.assert_close(adapted.read("model.embed_tokens.weight"), expected)
    torch.testing.assert_close(adapted.read("model.embed_tokens.weight", slice(89, 97)), expected[89:97])


def test_whole_tensors_replace_those_of_the_model(tmp_path, model):
    head, bias, embedding = random(101, 48), random(20, seed=1), random(101, 48, seed=2)
    tensors = factors(*V_SHAPE) | {
        "base_model.model.lm_head.weight": head,
        f"{KEY}.base_layer.bias": bias,
        "base_model.model.model.embed_tokens.weight": embedding,
    }
    folder = write(tmp_path / "a", tensors, modules_to_save=["lm_head", "embed_tokens"], bias="all")
    adapted = open_checkpoint(model, folder)
    assert torch.equal(adapted.read("lm_head.weight", slice(7, 13)), head[7:13])
    assert torch.equal(adapted.read(f"{LAYER}.bias"), bias)
    assert torch.equal(adapted.read("model.embed_tokens.weight"), embedding)
    assert adapted.n_bytes("lm_head.weight") == head.nbytes


def test_weights_that_are_stored_as_in_out(tmp_path):
    """Those of GPT-2; the shape of square ones does not show it."""
    folder = save_model(make_model("gpt2"), tmp_path / "gpt2")
    key = "base_model.model.transformer.h.2.attn"
    for module, n_out in (("c_attn", 144), ("c_proj", 48)):
        tensors = factors(n_out, 48, key=f"{key}.{module}")
        adapter = write(tmp_path / module, tensors, target_modules=[module], fan_in_fan_out=True)
        name = f"transformer.h.2.attn.{module}.weight"
        a, b = tensors.values()
        expected = open_checkpoint(folder).read(name) + (b @ a).T * (7 / 3)
        adapted = open_checkpoint(folder, adapter)
        torch.testing.assert_close(adapted.read(name), expected)
        torch.testing.assert_close(adapted.read(name, slice(5, 12)), expected[5:12])


@pytest.mark.parametrize("of_base", ["model", "adapter"])
def test_a_prefix_that_one_of_them_lacks(tmp_path, of_base):
    model = make_model("llama")
    folder = save_model(model.base_model if of_base == "model" else model, tmp_path / "m")
    key = KEY if of_base == "model" else KEY.replace("model.model.", "model.")
    adapted = open_checkpoint(folder, write(tmp_path / "a", factors(*V_SHAPE, key=key)))
    name = LAYER.removeprefix("model.") if of_base == "model" else LAYER
    a, b = factors(*V_SHAPE).values()
    expected = model.get_parameter(f"{LAYER}.weight").detach() + b @ a * (7 / 3)
    torch.testing.assert_close(adapted.read(f"{name}.weight"), expected)


TENSORS = {
    "no pair": (
        lambda good: {name: value for name, value in good.items() if "lora_A" in name},
        f"{KEY}.lora_A.weight",
        "has no second factor",
    ),
    "ranks": (
        lambda good: good | {f"{KEY}.lora_A.weight": random(2, 48)},
        f"{KEY}.lora_A.weight",
        "has the rank 2 (and the other factor 3); expected 3",
    ),
    "rank of the config": (
        lambda good: factors(*V_SHAPE, rank=4),
        f"{KEY}.lora_A.weight",
        "has the rank 4 (and the other factor 4); expected 3",
    ),
    "shape": (
        lambda good: factors(20, 47),
        f"{KEY}.lora_A.weight",
        f"gives a change of shape (20, 47), and the model's '{LAYER}.weight' has (20, 48)",
    ),
    "one dimension": (
        lambda good: good | {f"{KEY}.lora_A.weight": random(3)},
        f"{KEY}.lora_A.weight",
        "has the rank -1 (and the other factor 3); expected 3",
    ),
    "type": (
        lambda good: good | {f"{KEY}.lora_A.weight": torch.ones(3, 48, dtype=torch.int64)},
        f"{KEY}.lora_A.weight",
        "has the type I64; expected one of F64, F32, F16, BF16",
    ),
    "magnitudes of DoRA": (
        lambda good: good | {f"{KEY}.lora_magnitude_vector": random(20)},
        f"{KEY}.lora_magnitude_vector",
        "belongs to a kind of LoRA that cannot be added exactly",
    ),
    "biases of factors": (
        lambda good: good | {f"{KEY}.lora_B.bias": random(20)},
        f"{KEY}.lora_B.bias",
        "belongs to a kind of LoRA that cannot be added exactly",
    ),
    "other names": (
        lambda good: {f"{LAYER}.lora_A.weight": random(3, 48)},
        f"{LAYER}.lora_A.weight",
        "does not have a name of PEFT's LoRA, and cannot be added exactly",
    ),
    "not a target": (
        lambda good: good | factors(1, 1, key=KEY.replace("v_proj", "o_proj")),
        f"{KEY.replace('v_proj', 'o_proj')}.lora_A.weight",
        "belongs to a module that target_modules in adapter_config.json does not name",
    ),
    "twice": (
        lambda good: good | factors(*V_SHAPE, key=OTHER),
        f"{KEY}.lora_A.weight",
        f"changes '{LAYER}.weight', which another of the adapter's tensors changes too",
    ),
    "a pair of two modules": (
        lambda good: {f"{KEY}.lora_A.weight": good[f"{KEY}.lora_A.weight"], f"{OTHER}.lora_B.weight": random(20, 3)},
        f"{KEY}.lora_A.weight",
        f"changes '{LAYER}.weight', which another of the adapter's tensors changes too",
    ),
    "whole tensor of another shape": (
        lambda good: good | {"base_model.model.lm_head.weight": random(103, 48)},
        "base_model.model.lm_head.weight",
        "has shape (103, 48), and the model's 'lm_head.weight' (101, 48)",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_cannot_be_added(tmp_path, model, case):
    change, name, problem = TENSORS[case]
    folder = write(tmp_path / "a", change(factors(*V_SHAPE)))
    found = message(model, folder)
    if case in ("twice", "a pair of two modules"):  # either may come first in the file
        assert found.endswith(f"{problem}. {MERGE}")
    else:
        assert found == f"adapter_model.safetensors: tensor {name!r} {problem}. {MERGE}"


@pytest.mark.parametrize("path", ["model.layers.7.self_attn.v_proj", "v_proj", "vision.layers.1.v_proj", "weight"])
def test_tensors_that_the_model_does_not_have(tmp_path, model, path):
    tensors = factors(*V_SHAPE, key=f"base_model.model.{path}")
    folder = write(tmp_path / "a", tensors, target_modules=None)
    assert message(model, folder) == (
        f"adapter_model.safetensors: tensor 'base_model.model.{path}.lora_A.weight' fits no tensor of the model tiny. "
        f"Was it trained on this model?"
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"peft_type": "IA3"}, "expected 'LORA' for 'peft_type', found 'IA3'."),
        ({"peft_type": None}, "expected 'LORA' for 'peft_type', found None."),
        *(
            ({key: value}, f"adapters with {key!r} cannot be added exactly. {MERGE}")
            for key, value in {
                "use_dora": True,
                "lora_bias": True,
                "layer_replication": [[0, 2]],
                "trainable_token_indices": [1],
                "target_parameters": ["w"],
                "alora_invocation_tokens": [3],
                "megatron_config": {"a": 1},
                "use_qalora": True,
                "of_the_future": "x",
            }.items()
        ),
        (
            {"init_lora_weights": "pissa_niter_4"},
            f"adapters with 'init_lora_weights = pissa_niter_4' cannot be added exactly. {MERGE}",
        ),
        ({"r": 0}, "expected a positive whole number for 'r', found 0."),
        ({"r": -3}, "expected a positive whole number for 'r', found -3."),
        ({"r": 3.0}, "expected a positive whole number for 'r', found 3.0."),
        ({"r": True}, "expected a positive whole number for 'r', found True."),
        ({"r": 2**70}, "expected a positive whole number for 'r', found 1180591620717411303424."),
        ({"r": {"a": 1}}, "expected a positive whole number for 'r', found {'a': 1}."),
        ({"lora_alpha": float("nan")}, "expected a number other than 0 for 'lora_alpha', found nan."),
        ({"lora_alpha": "7"}, "expected a number other than 0 for 'lora_alpha', found '7'."),
        ({"use_rslora": 1}, "expected true or false for 'use_rslora', found 1."),
        ({"rank_pattern": [1]}, "expected patterns and numbers for 'rank_pattern', found [1]."),
        ({"rank_pattern": {"v_proj": "3"}}, "expected a positive whole number for 'rank_pattern: v_proj', found '3'."),
        *(
            (
                {"alpha_pattern": {pattern: 1}},
                f"expected names of modules, or patterns without groups for 'alpha_pattern', found {pattern!r}.",
            )
            for pattern in ("(a+)+b", "[", "a*a*a*b", "\\")
        ),
        ({"target_modules": [1]}, "expected a list of modules for 'target_modules', found [1]."),
        ({"modules_to_save": "lm_head"}, "expected a list of modules for 'modules_to_save', found 'lm_head'."),
        (
            {"modules_to_save": ["x" * 90, 1]},
            f"expected a list of modules for 'modules_to_save', found ['{'x' * 78}....",
        ),
    ],
)
def test_unsupported_configs(tmp_path, model, config, expected):
    folder = write(tmp_path / "a", **config)
    assert message(model, folder) == f"{folder / 'adapter_config.json'}: {expected}"


def test_missing_files_and_tensors(tmp_path, model):
    gone = tmp_path / "gone"
    assert message(model, gone) == f"{gone}: expected an adapter's folder with adapter_config.json, found none."
    gone.mkdir()
    assert message(model, gone) == f"{gone}: expected an adapter's folder with adapter_config.json, found none."
    folder = write(tmp_path / "a", modules_to_save=["lm_head"])
    assert message(model, folder) == (
        f"{folder}: expected a tensor of 'lm_head', which modules_to_save names, found none."
    )
    write(tmp_path / "a", {})
    assert message(model, folder) == f"{folder}: expected an adapter's tensors, found none."
    (folder / "adapter_model.safetensors").unlink()
    assert message(model, folder) == (
        f"{folder}: expected adapter_model.safetensors or adapter_model.bin, found neither."
    )


def test_a_tied_embedding_is_not_changed(tmp_path):
    """PEFT would change the embedding but not the unembedding: they would no longer be one tensor."""
    folder = save_model(make_model("llama-tied"), tmp_path / "tied")
    name = "base_model.model.model.embed_tokens.weight"
    adapter = write(tmp_path / "a", {name: random(101, 48)}, modules_to_save=["embed_tokens"])
    assert message(folder, adapter) == (
        f"adapter_model.safetensors: tensor {name!r} changes 'model.embed_tokens.weight', which the model uses as "
        f"embedding and as unembedding. {UNTIE}"
    )


def test_square_weights_that_only_the_config_declares_transposed(tmp_path, model):
    square = make_model("llama", num_attention_heads=6, head_dim=8)
    folder = save_model(square, tmp_path / "square")
    key = KEY.replace("v_proj", "o_proj")
    adapter = write(tmp_path / "a", factors(48, 48, key=key), target_modules=["o_proj"], fan_in_fan_out=True)
    assert message(folder, adapter) == (
        f"adapter_model.safetensors: tensor '{key}.lora_A.weight' is transposed by fan_in_fan_out in "
        f"adapter_config.json, which this model's weights are not. {MERGE}"
    )


def test_the_note_of_the_model_comes_first(tmp_path, model):
    class Quantised:
        note = "Weights are quantised (FP8)."

        def __getattr__(self, name):
            return getattr(open_checkpoint(model), name)

        def __contains__(self, name):
            return name in open_checkpoint(model)

    from headatlas.checkpoints.adapter import AdaptedCheckpoint

    adapted = AdaptedCheckpoint(Quantised(), write(tmp_path / "a"), FAMILIES)  # pyright: ignore[reportArgumentType]
    assert adapted.note == "Weights are quantised (FP8). The LoRA adapter a is added."


def test_an_adapter_with_a_hostile_file(tmp_path, model):
    folder = write(tmp_path / "a")
    path = folder / "adapter_model.safetensors"
    assert load_file(path)
    path.write_bytes(path.read_bytes()[:50])
    assert message(model, folder).startswith(f"{path}: expected a safetensors file, found a damaged one (")
