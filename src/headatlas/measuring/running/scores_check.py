"""Are scores what queries and keys of the checkpoint give? The self-check of the reading side, layer by layer.

Two tokens at every distance of a short sequence: the scores that are computed from the checkpoint's weights and the
config, against the logarithm of the attention that the running model gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headatlas.architectures.query_key import Understood, understand_scores
from headatlas.measuring.running.attention import watch_attention
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.predicted import inputs_of

if TYPE_CHECKING:
    from torch import Tensor

N_TOKENS = 13


def check_scores(running: RunningModel, ids: Tensor) -> dict[int, Understood]:
    """How each layer's scores are understood; all heads of all layers are compared.

    Args:
        ids: Int[Tensor, "n_tokens"], of which the first N_TOKENS are shown.
    """
    import torch

    ids, found = ids[None, :N_TOKENS], {}
    inputs = inputs_of(running, ids)

    def see(layer: int, attention: Tensor, visible: Tensor) -> None:
        logs = attention[0].float().cpu().clamp_min(torch.finfo(torch.float32).tiny).log()
        module = running.base.get_submodule(running.heads.attention.path(layer))
        found[layer] = understand_scores(running.heads, layer, module, inputs[layer][0], logs, visible[0].cpu())

    watch_attention(running, ids, see)
    return found
