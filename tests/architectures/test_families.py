"""Every family, head by head, against transformers' own modules."""

import inspect

import pytest
import torch

from headatlas.architectures import KNOWN_MODEL_TYPES, open_model
from headatlas.checkpoints import open_checkpoint
from models import CASES, D_VOCAB, N_HEADS, N_LAYERS, make_model, save_model
from oracle import head_output


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    """The model of transformers in float64, and ours of the same weights."""
    reference = make_model(request.param)
    folder = save_model(reference, tmp_path_factory.mktemp(request.param))
    return reference.double(), open_model(open_checkpoint(folder))


def layer_of(reference, ours, number):
    return reference.base_model.get_submodule(f"{ours.family.layers}.{number}")


def test_every_known_type_is_tried():
    assert {model_type for model_type, _ in CASES.values()} == set(KNOWN_MODEL_TYPES)


def test_every_head_is_the_real_attention_s(pair):
    reference, ours = pair
    x = torch.randn(5, ours.d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    position = torch.zeros(5, 1, dtype=torch.long)
    base = reference.base_model
    rotary = base.rotary_emb(x[:, None], position) if hasattr(base, "rotary_emb") else None
    for number in range(N_LAYERS):
        layer = layer_of(reference, ours, number)
        path, _, name = ours.family.output.rpartition(".")
        attention = layer.get_submodule(path)

        def call(rows, attention=attention):
            known = {"position_embeddings": rotary, "position_ids": position, "attention_mask": None}
            accepted = inspect.signature(attention.forward).parameters
            return attention(rows, **{name: value for name, value in known.items() if name in accepted})[0]

        W_V, W_O = (factor.double() for factor in ours.values_and_outputs(number))
        assert W_V.shape == (ours.n_kv_heads, ours.d_model, ours.d_head)
        assert W_O.shape == (N_HEADS, ours.d_head, ours.d_model)
        seen = []
        for head in range(N_HEADS):
            expected = head_output(attention, attention.get_submodule(name), call, x, head, N_HEADS)
            found = x @ W_V[ours.kv_head_of[head]] @ W_O[head]
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
            seen.append(found)
        # No two heads are alike: a swapped one could not pass.
        assert torch.pdist(torch.stack(seen).flatten(1)).min() > 0.1


def test_the_input_of_later_layers_is_the_real_first_mlp_s(pair):
    reference, ours = pair
    ids = torch.tensor([3, 99, 7, 7, 0])
    layer = layer_of(reference, ours, 0)
    embedding = reference.get_input_embeddings().weight[ids]
    with torch.no_grad():
        expected = layer.get_submodule(ours.family.mlp)(layer.get_submodule(ours.family.norm_before_mlp)(embedding))
    torch.testing.assert_close(ours.first_mlp(ours.W_E(ids)).double(), expected, rtol=1e-5, atol=1e-6)


def test_the_norm_is_the_one_whose_output_the_mlp_reads(pair):
    """Run the real first layer on one token and record what its MLP was given, and by which norm."""
    reference, ours = pair
    layer, seen = layer_of(reference, ours, 0), {}
    mlp, norm = layer.get_submodule(ours.family.mlp), layer.get_submodule(ours.family.norm_before_mlp)
    hooks = [
        mlp.register_forward_pre_hook(lambda module, arguments: seen.update(mlp_in=arguments[0])),
        norm.register_forward_hook(lambda module, arguments, output: seen.update(norm_out=output)),
    ]
    with torch.no_grad():
        reference(torch.tensor([[5]]))
    for hook in hooks:
        hook.remove()
    assert torch.equal(seen["mlp_in"], seen["norm_out"])


@pytest.mark.parametrize("rows_at_once", [13, 16_384])
def test_embedding_and_unembedding(pair, monkeypatch, rows_at_once):
    monkeypatch.setattr("headatlas.architectures.model.ROWS_AT_ONCE", rows_at_once)
    reference, ours = pair
    ids = torch.tensor([100, 0, 42, 42])
    assert torch.equal(ours.W_E(ids), reference.get_input_embeddings().weight[ids].float())
    assert ours.W_E(ids[:0]).shape == (0, ours.d_model)
    W_U = ours.W_U()
    assert W_U.shape == (D_VOCAB, ours.d_model)
    assert torch.equal(W_U, reference.get_output_embeddings().weight.float())
