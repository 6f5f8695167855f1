"""The keys and values that a model caches for a first token, shared by many sequences that begin with it."""

from __future__ import annotations

import copy
from typing import Any


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
