"""A model type without an entry: which layout of its modules agrees with what they compute, and what refuses it.

The layout is proposed by the names of modules (`structure`) and decided by the self-check; whatever else the layers of
such a family do would be left out unnoticed, so all of it is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headatlas.architectures.families import Family, Validity
from headatlas.architectures.heads import HeadModel
from headatlas.architectures.self_check import TOLERANCE, compare_layer, kinds_of_layers, with_values
from headatlas.architectures.structure import (
    find_first_mlp,
    find_layers,
    is_mlp,
    layer_arguments,
    layers_in_turn,
    propose_families,
)
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.architectures.module_tree import ModuleTree


def choose_family(tree: ModuleTree) -> Family:
    """The layout with which a model type without an entry passes the check.

    Raises:
        ArchitectureError: it has no heads that are known by their modules, or no layout passes.
    """
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
            results = {layer: compare_layer(model, layer) for layer in kinds_of_layers(model)}
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
    for layer in sorted({0, *kinds_of_layers(model)}):
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
    args, kwargs = with_values(args), with_values(kwargs)
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
