"""The running model is the one that from_pretrained makes, and its heads are where the hooks look."""

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

import gguf_models
from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import ArchitectureError
from headatlas.measuring.running import model as running_model
from headatlas.measuring.running.model import Continuations, Replay, RunningModel, batches
from models import CASES, STRUCTURE_CASES, make_model

IDS = torch.tensor([[5, 17, 3, 88, 41], [60, 2, 9, 9, 71]])
SOURCE = torch.tensor([2, 1])

SHARED = {"gemma4_text-shared"}


@pytest.fixture(params=[*CASES, *STRUCTURE_CASES], scope="module")
def case(request, tmp_path_factory):
    """A family: the name of its case, logits of transformers' own model, ours."""
    folder = tmp_path_factory.mktemp(request.param)
    make_model(request.param).save_pretrained(folder)
    multimodal = "text_config" in (CASES | STRUCTURE_CASES)[request.param][1]
    own = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
    # transformers' eager attention of Falcon counts ALiBi twice; sdpa is what people run.
    attention = "sdpa" if request.param == "falcon-serial" else "eager"
    options = {"attn_implementation": attention, "experts_implementation": "eager"}
    theirs = own.from_pretrained(folder, **options, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = theirs(input_ids=IDS, use_cache=False).logits[:, -1]
    return request.param, logits, RunningModel(open_model(open_checkpoint(folder)))


def near(found, expected, limit=2e-4):
    return float((found - expected).abs().max()) <= limit * float(expected.abs().max())


def test_logits_are_those_of_from_pretrained(case):
    _, logits, ours = case
    assert ours.last_logits(IDS).shape == logits.shape and near(ours.last_logits(IDS), logits)


def test_heads_add_up_to_what_the_attention_writes(case):
    _, _, ours = case
    written = {}
    hooks = []
    for layer in ours.layers:
        module = ours.base.get_submodule(ours.heads.attention.output_path(layer))

        def see(module, args, output, layer=layer):
            written[layer] = output.detach().reshape(*IDS.shape, -1)[:, -1]

        hooks.append(module.register_forward_hook(see))
    watched = ours.watch(IDS, SOURCE)
    for hook in hooks:
        hook.remove()
    for layer in ours.layers:
        _, W_O = ours.heads.values_and_outputs(layer)
        bias = getattr(ours.base.get_submodule(ours.heads.attention.output_path(layer)), "bias", None)
        total = torch.einsum("phd,hdm->pm", watched.outputs[layer], W_O) + (0 if bias is None else bias.detach())
        assert near(total, written[layer])


def test_a_prompt_of_one_token_attends_to_itself(case):
    """So each head's output is the value, up to the scale that the validity names."""
    _, _, ours = case
    ids = torch.tensor([[7], [33]])
    watched = ours.watch(ids, torch.zeros(2, dtype=torch.long))
    for layer in ours.layers:
        kind = ours.heads.validity[layer].kind
        if kind == "approximate" and "clipped" not in ours.heads.validity[layer].why:
            continue
        values = watched.values[layer][:, ours.heads.kv_head_of(layer)]
        outputs = watched.outputs[layer]
        if kind == "exact up to scale":
            values, outputs = (each / each.norm(dim=-1, keepdim=True) for each in (values, outputs))
        assert near(values, outputs), layer


def test_removed_heads_write_nothing_at_the_last_token(case):
    """From kept keys and values as from the whole prompt; and removing nothing changes nothing."""
    _, _, ours = case
    continuations = Continuations(ours, IDS.tolist())
    assert continuations.greedy() == ours.last_logits(IDS).argmax(-1).tolist()
    everything = {layer: list(range(ours.heads.n_heads)) for layer in ours.layers}
    with ours.without(everything):
        watched = ours.watch(IDS, SOURCE)
        removed = ours.last_logits(IDS)
        assert continuations.greedy() == removed.argmax(-1).tolist()
    # The hook that removes runs before the one that watches.
    assert all((output == 0).all() for output in watched.outputs.values())
    assert not torch.allclose(removed, ours.last_logits(IDS))
    first = ours.layers[0]
    with ours.without({first: [1]}, {first: torch.full_like(watched.outputs[first][0], 7.0)}):
        outputs = ours.watch(IDS, SOURCE).outputs[first]
    assert (outputs[:, 1] == 7).all() and not (outputs[:, 2] == 7).any()


def test_a_replay_gives_the_logits_of_a_whole_run(case):
    """Without a head at all tokens but the first, from its layer on; and removing nothing changes nothing."""
    _, logits, ours = case
    replay = Replay(ours, IDS, ours.layers, 3)
    assert replay.base.shape == (2, 3, logits.shape[-1]) and near(replay.base[:, -1], logits)
    means = ours.mean_outputs(IDS, ours.layers)
    for layer in ours.layers:
        assert near(replay.logits(layer), replay.base)
        with ours.without({layer: [1]}, means, slice(1, None)):
            assert near(replay.logits(layer), ours.logits(IDS, 3)), layer
    watched = ours.watch(IDS[:, :2], SOURCE * 0)
    last = ours.layers[-1]
    assert near(ours.mean_outputs(IDS[:, :2], [last])[last], watched.outputs[last].mean(0))


def test_a_replay_computes_no_layer_before(case):
    """But for families whose layers hand keys and values on to later ones, which are run whole."""
    name, _, ours = case
    last = ours.layers[-1]
    replay = Replay(ours, IDS, [last], 3)
    seen = []
    hooks = [
        ours.base.get_submodule(ours.heads.attention.output_path(layer)).register_forward_pre_hook(
            lambda module, args, layer=layer: seen.append(layer)
        )
        for layer in ours.layers
    ]
    replay.logits(last)
    for hook in hooks:
        hook.remove()
    assert seen == (ours.layers if name in SHARED else [last])


def test_families_keep_keys_and_values(case):
    name, _, ours = case
    past = Continuations(ours, IDS.tolist())._batches[0][2]
    assert past is not None, name


def test_batches_hold_prompts_of_one_length():
    prompts = [[1, 2], [3], [4, 5], [6]]
    found = [(places, ids.tolist()) for places, ids in batches(prompts)]
    assert found == [([1, 3], [[3], [6]]), ([0, 2], [[1, 2], [4, 5]])]


def test_a_model_that_cannot_fit_is_refused(tmp_path, monkeypatch):
    make_model("llama").save_pretrained(tmp_path)
    monkeypatch.setattr(running_model, "memory_available", lambda: 1000)
    with pytest.raises(ArchitectureError, match=r"running the whole model in float32 needs about 0\.0 GB of memory"):
        RunningModel(open_model(open_checkpoint(tmp_path)))


LONGER = torch.tensor([[5, 17, 3, 88, 41, 7, 9], [60, 2, 9, 9, 71, 23, 50]])


@pytest.mark.parametrize("name", gguf_models.CASES)
def test_a_gguf_file_runs_as_its_model(tmp_path, name):
    """At several lengths, so that positions, sliding windows and their scaling count."""
    model = gguf_models.make_model(name)
    model.config._experts_implementation = "eager"
    ours = RunningModel(open_model(open_checkpoint(gguf_models.write(model, name, tmp_path / "m.gguf"))))
    for n_tokens in (1, 4, 7):
        ids = LONGER[:, :n_tokens]
        with torch.no_grad():
            assert near(ours.last_logits(ids), model(ids, use_cache=False).logits[:, -1], 1e-5), n_tokens


def put(writer, key, value, kind):
    writer.kv_data[0][key] = gguf.GGUFValue(value, kind)


UNREADABLE = {
    "a scaling without a setting": (
        "qwen2",
        lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE),
        "its positions are scaled in a way that is not known (qwen2.rope.scaling.type is 'longrope')",
    ),
    "YaRN without a factor": (
        "qwen2",
        lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN),
        "its positions are scaled by YaRN, but it does not state rope.scaling.factor",
    ),
    "a part of each head": (
        "qwen2",
        lambda writer: writer.add_rope_dimension_count(6),
        "its rotary positions cover 6 of the 8 numbers of each head; transformers' model covers all of them",
    ),
    "more than each head": (
        "stablelm",
        lambda writer: put(writer, "stablelm.rope.dimension_count", 10, gguf.GGUFValueType.UINT32),
        "its rotary positions cover 10 numbers of heads with 8",
    ),
    "another ALiBi": (
        "mpt",
        lambda writer: put(writer, "mpt.attention.max_alibi_bias", 4.0, gguf.GGUFValueType.FLOAT32),
        "transformers' model has ALiBi positions with a largest bias of 8; this file has 4",
    ),
    "a short list of layers": (
        "olmo3-listed",
        lambda writer: put(writer, "olmo2.attention.sliding_window_pattern", [True], gguf.GGUFValueType.ARRAY),
        "its list of layers with a sliding window names 1 of 3 layers",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_gguf_file_whose_positions_cannot_be_read_is_refused_but_opens(tmp_path, case):
    name, more, reason = UNREADABLE[case]
    path = gguf_models.write(gguf_models.make_model(name), name, tmp_path / "m.gguf", more=more)
    opened = open_model(open_checkpoint(path))
    with pytest.raises(ArchitectureError) as caught:
        RunningModel(opened)
    assert str(caught.value) == (
        f"{path}: cannot be run: {reason}. Use the model's safetensors checkpoint with --model."
    )


def test_factors_of_positions_that_do_not_fit_the_heads(tmp_path):
    def change(name, values):
        return [(name, values[:-1] if name == "rope_freqs.weight" else values)]

    path = gguf_models.write(gguf_models.make_model("llama-llama3"), "llama-llama3", tmp_path / "m.gguf", change=change)
    with pytest.raises(ArchitectureError, match=r"its tensor 'rope_freqs.weight' has the shape \(4,\); its heads need"):
        RunningModel(open_model(open_checkpoint(path)))
