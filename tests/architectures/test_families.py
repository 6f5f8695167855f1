"""Every family, head by head, against transformers' own modules."""

import copy
import json

import pytest
import torch
from safetensors.torch import save_file

import family_table
from headatlas.architectures import KNOWN_MODEL_TYPES, check_circuits, open_model
from headatlas.architectures.module_tree import ModuleTree
from headatlas.architectures.open import open_checkpoint
from headatlas.architectures.structure import layers_in_turn
from headatlas.architectures.unknown_family import choose_family
from headatlas.errors import ArchitectureError
from models import CASES, D_VOCAB, N_HEADS, STRUCTURE_CASES, UNSUPPORTED_CASES, make_model, save_model
from oracle import attention_calls, head_output

POSITIONS = ("wpe.weight", "embed_positions.weight")


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    """The model of transformers in float64, and ours of the same weights; positions add nothing to the embedding."""
    reference = make_model(request.param)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if name.endswith(POSITIONS):
                parameter.zero_()
    folder = save_model(reference, tmp_path_factory.mktemp(request.param))
    return reference.double(), open_model(open_checkpoint(folder))


def base_of(reference, ours):
    """The real language model without its head, also inside a multimodal model."""
    return next(module for module in reference.modules() if type(module) is type(ours.tree.base))


def test_every_known_type_is_tried():
    # Of a multimodal model the text part is read.
    inside = {"gemma3": "gemma3_text", "llama4": "llama4_text", "llava": "llama"}
    names = {inside.get(name, f"{name}_text") if "text_config" in config else name for name, config in CASES.values()}
    assert names == set(KNOWN_MODEL_TYPES) and len(names) >= 50


def test_every_head_is_the_real_attention_s(pair):
    reference, ours = pair
    reference = copy.deepcopy(reference)
    base = base_of(reference, ours)
    kinds = {validity.kind for validity in ours.validity}
    x = torch.randn(5, ours.d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    if any("clipped" in validity.why for validity in ours.validity):
        x *= 1e-3
    layers = [layer for layer in range(ours.n_layers) if ours.has_heads(layer)]
    assert len(layers) < ours.n_layers or "not applicable" not in kinds
    if any("gate" in validity.why or "sink" in validity.why for validity in ours.validity):
        # Queries of zero hold the gate open alike for all channels, and give the sink the same share of each token.
        with torch.no_grad():
            for layer in layers:
                for parameter in base.get_submodule(ours.attention.path(layer)).q_proj.parameters():
                    parameter.zero_()
    calls = attention_calls(reference, base, [ours.attention.path(layer) for layer in layers], 5)
    for layer in layers:
        attention = base.get_submodule(ours.attention.path(layer))
        args, kwargs = calls[ours.attention.path(layer)]
        if "shared_kv_states" in kwargs:
            kwargs["shared_kv_states"] = {}
            source = ours.family.value_layer(ours.tree.config, layer)
            if source != layer:
                own = calls[ours.attention.path(source)][1]
                own = own | {"shared_kv_states": kwargs["shared_kv_states"], "hidden_states": x[:, None]}
                with torch.no_grad():
                    base.get_submodule(ours.attention.path(source))(**own)
        W_V, W_O = (factor.double() for factor in ours.values_and_outputs(layer))
        kv_head_of = ours.kv_head_of(layer)
        assert W_V.shape[0] == max(kv_head_of) + 1
        assert W_V.shape[1] == ours.d_model
        assert W_O.shape == (N_HEADS, W_V.shape[2], ours.d_model)
        seen = []
        projection = attention.get_submodule(ours.family.output)
        for head in range(N_HEADS):
            expected = head_output(attention, projection, (args, kwargs), x, head, N_HEADS)
            if "shared_kv_states" in kwargs and ours.family.value_layer(ours.tree.config, layer) != layer:
                # The zero input's answer has the values of x, which the other layer keeps: only biases are in it.
                expected = shared_head(attention, projection, (args, kwargs), x, head)
            found = x @ W_V[kv_head_of[head]] @ W_O[head]
            if ours.validity[layer].kind == "exact":
                torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
            else:
                scale = (found * expected).sum(-1, keepdim=True) / found.square().sum(-1, keepdim=True)
                assert (scale > 0).all()
                torch.testing.assert_close(found * scale, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
            seen.append(found)
        # No two heads are alike: a swapped one could not pass.
        distances = torch.pdist(torch.stack(seen).flatten(1))
        assert distances.min() > 0.01 * torch.stack(seen).flatten(1).norm(dim=1).max()


def shared_head(attention, projection, call, x, head):
    zero = copy.deepcopy(attention)
    for name, parameter in zero.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    args, kwargs = call

    def keep_one(module, arguments):
        heads = arguments[0].reshape(len(x), 1, N_HEADS, -1).clone()
        heads[..., torch.arange(N_HEADS) != head, :] = 0
        return (heads.flatten(2),)

    hook = zero.get_submodule("o_proj").register_forward_pre_hook(keep_one)
    with torch.no_grad():
        out = zero(*args, **kwargs | {"hidden_states": x[:, None]})[0][:, 0]
    hook.remove()
    return out


def test_the_map_s_own_check_agrees(pair):
    _, ours = pair
    checks = check_circuits(ours)
    assert sorted(layer for check in checks for layer in check.layers) == [
        layer for layer in range(ours.n_layers) if ours.has_heads(layer)
    ]
    assert max(check.error for check in checks) < 1e-6


def test_by_structure_alone_it_is_read_alike_or_refused(pair):
    _, ours = pair
    tree = ModuleTree(ours.checkpoint)
    try:
        family = choose_family(tree)
    except ArchitectureError:
        return
    from headatlas.architectures.heads import HeadModel

    other = HeadModel(tree, family)
    ids = torch.arange(7)
    assert torch.equal(other.W_E(ids), ours.W_E(ids))
    for layer in range(ours.n_layers):
        assert other.has_heads(layer) == ours.has_heads(layer)
        if ours.has_heads(layer):
            for theirs, own in zip(other.values_and_outputs(layer), ours.values_and_outputs(layer), strict=True):
                assert torch.equal(theirs, own)


def test_the_first_layer_s_input_is_the_real_one_s(pair):
    reference, ours = pair
    seen = []
    first = base_of(reference, ours).get_submodule(f"{ours.family.layers}.0")

    def see(_, args, kwargs):
        seen.append(args[0] if args else kwargs["hidden_states"])

    hook = first.register_forward_pre_hook(see, with_kwargs=True)
    ids = torch.tensor([3, 99, 7, 7, 0])
    with torch.no_grad():
        reference(ids[:, None], use_cache=False)
    hook.remove()
    torch.testing.assert_close(ours.W_E(ids).double(), seen[0].reshape(5, -1), rtol=1e-5, atol=1e-6)


def test_the_input_of_later_layers_is_the_real_first_mlp_s(pair):
    """In a run of the real model, the modules that ours calls the first MLP read what ours calls its norm."""
    reference, ours = pair
    layer, mlp = base_of(reference, ours).get_submodule(f"{ours.family.layers}.0"), ours.first_mlp_modules
    seen = {}
    hooks = [
        layer.get_submodule(mlp.parts[0]).register_forward_pre_hook(lambda _, args: seen.update(mlp_in=args[0])),
    ]
    if mlp.norm is not None:
        norm = layer.get_submodule(mlp.norm)
        hooks.append(norm.register_forward_hook(lambda _, args, output: seen.update(norm_out=output)))
    with torch.no_grad():
        reference(torch.tensor([[5]]), use_cache=False)
    for hook in hooks:
        hook.remove()
    if mlp.norm is not None:
        assert torch.equal(seen["mlp_in"].flatten(), seen["norm_out"].flatten())
    ids = torch.tensor([3, 99, 7, 7, 0])
    with torch.no_grad():
        expected = ours.W_E(ids).double()[None]
        for path in [*([mlp.norm] if mlp.norm else []), *mlp.parts]:
            module = layer.get_submodule(path)
            given = (expected, torch.zeros_like(expected)) if "MLP" in type(module).__name__ and ours.model_type in (
                "bloom", "mpt") else (expected,)  # fmt: skip
            expected = module(*given)
            expected = expected[0] if isinstance(expected, tuple) else expected
    expected = expected.reshape(5, -1)
    torch.testing.assert_close(ours.first_mlp(ours.W_E(ids)).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows_at_once", [13, 16_384])
def test_embedding_and_unembedding(pair, monkeypatch, rows_at_once):
    monkeypatch.setattr("headatlas.architectures.module_tree.ROWS_AT_ONCE", rows_at_once)
    reference, ours = pair
    ids = torch.tensor([100, 0, 42, 42])
    assert ours.W_E(ids).shape == (4, ours.d_model)
    assert ours.W_E(ids[:0]).shape == (0, ours.d_model)
    h = torch.randn(3, ours.d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    base = base_of(reference, ours)
    before = base.decoder.project_out if ours.model_type == "opt" and base.decoder.project_out is not None else None
    with torch.no_grad():
        expected = reference.get_output_embeddings()(h if before is None else before(h))
        expected = expected - reference.get_output_embeddings()(torch.zeros_like(h if before is None else before(h)))
    W_U = ours.W_U()
    assert W_U.shape == (D_VOCAB, ours.d_model)
    torch.testing.assert_close(h @ W_U.double().T, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", STRUCTURE_CASES)
def test_a_family_without_an_entry_is_read_by_its_structure(case, tmp_path):
    reference = make_model(case)
    ours = open_model(open_checkpoint(save_model(reference, tmp_path)))
    assert not ours.has_entry and max(check.error for check in check_circuits(ours)) < 1e-6
    layer = next(layer for layer in range(ours.n_layers) if ours.has_heads(layer))
    W_V, W_O = (factor.double() for factor in ours.values_and_outputs(layer))
    reference = reference.double()
    x = torch.randn(5, ours.d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    path = ours.attention.path(layer)
    call = attention_calls(reference, base_of(reference, ours), [path], 5)[path]
    attention = base_of(reference, ours).get_submodule(path)
    for head in range(N_HEADS):
        expected = head_output(attention, attention.get_submodule(ours.family.output), call, x, head, N_HEADS)
        found = x @ W_V[ours.kv_head_of(layer)[head]] @ W_O[head]
        scale = (found * expected).sum(-1, keepdim=True) / found.square().sum(-1, keepdim=True)
        assert (scale > 0).all() and (ours.validity[layer].kind == "exact up to scale" or torch.allclose(
            scale, torch.ones_like(scale), atol=1e-5))  # fmt: skip
        torch.testing.assert_close(found * scale, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert torch.isfinite(ours.first_mlp(ours.W_E(torch.arange(9)))).all()


@pytest.mark.parametrize("case", UNSUPPORTED_CASES)
def test_what_is_not_understood_is_refused(case, tmp_path):
    save_model(make_model(case), tmp_path)
    with pytest.raises(ArchitectureError):
        open_model(open_checkpoint(tmp_path))


@pytest.mark.parametrize("case", ["doge", "minimax"])
def test_a_layer_that_does_more_than_attention_and_mlp_is_refused_also_by_a_plan(case, tmp_path):
    folder = save_model(make_model(case), tmp_path / "tiny")
    for believe in (False, True):
        with pytest.raises(ArchitectureError) as caught:
            open_model(open_checkpoint(folder), believe_structure=believe)
        assert str(caught.value) == (
            f"{folder}: the model type {case!r} is not in the table of families, and layer 0, a "
            f"{type(make_model(case).base_model.layers[0]).__name__} of transformers, does something in addition to "
            f"its attention and its MLP. This model is not supported; docs/families.md lists the supported ones."
        )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda out, given: out + 0.1 * given.flip(-1), "does something in addition to its attention and its MLP"),
        (lambda out, given: given + (out - given) * torch.arange(48), "changes the output of its attention before"),
        (lambda out, given: given - (out - given), "changes the output of its attention before adding it"),
    ],
)
def test_each_way_to_do_more_is_noticed(tmp_path, monkeypatch, change, what):
    kind = type(make_model("jais2").model.layers[0])
    forward = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, x, *args, **kwargs: change(forward(self, x, *args, **kwargs), x))
    with pytest.raises(ArchitectureError, match=what):
        open_model(open_checkpoint(save_model(make_model("jais2"), tmp_path)))


@pytest.mark.parametrize("times", [(0, 0, 1, 2), (1, 0, 2), (0, 1)])
def test_layers_that_run_in_another_order_are_noticed(tmp_path, monkeypatch, times):
    folder = save_model(make_model("jais2"), tmp_path)
    tree = ModuleTree(open_checkpoint(folder))
    layers = tree.base.layers
    monkeypatch.setattr(type(layers), "__getitem__", lambda self, where: [self._modules[str(n)] for n in times])
    assert not layers_in_turn(tree, "layers")
    monkeypatch.undo()
    assert layers_in_turn(tree, "layers")


def test_a_decoder_without_an_embedding_of_its_own_is_refused(tmp_path):
    config = {"model_type": "bart", "d_model": 48, "vocab_size": 101, "pad_token_id": 0}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ArchitectureError, match="transformers names no token embedding for the model type 'bart'"):
        open_model(open_checkpoint(tmp_path))


def test_the_documentation_s_table_is_what_is_found():
    page = family_table.PAGE.read_text("utf-8")
    for cases in (CASES, STRUCTURE_CASES):
        for cells, error, read in family_table.table(cases):
            (line,) = (line for line in page.splitlines() if line.startswith(f"| {cells[0]} |"))
            *documented, agrees_in, scores = [cell.strip() for cell in line.strip("| ").split(" | ")]
            assert documented == cells and scores == read
            assert error < family_table.ROUNDING[agrees_in]
    for case in UNSUPPORTED_CASES:
        assert f"`{case}`" in page
    assert f"With an entry: {len(KNOWN_MODEL_TYPES)} model types" in page
