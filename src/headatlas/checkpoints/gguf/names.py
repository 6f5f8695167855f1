"""From the tensors of a GGUF file to transformers' names for them; a tensor that has no name is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

from headatlas.architectures.gguf import Architecture
from headatlas.checkpoints.gguf.metadata import Facts
from headatlas.checkpoints.gguf.tensors import (
    Changed,
    Experts,
    Interleaved,
    KeysAndValues,
    Reshaped,
    Stored,
    Tensor,
    Transposed,
    Unpaired,
)
from headatlas.errors import CheckpointError

UNREAD = ("rope_freqs", "rope_factors_long", "rope_factors_short", "attn_rot_embd")
"""Of rotary positions, which a map does not use; a file with one of them is not run."""

BESIDE = (".scale", ".input_scale")
"""Numbers beside a quantised weight: by the first its values are multiplied, the second is of activations."""


def named_tensors(architecture: Architecture, facts: Facts, n_layers: int) -> dict[str, Tensor]:
    """Transformers' name -> tensor, for the layers below `n_layers`.

    Raises:
        CheckpointError: the file holds a tensor that this architecture does not have, or experts of another number.
    """
    stems = _stems(architecture, facts.architecture)
    found: dict[str, Tensor] = {}
    for name in facts.tensors:
        layer, stem, end = _split(name)
        if layer is not None and layer >= n_layers:
            continue
        kind = stem.removeprefix("blk.{}.")
        if kind in UNREAD or kind in architecture.unread or end in BESIDE:
            continue
        place = "{}" if layer is None else str(layer)
        if stem in stems:
            theirs = stems[stem].replace("{}", place)
            # These are parameters of their own, not of a module that has a weight.
            theirs += "" if theirs.endswith(".sinks") else end
            found[theirs] = _undone(architecture, facts, theirs, _stored(facts, name))
        elif not (architecture.experts and kind in _EXPERTS) and not (architecture.latent and kind in _LATENT):
            raise CheckpointError(
                f"{facts.path}: tensor {name!r} is not one that a model of {facts.architecture!r} is known to have. "
                f"Use the model's safetensors checkpoint."
            )
    for layer in range(n_layers):
        if architecture.experts:
            found.update(_experts(architecture, facts, layer))
        if architecture.latent:
            found.update(_latent(facts, layer))
    return found


_EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_gate_up_exps", "ffn_down_exps")
_LATENT = ("attn_k_b", "attn_v_b")


def _split(name: str) -> tuple[int | None, str, str]:
    """The layer, the name with `{}` for it and without its end, and the end."""
    stem, dot, end = name.rpartition(".")
    match = re.fullmatch(r"blk\.(0|[1-9]\d{0,5})\.(.+)", stem)
    return (int(match[1]), f"blk.{{}}.{match[2]}", dot + end) if match else (None, stem, dot + end)


def _stems(architecture: Architecture, name: str) -> dict[str, str]:
    """The file's names -> transformers', both without ends and with `{}` for the layer."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    numbers = {text: number for number, text in MODEL_ARCH_NAMES.items()}
    names = get_tensor_name_map(numbers[name], 1)
    stems = {}
    for theirs in architecture.tensors:
        # BLOOM is converted from the base model, whose names have no prefix.
        spelled = (theirs.format(0), theirs.format(0).removeprefix("transformer."))
        ours = next((found for text in spelled if (found := names.get_name(text)) is not None), None)
        if ours is None and theirs == "lm_head":
            ours = "output"  # of architectures that always tie it
        if ours is not None:
            stems[ours.replace("blk.0.", "blk.{}.", 1)] = theirs
    return stems


def _stored(facts: Facts, name: str) -> Tensor:
    """A tensor, times the number beside it if there is one (NVFP4)."""
    stored = Stored(name, facts.tensors[name])
    beside = name.removesuffix(".weight") + ".scale"
    if not name.endswith(".weight") or beside not in facts.tensors:
        return stored
    scale = Stored(beside, facts.tensors[beside])
    if scale.shape != (1,):
        raise CheckpointError(
            f"{facts.path}: expected one number in tensor {beside!r}, found the shape {scale.shape}. "
            f"Use the model's safetensors checkpoint."
        )
    return Changed(stored, lambda values: values * scale.read(slice(None)))


def _undone(architecture: Architecture, facts: Facts, theirs: str, tensor: Tensor) -> Tensor:
    if theirs.endswith(architecture.transposed) and architecture.transposed and len(tensor.shape) == 2:
        return Transposed(tensor)
    if architecture.plus_one and theirs.endswith("norm.weight"):
        return Changed(tensor, lambda values: values - 1)
    if architecture.interleaved and ".query_key_value." in theirs:
        n_heads = facts.whole("attention.head_count")
        n_kv_heads = facts.whole("attention.head_count_kv", 1 if facts.architecture == "falcon" else n_heads)
        if n_heads < 1 or n_kv_heads < 1 or n_heads % n_kv_heads or tensor.shape[0] % (n_heads + 2 * n_kv_heads):
            raise facts.unlike(
                f"rows of {theirs!r} for {n_heads} heads and {n_kv_heads} key-value heads", str(tensor.shape[0])
            )
        if not isinstance(tensor, Stored):
            raise facts.unlike(f"no number beside {theirs!r}", "one")
        return Interleaved(tensor, n_heads, n_kv_heads)
    if architecture.paired and (of := re.search(r"[.]([qk])_proj[.]", theirs)):
        n_heads = facts.whole("attention.head_count")
        n_heads = n_heads if of[1] == "q" else facts.whole("attention.head_count_kv", n_heads)
        if n_heads < 1:
            return tensor  # the config is refused for it
        if tensor.shape[0] % (2 * n_heads):
            raise facts.unlike(f"pairs of rows of {theirs!r} for {n_heads} heads", str(tensor.shape[0]))
        return Unpaired(tensor, n_heads)
    if theirs.endswith(".shared_expert_gate.weight") and len(tensor.shape) == 1:
        return Reshaped(tensor, (1, tensor.shape[0]))
    return tensor


def _experts(architecture: Architecture, facts: Facts, layer: int) -> Iterator[tuple[str, Tensor]]:
    """Both tensors of a layer's experts, as the module holds them."""
    n_experts, alternating = facts.whole("expert_count", 0), architecture.experts == "alternating"
    for ours, theirs in ((".weight", ""), (".bias", "_bias")):
        parts: dict[str, Tensor] = {}
        for kind in _EXPERTS:
            if facts.has(name := f"blk.{layer}.{kind}{ours}"):
                parts[kind] = _stored(facts, name)
                if parts[kind].shape[0] != n_experts:
                    raise CheckpointError(
                        f"{facts.path}: expected {n_experts} experts in tensor {name!r} (its expert_count), found "
                        f"{parts[kind].shape[0]}. Fetch the file again."
                    )
        module = f"model.layers.{layer}.mlp.experts"
        gate, up, down = (parts.get(f"ffn_{kind}_exps") for kind in ("gate", "up", "down"))
        is_weight = ours == ".weight"
        if gate is not None and up is not None:
            if gate.shape != up.shape or len(gate.shape) != (3 if is_weight else 2):
                raise facts.unlike(f"gates and ups of one shape in layer {layer}", f"{gate.shape} and {up.shape}")
            yield f"{module}.gate_up_proj{theirs}", Experts(gate, up, alternating)
        elif "ffn_gate_up_exps" in parts and not alternating:
            yield f"{module}.gate_up_proj{theirs}", parts["ffn_gate_up_exps"]
        if down is not None:
            turned = alternating and is_weight and len(down.shape) == 3
            yield f"{module}.down_proj{theirs}", Transposed(down) if turned else down


def _latent(facts: Facts, layer: int) -> Iterator[tuple[str, Tensor]]:
    keys, values = (f"blk.{layer}.{kind}.weight" for kind in _LATENT)
    if facts.has(keys) and facts.has(values):
        key, value = _stored(facts, keys), _stored(facts, values)
        if len(key.shape) != 3 or len(value.shape) != 3 or key.shape[:2] != (value.shape[0], value.shape[2]):
            raise facts.unlike(
                f"parts that fit each other in {keys!r} and {values!r}", f"{key.shape} and {value.shape}"
            )
        yield f"model.layers.{layer}.self_attn.kv_b_proj.weight", KeysAndValues(key, value)
