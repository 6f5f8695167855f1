"""The one-token oracle: what a head of a real attention module does to a row, with no knowledge of any layout.

With one token, attention can only look at itself. So with all heads but one silenced at the input of the output
projection, the module's answer, less its answer to a zero input, is `x @ W_V @ W_O` of that head.
"""

from __future__ import annotations

import torch
from torch import nn


def head_output(attention: nn.Module, projection: nn.Module, call, x: torch.Tensor, head: int, n_heads: int):
    """One head's contribution, Float[Tensor, "n_rows d_model"].

    Args:
        attention: the real module; `call(rows)` runs it on rows (n_rows, 1, d_model) and gives its output.
        projection: the output projection in it.
        x: rows, each taken as a sequence of one token.
    """

    def keep_one(module, arguments):
        (joined,) = arguments
        heads = joined.reshape(*joined.shape[:-1], n_heads, -1).clone()
        heads[..., torch.arange(n_heads) != head, :] = 0
        return (heads.reshape(joined.shape),)

    hook = projection.register_forward_pre_hook(keep_one)
    try:
        with torch.no_grad():
            return call(x[:, None])[:, 0] - call(torch.zeros_like(x)[:, None])[:, 0]
    finally:
        hook.remove()
