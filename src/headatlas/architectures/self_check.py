"""Compare the OV circuits that were read with what the model's own attention modules compute, before scoring.

In a sequence of one token, attention can only look at that token. If all heads but one are zeroed at the input of the
output projection, the module's output minus its output for a zero input is therefore `x @ W_V @ W_O` of that head,
whatever the layout. Queries and keys do not matter, and are not read for a family with an entry; for others they are
read, so that a gate or another use of them shows as a disagreement.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headatlas.architectures.structure import call_arguments
from headatlas.architectures.terms import attention_norm, input_norm, linear_part
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headatlas.architectures.heads import HeadModel

TOLERANCE = 1e-4
"""Largest relative error of circuits that agree with the module; that of a wrong layout is about 1."""

ROUNDING = 1e-14
"""What float64 may lose of the module's output, relative to its size: a head may be far smaller than the biases."""

TINY = 1e-290
"""In the place of a size of 0."""

N_ROWS = 3
QUERY_AND_KEY = ("q_proj", "k_proj", "q_norm", "k_norm", "q_a_", "q_b_", "q_layernorm", "k_layernorm")


@dataclass(frozen=True)
class LayerCheck:
    """How well the circuits of layers of one kind agree with their real attention modules.

    Args:
        tried: the layers that were compared, the first and the last of `layers`.
        layers: all layers of one kind.
        error: largest relative error of a head's output.
        scaled: they agree up to a positive factor per token and head.
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
        ArchitectureError: they disagree; the message names the layer, the head and the difference.
    """
    checks = []
    if model.terms.final_norm_gain:
        _check_norm(model, str(model.family.final_norm))
    for layers in kinds_of_layers(model).values():
        tried = sorted({layers[0], layers[-1]})
        for layer in tried:
            for counted, find in (
                (model.terms.attention_gain, attention_norm),
                (model.terms.input_norm_gain, input_norm),
            ):
                if counted:
                    _check_norm(model, str(find(model.attention, layer)))
        results = [_checked(model, layer) for layer in tried]
        error, scaled = max(error for error, _ in results), any(scaled for _, scaled in results)
        checks.append(LayerCheck(tried, layers, error, scaled))
    return checks


def kinds_of_layers(model: HeadModel) -> dict[int, list[int]]:
    """The first layer with heads of each kind -> all layers of that kind (same modules, shapes and validity)."""
    kinds: dict[tuple, list[int]] = {}
    types = getattr(model.tree.config, "layer_types", None)
    for layer in range(model.n_layers):
        if not model.has_heads(layer):
            continue
        attention = model.attention.module(layer)
        shapes = tuple((name, tuple(each.shape)) for name, each in attention.named_parameters())
        key = (type(attention), types and types[layer], shapes, model.validity[layer].kind)
        kinds.setdefault(key, []).append(layer)
    return {layers[0]: layers for layers in kinds.values()}


def _check_norm(model: HeadModel, norm: str) -> None:
    """Compare the counted linear part of a norm with the norm itself, on vectors that it was not measured on.

    A norm's output for a vector, without its bias, is the linear part's up to a positive factor.

    Raises:
        ArchitectureError: they disagree.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    x, u = (torch.randn(N_ROWS, model.d_model, generator=generator, dtype=torch.float64) for _ in range(2))
    part, module = linear_part(model.tree, norm, model.d_model), model.tree.fill(norm).double()
    with torch.no_grad():
        expected = module(x).double() - module(torch.zeros_like(x)).double()
    found = part.of_outputs(x)
    size = torch.linalg.vector_norm(expected, dim=-1, keepdim=True)
    scale = size / torch.linalg.vector_norm(found, dim=-1, keepdim=True).clamp_min(TINY)
    error = torch.linalg.vector_norm(found * scale - expected, dim=-1, keepdim=True) / size.clamp_min(TINY)
    across = (found * u).sum(-1) - (x * part.of_directions(u)).sum(-1)
    turned = across.abs() / (torch.linalg.vector_norm(found, dim=-1) * torch.linalg.vector_norm(u, dim=-1)).clamp_min(
        TINY
    )
    if not max(worst := float(error.max()), float(turned.max())) <= TOLERANCE:
        raise ArchitectureError(
            f"{model.checkpoint.source}: {norm}: the gain that was read differs from what transformers' "
            f"{type(module).__name__} does with these weights; expected a relative difference below {TOLERANCE:g}, "
            f"found {max(worst, float(turned.max())):.2g}. headatlas makes no map from weights that it may misread."
        )


def _checked(model: HeadModel, layer: int) -> tuple[float, bool]:
    """The largest relative error of a layer, and whether it agrees up to scale only; raises if it disagrees."""
    error, scaled, head = compare_layer(model, layer)
    may_scale = model.validity[layer].kind != "exact"
    if not error <= TOLERANCE or (scaled and not may_scale):
        found = f"a relative difference of {error:.2g}" if not error <= TOLERANCE else "a different scale"
        raise ArchitectureError(
            f"{model.checkpoint.source}: layer {layer}, head {head}: the OV circuit that was read differs from what "
            f"transformers' {type(model.attention.module(layer)).__name__} computes with these weights; expected a "
            f"relative difference below {TOLERANCE:g}, found {found}. headatlas makes no map from weights that it may "
            f"misread."
        )
    return error, scaled


def compare_layer(model: HeadModel, layer: int) -> tuple[float, bool, int]:
    """Largest relative error, whether a scale per row was needed, and the head with the largest error."""
    import torch

    generator = torch.Generator().manual_seed(layer)
    x = torch.randn(N_ROWS, model.d_model, generator=generator, dtype=torch.float64)
    if model.validity[layer].clips:
        x *= 1e-4  # small enough that nothing is clipped
    # Compared behind the gain: in front of it, nothing is left to compare of a channel whose gain is zero.
    expected, lost = _real_heads(
        model, layer, model.input_norm(layer).of_outputs(x) if model.terms.input_norm_gain else x
    )
    W_V, W_O = model.values_and_outputs(layer)
    if model.terms.value_bias:
        # The bias is the last row of W_V: an input of zeros with a final 1 reads it alone.
        x = torch.nn.functional.pad(torch.nn.functional.pad(x, (0, 0, 0, 1)), (0, 1))
        x[-1, -1] = 1
    else:
        expected = expected[:, :-1]
    found = torch.stack([x @ W_V[kv].double() @ W_O[head].double() for head, kv in enumerate(model.kv_head_of(layer))])
    if model.terms.attention_gain:
        part = model.norm_of_attention(layer)
        expected, lost = part.of_outputs(expected), lost * float(part.gain.abs().max())
    norm = torch.linalg.vector_norm
    # A smaller difference than what the module's own rounding may cause says nothing.
    size = torch.maximum(norm(expected, dim=-1, keepdim=True), lost[:, None, None] / TOLERANCE).clamp_min(TINY)
    error = norm(found - expected, dim=-1, keepdim=True) / size
    scale = (found * expected).sum(-1, keepdim=True) / found.square().sum(-1, keepdim=True)
    scaled = norm(found * scale - expected, dim=-1, keepdim=True) / size
    # A head of zeros is zero in both.
    zero = (found == 0).all(-1, keepdim=True) & (expected == 0).all(-1, keepdim=True)
    scaled = torch.where(zero, 0.0, torch.where(scale > 0, scaled, torch.inf))
    scaled = torch.where(error <= TOLERANCE, torch.minimum(error, scaled), scaled)
    per_head, per_head_scaled = error.amax((1, 2)), scaled.amax((1, 2))
    if per_head.max() <= TOLERANCE:
        return float(per_head.max()), False, int(per_head.argmax())
    if per_head_scaled.max() <= TOLERANCE:
        return float(per_head_scaled.max()), True, int(per_head_scaled.argmax())
    return float(per_head.max()), False, int(per_head_scaled.argmax())


def _real_heads(model: HeadModel, layer: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output of each head of the real module.

    Returns:
        Float64[Tensor, "n_heads n_rows+1 d_model"]: the first rows are the outputs for `x` minus the output for an
        input of zeros; the last row is the latter, which is due to the bias of the values. Float64[Tensor, "n_heads"]:
        what rounding may have lost of them.
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
    source = model.attention.value_layer(layer)
    with torch.no_grad():
        if source != layer:
            _run_attention(model, source, rows, shared)
        out = _run_attention(model, layer, rows, shared, keep_one)
    out = out.reshape(n_heads, n_rows, model.d_model)
    output = f"{model.tree.path_of(model.attention.output_path(layer))}.bias"
    bias = model.tree.read(output).double() if output in model.tree else 0.0
    lost = ROUNDING * torch.linalg.vector_norm(out, dim=-1).amax(1)
    return torch.cat([out[:, :-1] - out[:, -1:], out[:, -1:] - bias], dim=1), lost


def _run_attention(model: HeadModel, layer: int, rows: Tensor, shared: dict[Any, Any], keep_one=None) -> Tensor:
    """Run the real attention module on sequences of one token; `shared` holds values from other layers for it."""
    attention = model.attention.path(layer)
    args, kwargs = call_arguments(model.tree, model.family.layers, layer, model.family.attention, len(rows))
    values, kwargs_values = with_values(args), with_values(kwargs)
    if "shared_kv_states" in kwargs_values:
        kwargs_values["shared_kv_states"] = shared
    if values:
        values = (rows, *values[1:])
    else:
        kwargs_values["hidden_states"] = rows
    blank = QUERY_AND_KEY if model.has_entry else ()
    if model.attention.values_are_keys(layer):
        blank = tuple(name for name in blank if not name.startswith("k_"))
    module = model.tree.fill(attention, blank).double()
    if keep_one is not None:
        module.get_submodule(model.family.output).register_forward_pre_hook(keep_one)
    out = module(*values, **kwargs_values)
    return out[0] if isinstance(out, tuple) else out


def with_values(given: Any) -> Any:
    """The arguments of a run without values, filled with zeros: one token needs no positions and no mask."""
    import torch

    if isinstance(given, torch.Tensor):
        if given.is_floating_point():
            return torch.zeros(given.shape, dtype=torch.float64)
        if given.is_complex():
            return torch.zeros(given.shape, dtype=torch.complex128)
        return torch.zeros(given.shape, dtype=given.dtype)
    if isinstance(given, tuple):
        return tuple(with_values(each) for each in given)
    if isinstance(given, list):
        return [with_values(each) for each in given]
    if isinstance(given, dict):
        return {name: with_values(each) for name, each in given.items()}
    return given
