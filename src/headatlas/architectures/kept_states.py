"""What a run keeps for another: the keys and values of a first token, and the residuals between two layers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class KeptRun(Protocol):
    """Where a run over many layers keeps what it needs to continue."""

    def load(self, layer: int) -> tuple[int, dict[str, Tensor]] | None:
        """What the last kept layer up to `layer` reads, with the number of that layer; None if nothing is kept."""
        ...

    def save(self, layer: int, residuals: dict[str, Tensor]) -> None:
        """Keep what `layer` reads."""
        ...


def residuals_of(output: Any) -> dict[str, Tensor] | None:
    """A layer's output as named tensors; None if it holds anything else."""
    import torch

    if isinstance(output, torch.Tensor):
        return {"alone": output}
    if not isinstance(output, tuple | list) or not all(isinstance(each, torch.Tensor | None) for each in output):
        return None
    return {str(place): torch.empty(0) if each is None else each for place, each in enumerate(output)}


def output_of(residuals: dict[str, Tensor]) -> Any:
    """The inverse of `residuals_of`."""
    if "alone" in residuals:
        return residuals["alone"]
    in_order = (residuals[str(place)] for place in range(len(residuals)))
    return tuple(each if each.numel() else None for each in in_order)


def first_token_of(cache: Any) -> Any:
    """The keys and values of the first token, from a model's cache of sequences that all begin with it.

    None if the model caches something else, such as the state of linear attention, or too few tokens.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    if type(cache) is not DynamicCache:
        return None
    first = copy.copy(cache)
    first.layers = []
    for layer in cache.layers:
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            return None
        own: Any = copy.copy(layer)
        if _holds(own):
            if own.keys.shape[-2] < 2:  # a window of one token
                return None
            own.keys, own.values = own.keys[:1, :, :1], own.values[:1, :, :1]
        if hasattr(own, "cumulative_length"):
            own.cumulative_length = 1
        first.layers.append(own)
    return first


def for_sequences(layer: Any, n: int) -> Any:
    """A layer of `first_token_of`, expanded to `n` sequences; a view, which takes no memory."""
    own = copy.copy(layer)
    if _holds(own):
        own.keys, own.values = (each.expand(n, -1, -1, -1) for each in (own.keys, own.values))
    return own


def _holds(layer: Any) -> bool:
    """Whether a layer caches anything: layers that read another layer's keys do not."""
    return layer.keys is not None and layer.keys.numel() > 0
