"""Code for other tools: it is valid whatever the names, and switches off what headatlas itself switches off."""

import ast
import json

import pytest
import torch

from atlases import make_atlas, make_attention, with_model
from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import AtlasError, SettingsError
from headatlas.measuring.running.model import RunningModel
from headatlas.reports.export import export
from headatlas.reports.removal_code import CODE_FORMATS, choose_heads, removal_code
from models import make_model, save_model

HOSTILE = "x'''\"\"\"\\\n\u2028import os  # \x00"


def atlas_of(model_type: str | None, n_layers: int = 3, n_heads: int = 4, source: str = "org/model"):
    return with_model(make_atlas(n_layers=n_layers, n_heads=n_heads), model_type=model_type, source=source)


@pytest.mark.parametrize("fmt", CODE_FORMATS)
def test_code_is_valid_whatever_the_names(fmt):
    code = removal_code(atlas_of("llama", source=HOSTILE), fmt, {1: [3, 0]})
    tree = ast.parse(code)
    assert code.isascii()
    constants = {each.targets[0].id: ast.literal_eval(each.value) for each in tree.body if isinstance(each, ast.Assign)}
    assert constants["HEADS"] == {1: [0, 3]} and constants["N_HEADS"] == 4
    assert constants["MODEL"] == HOSTILE
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert {name for name in names if name.isupper()} <= set(constants)


def test_the_demo_model_is_one_that_other_tools_find():
    assert "MODEL = 'HuggingFaceTB/SmolLM2-135M-Instruct'" in removal_code(
        atlas_of("llama", source="demo"), "torch", {0: [0]}
    )


@pytest.mark.parametrize("case", ["llama", "gpt2", "gpt_neox", "gpt_neo", "opt", "gemma3"])
def test_the_same_logits_as_by_our_own_removal(tmp_path, case):
    model = make_model(case)
    running = RunningModel(open_model(open_checkpoint(save_model(model, tmp_path))))
    n_layers, n_heads = running.heads.n_layers, running.heads.n_heads
    atlas = atlas_of(running.heads.tree.config.model_type, n_layers, n_heads)
    heads = {0: [1], n_layers - 1: [0, n_heads - 1]}
    space: dict = {"__name__": "code"}
    exec(removal_code(atlas, "torch", heads), space)
    ids = torch.tensor([[3, 5, 7, 11, 13], [2, 4, 6, 8, 10]])
    with torch.no_grad():
        whole = model(ids).logits
        with running.without(heads, tokens=slice(None)):
            expected = running.logits(ids, 5)
        with space["heads_off"](model):
            found = model(ids).logits
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
        assert not torch.allclose(found, whole, rtol=1e-3, atol=1e-3 * whole.abs().max().item())
        assert torch.equal(model(ids).logits, whole), "the hooks are gone"
        means = space["mean_inputs"](model, [{"input_ids": ids}])
        instead = {layer: mean.view(n_heads, -1).float() for layer, mean in means.items()}
        with running.without(heads, instead, tokens=slice(None)):
            expected = running.logits(ids, 5)
        with space["heads_off"](model, means):
            found = model(ids).logits
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_which_heads():
    atlas = make_attention(atlas_of("llama"), {"induction": {(1, 2): 0.9, (2, 0): 0.8}, "sink": {(0, 0): 0.9}})
    assert choose_heads(atlas, names=["L2H3", "L0H1", "L2H0"]) == {0: [1], 2: [0, 3]}
    assert choose_heads(atlas, reads="induction") == {1: [2], 2: [0]}
    rows = atlas.heads("Knowledge")
    places = sorted(set(zip(rows["layer"], rows["head"], strict=True)))
    found = choose_heads(atlas, category="Knowledge")
    assert [(layer, head) for layer, heads in found.items() for head in heads] == places
    for arguments in ({}, {"names": ["L0H0"], "reads": "sink"}):
        with pytest.raises(SettingsError, match="heads: expected --relation, --category or --reads, or"):
            choose_heads(atlas, **arguments)
    for name, expected in (("L3H0", "L0H0 to L2H3"), ("L0H4", "L0H0 to L2H3"), ("1.2", "a name"), ("", "a name")):
        with pytest.raises(SettingsError, match=f"head: expected {expected}"):
            choose_heads(atlas, names=[name])


@pytest.mark.parametrize("model_type", [None, "unheard_of"])
def test_a_family_without_known_modules(model_type):
    with pytest.raises(AtlasError, match="expected a model of a known family"):
        removal_code(atlas_of(model_type), "nnsight", {0: [0]})


def test_full_attention_heads():
    atlas = make_attention(make_atlas(n_layers=2, n_heads=6), {"induction": {(1, 2): 0.9}, "duplicate": {(0, 5): 0.9}})
    found = json.loads(export(atlas, "full-attention"))
    assert found["query_heads"] == [[0, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0]]
    assert found["full_attention_heads"] == [[0, 0, 1], [0, 1, 0]]
    with pytest.raises(AtlasError, match="headatlas attention"):
        export(make_atlas(n_layers=2, n_heads=6), "full-attention")
