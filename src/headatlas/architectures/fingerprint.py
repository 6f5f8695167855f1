"""The fingerprint of a model: a digest of everything that a map reads from it, the same for every file format."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headatlas.architectures.module_tree import ROWS_AT_ONCE, ModuleTree
from headatlas.architectures.parts import Part
from headatlas.errors import ArchitectureError

_ACTIVATIONS = ("hidden_act", "activation_function", "hidden_activation", "activation")
_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon")
_OTHERS = (
    "embedding_multiplier", "num_experts_per_tok", "norm_topk_prob", "routed_scaling_factor", "n_group", "topk_group",
    "topk_method", "moe_k", "router_jitter_noise", "swiglu_limit", "swiglu_alpha", "moe_norm_min", "moe_topk",
    "top_k_experts",
)  # fmt: skip


_FORWARD = (
    "rope_parameters", "sliding_window", "layer_types", "attn_logit_softcapping", "query_pre_attn_scalar",
    "attention_multiplier", "residual_multiplier", "embedding_multiplier", "position_embedding_type",
    "max_position_embeddings", "use_parallel_residual", "parallel_attn", "alibi", "attn_config",
    "partial_rotary_factor", "no_rope_layers", "attention_chunk_size", "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx", "clip_qkv",
)  # fmt: skip

_UNUSED = ("training", "_is_hf_initialized", "name_or_path", "padding_idx")
"""Attributes of modules that a forward pass does not depend on."""


def digest_parts(
    tree: ModuleTree, meaning: list, parts: Sequence[Part], progress: Callable[[int, int], None] | None = None
) -> str:
    """SHA-256 of the parts as float32 and of the settings that change the map.

    Raises:
        ArchitectureError: a tensor is missing, misshapen, or not finite.
    """
    digest = hashlib.sha256(json.dumps(meaning).encode())
    for done, part in enumerate(parts):
        if progress is not None:
            progress(done, len(parts))
        shape = tree.shape(part.parameter)
        start, stop, _ = (part.rows or slice(None)).indices(shape[0] if shape else 1)
        digest.update(json.dumps([part.label, [stop - start, *shape[1:]]]).encode())
        at_once = ROWS_AT_ONCE if shape and tree.is_plain(part.parameter) else stop
        for row in range(start, stop, at_once):
            whole = row == 0 and row + at_once >= (shape[0] if shape else 1)
            rows = tree.read(part.parameter, None if whole else slice(row, min(row + at_once, stop)))
            digest.update(rows.contiguous().numpy().data)
    if progress is not None:
        progress(len(parts), len(parts))
    return digest.hexdigest()


def meaning_of_config(tree: ModuleTree, counts: dict[str, int], sizes: list) -> list:
    """The settings of a config that change the map."""
    config = tree.config
    activation = next((getattr(config, name) for name in _ACTIVATIONS if hasattr(config, name)), None)
    # GGUF keeps these as float32.
    eps = []
    for name in _EPSILONS:
        if (each := getattr(config, name, None)) is None:
            continue
        try:
            eps.append(struct.pack("<f", each).hex())
        except (struct.error, OverflowError) as error:
            raise ArchitectureError(
                f"{tree.checkpoint.source}: config: expected a small number for {name}, found {each!r}."
            ) from error
    others = {name: getattr(config, name) for name in _OTHERS if getattr(config, name, None) is not None}
    return [config.model_type, counts, sizes, activation, eps, others]


def meaning_of_forward_pass(tree: ModuleTree) -> list:
    """The settings that the whole base model runs with, floats as GGUF keeps them."""
    config = tree.config
    named = {name: _comparable(getattr(config, name)) for name in _FORWARD if getattr(config, name, None) is not None}
    modules = [
        [
            name,
            type(module).__name__,
            sorted((key, _comparable(value)) for key, value in vars(module).items() if _is_used(key, value)),
        ]
        for name, module in tree.base.named_modules()
        if not type(module).__name__.startswith("Dropout")
    ]
    return [named, modules]


def _comparable(value: Any) -> Any:
    """JSON types, with floats as the bits of their float32."""
    if isinstance(value, float):
        return struct.pack("<f", value).hex() if abs(value) < 3e38 else str(value)
    if isinstance(value, Mapping):
        return {str(name): _comparable(each) for name, each in sorted(value.items()) if each is not None}
    if isinstance(value, list | tuple):
        return [_comparable(each) for each in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _is_used(name: str, value: object) -> bool:
    return _is_plain(value) and "dropout" not in name and name not in _UNUSED


def settings_of_modules(tree: ModuleTree, paths: Sequence[str]) -> list:
    """The numbers, strings and flags of the embedding and of the modules at `paths`, in the base model."""
    modules = [tree.base.get_input_embeddings(), *(tree.base.get_submodule(path) for path in paths)]
    return [
        [name, type(part).__name__, sorted((key, value) for key, value in vars(part).items() if _is_plain(value))]
        for module in modules
        for name, part in module.named_modules()
    ]


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str)
