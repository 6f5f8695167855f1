"""Run a model's own modules on rows, in float64, so that the number of threads does not change the float32 result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor, nn


CONVERTED_AT_ONCE = 2**24
"""Elements of a weight that are converted to float64 together; the largest weight of a 70B shape takes 1.9 GB."""


def run_in_float64(source: str, modules: list[nn.Module], rows: Tensor) -> Tensor:
    """Pass rows through modules of a model, one after the other, in float64; errors name `source`.

    Raises:
        ArchitectureError: a module cannot run, or its output is not finite.
    """
    import torch

    parts = []
    try:
        with torch.no_grad(), in_float64():
            for part in rows.split(512):
                part = part.double()[None]
                for module in modules:
                    part = _call(module, part)
                parts.append(part.reshape(-1, part.shape[-1]).float())
    except (
        RuntimeError,
        IndexError,
        TypeError,
        ValueError,
    ) as error:  # such as too many experts per token
        raise ArchitectureError(
            f"{source}: transformers' modules of the first layer cannot run with this config "
            f"({type(error).__name__}: {str(error)[:200]}). Is config.json from the same model?"
        ) from error
    out = torch.cat(parts)
    if not torch.isfinite(out).all():
        raise ArchitectureError(
            f"{source}: the first layer's input or MLP gives values that are NaN or infinite. Are the weights damaged?"
        )
    return out


def _call(module: nn.Module, rows: Tensor) -> Tensor:
    """A module's output for rows (1, n_rows, d_model); the residual that BLOOM's and MPT's MLP add is zero."""
    import inspect

    import torch

    needed = list(inspect.signature(module.forward).parameters)
    out = module(rows, torch.zeros_like(rows)) if needed[1:2] == ["residual"] else module(rows)
    return out[0] if isinstance(out, tuple) else out


def in_float64(throughout: bool = False):
    """Let modules with float32 weights compute in float64, with one weight, or a part of it, at a time converted.

    Args:
        throughout: also if a module casts to float32, as many norms and softmaxes do.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    def raised(value: object) -> object:
        return value.double() if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value

    class InFloat64(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            name = getattr(func, "__name__", "")
            if throughout and args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
                if name == "float" or (name == "to" and torch.float32 in (*args[1:], *kwargs.values())):
                    return args[0]
                if name == "softmax" and kwargs.get("dtype") == torch.float32:
                    kwargs = kwargs | {"dtype": torch.float64}
            if name in _OF_ONE_TYPE and any(
                isinstance(value, torch.Tensor) and value.dtype == torch.float64 for value in args
            ):
                if name == "linear" and not kwargs and (args[0].dtype, args[1].dtype) == (torch.float64, torch.float32):
                    return _linear(*args)
                args = tuple(raised(value) for value in args)
                kwargs = {name: raised(value) for name, value in kwargs.items()}
            return func(*args, **kwargs)

    return InFloat64()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias` in float64, with CONVERTED_AT_ONCE elements of the weight converted at a time."""
    import torch

    out = x.new_empty(*x.shape[:-1], len(weight))
    n_rows = max(1, CONVERTED_AT_ONCE // weight.shape[1])
    for start in range(0, len(weight), n_rows):
        rows = slice(start, start + n_rows)
        own_bias = None if bias is None else bias[rows].double()
        out[..., rows] = torch.nn.functional.linear(x, weight[rows].double(), own_bias)
    return out


_OF_ONE_TYPE = {
    "linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm", "layer_norm", "rms_norm", "conv1d", "einsum",
    "scaled_dot_product_attention",
}  # fmt: skip
"""Functions of torch that refuse float32 weights with float64 inputs; the others promote."""
