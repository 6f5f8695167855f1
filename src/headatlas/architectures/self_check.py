"""Before a map is believed: the circuits that were read, against what the model's own attention modules do.

With one token, attention can only look at itself. So with all heads but one silenced at the input of the output
projection, the real module's answer, less its answer to a zero input, is `x @ W_V @ W_O` of that head, whatever the
layout. Queries and keys play no part in it and are not read for a family with an entry; for others they are, so that
a gate or another use of them shows as a disagreement.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headatlas.architectures.families import Family
from headatlas.architectures.structure import (
    call_arguments,
    find_first_mlp,
    find_layers,
    is_mlp,
    layer_arguments,
    layers_in_turn,
    propose_families,
)
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headatlas.architectures.heads import HeadModel
    from headatlas.architectures.module_tree import ModuleTree

TOLERANCE = 1e-4
"""Largest relative error at which circuits agree with the module; a wrong layout is off by about 1."""

N_ROWS = 3
QUERY_AND_KEY = ("q_proj", "k_proj", "q_norm", "k_norm", "q_a_", "q_b_", "q_layernorm", "k_layernorm")


@dataclass(frozen=True)
class LayerCheck:
    """How well the circuits of layers of one kind agree with their real attention modules.

    Args:
        tried: the layers that were tried, the first and the last; `layers` are all of their kind.
        error: largest relative error of a head's output.
        scaled: the agreement is up to a positive factor per token and head.
    """

    tried: list[int]
    layers: list[int]
    error: float
    scaled: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_circuits(model: HeadModel) -> list[LayerCheck]:
    """Compare the first and the last layer of each kind with transformers' own attention, filled from the checkpoint.

    Raises:
        ArchitectureError: they disagree; says which layer and head, and by how much.
    """
    checks = []
    for layers in model.kinds_of_layers().values():
        tried = sorted({layers[0], layers[-1]})
        results = [_checked(model, layer) for layer in tried]
        error, scaled = max(error for error, _ in results), any(scaled for _, scaled in results)
        checks.append(LayerCheck(tried, layers, error, scaled))
    return checks


def _checked(model: HeadModel, layer: int) -> tuple[float, bool]:
    """The largest relative error of a layer, and whether its agreement is up to scale; raises where it disagrees."""
    error, scaled, head = _compare(model, layer)
    may_scale = model.validity[layer].kind != "exact"
    if not error <= TOLERANCE or (scaled and not may_scale):
        found = f"a relative difference of {error:.2g}" if not error <= TOLERANCE else "another scale"
        raise ArchitectureError(
            f"{model.checkpoint.source}: layer {layer}, head {head}: the circuit that was read is not what "
            f"transformers' {type(model.attention(layer)).__name__} computes with these weights; expected a "
            f"relative difference below {TOLERANCE:g}, found {found}. No map is made from weights that may be "
            f"read wrongly."
        )
    return error, scaled


def choose_family(tree: ModuleTree) -> Family:
    """The layout with which a model type without an entry passes the check.

    Raises:
        ArchitectureError: it has no heads that are known by their modules, or no layout passes.
    """
    from dataclasses import replace

    from headatlas.architectures.families import Validity
    from headatlas.architectures.heads import HeadModel

    failures = []
    refuse_unknown_inputs(tree)
    for family in propose_families(tree):
        try:
            model = HeadModel(tree, family)
        except ArchitectureError as error:
            failures.append(str(error))
            continue
        refuse_unknown_layers(model)
        try:
            results = {layer: _compare(model, layer) for layer in model.kinds_of_layers()}
        except ArchitectureError as error:
            failures.append(str(error))
            continue
        except Exception as error:  # modules of which nothing is known may do anything
            failures.append(f"{type(error).__name__}: {str(error)[:200]}")
            continue
        worst = max(error for error, _, _ in results.values())
        if worst <= TOLERANCE:
            scaled = any(scaled for _, scaled, _ in results.values())
            validity = Validity("exact up to scale" if scaled else "exact", "read by module structure")
            return replace(family, validity=lambda config, layer, found=validity: found, final_norm=None)
        failures.append(f"its circuits differ from the real attention by {worst:.2g}")
    raise ArchitectureError(
        f"{tree.checkpoint.source}: the model type {tree.checkpoint.model_type!r} has no entry, and reading it by its "
        f"module structure does not agree with transformers' own attention ({'; '.join(failures)}). It is not "
        f"supported; docs/families.md lists what is."
    )


def refuse_unknown_inputs(tree: ModuleTree) -> None:
    """What stands between embedding and first layer of an unknown family would be left out in silence."""
    layers = find_layers(tree)
    find_first_mlp(tree, layers)
    outputs: list[Any] = []
    hook = tree.base.get_input_embeddings().register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        args, kwargs = layer_arguments(tree, layers, 0, 2)
    finally:
        hook.remove()
    given = args[0] if args else kwargs.get("hidden_states")
    if not any(given is output for output in outputs):
        raise ArchitectureError(
            f"{tree.checkpoint.source}: the model type {tree.checkpoint.model_type!r} has no entry, and its first "
            f"layer reads something else than the embedding's rows. It is not supported."
        )
    if not layers_in_turn(tree, layers):
        raise ArchitectureError(
            f"{tree.checkpoint.source}: the model type {tree.checkpoint.model_type!r} has no entry, and its layers do "
            f"not run once each, one on what the other gives. It is not supported."
        )


def refuse_unknown_layers(model: HeadModel) -> None:
    """What an unknown family's layers do beside their attention and MLP would be left out in silence.

    With both silenced, a layer has to hand on what it is given, and the first MLP has to be given what we give it; what
    the attention alone says has to be added as it is, up to a positive factor. Needs no weights of the checkpoint.

    Raises:
        ArchitectureError: something else happens in a layer, such as a second MLP, a scaled residual or a gate.
    """
    for part in model.parts():
        model.tree.check_shape(part.parameter)
    first = model.first_mlp_modules
    if len(first.parts) != 1:
        raise _unknown_layer(model, 0, "has an MLP in parts")
    for layer in sorted({0, *model.kinds_of_layers()}):
        x, said, after, given, norm = _run_silenced(model, layer, random=True, speaks=False)
        if not _near(after, x):
            raise _unknown_layer(model, layer, "does something beside its attention and its MLP")
        if layer == 0 and not _near(given, x if norm is None else norm(x[:, None])[:, 0]):
            raise _unknown_layer(model, layer, "gives its MLP something else than the norm of what it is given")
        if model.has_heads(layer):
            x, said, after, _, _ = _run_silenced(model, layer, random=False, speaks=True)
            added = after - x
            scale = (added * said).sum(-1, keepdim=True) / said.square().sum(-1, keepdim=True)
            if not (scale > 0).all() or not _near(said * scale, added):
                raise _unknown_layer(model, layer, "does not add what its attention says as it is")


def _compare(model: HeadModel, layer: int) -> tuple[float, bool, int]:
    """Largest relative error, whether a scale per row was needed, and the head that is worst."""
    import torch

    generator = torch.Generator().manual_seed(layer)
    x = torch.randn(N_ROWS, model.d_model, generator=generator, dtype=torch.float64)
    if model.validity[layer].why.endswith("are clipped"):
        x *= 1e-4  # small enough that nothing is clipped
    expected = _real_heads(model, layer, x)
    W_V, W_O = model.values_and_outputs(layer)
    if model.terms.value_bias:
        # The bias is the row of W_V that an input of zeros reads alone.
        x = torch.nn.functional.pad(torch.nn.functional.pad(x, (0, 0, 0, 1)), (0, 1))
        x[-1, -1] = 1
    else:
        expected = expected[:, :-1]
    found = torch.stack([x @ W_V[kv].double() @ W_O[head].double() for head, kv in enumerate(model.kv_head_of(layer))])
    if model.terms.attention_gain:
        found /= model.attention_gain(layer).double()
    norm = torch.linalg.vector_norm
    size = norm(expected, dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    error = norm(found - expected, dim=-1, keepdim=True) / size
    scale = (found * expected).sum(-1, keepdim=True) / found.square().sum(-1, keepdim=True)
    scaled = norm(found * scale - expected, dim=-1, keepdim=True) / size
    # A head of zeros is zero in both.
    zero = (found == 0).all(-1, keepdim=True) & (expected == 0).all(-1, keepdim=True)
    scaled = torch.where(zero, 0.0, torch.where(scale > 0, scaled, torch.inf))
    per_head, per_head_scaled = error.amax((1, 2)), scaled.amax((1, 2))
    if per_head.max() <= TOLERANCE:
        return float(per_head.max()), False, int(per_head.argmax())
    if per_head_scaled.max() <= TOLERANCE:
        return float(per_head_scaled.max()), True, int(per_head_scaled.argmax())
    return float(per_head.max()), False, int(per_head_scaled.argmax())


def _real_heads(model: HeadModel, layer: int, x: Tensor) -> Tensor:
    """What each head of the real module adds: Float[Tensor, "n_heads n_rows+1 d_model"].

    For rows of input, without what it adds for an input of zeros; and, in the last row, that: the bias of its values.
    """
    import torch

    n_heads, n_rows = model.n_heads, len(x) + 1
    rows = torch.cat([x, torch.zeros_like(x[:1])]).repeat(n_heads, 1)[:, None]
    head_of = torch.arange(n_heads).repeat_interleave(n_rows)

    def keep_one(module: nn.Module, args: tuple) -> tuple:
        (joined,) = args
        heads = joined.reshape(len(head_of), n_heads, -1)
        kept = heads * (torch.arange(n_heads) == head_of[:, None])[:, :, None]
        return (kept.reshape(joined.shape),)

    shared: dict[Any, Any] = {}
    source = model.family.value_layer(model.tree.config, layer)
    with torch.no_grad():
        if source != layer:
            _run_attention(model, source, rows, shared)
        out = _run_attention(model, layer, rows, shared, keep_one)
    out = out.reshape(n_heads, n_rows, model.d_model)
    output = f"{model.tree.path_of(model.attention_path(layer))}.{model.family.output}.bias"
    bias = model.tree.read(output).double() if output in model.tree else 0.0
    return torch.cat([out[:, :-1] - out[:, -1:], out[:, -1:] - bias], dim=1)


def _run_attention(model: HeadModel, layer: int, rows: Tensor, shared: dict[Any, Any], keep_one=None) -> Tensor:
    """The real attention module on sequences of one token; `shared` holds values that other layers keep for it."""
    attention = model.attention_path(layer)
    args, kwargs = call_arguments(model.tree, model.family.layers, layer, model.family.attention, len(rows))
    values, kwargs_values = _with_values(args), _with_values(kwargs)
    if "shared_kv_states" in kwargs_values:
        kwargs_values["shared_kv_states"] = shared
    if values:
        values = (rows, *values[1:])
    else:
        kwargs_values["hidden_states"] = rows
    blank = QUERY_AND_KEY if model.has_entry else ()
    if model.family.key_as_value and model.value_parameter(layer).endswith(f"{model.family.key_as_value}.weight"):
        blank = tuple(name for name in blank if not name.startswith("k_"))
    module = model.tree.fill(attention, blank).double()
    if keep_one is not None:
        module.get_submodule(model.family.output).register_forward_pre_hook(keep_one)
    out = module(*values, **kwargs_values)
    return out[0] if isinstance(out, tuple) else out


MIXERS = ("attn", "attention", "mamba", "mixer", "conv", "ssm")
"""What modules that look at other tokens are called; of a layer without heads, all of them are silenced."""


def _run_silenced(model: HeadModel, layer: int, random: bool, speaks: bool) -> tuple[Any, ...]:
    """A layer whose attention says nothing, or random rows, and whose MLP says nothing.

    Returns:
        The layer's input, what the attention says, the layer's output, the MLP's input, and the norm before the first
        MLP. Weights are made up: those of norms random or one, of all else one number seen in the needed shape.
    """
    import copy

    import torch

    tree, family = model.tree, model.family
    generator = torch.Generator().manual_seed(layer)

    def rows() -> Tensor:
        return torch.randn(5, 1, model.d_model, generator=generator, dtype=torch.float64)

    module = copy.deepcopy(tree.base.get_submodule(f"{family.layers}.{layer}")).eval()
    children = dict(module.named_children())
    mixers = [family.attention] if model.has_heads(layer) else [name for name in children if _has(name, MIXERS)]
    mlps = [name for name in children if is_mlp(name, children[name])][:1] if layer else model.first_mlp_modules.parts
    for name in {*mixers, *mlps}:
        silent = module.get_submodule(name)
        for inside, _ in list(silent.named_children()):
            setattr(silent, inside, torch.nn.Identity())
        silent._parameters.clear()
        silent._buffers.clear()
    state = {}
    for name, value in module.state_dict().items():
        if value.dim() == 1 and random:
            state[name] = torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5
        else:
            number = 0.0 if name.endswith("bias") and not random else 1.0 if value.dim() == 1 else 0.3
            state[name] = torch.full((1,), number, dtype=torch.float64).expand(value.shape)
    module.load_state_dict(state, strict=False, assign=True)
    x, said = rows(), rows() if speaks else torch.zeros(5, 1, model.d_model, dtype=torch.float64)
    args, kwargs = layer_arguments(tree, family.layers, layer, len(x))
    args, kwargs = _with_values(args), _with_values(kwargs)
    if args:
        args = (x, *args[1:])
    else:
        kwargs["hidden_states"] = x
    failure: Exception | None = None
    # Whether a module answers with rows alone, or with more behind them, only its layer knows.
    for of_attention, of_mlp in ((2, 1), (1, 1), (2, 2), (1, 2), (3, 1), (3, 2)):
        given: list[Any] = []

        def answer(rows: Tensor, length: int, seen: list[Any] | None = None):
            def forward(*args: Any, **kwargs: Any) -> Any:
                if seen is not None:
                    seen.append(args[0] if args else kwargs.get("hidden_states"))
                return rows if length == 1 else (rows, *[None] * (length - 1))

            return forward

        for name in mixers:
            module.get_submodule(name).forward = answer(said, of_attention)
        for name in mlps:
            module.get_submodule(name).forward = answer(torch.zeros_like(x), of_mlp, given)
        try:
            with torch.no_grad():
                out = module(*args, **kwargs)
        except Exception as error:
            failure = error
            continue
        out = out[0] if isinstance(out, tuple) else out
        norm = model.first_mlp_modules.norm
        if out.shape == x.shape and (given or layer):
            read = given[0].reshape(len(x), -1) if given else None
            return x[:, 0], said[:, 0], out[:, 0], read, None if norm is None or layer else module.get_submodule(norm)
    raise _unknown_layer(model, layer, f"cannot be run alone ({type(failure).__name__}: {str(failure)[:100]})")


def _has(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name for word in words)


def _near(found: Tensor, expected: Tensor) -> bool:
    import torch

    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def _unknown_layer(model: HeadModel, layer: int, what: str) -> ArchitectureError:
    kind = type(model.tree.base.get_submodule(f"{model.family.layers}.{layer}")).__name__
    return ArchitectureError(
        f"{model.checkpoint.source}: the model type {model.checkpoint.model_type!r} has no entry, and layer {layer} of "
        f"transformers' {kind} {what}. It is not supported; docs/families.md lists what is."
    )


def _with_values(given: Any) -> Any:
    """Arguments of an empty run with real tensors: position codes and masks of nothing, as one token needs none."""
    import torch

    if isinstance(given, torch.Tensor):
        if given.is_floating_point():
            return torch.zeros(given.shape, dtype=torch.float64)
        if given.is_complex():
            return torch.zeros(given.shape, dtype=torch.complex128)
        return torch.zeros(given.shape, dtype=given.dtype)
    if isinstance(given, tuple):
        return tuple(_with_values(each) for each in given)
    if isinstance(given, list):
        return [_with_values(each) for each in given]
    if isinstance(given, dict):
        return {name: _with_values(each) for name, each in given.items()}
    return given
