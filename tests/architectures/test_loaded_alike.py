"""What is read from a folder is what transformers' own from_pretrained makes of the same folder."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from headatlas.architectures import check_circuits, open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.architectures.parts import Role
from models import CASES, D_VOCAB, STRUCTURE_CASES, make_model

IDS = torch.arange(20)
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")


def change_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    for part in (config, config.get("text_config", {})):
        part.update(changes)
    path.write_text(json.dumps(config), "utf-8")


def change_weights(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def shards(model, folder):
    model.save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.glob("*.safetensors"))) > 3


def new_names(model, folder):
    """As the modules are called today, experts in one tensor."""
    model.save_pretrained(folder, save_original_format=False)


def without_prefix(model, folder):
    model.save_pretrained(folder)
    prefix = f"{model.base_model_prefix}."
    change_weights(folder, lambda tensors: {name.removeprefix(prefix): tensor for name, tensor in tensors.items()})


def two_types(model, folder):
    mixed = copy.deepcopy(model).bfloat16()
    for name, parameter in mixed.named_parameters():
        if "mlp" in name or name.endswith(EMBEDDINGS):
            parameter.data = parameter.data.half()
    mixed.save_pretrained(folder)


def torch_file(model, folder):
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    torch.save(load_file(path), folder / "pytorch_model.bin")
    path.unlink()


def tied_but_both_stored(model, folder):
    """Two that differ are not tied, whatever the config says."""
    model.save_pretrained(folder)
    change_config(folder, tie_word_embeddings=True)


def tied_and_only_the_head_stored(model, folder):
    tied_but_both_stored(model, folder)
    change_weights(
        folder, lambda tensors: {name: each for name, each in tensors.items() if not name.endswith(EMBEDDINGS)}
    )


def with_a_layer_that_predicts_further_ahead(model, folder):
    model.save_pretrained(folder)

    def add(tensors):
        last = {name.replace("layers.2.", "layers.3."): each * 2 for name, each in tensors.items() if ".2." in name}
        more = {"embed_tokens": (D_VOCAB, 48), "shared_head.head": (D_VOCAB, 48), "eh_proj": (48, 96)}
        return tensors | last | {f"model.layers.3.{name}.weight": torch.randn(*shape) for name, shape in more.items()}

    change_weights(folder, add)
    change_config(folder, num_nextn_predict_layers=1)


def with_other_towers(model, folder):
    """Tensors outside the language model whose names end like its own."""
    model.save_pretrained(folder)

    def add(tensors):
        vision = {
            f"vision_tower.{name}": torch.randn(D_VOCAB, 48) for name in ("embed_tokens.weight", "lm_head.weight")
        }
        layer = {f"audio_tower.layers.0.self_attn.{name}_proj.weight": torch.randn(48, 48) for name in "vo"}
        return tensors | vision | layer

    change_weights(folder, add)


EXPERTS = (
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
    "deepseek_v3",
    "phimoe",
    "gpt_oss",
    "granitemoe",
    "olmoe",
    "ernie4_5_moe",
)
AHEAD = ("deepseek_v3", "glm4_moe", "glm4_moe_lite")
WAYS = (
    [(shards, case) for case in ("llama", "gpt2", "mixtral", "gemma3", "qwen3_next", "deepseek_v3")]
    + [
        (new_names, case)
        for case in (*EXPERTS, "llama4_text-experts", "qwen3_5_moe_text", "gemma3", "llava", "qwen3_vl")
    ]
    + [(two_types, case) for case in (*EXPERTS, "llava", "gemma4_text", "minicpm3", "vaultgemma")]
    + [(without_prefix, case) for case in ("gpt2", "gpt_neox", "bloom", "falcon-new", "opt-narrow", "llama", "gptj")]
    + [(torch_file, case) for case in ("gpt2", "mixtral", "llama4", "qwen2_vl")]
    + [(tied_but_both_stored, case) for case in ("llama", "gpt_neox", "bloom", "gemma3", "llava")]
    + [(tied_and_only_the_head_stored, case) for case in ("llama", "bloom", "phi", "opt")]
    + [(with_a_layer_that_predicts_further_ahead, case) for case in AHEAD]
    + [(with_other_towers, case) for case in ("llama", "llava", "gemma3", "qwen2_vl", "llama4")]
)


@pytest.mark.parametrize(("save", "case"), WAYS, ids=lambda value: getattr(value, "__name__", value))
def test_it_is_what_transformers_loads(tmp_path, save, case):
    save(make_model(case), tmp_path)
    whole = "text_config" in (CASES | STRUCTURE_CASES)[case][1]
    reference = (AutoModelForImageTextToText if whole else AutoModelForCausalLM).from_pretrained(
        tmp_path, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
    )
    ours = open_model(open_checkpoint(tmp_path))
    base = next(module for module in reference.modules() if type(module) is type(ours.tree.base))
    parameters = dict(base.named_parameters()) | dict(base.named_buffers())
    for part in ours.parts():
        if (name := part.parameter.removeprefix(ours.tree.base_path)) in parameters:
            expected = parameters[name] if part.rows is None else parameters[name][part.rows]
        else:
            assert part.role in (Role.UNEMBEDDING, Role.EMBEDDING)
            expected = reference.get_output_embeddings().weight
        found = ours.tree.read(part.parameter, part.rows).double()
        torch.testing.assert_close(found, expected.double(), rtol=1e-7, atol=0)
    with torch.no_grad():
        unembedding = reference.get_output_embeddings().weight
        if (before := ours.family.before_unembedding) and ours.tree.module(before) is not None:
            unembedding = unembedding @ base.get_submodule(before).weight
        torch.testing.assert_close(ours.W_U().double(), unembedding, rtol=1e-5, atol=1e-5)
        given, added = _run_first_layer(reference, base, ours)
    torch.testing.assert_close(ours.W_E(IDS).double(), given, rtol=1e-6, atol=1e-6)
    if added is not None:
        close = ours.first_mlp(ours.W_E(IDS)).double()
        torch.testing.assert_close(close, added, rtol=1e-5, atol=1e-5 * float(added.abs().max()))
    assert max(check.error for check in check_circuits(ours)) < 1e-6


def _run_first_layer(reference, base, ours):
    """What the real model gives its first layer, positions left out, and what that one's MLP says without attention."""
    seen = {}
    for name, parameter in base.named_parameters():
        if name.endswith(("wpe.weight", "embed_positions.weight")):
            parameter.zero_()
    layer = base.get_submodule(f"{ours.family.layers}.0")
    layer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(given=args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    if ours.has_heads(0) and ours.model_type not in ("bloom", "mpt"):  # these add the residual in their modules
        silent = layer.get_submodule(ours.family.attention.split(".")[0])
        silent.register_forward_hook(lambda _, args, out: (torch.zeros_like(out[0]), *out[1:]))
        last = layer.get_submodule(ours.first_mlp_modules.parts[-1])
        last.register_forward_hook(lambda _, args, out: seen.update(added=out[0] if isinstance(out, tuple) else out))
    reference(IDS[:, None], use_cache=False)
    added = seen.get("added")
    return seen["given"].reshape(len(IDS), -1), None if added is None else added.reshape(len(IDS), -1)
