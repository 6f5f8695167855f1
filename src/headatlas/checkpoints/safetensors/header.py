"""The header of a safetensors file, checked before it is used; takes at most 150 MB of memory.

The rules are those of the format's specification (https://github.com/huggingface/safetensors#format): the tensors fill
the rest of the file without holes or overlaps, and the length of each follows from its shape and type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headatlas.bounded_json import TooLarge, parse_bounded
from headatlas.checkpoints.tensor_store import BITS

LENGTH_BYTES = 8
"""The file begins with the header's length, a little-endian whole number."""

MAX_HEADER = 16 << 20
"""Bytes; that of 100,000 tensors has about 12 MB. The library takes 100 MB, which can become 4 GB in memory."""

MAX_VALUES = 1_200_000
"""Names, sizes and offsets in a header; a tensor of two axes has nine."""

LARGEST = 2**63 - 1


class Damaged(Exception):
    """A header is unusable; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class StoredTensor:
    """The place of a tensor: bytes from `start` to before `stop`, counted from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def header_length(beginning: bytes, file_length: int) -> int:
    """Bytes of the header, which follows its own length; raises `Damaged` if the file cannot hold it."""
    length = int.from_bytes(beginning, "little")
    if length > MAX_HEADER:
        raise Damaged(f"it announces a header of {length:,} bytes, more than the {MAX_HEADER:,} allowed")
    if length < 2 or LENGTH_BYTES + length > file_length:
        raise Damaged(f"it announces a header of {length:,} bytes in a file of {file_length:,}")
    return length


def parse_header(header: bytes, file_length: int) -> dict[str, StoredTensor]:
    """Every tensor's place by its name; raises `Damaged`."""
    if header[:1] != b"{":
        raise Damaged("its header does not begin with '{'")
    try:
        content = parse_bounded(header, MAX_VALUES, object_pairs_hook=_once)
    except TooLarge as error:
        raise Damaged(f"its header may have {error}") from error
    except (ValueError, RecursionError) as error:
        raise Damaged("its header is not JSON") from error
    metadata = content.pop("__metadata__", None)
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise Damaged("its '__metadata__' is not a table of texts")
    data = LENGTH_BYTES + len(header)
    tensors = {name: _tensor(name, entry, data, file_length) for name, entry in content.items()}
    end = data
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != end:
            what = "overlaps another one" if tensor.start < end else "leaves a hole before it"
            raise Damaged(f"the tensor {name!r} {what}")
        end = tensor.stop
    if end != file_length:
        raise Damaged(f"its tensors end at byte {end:,} of {file_length:,}")
    return tensors


def _tensor(name: str, entry: Any, data: int, file_length: int) -> StoredTensor:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
        raise Damaged(f"the tensor {name!r} does not have a dtype, a shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise Damaged(f"the tensor {name!r} has no dtype")
    if not _whole_numbers(shape):
        raise Damaged(f"the tensor {name!r} has a shape that is not a list of whole numbers")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise Damaged(f"the tensor {name!r} has data_offsets that are not a beginning and an end")
    start, stop = data + offsets[0], data + offsets[1]
    if stop > file_length:
        raise Damaged(f"the tensor {name!r} ends at byte {stop:,}, outside the file of {file_length:,}")
    count = 1
    for size in shape:
        count *= size or 1
        if count > LARGEST:  # before the next step makes a number of millions of digits
            raise Damaged(f"the tensor {name!r} has a shape with too many numbers")
    if 0 in shape:
        count = 0
    # The width of a type that is not in the table is unknown; such a tensor is refused when it is read.
    if dtype in BITS and count * BITS[dtype] != 8 * (stop - start):
        raise Damaged(f"the tensor {name!r} of type {dtype} and shape {shape} has {stop - start:,} bytes")
    return StoredTensor(dtype, tuple(shape), start, stop)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number <= LARGEST for number in value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Damaged(f"{name!r} is there twice")
            seen.add(name)
    return table
