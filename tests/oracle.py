"""The one-token oracle: what a head of a real attention module does to a row, with no knowledge of any layout.

With one token, attention can only look at itself. So with all heads but one silenced at the input of the output
projection, the module's answer, less its answer to a zero input, is `x @ W_V @ W_O` of that head.
"""

from __future__ import annotations

import torch
from torch import nn


def attention_calls(model: nn.Module, base: nn.Module, paths: list[str], n_rows: int) -> dict[str, tuple[tuple, dict]]:
    """What a real model passes to the attention modules in its part `base` when it reads `n_rows` times one token."""
    seen, hooks = {}, []
    for path in paths:

        def see(_, args, kwargs, path=path):
            seen[path] = (args, dict(kwargs))

        hooks.append(base.get_submodule(path).register_forward_pre_hook(see, with_kwargs=True))
    try:
        with torch.no_grad():
            model(torch.full((n_rows, 1), 5), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def head_output(attention: nn.Module, projection: nn.Module, call, x: torch.Tensor, head: int, n_heads: int):
    """One head's contribution, Float[Tensor, "n_rows d_model"].

    Args:
        attention: the real module.
        projection: the output projection in it.
        call: (args, kwargs) that the model passes to the module; its input is replaced.
        x: rows, each taken as a sequence of one token.
    """

    def keep_one(module, arguments):
        (joined,) = arguments
        heads = joined.reshape(*joined.shape[:-1], n_heads, -1).clone()
        heads[..., torch.arange(n_heads) != head, :] = 0
        return (heads.reshape(joined.shape),)

    def answer(rows):
        args, kwargs = call
        if args:
            out = attention(rows[:, None], *args[1:], **kwargs)
        else:
            out = attention(**kwargs | {"hidden_states": rows[:, None]})
        return (out[0] if isinstance(out, tuple) else out).reshape(rows.shape)

    hook = projection.register_forward_pre_hook(keep_one)
    try:
        with torch.no_grad():
            return answer(x) - answer(torch.zeros_like(x))
    finally:
        hook.remove()
