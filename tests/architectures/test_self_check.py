"""The self-check accepts circuits that are read correctly and stops the run at all others."""

import dataclasses
import re

import pytest
import torch

import headatlas
from headatlas.architectures import (
    HeadModel,
    Validity,
    check_circuits,
    families,
    heads,
    open_model,
    ov_circuits,
    self_check,
    terms,
)
from headatlas.architectures.layouts import concatenated
from headatlas.architectures.module_tree import ModuleTree
from headatlas.architectures.open import open_checkpoint
from headatlas.architectures.self_check import TOLERANCE
from headatlas.errors import ArchitectureError, SettingsError
from models import make_model, save_model
from planted import write_relation


def saved(tmp_path, case, **changes):
    return save_model(make_model(case, **changes), tmp_path / "tiny")


def with_family(folder, **changes):
    tree = ModuleTree(open_checkpoint(folder))
    return HeadModel(tree, dataclasses.replace(families.find_family(tree.config.model_type), **changes))


@pytest.mark.parametrize(
    ("case", "layout"),
    [("gpt_neox", concatenated), ("persimmon", concatenated), ("falcon-new", concatenated), ("bloom", concatenated)],
)
def test_a_wrong_layout_is_noticed(tmp_path, case, layout):
    folder = saved(tmp_path, case)
    with pytest.raises(ArchitectureError) as caught:
        check_circuits(with_family(folder, layout=layout))
    assert re.fullmatch(
        rf"{re.escape(str(folder))}: layer 0, head \d: the OV circuit that was read differs from what transformers' "
        rf"\w+Attention computes with these weights; expected a relative difference below 0.0001, found a relative "
        rf"difference of \d.*\. headatlas makes no map from weights that it may misread\.",
        str(caught.value),
    )


def test_a_scale_is_accepted_only_if_it_is_expected(tmp_path):
    folder = saved(tmp_path, "deepseek_v3")
    with pytest.raises(ArchitectureError, match="found a different scale"):
        check_circuits(with_family(folder, validity=lambda config, layer: Validity("exact")))


def test_grouped_heads_in_another_order_are_noticed(tmp_path, monkeypatch):
    folder = saved(tmp_path, "llama")
    monkeypatch.setattr(HeadModel, "kv_head_of", lambda self, layer: [head % 2 for head in range(6)])
    with pytest.raises(ArchitectureError, match=r"layer 0, head [1-4]: the OV circuit that was read differs"):
        check_circuits(open_model(open_checkpoint(folder)))


@pytest.mark.parametrize("what", ["value", "output"])
def test_each_kind_of_layer_is_tried_and_a_wrong_one_named(tmp_path, monkeypatch, what):
    """Only the second kind of layer is misread."""
    folder = saved(tmp_path, "gemma2")
    read = HeadModel.values_and_outputs

    def swapped(self, layer):
        W_V, W_O = read(self, layer)
        if layer == 1:
            W_V, W_O = (W_V.flip(0), W_O) if what == "value" else (W_V, W_O.flip(0))
        return W_V, W_O

    monkeypatch.setattr(HeadModel, "values_and_outputs", swapped)
    with pytest.raises(ArchitectureError, match="layer 1, head"):
        check_circuits(open_model(open_checkpoint(folder)))


def test_queries_and_keys_are_not_read(tmp_path, monkeypatch):
    folder, read = saved(tmp_path, "qwen3"), []
    opened = open_model(open_checkpoint(folder))
    original = ModuleTree.read
    monkeypatch.setattr(
        ModuleTree, "read", lambda self, name, rows=None: read.append(name) or original(self, name, rows)
    )
    checks = check_circuits(opened)
    assert [check.layers for check in checks] == [[0, 1, 2]] and checks[0].error < TOLERANCE
    assert read and not any("q_" in name or "k_" in name for name in read)


def test_a_gate_is_noticed_in_a_family_without_an_entry(tmp_path, monkeypatch):
    folder = saved(tmp_path, "qwen3_next")
    monkeypatch.setattr("headatlas.architectures.families.FAMILIES", ())
    with pytest.raises(ArchitectureError) as caught:
        open_model(open_checkpoint(folder))
    assert "the model type 'qwen3_next' is not in the table of families, and no layout of its modules agrees" in str(
        caught.value
    )


def test_a_family_without_an_entry_is_read_by_its_modules(tmp_path, monkeypatch):
    folder = saved(tmp_path, "gpt_neox")
    known = open_model(open_checkpoint(folder))
    monkeypatch.setattr("headatlas.architectures.families.FAMILIES", ())
    found = open_model(open_checkpoint(folder))
    assert not found.has_entry and found.validity[0] == Validity("exact", "read by module structure")
    for theirs, own in zip(found.values_and_outputs(1), known.values_and_outputs(1), strict=True):
        assert torch.equal(theirs, own)


@pytest.mark.parametrize("believe_structure", [False, True])
def test_an_error_names_the_language_model_s_type_of_a_multimodal_model(tmp_path, monkeypatch, believe_structure):
    checkpoint = open_checkpoint(saved(tmp_path, "qwen3_vl"))
    monkeypatch.setattr("headatlas.architectures.families.FAMILIES", ())
    with pytest.raises(ArchitectureError, match="the model type 'qwen3_vl_text' is not in the table of families"):
        open_model(checkpoint, believe_structure=believe_structure)
    assert checkpoint.model_type == "qwen3_vl"


def test_an_unknown_input_of_the_first_layer_is_refused(tmp_path, monkeypatch):
    folder = saved(tmp_path, "gpt2")  # its positions are added to the embedding
    monkeypatch.setattr("headatlas.architectures.families.FAMILIES", ())
    with pytest.raises(ArchitectureError, match="its first layer reads something other than the rows of the embedding"):
        open_model(open_checkpoint(folder))


def test_the_manifest_records_the_check_and_that_it_was_off(tmp_path):
    folder = saved(tmp_path, "llama")
    words = [first + second for first in "bcdfghjkl" for second in "aeiouwxyz"]
    relation = write_relation(tmp_path / "r.json", [[word, words[at - 3]] for at, word in enumerate(words[:40])])
    atlas = headatlas.map_heads(folder, relations=relation)
    check = atlas.manifest.self_check
    assert check.layers[0].layers == (0, 1, 2) and 0 < check.largest_error < 1e-6
    report = headatlas.write_report(atlas)
    assert "first and last of each kind" in report and f"{check.largest_error:.1e}" in report
    off = headatlas.map_heads(folder, relations=relation, self_check=False)
    assert off.manifest.self_check is None
    assert "attention modules was switched off." in headatlas.write_report(off)
    assert off.table.equals(atlas.table)


# Terms that maps leaves out


def run(case, tmp_path, **terms):
    from headatlas.architectures import Terms

    return open_model(open_checkpoint(saved(tmp_path, case)), Terms(**terms))


def test_the_bias_of_the_values(tmp_path):
    with_bias = run("llama", tmp_path, value_bias=True)
    W_V, _ = with_bias.values_and_outputs(1)
    bias = with_bias.tree.read("model.layers.1.self_attn.v_proj.bias")
    assert W_V.shape == (2, 49, 10) and torch.equal(W_V[:, -1].flatten(), bias)
    assert torch.equal(W_V[:, :-1], run("llama", tmp_path).values_and_outputs(1)[0])
    assert max(check.error for check in check_circuits(with_bias)) < 1e-6


@pytest.mark.parametrize("case", ["llama", "gpt2", "gpt_neox", "opt"])
def test_a_wrong_bias_of_the_values_is_noticed(tmp_path, monkeypatch, case):
    with_bias = run(case, tmp_path, value_bias=True)
    assert max(check.error for check in check_circuits(with_bias)) < 1e-6
    read = ov_circuits.read_bias
    monkeypatch.setattr(ov_circuits, "read_bias", lambda attention, layer: read(attention, layer).roll(1, 0))
    with pytest.raises(ArchitectureError, match=r"layer 0, head \d: the OV circuit that was read differs"):
        check_circuits(with_bias)


def test_a_wrong_layer_of_one_kind_is_noticed(tmp_path, monkeypatch):
    opened, read = run("llama", tmp_path), HeadModel.values_and_outputs
    monkeypatch.setattr(HeadModel, "values_and_outputs", lambda self, layer: read(self, 0))
    with pytest.raises(ArchitectureError, match=r"layer 2, head \d: the OV circuit that was read differs"):
        check_circuits(opened)


@pytest.mark.parametrize("case", ["gemma2", "olmo2", "exaone4", "glm4", "gemma4_text"])
def test_the_gain_behind_the_attention(tmp_path, case):
    with_gain = run(case, tmp_path, attention_gain=True)
    norm = f"model.layers.1.{with_gain.family.norm_after_attention}.weight"
    gain = with_gain.tree.read(norm) + (1 if case == "gemma2" else 0)
    plain = run(case, tmp_path).values_and_outputs(1)[1]
    found = with_gain.values_and_outputs(1)[1]
    torch.testing.assert_close(found, plain * gain, rtol=1e-4, atol=1e-6)
    assert max(check.error for check in check_circuits(with_gain)) < 1e-5


@pytest.mark.parametrize("case", ["gemma2", "gemma3_text", "olmo2", "gemma4_text"])
def test_gains_of_zero_and_below_pass_the_check(tmp_path, case):
    """Gemma 3 270M has them: its gains run from -6 to 513, and one channel of layer 0 is exactly 0."""
    from headatlas.architectures import Terms

    model = make_model(case)
    less_one = 1 if case in ("gemma2", "gemma3_text") else 0
    gains = torch.tensor([0.0, -6.0, 513.0, -0.0])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("post_attention_layernorm.weight"):
                parameter[:4] = gains - less_one
    folder = save_model(model, tmp_path)
    with_gain, plain = (open_model(open_checkpoint(folder), Terms(attention_gain=gain)) for gain in (True, False))
    found, W_O = (each.values_and_outputs(1)[1] for each in (with_gain, plain))
    torch.testing.assert_close(found[..., :4], W_O[..., :4] * gains, rtol=1e-4, atol=1e-6)
    assert max(check.error for check in check_circuits(with_gain)) < 1e-5


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma3_text"])
def test_the_gain_of_the_final_norm(tmp_path, case):
    with_gain = run(case, tmp_path, final_norm_gain=True)
    name = {"gpt2": "transformer.ln_f.weight"}.get(case, "model.norm.weight")
    gain = with_gain.tree.read(name) + (1 if case == "gemma3_text" else 0)
    expected = run(case, tmp_path).W_U() * gain
    if case == "gpt2":  # LayerNorm subtracts the mean first
        expected -= expected.mean(-1, keepdim=True)
    torch.testing.assert_close(with_gain.W_U(), expected, rtol=1e-4, atol=1e-6)
    # Up to a factor per row and a constant per token, the logits are those behind the norm.
    output = torch.randn(3, with_gain.d_model, generator=torch.Generator().manual_seed(1))
    norm = with_gain.tree.fill(
        with_gain.tree.base_path and name.removeprefix(with_gain.tree.base_path)[: -len(".weight")]
    )
    behind = (norm(output) - norm(torch.zeros_like(output))) @ run(case, tmp_path).W_U().T
    found = output @ with_gain.W_U().T
    scale = (behind * found).sum(-1, keepdim=True) / found.square().sum(-1, keepdim=True)
    torch.testing.assert_close(found * scale, behind.detach(), rtol=1e-3, atol=1e-4)


GAINS = torch.tensor([0.0, -6.0, 513.0, -0.0])


@pytest.mark.parametrize(
    ("case", "norm", "less_one"),
    [
        ("llama", "input_layernorm", 0), ("gemma3_text", "input_layernorm", 1), ("gpt2", "ln_1", 0),
        ("opt", "self_attn_layer_norm", 0), ("falcon-new", "ln_attn", 0), ("deepseek_v3", "input_layernorm", 0),
        ("gemma4_text-shared", "input_layernorm", 0),
    ],
)  # fmt: skip
def test_the_gain_before_the_attention(tmp_path, case, norm, less_one):
    """Of every family's own norm, with gains of zero and below; a LayerNorm also subtracts the mean."""
    from headatlas.architectures import Terms

    model = make_model(case)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(f"{norm}.weight"):
                parameter[:4] = GAINS - less_one
    folder = save_model(model, tmp_path)
    with_gain, plain = (open_model(open_checkpoint(folder), Terms(input_norm_gain=gain)) for gain in (True, False))
    layer = with_gain.attention.value_layer(2)
    gain = with_gain.tree.read(with_gain.tree.path_of(f"{with_gain.family.layers}.{layer}.{norm}.weight")) + less_one
    assert torch.equal(gain[:4], GAINS)
    found, W_V = (each.values_and_outputs(2)[0] for each in (with_gain, plain))
    expected = W_V * gain[:, None]
    if case in ("gpt2", "opt", "falcon-new"):
        expected -= expected.mean(1, keepdim=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    # Up to a positive factor per token, the values are those behind the norm.
    x = torch.randn(3, with_gain.d_model, generator=torch.Generator().manual_seed(1))
    module = with_gain.tree.fill(f"{with_gain.family.layers}.{layer}.{norm}")
    behind = (module(x) - module(torch.zeros_like(x))).detach() @ W_V[0]
    cosines = torch.nn.functional.cosine_similarity(x @ found[0], behind, dim=-1)
    torch.testing.assert_close(cosines, torch.ones(3), rtol=1e-4, atol=0)
    assert max(check.error for check in check_circuits(with_gain)) < 1e-5
    assert with_gain.fingerprint() != plain.fingerprint()


def test_words_that_pass_through_the_model_contain_the_gain_before_the_attention(tmp_path):
    from headatlas.architectures import Terms

    checkpoint = open_checkpoint(saved(tmp_path, "llama"))
    assert open_model(checkpoint, None, "first-mlp").terms.input_norm_gain
    assert not open_model(checkpoint, None, "alone").terms.input_norm_gain
    with pytest.raises(SettingsError, match="contain this gain already"):
        open_model(checkpoint, Terms(input_norm_gain=True), "alone")


@pytest.mark.parametrize(
    ("case", "term"),
    [
        ("mistral", "value_bias"), ("llama", "attention_gain"), ("opt-narrow", "final_norm_gain"),
        ("olmo2", "input_norm_gain"),
    ],
)  # fmt: skip
def test_a_term_that_the_model_lacks(tmp_path, case, term):
    with pytest.raises(SettingsError) as caught:
        run(case, tmp_path, **{term: True})
    assert str(caught.value) == f"{term}: tiny has none. Omit this option."


def test_terms_change_the_label_and_the_fingerprint(tmp_path):
    plain, changed = run("llama", tmp_path), run("llama", tmp_path, value_bias=True, final_norm_gain=True)
    assert plain.fingerprint() != changed.fingerprint()
    words = [first + second for first in "bcdfghjkl" for second in "aeiouwxyz"]
    relation = write_relation(tmp_path / "r.json", [[word, words[at - 3]] for at, word in enumerate(words[:40])], k=5)
    atlas = headatlas.map_heads(tmp_path / "tiny", relations=relation, value_bias=True, profile="maps")
    assert atlas.label == "maps, modified: value_bias=on"
    W_V, W_O = run("llama", tmp_path, value_bias=True).values_and_outputs(0)
    x = torch.nn.functional.pad(plain.W_E(torch.arange(1, 41)), (0, 1), value=1.0)
    logits = (x @ W_V[0] @ W_O[1]).double() @ plain.W_U().double().T
    targets = torch.tensor([1 + words.index(words[at - 3]) for at in range(40)])
    beaten = (logits >= logits.gather(1, targets[:, None])).sum(1) - 1
    assert int(atlas.data["hits"].values[0, 0, 1]) == int((beaten < 5).sum()) > 0


# Layers without heads


def test_layers_without_heads_are_not_counted_as_zero(tmp_path):
    folder = saved(tmp_path, "qwen3_next")
    words = [first + second for first in "bcdfghjkl" for second in "aeiouwxyz"]
    relation = write_relation(tmp_path / "r.json", [[word, words[at - 3]] for at, word in enumerate(words[:40])], k=20)
    atlas = headatlas.map_heads(folder, tmp_path / "out", relations=relation, profile="maps")
    assert atlas.validity == ["not applicable", "not applicable", "approximate"]
    assert atlas.scores.isnull().values[0].all(1).tolist() == [True, True, False]
    of_layer = atlas.table.groupby("layer")["hits"]
    assert of_layer.apply(lambda hits: hits.isna().all()).tolist() == [True, True, False]
    again = headatlas.load_atlas(tmp_path / "out")
    assert again.table.equals(atlas.table) and again.validity == atlas.validity
    found = headatlas.classify(again)
    assert found.n_heads == 6 and found.n_classified == 5
    report = headatlas.write_report(again)
    assert "| approximate | a gate of the attending token scales each channel of the head | 2 |" in report
    assert "| not applicable | linear attention | 0-1 |" in report
    assert "5 of 6 heads" in report
    assert atlas.manifest.model.validity[0].layers == (0, 1)


WITH_GAIN = ["gemma2", "gemma3_text", "gemma4_text", "olmo2", "olmo3", "exaone4", "glm4"]
EVERY_TERM = None


@pytest.mark.parametrize("case", ["gpt2", "llama", "deepseek_v3"])
def test_a_head_that_is_nearly_dead_refuses_no_model(tmp_path, case):
    """One head writes 1e-13 of what the others do, and the output has a bias where the family has one."""
    model = make_model(case)
    attention = [module for name, module in model.named_modules() if name.endswith((".attn", ".self_attn"))][1]
    with torch.no_grad():
        if case == "gpt2":
            attention.c_proj.weight[8:16] *= 1e-13
        else:
            weight = attention.o_proj.weight
            weight.view(len(weight), 6, -1)[:, 1] *= 1e-13
    check_circuits(open_model(open_checkpoint(save_model(model, tmp_path / "tiny")), terms=EVERY_TERM))


@pytest.mark.parametrize("exact", [True, False])
def test_a_nearly_dead_head_that_is_misread_is_still_noticed(tmp_path, monkeypatch, exact):
    """By another head's circuit, which is far larger."""
    model = make_model("llama")
    weight = model.model.layers[1].self_attn.o_proj.weight
    with torch.no_grad():
        weight.view(len(weight), 6, -1)[:, 1] *= 1e-9
    read = HeadModel.values_and_outputs
    if not exact:
        monkeypatch.setattr(
            HeadModel, "values_and_outputs", lambda self, at: (read(self, at)[0], read(self, at)[1].roll(1, 2))
        )
    opened = open_model(open_checkpoint(save_model(model, tmp_path / "tiny")))
    if exact:
        check_circuits(opened)
    else:
        with pytest.raises(ArchitectureError, match="the OV circuit that was read differs"):
            check_circuits(opened)


@pytest.mark.parametrize("case", WITH_GAIN)
@pytest.mark.parametrize("channels", [slice(5), slice(None)])
def test_gains_of_zero_are_no_disagreement(tmp_path, case, channels):
    model = make_model(case)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "post_attention_layernorm" in name or "post_self_attn" in name:
                parameter[channels] = -1.0 if case.startswith(("gemma2", "gemma3")) else 0.0
    opened = open_model(open_checkpoint(save_model(model, tmp_path / "tiny")), terms=EVERY_TERM)
    assert opened.terms.attention_gain
    assert (opened.norm_of_attention(0).gain[channels] == 0).all()
    check_circuits(opened)


@pytest.mark.parametrize("case", ["gemma2", "olmo2", "gpt2", "llama"])
@pytest.mark.parametrize("wrong", ["minus one", "order", "centring"])
def test_a_wrong_gain_is_noticed(tmp_path, monkeypatch, case, wrong):
    folder = saved(tmp_path, case)
    real = terms.linear_part

    def misread(tree, norm, d_model):
        part = real(tree, norm, d_model)
        match wrong:
            case "minus one":
                return terms.LinearPart(part.gain - 1, part.centres)
            case "order":
                return terms.LinearPart(part.gain.flip(0), part.centres)
        return terms.LinearPart(part.gain, not part.centres)

    for module in (terms, self_check, heads):
        monkeypatch.setattr(module, "linear_part", misread)
    with pytest.raises(
        ArchitectureError, match=r"norm\S*: the gain that was read differs from what transformers'|ln_f"
    ):
        check_circuits(open_model(open_checkpoint(folder), terms=EVERY_TERM))
