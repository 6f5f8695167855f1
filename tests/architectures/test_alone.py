"""What heads read for a token alone behind a prefix, against plain sequences of two tokens in transformers."""

import gc
import weakref

import pytest
import torch

from headatlas.architectures import alone, open_model, run_modules, streamed
from headatlas.architectures.alone import read_alone
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import ArchitectureError
from models import CASES, D_VOCAB, STRUCTURE_CASES, make_model, save_model
from running_inputs import read_by_transformers

PREFIX = 3


@pytest.mark.parametrize("case", [*CASES, *STRUCTURE_CASES])
def test_heads_read_what_transformers_gives_them(case, tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "SEQUENCES_AT_ONCE", 5)
    monkeypatch.setattr(run_modules, "CONVERTED_AT_ONCE", 300)  # a few rows of a weight
    reference = make_model(case)
    ours = open_model(open_checkpoint(save_model(reference, tmp_path)))
    ids = torch.randperm(D_VOCAB, generator=torch.Generator().manual_seed(5))[:13]
    expected = read_by_transformers(reference, ours, [[PREFIX, token] for token in ids.tolist()])
    found = dict(read_alone(ours, ids, PREFIX))
    assert list(found) == list(expected)
    for layer, x in expected.items():
        assert found[layer].dtype == torch.float32
        torch.testing.assert_close(found[layer].double(), x, rtol=0, atol=2e-7 * float(x.abs().max()))


@pytest.fixture
def llama(tmp_path):
    return open_model(open_checkpoint(save_model(make_model("llama"), tmp_path)))


def test_the_prefix_is_read_first(llama):
    """A token without a prefix, or behind another one, gives the later layers another input."""
    ids = torch.arange(7)
    found, other = (dict(read_alone(llama, ids, prefix)) for prefix in (PREFIX, PREFIX + 1))
    nothing: dict[int, torch.Tensor] = {}
    streamed.run_streamed(llama, ids[:, None], nothing.__setitem__)
    torch.testing.assert_close(found[0].double(), nothing[0], rtol=0, atol=1e-6)
    for layer in (1, 2):
        for wrong in (other[layer].double(), nothing[layer]):
            assert (found[layer] - wrong).abs().max() > 1e-3 * wrong.abs().max()


def test_batches_and_order_change_nothing(llama, monkeypatch):
    ids = torch.arange(41)
    whole = dict(read_alone(llama, ids, PREFIX))
    monkeypatch.setattr(streamed, "SEQUENCES_AT_ONCE", 3)
    order = torch.randperm(41, generator=torch.Generator().manual_seed(0))
    for layer, x in read_alone(llama, ids[order], PREFIX):
        assert torch.equal(x, whole[layer][order])


def test_what_an_earlier_layer_read_is_not_kept(llama):
    read = []

    def see(layer, x):
        assert [layer for layer, each in enumerate(read) if each() is not None] == []
        read.append(weakref.ref(x))

    streamed.run_streamed(llama, torch.arange(14).view(7, 2), see)
    assert len(read) == llama.n_layers


@pytest.mark.parametrize("case", ["llama", "gemma3_text", "mixtral", "qwen3_next", "bloom"])
def test_the_weights_of_a_layer_are_dropped_as_soon_as_it_has_run(case, tmp_path, monkeypatch):
    """Not when Python next looks for modules that refer to each other, which large layers would not wait for."""
    model = open_model(open_checkpoint(save_model(make_model(case), tmp_path)))
    fill, weights = model.tree.fill, []

    def filled(path, *rest):
        layer = fill(path, *rest)
        weights.append([weakref.ref(each.untyped_storage()) for each in layer.parameters()])
        return layer

    monkeypatch.setattr(model.tree, "fill", filled)
    alive = []

    def see(layer, x):
        alive.extend(each for of_layer in weights for each in of_layer if each() is not None)

    gc.disable()
    try:
        streamed.run_streamed(model, torch.arange(14).view(7, 2), see)
    finally:
        gc.enable()
    assert weights and not alive


def test_one_layer_is_read_at_a_time_and_only_on_demand(llama, monkeypatch):
    filled = []
    fill = llama.tree.fill
    monkeypatch.setattr(llama.tree, "fill", lambda path, *rest: filled.append(path) or fill(path, *rest))
    layers = read_alone(llama, torch.arange(5), PREFIX)
    assert next(layers)[0] == 0
    assert filled == ["layers.0", "layers.1", "layers.2", "layers.0"]
    layers.close()
    assert len(filled) == 4


def test_the_last_layer_ends_once_its_heads_have_read(llama, monkeypatch):
    fill, passed = llama.tree.fill, []

    def filled(path, *rest):
        layer = fill(path, *rest)
        layer.mlp.register_forward_hook(lambda *_: passed.append(path))
        return layer

    monkeypatch.setattr(llama.tree, "fill", filled)
    seen = []
    streamed.run_streamed(llama, torch.arange(14).view(7, 2), lambda layer, x: seen.append(layer))
    assert seen == [0, 1, 2] and passed == ["layers.0", "layers.1"]


def test_a_wrong_input_stops_the_run(llama, monkeypatch):
    first_token_of = alone.first_token_of

    def changed(cache):
        kept = first_token_of(cache)
        kept.layers[1].values = kept.layers[1].values * 1.001
        return kept

    monkeypatch.setattr(alone, "first_token_of", changed)
    with pytest.raises(ArchitectureError, match=r"layer 2: .* behind the cached prefix .* below 1e-06, found"):
        list(read_alone(llama, torch.arange(9), PREFIX))


def test_values_that_are_not_finite_are_refused(llama, monkeypatch):
    def damaged(heads, ids, see, *rest, **named):
        see(0, torch.full((3, 48), torch.nan))

    monkeypatch.setattr(alone, "run_streamed", damaged)
    with pytest.raises(ArchitectureError, match="layer 0: the heads read values that are NaN or infinite"):
        list(read_alone(llama, torch.arange(3), PREFIX))
