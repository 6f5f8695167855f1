"""A model type without an entry: find the layout that agrees with what its modules compute, or refuse the model.

The names of modules give proposals (`structure`), and the self-check decides between them. A map would silently ignore
anything that the layers do in addition to attention and MLP, so models with such layers are refused.
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
    """The layout with which a model type without an entry passes the self-check.

    Raises:
        ArchitectureError: the names of its attention modules are unknown, or no layout passes.
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
        except Exception as error:  # unknown modules may raise anything
            failures.append(f"{type(error).__name__}: {str(error)[:200]}")
            continue
        worst = max(error for error, _, _ in results.values())
        if worst <= TOLERANCE:
            scaled = any(scaled for _, scaled, _ in results.values())
            validity = Validity("exact up to scale" if scaled else "exact", "read by module structure")
            return replace(family, validity=lambda config, layer, found=validity: found)
        failures.append(f"its circuits differ from the real attention by {worst:.2g}")
    raise ArchitectureError(
        f"{tree.checkpoint.source}: the model type {tree.config.model_type!r} is not in the table of families, and no "
        f"layout of its modules agrees with transformers' own attention ({'; '.join(failures)}). This model is not "
        f"supported; docs/families.md lists the supported ones."
    )


def refuse_unknown_inputs(tree: ModuleTree) -> None:
    """Refuse a model that changes the embedding before its first layer, or whose layers do not run in order.

    A map would silently ignore both.
    """
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
            f"{tree.checkpoint.source}: the model type {tree.config.model_type!r} is not in the table of families, and "
            f"its first layer reads something other than the rows of the embedding. This model is not supported; "
            f"docs/families.md lists the supported ones."
        )
    if not layers_in_turn(tree, layers):
        raise ArchitectureError(
            f"{tree.checkpoint.source}: the model type {tree.config.model_type!r} is not in the table of families, and "
            f"its layers do not run once each, in order, on the output of the layer before. This model is not "
            f"supported; docs/families.md lists the supported ones."
        )


def refuse_unknown_layers(model: HeadModel) -> None:
    """Refuse a model whose layers do anything in addition to attention and MLP, which a map would silently ignore.

    With the outputs of both replaced by zeros, a layer must return its input, and the first MLP must receive the norm
    of that input. A nonzero output of the attention must be added up to a positive factor only. The check reads no
    weights of the checkpoint.

    Raises:
        ArchitectureError: a layer does something else, such as a second MLP, a scaled residual or a gate.
    """
    for part in model.parts():
        model.tree.check_shape(part.parameter)
    first = model.first_mlp_modules
    if len(first.parts) != 1:
        raise _unknown_layer(model, 0, "has an MLP made of several modules")
    for layer in sorted({0, *kinds_of_layers(model)}):
        x, attended, after, given, norm = _run_silenced(model, layer, random_norms=True, zero_attention=True)
        if not _near(after, x):
            raise _unknown_layer(model, layer, "does something in addition to its attention and its MLP")
        if layer == 0 and not _near(given, x if norm is None else norm(x[:, None])[:, 0]):
            raise _unknown_layer(model, layer, "passes to its MLP something other than the norm of its input")
        if model.has_heads(layer):
            x, attended, after, _, _ = _run_silenced(model, layer, random_norms=False, zero_attention=False)
            added = after - x
            scale = (added * attended).sum(-1, keepdim=True) / attended.square().sum(-1, keepdim=True)
            if not (scale > 0).all() or not _near(attended * scale, added):
                raise _unknown_layer(model, layer, "changes the output of its attention before adding it")


MIXERS = ("attn", "attention", "mamba", "mixer", "conv", "ssm")
"""Parts of the names of modules that mix tokens; in a layer without heads, all of them return zeros."""


def _run_silenced(model: HeadModel, layer: int, random_norms: bool, zero_attention: bool) -> tuple[Any, ...]:
    """Run a layer with made-up weights, with the output of its MLP, and of its attention, replaced.

    Args:
        random_norms: vectors (weights of norms, biases) are random, instead of ones and zeros; matrices always hold
            one number.
        zero_attention: the attention's output is zeros instead of random rows; the MLP's output is always zeros.

    Returns:
        The layer's input, the attention's output, the layer's output, the MLP's input, and the norm before the first
        MLP.
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
        if value.dim() == 1 and random_norms:
            state[name] = torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5
        else:
            number = 0.0 if name.endswith("bias") and not random_norms else 1.0 if value.dim() == 1 else 0.3
            state[name] = torch.full((1,), number, dtype=torch.float64).expand(value.shape)
    module.load_state_dict(state, strict=False, assign=True)
    x, attended = rows(), torch.zeros(5, 1, model.d_model, dtype=torch.float64) if zero_attention else rows()
    args, kwargs = layer_arguments(tree, family.layers, layer, len(x))
    args, kwargs = with_values(args), with_values(kwargs)
    if args:
        args = (x, *args[1:])
    else:
        kwargs["hidden_states"] = x
    failure: Exception | None = None
    # A module returns rows, or a tuple that begins with rows; only its layer knows which.
    for of_attention, of_mlp in ((2, 1), (1, 1), (2, 2), (1, 2), (3, 1), (3, 2)):
        given: list[Any] = []

        def answer(rows: Tensor, length: int, seen: list[Any] | None = None):
            def forward(*args: Any, **kwargs: Any) -> Any:
                if seen is not None:
                    seen.append(args[0] if args else kwargs.get("hidden_states"))
                return rows if length == 1 else (rows, *[None] * (length - 1))

            return forward

        for name in mixers:
            module.get_submodule(name).forward = answer(attended, of_attention)
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
            first_norm = None if norm is None or layer else module.get_submodule(norm)
            return x[:, 0], attended[:, 0], out[:, 0], read, first_norm
    raise _unknown_layer(model, layer, f"cannot be run alone ({type(failure).__name__}: {str(failure)[:100]})")


def _has(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name for word in words)


def _near(found: Tensor, expected: Tensor) -> bool:
    import torch

    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def _unknown_layer(model: HeadModel, layer: int, what: str) -> ArchitectureError:
    kind = type(model.tree.base.get_submodule(f"{model.family.layers}.{layer}")).__name__
    return ArchitectureError(
        f"{model.checkpoint.source}: the model type {model.model_type!r} is not in the table of families, and layer "
        f"{layer}, a {kind} of transformers, {what}. This model is not supported; docs/families.md lists the "
        f"supported ones."
    )
