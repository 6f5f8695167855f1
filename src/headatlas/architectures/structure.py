"""The structure of a model, found by running its modules on the meta device, without weights and values.

The norm before the first MLP is not listed per family: it is the module whose output the MLP reads. For a model type
without an entry, the modules also give proposals of where its heads are; the self-check decides on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.architectures.families import Family
from headatlas.architectures.layouts import concatenated, grouped, separate
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import nn

    from headatlas.architectures.module_tree import ModuleTree

OUTPUTS = ("o_proj", "out_proj", "dense", "c_proj", "Wo", "wo", "output")
SEPARATE_VALUES = ("v_proj", "value", "Wv", "wv")
FUSED_VALUES = ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "qkv")
LATENT_VALUES = "kv_b_proj"


class _Enough(Exception):
    """Ends a run of empty modules as soon as it has shown what was needed."""


@dataclass(frozen=True)
class FirstMlp:
    """The modules of the first layer that compute the later layers' input: `norm`, unless None, then `parts`."""

    norm: str | None
    parts: tuple[str, ...]


def find_layers(tree: ModuleTree) -> str:
    """Path of the list of layers in the base model: the outermost list of modules."""
    from torch.nn import ModuleList

    lists = [name for name, module in tree.base.named_modules() if isinstance(module, ModuleList) and len(module)]
    if not lists:
        raise ArchitectureError(
            f"{tree.checkpoint.source}: expected a list of layers in transformers' modules for the model type "
            f"{tree.config.model_type!r}, found none. This model is not supported; docs/families.md lists the "
            f"supported ones."
        )
    return min(lists, key=lambda name: name.count("."))


def call_arguments(tree: ModuleTree, layers: str, number: int, module: str, n_rows: int) -> tuple[tuple, dict]:
    """The arguments that the real model passes to a module of a layer for `n_rows` sequences of one token.

    Tensors are on the meta device; the first argument or `hidden_states` is the module's input.
    """
    layer = tree.base.get_submodule(f"{layers}.{number}")
    arguments = layer_arguments(tree, layers, number, n_rows)
    seen: list[tuple[tuple, dict]] = []

    def see(_, args: tuple, kwargs: dict) -> None:
        seen.append((args, kwargs))
        raise _Enough

    hook = layer.get_submodule(module).register_forward_pre_hook(see, with_kwargs=True)
    try:
        _run_empty(layer, *arguments)
    finally:
        hook.remove()
    if not seen:
        raise ArchitectureError(
            f"{tree.checkpoint.source}: layer {number} of transformers' {type(layer).__name__} does not call its "
            f"{module!r}, so its heads cannot be checked."
        )
    return seen[0]


def find_first_mlp(tree: ModuleTree, layers: str) -> FirstMlp:
    """The MLP of layer 0, and the norm whose output it reads.

    Raises:
        ArchitectureError: no module there looks like one.
    """
    layer = tree.base.get_submodule(f"{layers}.0")
    calls: list[tuple[str, Any]] = []
    outputs: dict[int | None, str] = {}
    kept = []
    hooks = []
    for name, module in layer.named_children():
        hooks.append(module.register_forward_pre_hook(_note_input(calls, name), with_kwargs=True))
        hooks.append(module.register_forward_hook(_note_output(outputs, kept, name)))
    try:
        _run_empty(layer, *layer_arguments(tree, layers, 0, 2))
    finally:
        for hook in hooks:
            hook.remove()
    children = dict(layer.named_children())
    for name, read in calls:
        if not is_mlp(name, children[name]):
            continue
        norm = outputs.get(_storage(read))
        if name == "fc1" and "fc2" in children:
            return FirstMlp(norm, ("fc1", "activation_fn", "fc2"))
        return FirstMlp(norm, (name,))
    raise ArchitectureError(
        f"{tree.checkpoint.source}: expected an MLP in layer 0 of transformers' {type(layer).__name__}, found none."
    )


def find_input_norm(tree: ModuleTree, layers: str, number: int, attention: str) -> str | None:
    """The norm in a layer whose output its attention reads; None if there is none."""
    layer = tree.base.get_submodule(f"{layers}.{number}")
    outputs: dict[int | None, str] = {}
    kept, read = [], []
    hooks = [module.register_forward_hook(_note_output(outputs, kept, name)) for name, module in layer.named_children()]
    reader = layer.get_submodule(attention)
    hooks.append(reader.register_forward_pre_hook(_note_input(read, attention), with_kwargs=True))
    try:
        _run_empty(layer, *layer_arguments(tree, layers, number, 2))
    finally:
        for hook in hooks:
            hook.remove()
    return outputs.get(_storage(read[0][1])) if read else None


def propose_families(tree: ModuleTree) -> Iterator[Family]:
    """Possible layouts of the heads of a model type without an entry; the self-check decides between them.

    Raises:
        ArchitectureError: the model is no causal language model, or the names of its attention modules are unknown.
    """
    from transformers import AutoModelForCausalLM

    model_type, source = tree.config.model_type, tree.checkpoint.source
    layers = find_layers(tree)
    names = {type(module).__name__ for module in tree.base.modules()}
    if (
        type(tree.config) not in AutoModelForCausalLM._model_mapping
        or getattr(tree.config, "is_encoder_decoder", False)
        or any("CrossAttention" in name or "Encoder" in name for name in names)
    ):
        raise ArchitectureError(
            f"{source}: the model type {model_type!r} is not in the table of families, and its modules in transformers "
            f"are not those of a causal language model. docs/families.md lists the supported model types."
        )
    for layer in tree.base.get_submodule(layers).children():
        for attention, module in layer.named_children():
            children = dict(module.named_children())
            output = next((name for name in OUTPUTS if name in children), None)
            if "attention" not in type(module).__name__.lower() or output is None:
                continue
            common = {
                "model_types": (model_type,), "layers": layers, "attention": attention, "output": output,
                "final_norm": find_final_norm(tree, layers),
            }  # fmt: skip
            if LATENT_VALUES in children:
                yield Family(**common, latent=True)
                return
            if value := next((name for name in SEPARATE_VALUES if name in children), None):
                yield Family(**common, value=value, layout=separate)
                return
            if value := next((name for name in FUSED_VALUES if name in children), None):
                for layout in (concatenated, grouped):
                    yield Family(**common, value=value, layout=layout)
                return
    raise ArchitectureError(
        f"{source}: the model type {model_type!r} is not in the table of families, and headatlas found no attention "
        f"module with values and an output projection by the names of its modules in transformers. docs/families.md "
        f"lists the supported model types."
    )


def is_mlp(name: str, module: nn.Module) -> bool:
    has_weights = any(parameter.dim() > 1 for parameter in module.parameters())
    return has_weights and any(word in name for word in ("mlp", "moe", "ffn", "feed_forward", "fc1"))


def layer_arguments(tree: ModuleTree, layers: str, number: int, n_rows: int) -> tuple[tuple, dict]:
    """The arguments that the real model passes to a layer; the first layer's if the model needs values to get there."""
    import torch

    seen: dict[int, tuple[tuple, dict]] = {}
    modules = list(tree.base.get_submodule(layers).children())
    originals = [layer.forward for layer in modules]

    def record(position: int):
        def forward(*args, **kwargs):
            seen[position] = (args, kwargs)
            if position == number:
                raise _Enough
            return args[0] if args else kwargs["hidden_states"]

        return forward

    ids = torch.zeros(n_rows, 1, dtype=torch.long, device="meta")
    masks = (
        torch.ones(n_rows, 1, dtype=torch.long, device="meta"),
        torch.zeros(n_rows, 1, 1, 1, device="meta"),  # models that read the mask use this one unchanged
        None,
    )
    try:
        for position, layer in enumerate(modules):
            layer.forward = record(position)
        for mask in masks:
            _run_empty(tree.base, (), {"input_ids": ids, "attention_mask": mask, "use_cache": False})
            if number in seen:
                break
    finally:
        for layer, original in zip(modules, originals, strict=True):
            layer.forward = original
    if not seen:
        raise ArchitectureError(
            f"{tree.checkpoint.source}: transformers' {type(tree.base).__name__} cannot be run without weights, so "
            f"its heads cannot be found or checked."
        )
    return seen.get(number) or seen[min(seen)]


def layers_in_turn(tree: ModuleTree, layers: str) -> bool:
    """Whether the real model runs each layer once, in order, on the output of the layer before."""
    import torch

    modules = list(tree.base.get_submodule(layers).children())
    originals = [layer.forward for layer in modules]
    seen: list[tuple[int, Any]] = []

    def record(position: int, as_tuple: bool):
        def forward(*args, **kwargs):
            given = args[0] if args else kwargs["hidden_states"]
            seen.append((position, given))
            return (given,) if as_tuple else given

        return forward

    ids = torch.zeros(2, 1, dtype=torch.long, device="meta")
    in_turn = False
    try:
        for as_tuple in (False, True):
            seen.clear()
            for position, layer in enumerate(modules):
                layer.forward = record(position, as_tuple)
            _run_empty(tree.base, (), {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False})
            positions = [position for position, _ in seen]
            same = all(given is seen[0][1] for _, given in seen)
            in_turn |= same and positions == list(range(len(modules)))
    finally:
        for layer, original in zip(modules, originals, strict=True):
            layer.forward = original
    return in_turn


def find_final_norm(tree: ModuleTree, layers: str) -> str | None:
    """The norm that reads what the last layer returns, in the base model; None if there is not exactly one."""
    import torch

    modules = list(tree.base.get_submodule(layers).children())
    originals = [layer.forward for layer in modules]
    returned: list[Any] = []
    found: set[str] = set()

    def pass_on(as_tuple: bool):
        def forward(*args, **kwargs):
            returned[:] = [args[0] if args else kwargs["hidden_states"]]
            return (returned[0],) if as_tuple else returned[0]

        return forward

    def note(name: str):
        def hook(_, args: tuple) -> None:
            if returned and args and args[0] is returned[0]:
                found.add(name)

        return hook

    hooks = [
        module.register_forward_pre_hook(note(name))
        for name, module in tree.base.named_modules()
        if "norm" in type(module).__name__.lower() and not name.startswith(f"{layers}.")
    ]
    ids = torch.zeros(2, 1, dtype=torch.long, device="meta")
    try:
        for as_tuple in (False, True):
            returned.clear()
            for layer in modules:
                layer.forward = pass_on(as_tuple)
            _run_empty(tree.base, (), {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False})
    finally:
        for hook in hooks:
            hook.remove()
        for layer, original in zip(modules, originals, strict=True):
            layer.forward = original
    return found.pop() if len(found) == 1 else None


def _run_empty(module: nn.Module, args: tuple, kwargs: dict) -> None:
    """Run a module on the meta device, without values, as far as that works; the module stays as it was."""
    import torch

    # Some rotary embeddings keep the frequencies that they last used, on the device of that run.
    states = [(part, dict(vars(part)), dict(part._buffers)) for part in module.modules()]
    try:
        with torch.no_grad(), torch.device("meta"):
            module(*args, **kwargs)
    except _Enough:
        pass
    except Exception:  # needing values (as routing of experts does) ends the run; hooks have seen the calls before
        pass
    finally:
        for part, attributes, buffers in states:
            for now, before in ((vars(part), attributes), (part._buffers, buffers)):
                now.clear()
                now.update(before)


def _note_input(calls: list, name: str):
    def note(_, args: tuple, kwargs: dict) -> None:
        calls.append((name, args[0] if args else kwargs.get("hidden_states")))

    return note


def _note_output(outputs: dict[int | None, str], kept: list, name: str):
    def note(module: nn.Module, args: tuple, output: Any) -> None:
        if "norm" in type(module).__name__.lower():
            kept.append(output)  # kept alive, so that no other tensor gets its storage
            outputs[_storage(output)] = name

    return note


def _storage(tensor: Any) -> int | None:
    """The identity of a tensor's storage."""
    import torch

    return tensor.untyped_storage()._cdata if isinstance(tensor, torch.Tensor) else None
