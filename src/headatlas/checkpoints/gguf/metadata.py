"""The metadata of a GGUF model: values by key, checked for their type, and the tensors that its files list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headatlas.checkpoints.gguf.header import StoredTensor
from headatlas.errors import CheckpointError

SPECIAL_TOKENS = {"bos": "bos", "eos": "eos", "pad": "padding"}
"""Name in transformers -> name in the file."""

_REQUIRED: Any = object()


class Metadata:
    """Metadata and tensors of one model, which may be split over several files.

    A method without a default raises `CheckpointError` if the key is missing; every method raises it if the value has
    another type.

    Args:
        path: the file, for messages.
        values: by their full key.
        tensors: by their name in the file.
    """

    def __init__(self, path: Path, values: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> None:
        self.path, self.values, self.tensors = path, values, tensors
        self.architecture: str = self._value("general.architecture", str, _REQUIRED)

    def integer(self, key: str, default: Any = _REQUIRED) -> int:
        """An integer; `key` is given without the architecture's name."""
        return self._value(f"{self.architecture}.{key}", int, default)

    def number(self, key: str, default: Any = _REQUIRED) -> Any:
        return self._value(f"{self.architecture}.{key}", (int, float), default)

    def flag(self, key: str, default: Any = _REQUIRED) -> bool:
        return self._value(f"{self.architecture}.{key}", bool, default)

    def flags(self, key: str) -> list[bool] | None:
        """A list of flags; None if the file has none."""
        found = self.values.get(f"{self.architecture}.{key}")
        if found is None or getattr(found, "ndim", None) != 1:
            return None
        return [bool(flag) for flag in found]

    def d_vocab(self) -> int:
        """The size of the vocabulary: the file's own key, or the number of its tokens."""
        own, tokens = f"{self.architecture}.vocab_size", "tokenizer.ggml.tokens"
        return self._value(tokens if own not in self.values and tokens in self.values else own, int, _REQUIRED)

    def token_id(self, key: str) -> int | None:
        """The id of a special token, if the file has one that is in the vocabulary."""
        number = self._value(f"tokenizer.ggml.{key}_token_id", int, -1)
        return number if 0 <= number < self.d_vocab() else None

    def has_tensor(self, name: str) -> bool:
        return name in self.tensors

    def width(self, tensor: str) -> Any:
        """The length of a tensor's last axis, to be used as a default."""
        return self.tensors[tensor].shape[-1] if tensor in self.tensors else _REQUIRED

    def require(self, key: str, expected: int) -> None:
        """Refuse a file whose value differs from the only one that transformers' module supports."""
        if (found := self.integer(key, expected)) != expected:
            raise self.unsupported(f"{expected} for {self.architecture + '.' + key!r}", str(found))

    def unsupported(self, expected: str, found: str) -> CheckpointError:
        """The error for a file that is sound but cannot be read."""
        return CheckpointError(
            f"{self.path}: expected {expected}, found {found}. Use the model's safetensors checkpoint."
        )

    def _value(self, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
        if key not in self.values and default is not _REQUIRED:
            return default
        value = self.values.get(key)
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        names = {str: "a string", int: "a whole number", bool: "true or false"}
        expected = "a number" if isinstance(kind, tuple) else names[kind]
        found = "nothing" if value is None else f"{value!r:.60}" if isinstance(value, int | float | str) else "a list"
        raise CheckpointError(f"{self.path}: expected {expected} for {key!r}, found {found}. Fetch the file again.")
