"""Rotary positions and sliding windows of a GGUF file as transformers configures them; only a running model needs them.

A map of the profile `maps` uses no positions, so a file whose positions cannot be read still opens.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from headatlas.checkpoints.gguf.metadata import Metadata
from headatlas.checkpoints.gguf.names import ROPE_FREQUENCIES, ROPE_LONG, ROPE_SHORT
from headatlas.checkpoints.gguf.tensors import Stored

Rotary = Literal["none", "whole", "partial", "latent", "by layer type"]
"""How much of each head is rotated: nothing, all, the first `rope.dimension_count` numbers, or, with latent attention,
a part of its own; `by layer type`: all, and the layers with a sliding window have a base of their own."""

BASE = 10_000.0
"""The base that llama.cpp assumes if a file states none."""

YARN_KEYS = {
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
    "yarn_attn_factor": "attention_factor",
}
"""Key in the file (after `rope.scaling.`) -> name in transformers."""


class UnknownPositionsError(Exception):
    """The positions cannot be read; the message is the end of the sentence `cannot be run: ...`."""


def rotary_settings(rotary: Rotary, metadata: Metadata, d_head: int, own: dict[str, Any]) -> dict[str, Any]:
    """The settings `rope_parameters`, and what belongs to them; none for a model without rotary positions.

    Args:
        d_head: width of a head's queries and keys; with latent attention, of their rotated part.
        own: parameters of the architecture that no file states.

    Raises:
        UnknownPositionsError: the file describes them in a way that transformers has no setting for.
    """
    if rotary == "none":
        return {}
    base = {"rope_theta": metadata.number("rope.freq_base", BASE)}
    n_rotated = metadata.integer("rope.dimension_count", d_head)
    if rotary == "partial":
        base["partial_rotary_factor"] = _share(n_rotated, d_head)
    elif n_rotated != d_head:
        raise UnknownPositionsError(
            f"its rotary positions cover {n_rotated} of the {d_head} numbers of each head; transformers' model covers "
            f"all of them"
        )
    scaling, more = _scaling(metadata, n_rotated)
    whole = base | scaling
    if scaling["rope_type"] != "default":
        whole |= own
    if rotary != "by layer type":
        return {"rope_parameters": whole, **more}
    sliding = {"rope_type": "default", "rope_theta": metadata.number("rope.freq_base_swa", _sliding_base(metadata))}
    return {"rope_parameters": {"full_attention": whole, "sliding_attention": sliding}, **more}


def layer_types(metadata: Metadata, n_layers: int) -> dict[str, Any]:
    """`layer_types` from the file's own list of layers with a sliding window; nothing if it has no list."""
    flags = metadata.flags("attention.sliding_window_pattern")
    if flags is None:
        return {}
    if len(flags) < n_layers:
        raise UnknownPositionsError(f"its list of layers with a sliding window names {len(flags)} of {n_layers} layers")
    return {"layer_types": ["sliding_attention" if flag else "full_attention" for flag in flags[:n_layers]]}


def _sliding_base(metadata: Metadata) -> float:
    # Gemma 3's layers with a window have a base of their own, which older files do not state.
    return BASE if metadata.architecture == "gemma3" else metadata.number("rope.freq_base", BASE)


def _share(n_rotated: int, d_head: int) -> float:
    """The share that transformers turns back into `n_rotated` by rounding down."""
    if not 0 < n_rotated <= d_head:
        raise UnknownPositionsError(f"its rotary positions cover {n_rotated} numbers of heads with {d_head}")
    share = n_rotated / d_head
    return share if int(d_head * share) == n_rotated else math.nextafter(share, 2)


def _scaling(metadata: Metadata, n_rotated: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scaling of the positions, and settings that transformers expects outside of it."""
    if (factors := _factors(metadata, ROPE_FREQUENCIES, n_rotated)) is not None:
        # transformers has no setting for a file's own factors, but LongRoPE with the same ones for all lengths.
        return _longrope(factors, factors, 1.0, metadata.integer("context_length")), {}
    short, long = (_factors(metadata, name, n_rotated) for name in (ROPE_SHORT, ROPE_LONG))
    if short is not None and long is not None:
        length = metadata.integer("rope.scaling.original_context_length")
        return _longrope(short, long, metadata.number("rope.scaling.attn_factor", 1.0), length), {
            "original_max_position_embeddings": length
        }
    key = f"{metadata.architecture}.rope.scaling.type"
    kind = metadata.values.get(key, "none")
    factor = metadata.number("rope.scaling.factor", metadata.number("rope.scale_linear", None))
    if kind == "none" and metadata.number("rope.scale_linear", 1) == 1:
        return {"rope_type": "default"}, {}
    if kind in ("none", "linear") and factor is not None:
        return {"rope_type": "linear", "factor": float(factor)}, {}
    if kind == "yarn" and metadata.number("rope.scaling.yarn_ext_factor", 1) == 1:
        return _yarn(metadata), {}
    raise UnknownPositionsError(f"its positions are scaled in a way that is not known ({key} is {kind!r:.40})")


def _yarn(metadata: Metadata) -> dict[str, Any]:
    found = {name: metadata.number(f"rope.scaling.{key}", None) for key, name in YARN_KEYS.items()}
    missing = [key for key, name in YARN_KEYS.items() if not key.startswith("yarn") and found[name] is None]
    if missing:
        raise UnknownPositionsError(
            f"its positions are scaled by YaRN, but it does not state rope.scaling.{missing[0]}"
        )
    whole = "original_max_position_embeddings"
    parameters = {name: value if name == whole else float(value) for name, value in found.items() if value is not None}
    if (multiplier := metadata.number("rope.scaling.yarn_log_multiplier", None)) is not None:
        # DeepSeek's files state a tenth of it.
        scale = float(multiplier) * (10 if metadata.architecture == "deepseek2" else 1)
        parameters |= {"mscale": scale, "mscale_all_dim": scale}
    return {"rope_type": "yarn"} | parameters


def _longrope(short: list[float], long: list[float], attention: float, length: int) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "factor": 1.0,
        "attention_factor": float(attention),
        "original_max_position_embeddings": length,
    }


def _factors(metadata: Metadata, name: str, n_rotated: int) -> list[float] | None:
    """The factors by which the file divides the frequencies of positions; None if it has no such tensor."""
    name = f"{name}.weight"
    if not metadata.has_tensor(name):
        return None
    tensor = Stored(name, metadata.tensors[name])
    if tensor.shape != (n_rotated // 2,):
        raise UnknownPositionsError(
            f"its tensor {name!r} has the shape {tensor.shape}; its heads need ({n_rotated // 2},)"
        )
    return tensor.read(slice(None)).tolist()
