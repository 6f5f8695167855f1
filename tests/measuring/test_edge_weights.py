"""Models with weights at the edge of their type: each hit against a loop in float64, and what is said about them."""

import numpy as np
import pytest
import torch

import headatlas
from headatlas.architectures import head_inputs, open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.architectures.parts import Role
from headatlas.engines.engine import Task
from headatlas.engines.local import LayerScorer
from headatlas.settings import Settings
from models import D_MODEL, N_HEADS, make_model, save_model
from planted import write_relation

CASES = [
    (case, (torch.float32, torch.bfloat16, torch.float16)[number % 3])
    for number, case in enumerate(
        ["llama", "llama", "llama", "gpt2", "gpt_neox", "gemma2", "deepseek_v3", "mpt", "olmo2", "falcon-new", "phi3",
         "qwen3", "bloom", "stablelm"]
    )
]  # fmt: skip


def circuits(folder):
    """The names of the parameters of the values and of the outputs of each layer."""
    model = open_model(open_checkpoint(folder))
    return [
        {part.parameter: part.role for part in model.parts_of(layer) if part.parameter in model.tree}
        for layer in range(model.n_layers)
    ]


def with_edges(tmp_path, case, dtype):
    """Tiny products in layer 0, numbers below the smallest normal one in layer 1, huge and tiny ones in layer 2."""
    model = make_model(case)
    named = circuits(save_model(model, tmp_path / "before"))
    tiny, least = (1e-4, 2e-6) if dtype == torch.float16 else (1e-19, 1e-38)
    by = [dict.fromkeys(Role, tiny), {Role.OUTPUT: least}, {Role.OUTPUT: 1 / tiny / 100, Role.VALUE: tiny}]
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for of_layer, factors in zip(named, by, strict=True):
            for name, role in of_layer.items():
                if parameters[name].ndim > 1:
                    parameters[name] *= factors.get(role, 1)
        embedding = model.get_input_embeddings().weight
        embedding[3], embedding[5], embedding[9] = 0, embedding[7], embedding[9] * 1e-30
        unembedding = model.get_output_embeddings().weight
        unembedding[20:24], unembedding[30] = unembedding[20], 0
    return save_model(model.to(dtype), tmp_path / "edges")


@pytest.mark.parametrize(("case", "dtype"), CASES)
def test_every_hit_is_that_of_a_loop_in_float64(tmp_path, case, dtype):
    folder = with_edges(tmp_path, case, dtype)
    model = open_model(open_checkpoint(folder))
    ids = torch.arange(1, 100)
    source, target = (each.flatten() for each in torch.meshgrid(ids[::3], ids[::5], indexing="ij"))
    k = torch.tensor([1, 10, 25])[torch.arange(len(source)) % 3]
    pairs = source.numpy(), target.numpy(), k.numpy()
    task = Task(str(folder), None, "", Settings(), *pairs, np.array([0, len(k)]), chance=False)
    layers, n_hits, wrong = list(range(model.n_layers)), 0, []
    inputs = dict(head_inputs(model, task.input_ids, layers))
    # Equal rows have equal logits.
    rows, place = model.W_U().double().unique(dim=0, return_inverse=True)
    for layer, result in LayerScorer(model, task, "cpu", 1).score(layers, iter(inputs.items())):
        W_V, W_O = model.values_and_outputs(layer)
        x = inputs[layer][torch.searchsorted(task.input_ids, source)].double()
        for head, kv in enumerate(model.kv_head_of(layer)):
            logits = (x @ W_V[kv].double() @ W_O[head].double() @ rows.T)[:, place]
            own = logits.gather(1, target[:, None])
            for bits, reached in ((result.promoted, logits >= own), (result.suppressed, logits <= own)):
                expected = reached.sum(1) <= k  # the target itself is among them
                found = np.unpackbits(bits[head], count=len(k)).astype(bool)
                n_hits += int(expected.sum())
                if different := int((found != expected.numpy()).sum()):
                    wrong.append((layer, head, different))
    assert not wrong and n_hits > 1000


def test_a_head_that_underflows_is_named_in_the_atlas_the_report_and_its_card(tmp_path):
    model = make_model("llama")
    with torch.no_grad():
        values = model.model.layers[1].self_attn.v_proj.weight
        outputs = model.model.layers[1].self_attn.o_proj.weight
        values *= 1e-25
        outputs.view(D_MODEL, N_HEADS, -1)[:, 4] *= 1e-25
    folder = save_model(model, tmp_path / "model")
    relation = write_relation(tmp_path / "r.json")
    atlas = headatlas.map_heads(folder, tmp_path / "atlas", relations=relation, profile="maps", threads=1)
    assert atlas.manifest.model.underflow == ("L1H4",)
    report = (tmp_path / "atlas" / "report.md").read_text("utf-8")
    assert "The output of head L1H4 is below what float32 can hold, and with it bfloat16 and float16" in report
    assert "a running model computes zeros there" in headatlas.head_card(atlas, "L1H4").validity["why"]
    assert headatlas.head_card(atlas, "L1H3").validity["why"] == ""
