"""The files of one GGUF model: one, or several numbered parts.

llama.cpp splits a model so that the first part holds all metadata, and every part some of the tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headatlas.checkpoints.gguf.header import GgufHeader, StoredTensor, read_header
from headatlas.checkpoints.shards import numbering
from headatlas.errors import CheckpointError

AGAIN = "Fetch the parts again"


@dataclass(frozen=True)
class GgufParts:
    """Everything in the files of one model; `first` is the part with the metadata."""

    first: GgufHeader
    tensors: dict[str, StoredTensor]

    @property
    def metadata(self) -> dict[str, Any]:
        return self.first.metadata


def open_parts(path: Path) -> GgufParts:
    """Open a model by any of its files.

    Raises:
        CheckpointError: a part is missing, damaged, or does not belong to the others.
    """
    named = read_header(path)
    count = _number(named, "split.count", 1)
    names = numbering(path.name)
    if count <= 1 and not (names and names.count > 1):
        return GgufParts(named, named.tensors)
    if names is None or names.count != count:
        raise CheckpointError(
            f"{path}: expected a name that ends in '-00001-of-{count:05}.gguf' (its split.count is {count}), found "
            f"another one. Give the parts the names that they were published under."
        )
    headers = []
    for number, file in enumerate(names.files, start=1):
        part = path.with_name(file)
        if not part.exists():
            raise CheckpointError(
                f"{path.parent}: expected the file {part.name!r}, which belongs to {path.name!r}, found none. "
                f"Fetch it too."
            )
        header = named if part == path else read_header(part)
        _check_belongs(header, headers[0] if headers else header, number, count)
        headers.append(header)
    return GgufParts(headers[0], _join(headers))


def _check_belongs(header: GgufHeader, first: GgufHeader, number: int, count: int) -> None:
    for key, expected in (
        ("split.no", number - 1),
        ("split.count", count),
        ("split.tensors.count", _number(first, "split.tensors.count")),
    ):
        if (found := _number(header, key)) != expected:
            raise CheckpointError(
                f"{header.path}: expected {expected} for {key!r}, found {found}. "
                f"Are these the parts of one model? {AGAIN}."
            )
    for key in ("general.architecture", "general.name"):
        if key in header.metadata and header.metadata[key] != first.metadata.get(key):
            raise CheckpointError(
                f"{header.path}: expected a part of the same model as {first.path.name!r}, found another {key!r}. "
                f"{AGAIN}."
            )


def _join(headers: list[GgufHeader]) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for header in headers:
        for name, tensor in header.tensors.items():
            if name in tensors:
                raise CheckpointError(
                    f"{header.path}: tensor {name!r} is in {tensors[name].file!r} too. Expected it once; "
                    f"are these the parts of one model? {AGAIN}."
                )
            tensors[name] = tensor
    if len(tensors) != (announced := _number(headers[0], "split.tensors.count")):
        raise CheckpointError(
            f"{headers[0].path}: expected {announced} tensors in its {len(headers)} parts, found {len(tensors)}. "
            f"{AGAIN}."
        )
    return tensors


def _number(header: GgufHeader, key: str, default: int | None = None) -> int:
    value = header.metadata.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = "nothing" if value is None else "something else"
    raise CheckpointError(f"{header.path}: expected a whole number for {key!r}, found {found}. {AGAIN}.")
