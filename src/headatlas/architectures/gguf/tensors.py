"""The tensors of a GGUF file as transformers names and arranges them; a tensor without a name is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

from headatlas.architectures.gguf.rearranged import Experts, Interleaved, KeysAndValues, Unpaired
from headatlas.architectures.gguf.table import Architecture
from headatlas.checkpoints.gguf.metadata import Metadata
from headatlas.checkpoints.gguf.names import ROTARY, SCALES, parse_name, stems, stored_tensor
from headatlas.checkpoints.gguf.tensors import Changed, Reshaped, Row, Stored, Tensor, Transposed
from headatlas.errors import CheckpointError

EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_gate_up_exps", "ffn_down_exps")
LATENT = ("attn_k_b", "attn_v_b")
OWN_PARAMETERS = {".sinks.weight": ".sinks", ".e_score_correction.bias": ".e_score_correction_bias"}
"""Ends of names of parameters that transformers does not put into a module of their own."""
BY_HEAD = (".q_layernorm.weight", ".k_layernorm.weight")


def named_tensors(architecture: Architecture, metadata: Metadata, n_layers: int) -> dict[str, Tensor]:
    """Name in transformers -> tensor, for the first `n_layers` layers.

    Raises:
        CheckpointError: the file holds a tensor that this architecture does not have, or another number of experts.
    """
    known = stems(metadata.architecture, architecture.tensors)
    named: dict[str, Tensor] = {}
    for name in metadata.tensors:
        parsed = parse_name(name)
        if parsed.layer is not None and parsed.layer >= n_layers:
            continue
        kind = parsed.kind
        if kind in ROTARY or parsed.end in SCALES:
            continue
        if parsed.stem in known:
            target = known[parsed.stem].replace("{}", str(parsed.layer)) + parsed.end
            tensor = stored_tensor(metadata, name)
            if architecture.norms_by_head and target.endswith(BY_HEAD):
                named.update(_by_head(metadata, target, tensor))
                continue
            for end, own in OWN_PARAMETERS.items():
                target = target.removesuffix(end) + own if target.endswith(end) else target
            named[target] = _restored(architecture, metadata, target, tensor)
        elif not (architecture.experts and kind in EXPERTS) and not (architecture.latent and kind in LATENT):
            raise CheckpointError(
                f"{metadata.path}: expected the tensors of a model of {metadata.architecture!r}, found {name!r}, "
                f"which such a model does not have. Use the model's safetensors checkpoint."
            )
    for layer in range(n_layers):
        if architecture.experts:
            named.update(_experts(architecture, metadata, layer))
        if architecture.latent:
            named.update(_latent(metadata, layer))
    return named


def _restored(architecture: Architecture, metadata: Metadata, target: str, tensor: Tensor) -> Tensor:
    """The tensor as it was before it was converted."""
    if architecture.transposed and target.endswith(architecture.transposed) and len(tensor.shape) == 2:
        return Transposed(tensor)
    if architecture.plus_one and target.endswith("norm.weight"):
        return Changed(tensor, lambda values: values - 1)
    if architecture.interleaved and ".query_key_value." in target:
        return _interleaved(architecture, metadata, target, tensor)
    if architecture.paired and (match := re.search(r"[.]([qk])_proj[.]", target)):
        n_heads = metadata.integer("attention.head_count")
        n_heads = n_heads if match[1] == "q" else metadata.integer("attention.head_count_kv", n_heads)
        if n_heads < 1:
            return tensor  # the config is refused for it
        if tensor.shape[0] % (2 * n_heads):
            raise metadata.unsupported(f"pairs of rows of {target!r} for {n_heads} heads", str(tensor.shape[0]))
        return Unpaired(tensor, n_heads)
    if target.endswith(".shared_expert_gate.weight") and len(tensor.shape) == 1:
        return Reshaped(tensor, (1, tensor.shape[0]))
    return tensor


def _by_head(metadata: Metadata, target: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The norm of each head, from one tensor with a row per head."""
    if len(tensor.shape) != 2:
        raise metadata.unsupported(f"a row per head in {target!r}", f"the shape {tensor.shape}")
    for head in range(tensor.shape[0]):
        yield target.replace(".weight", f".norms.{head}.weight"), Row(tensor, head)


def _interleaved(architecture: Architecture, metadata: Metadata, target: str, tensor: Tensor) -> Tensor:
    n_heads = metadata.integer("attention.head_count")
    n_kv_heads = metadata.integer("attention.head_count_kv", 1 if architecture.one_kv_head else n_heads)
    if n_heads < 1 or n_kv_heads < 1 or n_heads % n_kv_heads or tensor.shape[0] % (n_heads + 2 * n_kv_heads):
        raise metadata.unsupported(
            f"rows of {target!r} for {n_heads} heads and {n_kv_heads} key-value heads", str(tensor.shape[0])
        )
    if not isinstance(tensor, Stored):
        raise metadata.unsupported(f"{target!r} without a scale", "one with a scale")
    return Interleaved(tensor, n_heads, n_kv_heads)


def _experts(architecture: Architecture, metadata: Metadata, layer: int) -> Iterator[tuple[str, Tensor]]:
    """Both tensors of a layer's experts, as the module holds them."""
    n_experts, alternating = metadata.integer("expert_count", 0), architecture.experts == "alternating"
    for end, target_end in ((".weight", ""), (".bias", "_bias")):
        parts: dict[str, Tensor] = {}
        for kind in EXPERTS:
            if metadata.has_tensor(name := f"blk.{layer}.{kind}{end}"):
                parts[kind] = stored_tensor(metadata, name)
                if parts[kind].shape[0] != n_experts:
                    raise CheckpointError(
                        f"{metadata.path}: expected {n_experts} experts in tensor {name!r} (its expert_count), found "
                        f"{parts[kind].shape[0]}. Fetch the file again."
                    )
        module = f"model.layers.{layer}.mlp.experts"
        gate, up, down = (parts.get(f"ffn_{kind}_exps") for kind in ("gate", "up", "down"))
        is_weight = end == ".weight"
        if gate is not None and up is not None:
            if gate.shape != up.shape or len(gate.shape) != (3 if is_weight else 2):
                raise metadata.unsupported(
                    f"gate and up projections of one shape in layer {layer}", f"{gate.shape} and {up.shape}"
                )
            yield f"{module}.gate_up_proj{target_end}", Experts(gate, up, alternating)
        elif "ffn_gate_up_exps" in parts and not alternating:
            yield f"{module}.gate_up_proj{target_end}", parts["ffn_gate_up_exps"]
        if down is not None:
            transposed = alternating and is_weight and len(down.shape) == 3
            yield f"{module}.down_proj{target_end}", Transposed(down) if transposed else down


def _latent(metadata: Metadata, layer: int) -> Iterator[tuple[str, Tensor]]:
    keys, values = (f"blk.{layer}.{kind}.weight" for kind in LATENT)
    if metadata.has_tensor(keys) and metadata.has_tensor(values):
        key, value = stored_tensor(metadata, keys), stored_tensor(metadata, values)
        if len(key.shape) != 3 or len(value.shape) != 3 or key.shape[:2] != (value.shape[0], value.shape[2]):
            raise metadata.unsupported(
                f"parts that fit each other in {keys!r} and {values!r}", f"{key.shape} and {value.shape}"
            )
        yield f"model.layers.{layer}.self_attn.kv_b_proj.weight", KeysAndValues(key, value)
