"""Names of tensors in a GGUF file, and their translation through the gguf package's table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from headatlas.checkpoints.gguf.metadata import Metadata
from headatlas.checkpoints.gguf.tensors import Changed, Stored, Tensor
from headatlas.errors import CheckpointError

ROPE_FREQUENCIES, ROPE_LONG, ROPE_SHORT = "rope_freqs", "rope_factors_long", "rope_factors_short"
ROTARY = (ROPE_FREQUENCIES, ROPE_LONG, ROPE_SHORT, "attn_rot_embd")
"""Tensors of rotary positions, which are settings in transformers. The last one, of old files, repeats the base."""

SCALES = (".scale", ".input_scale")
"""Ends of the names of scales of quantised weights. The first multiplies the weight, the second its input."""

_IN_LAYER = re.compile(r"blk\.(0|[1-9]\d{0,5})\.(.+)", re.ASCII)


@dataclass(frozen=True)
class TensorName:
    """A name in its parts.

    Args:
        layer: None outside the layers.
        stem: without the end, and with `{}` in place of the layer: `blk.{}.attn_v`.
        end: `.weight`, `.bias` or another one, with its dot; may be empty.
    """

    layer: int | None
    stem: str
    end: str

    @property
    def kind(self) -> str:
        """The stem without its layer: `attn_v`."""
        return self.stem.removeprefix("blk.{}.")


def parse_name(name: str) -> TensorName:
    stem, dot, end = name.rpartition(".")
    match = _IN_LAYER.fullmatch(stem)
    return TensorName(int(match[1]), f"blk.{{}}.{match[2]}", dot + end) if match else TensorName(None, stem, dot + end)


def stems(architecture: str, names: Iterable[str]) -> dict[str, str]:
    """Stem in the file -> name in transformers, for those `names` that the gguf package knows.

    Args:
        architecture: the file's name for it.
        names: in transformers, without their ends and with `{}` for the layer.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    numbers = {text: number for number, text in MODEL_ARCH_NAMES.items()}
    table = get_tensor_name_map(numbers[architecture], 1)
    found = {}
    for name in names:
        # Some models (BLOOM) are converted from the base model, whose names have no prefix.
        spellings = (name.format(0), name.format(0).removeprefix("transformer."))
        stem = next((stem for text in spellings if (stem := table.get_name(text)) is not None), None)
        if stem is None and name == "lm_head":
            stem = "output"  # of architectures that always tie it
        if stem is not None:
            found[stem.replace("blk.0.", "blk.{}.", 1)] = name
    return found


def stored_tensor(metadata: Metadata, name: str) -> Tensor:
    """A tensor of the file, multiplied by its scale if it has one (NVFP4)."""
    stored = Stored(name, metadata.tensors[name])
    scale_name = name.removesuffix(".weight") + SCALES[0]
    if not name.endswith(".weight") or scale_name not in metadata.tensors:
        return stored
    scale = Stored(scale_name, metadata.tensors[scale_name])
    if scale.shape != (1,):
        raise CheckpointError(
            f"{metadata.path}: expected one number in tensor {scale_name!r}, found the shape {scale.shape}. "
            f"Use the model's safetensors checkpoint."
        )
    return Changed(stored, lambda values: values * scale.read(slice(None)))
