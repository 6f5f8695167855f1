"""Decode stored values to float32: plain types, FP8 with scales, and MXFP4; all other types are refused by name.

- FP8: a weight `(..., rows, columns)` of 8-bit floats has a scale for each block. Each value is multiplied by its
  block's scale (`weight_scale_inv` of DeepSeek and `weight_scale` of compressed-tensors and FBGEMM are both factors).
- MXFP4: a matrix `(experts, out, in)` is stored as `_blocks (experts, out, in / 32, 16)`, two 4-bit floats per byte,
  the lower half first, and `_scales (experts, out, in / 32)`, the exponents of powers of two, biased by 127.
  Transformers' parameter is the transpose, `(experts, in, out)`, and so is the result here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.checkpoints.config import QUANTISED
from headatlas.checkpoints.tensor_store import TensorStore
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch

PLAIN = ("F64", "F32", "F16", "BF16")
FP8 = ("F8_E4M3", "F8_E5M2")
SCALES = (*PLAIN, "F8_E8M0", "U8")
"""Types of the scales of FP8; the last two hold exponents of powers of two."""

FOUR_BIT = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
SCALE_ENDS = {
    "fp8": ("_scale_inv", ".qscale_weight", ".scale"),
    "mxfp8": ("_scale_inv",),
    "fbgemm_fp8": ("_scale",),
    "compressed-tensors": ("_scale",),
}
"""Method -> end of a scale's name: after the weight's name, or, with a dot, after its module's."""

OF_ACTIVATIONS = (".activation_scale", ".input_scale", ".qscale_act")
OF_CACHE = (".k_scale", ".v_scale")
"""Scales that do not belong to weights: for a module's input, and for the cache of keys and values."""

UNREAD_ENDS = {
    ".qweight": "GPTQ or AWQ",
    ".SCB": "bitsandbytes",
    ".weight.quant_state.bitsandbytes__nf4": "bitsandbytes",
    ".weight.quant_state.bitsandbytes__fp4": "bitsandbytes",
    ".weight_packed": "compressed-tensors",
    ".W_q": "HQQ",
}
"""Ends of names that identify quantised weights even if config.json does not mention them."""


class Decoding:
    """Decodes the tensors of a store to float32, under their names in the model.

    Args:
        where: config.json, for messages.
        config: its content.
        store: the stored tensors.

    Raises:
        CheckpointError: the quantisation of the weights cannot be read.
    """

    def __init__(self, where: Path, config: dict[str, Any], store: TensorStore) -> None:
        self.store = store
        quantisation = read_quantisation(where, config)
        method = quantisation.method
        for name in store.names():
            if end := next((end for end in UNREAD_ENDS if name.endswith(end)), None):
                raise CheckpointError(
                    f"{store.file_of(name)}: tensor {name!r} belongs to weights quantised by {UNREAD_ENDS[end]}, which "
                    f"cannot be read. {QUANTISED}."
                )
        self.block = _block_size(where, quantisation)
        self._scale_of: dict[str, str] = {}
        self._packed: dict[str, None] = {}
        hidden: set[str] = set()
        ends = SCALE_ENDS.get(method or "", ())
        for name in store.names():
            if method == "mxfp4" and name.endswith("_blocks") and _other(name) in store:
                plain = name.removesuffix("_blocks")
                if plain in store:
                    raise CheckpointError(
                        f"{store.file_of(name)}: tensor {plain!r} is stored as MXFP4 and again in plain floats; "
                        f"expected it once. Fetch the files again."
                    )
                self._packed[plain] = None
                hidden |= {name, _other(name)}
            elif ends and name.endswith(OF_CACHE):
                hidden.add(name)
            elif ends and store.dtype(name) in FP8:
                module = name.removesuffix(".weight")
                scales = (name + end if end.startswith("_") else module + end for end in ends)
                if scale := next((scale for scale in scales if scale in store), None):
                    self._scale_of[name] = scale
                    hidden |= {scale, *(module + end for end in OF_ACTIVATIONS)}
        self._names = dict.fromkeys(name for name in store.names() if name not in hidden)
        self._names |= self._packed
        kinds = []
        if self._scale_of:
            kinds.append("FP8 with block scales" if "_scale_inv" in ends else "FP8 with scales")
        if self._packed:
            kinds.append("MXFP4")
        self.note = f"Weights are quantised ({', '.join(kinds)})." if kinds else None

    def names(self) -> Iterable[str]:
        return self._names.keys()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def stored(self, name: str) -> list[str]:
        """The stored tensors that a tensor is decoded from; each has the same rows (first axis), or blocks of them."""
        if name in self._packed:
            return [f"{name}_blocks", f"{name}_scales"]
        return [name, self._scale_of[name]] if name in self._scale_of else [name]

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self._packed:
            return self.store.shape(name)
        blocks, scales = (self.store.shape(part) for part in self.stored(name))
        if len(blocks) != 4 or blocks[3] != 16 or blocks[:3] != scales:
            raise CheckpointError(
                f"{self.store.file_of(f'{name}_blocks')}: tensor '{name}_blocks' has shape {blocks} and its scales "
                f"{scales}; expected (experts, rows, columns / 32, 16) and the same without the last."
            )
        return (blocks[0], blocks[2] * 32, blocks[1])

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        if name in self._packed:
            return self._read_packed(name, rows)
        dtype = self.store.dtype(name)
        if dtype in PLAIN:
            return self.store.read(name, rows).float()
        if name in self._scale_of:
            return self._read_scaled(name, rows)
        if dtype in FP8:
            raise CheckpointError(
                f"{self.store.file_of(name)}: tensor {name!r} has the type {dtype}; expected its scales, found "
                f"none. {QUANTISED}."
            )
        raise CheckpointError(
            f"{self.store.file_of(name)}: tensor {name!r} has the type {dtype}; expected one of "
            f"{', '.join(PLAIN)}. {QUANTISED}."
        )

    def parts(self, name: str, rows: slice | None) -> list[tuple[str, slice | None]]:
        """The parts of stored tensors that are needed for some rows of a tensor."""
        if name in self._scale_of:
            return [(name, rows), (self._scale_of[name], None)]
        return [(part, rows) for part in self.stored(name)]

    def _read_scaled(self, name: str, rows: slice | None) -> torch.Tensor:
        import torch

        values = self.store.read(name, rows).float()
        grid, (height, width) = self._blocks(name)
        if not values.numel():
            return values
        scale_name = self._scale_of[name]
        scales = self.store.read(scale_name)
        dtype = self.store.dtype(scale_name)
        scales = torch.exp2(scales.float() - 127) if dtype == "U8" else scales.float()
        scales = scales.reshape(grid)
        first = 0
        if rows is not None and values.ndim > 2:
            scales = scales[rows] if len(scales) > 1 else scales
        elif rows is not None and values.ndim == 2:
            first = _bounds(rows, self.store.shape(name)[0])[0]
        n_rows, n_columns = values.shape[-2:] if values.ndim > 1 else (1, values.shape[-1] if values.ndim else 1)
        # One row of blocks at a time: the expanded scales would take as much memory as the weight.
        flat = values.reshape(-1, n_rows, n_columns) if values.ndim > 2 else values.reshape(1, n_rows, n_columns)
        for matrix, of_blocks in zip(flat, scales.reshape(-1, *grid[-2:]).expand(len(flat), -1, -1), strict=True):
            for number, of_row in enumerate(of_blocks):
                start, stop = (max(0, min(n_rows, edge * height - first)) for edge in (number, number + 1))
                if start < stop:
                    matrix[start:stop] *= of_row.repeat_interleave(width)[:n_columns]
        return values

    def _blocks(self, name: str) -> tuple[tuple[int, ...], tuple[int, int]]:
        """Shape of the scales as (..., rows of blocks, columns of blocks), and rows and columns of a block."""
        scale = self._scale_of[name]
        shape, grid = self.store.shape(name), self.store.shape(scale)
        if self.store.dtype(scale) not in SCALES:
            raise CheckpointError(
                f"{self.store.file_of(scale)}: tensor {scale!r} has the type {self.store.dtype(scale)}; expected one "
                f"of {', '.join(SCALES)}."
            )
        n_rows, n_columns = (1, 1, *shape)[-2:]
        if math.prod(grid) == 1:
            return (1,) * max(2, len(shape)), (max(1, n_rows), max(1, n_columns))
        if len(shape) >= 2 and len(grid) == len(shape) and grid[:-2] == shape[:-2] and min(grid) > 0:
            if self.block and grid[-2:] == (-(-n_rows // self.block[0]), -(-n_columns // self.block[1])):
                return grid, self.block
            # The size of the blocks follows from the grid: one per row, one per column, or MXFP8's.
            if n_rows % grid[-2] == 0 and n_columns % grid[-1] == 0 and (not self.block or 1 in grid[-2:]):
                return grid, (n_rows // grid[-2], n_columns // grid[-1])
        if len(shape) == 2 and grid == shape[:1]:
            return (n_rows, 1), (1, max(1, n_columns))
        blocks = f"blocks of {self.block[0]} x {self.block[1]}" if self.block else "equal blocks"
        raise CheckpointError(
            f"{self.store.file_of(scale)}: tensor {scale!r} has shape {grid}, which does not divide {name!r} of shape "
            f"{shape} into {blocks}. Is config.json from the same model?"
        )

    def _read_packed(self, name: str, rows: slice | None) -> torch.Tensor:
        import torch

        _, n_columns, n_rows = self.shape(name)
        stored = self.stored(name)
        for part in stored:
            if self.store.dtype(part) != "U8":
                raise CheckpointError(
                    f"{self.store.file_of(part)}: tensor {part!r} has the type {self.store.dtype(part)}; expected U8."
                )
        blocks, scales = (self.store.read(part, rows) for part in stored)
        # The two values of a byte are looked up as one complex number, which is twice as fast.
        pairs = torch.tensor([complex(FOUR_BIT[byte & 15], FOUR_BIT[byte >> 4]) for byte in range(256)])
        result = torch.empty(len(blocks), n_columns, n_rows)
        # One expert at a time: intermediate values are several times as large as the result.
        for expert, (block, scale) in enumerate(zip(blocks, scales, strict=True)):
            values = torch.view_as_real(pairs.index_select(0, block.flatten().int())).reshape(n_rows, -1, 32)
            values *= torch.exp2(scale.float() - 127).unsqueeze(-1)
            result[expert] = values.reshape(n_rows, n_columns).T
        return result


@dataclass(frozen=True)
class Quantisation:
    """The quantisation that a config states: its method (None: not quantised) and settings."""

    method: str | None
    settings: dict[str, Any]


def read_quantisation(where: Path, config: dict[str, Any]) -> Quantisation:
    """The quantisation that a config states.

    Raises:
        CheckpointError: weights with this method, or one of its settings, cannot be read.
    """
    found = None
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            found = found or part.get("quantization_config") or part.get("compression_config")
    if not found:
        return Quantisation(None, {})
    method = found.get("quant_method") if isinstance(found, dict) else None
    if isinstance(found, dict) and not method and isinstance(found.get("config_groups"), dict):
        method = "compressed-tensors"
    if method == "bitsandbytes":
        bits = 4 if found.get("load_in_4bit") else 8
        raise _refused(where, f"'bitsandbytes' ({bits} bits)")
    if method not in (*SCALE_ENDS, "mxfp4"):
        raise _refused(where, repr(method if isinstance(method, str) else "an unknown method")[:100])
    if method == "compressed-tensors" and (reason := _other_than_fp8(found)):
        raise _refused(where, f"'compressed-tensors' ({reason})")
    return Quantisation(method, found)


def _refused(where: Path, method: str) -> CheckpointError:
    return CheckpointError(f"{where}: weights quantised by {method} cannot be read. {QUANTISED}.")


def _other_than_fp8(settings: dict[str, Any]) -> str | None:
    """Why settings of compressed-tensors are not plain FP8 with a factor per tensor, row or block; None if they are."""
    groups = settings.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        return "without groups of weights"
    for key in ("sparsity_config", "transform_config"):
        value = settings.get(key)
        if value and not (isinstance(value, dict) and value.get("format") == "dense"):
            return key
    for group in groups.values():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            return "a group without weights"
        if (weights.get("type"), weights.get("num_bits")) != ("float", 8):
            return f"{weights.get('num_bits')}-bit {weights.get('type')}"[:40]
        if weights.get("symmetric") is False or weights.get("strategy") not in ("tensor", "channel", "block"):
            return f"strategy {weights.get('strategy')}"[:40]
        for form in (settings.get("format"), group.get("format")):
            if form not in (None, "float-quantized", "naive-quantized", "dense"):
                return f"format {form}"[:40]
    return None


def _block_size(where: Path, quantisation: Quantisation) -> tuple[int, int] | None:
    settings = quantisation.settings
    key, size = "weight_block_size", settings.get("weight_block_size")
    if quantisation.method == "compressed-tensors":
        key = "block_structure"
        weights = [group["weights"].get(key) for group in settings["config_groups"].values()]
        size = next((value for value in weights if value), None)
        if any(value not in (None, size) for value in weights):
            raise _refused(where, "'compressed-tensors' (blocks of several sizes)")
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and 0 < n < 1 << 31 for n in size):
        raise CheckpointError(f"{where}: expected two positive whole numbers for {key!r}, found {str(size)[:100]}.")
    return size[0], size[1]


def _other(name: str) -> str:
    return name.removesuffix("_blocks") + "_scales"


def _bounds(rows: slice, n_rows: int) -> tuple[int, int]:
    start, stop, step = rows.indices(n_rows)
    if step != 1:
        raise ValueError("rows are read with step 1")
    return start, max(start, stop)
