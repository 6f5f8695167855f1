"""What a GGUF file says of its model: values by key, checked for their kind, and which tensors there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headatlas.checkpoints.gguf.header import StoredTensor
from headatlas.errors import CheckpointError

SPECIAL_TOKENS = {"bos": "bos", "eos": "eos", "pad": "padding"}
"""Transformers' name -> the file's."""

_MISSING: Any = object()


class Facts:
    """Metadata and tensors of one model, which may lie in several files.

    Args:
        path: the file, for messages.
        metadata: values by their whole key.
        tensors: by their name in the file.
    """

    def __init__(self, path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> None:
        self.path, self.metadata, self.tensors = path, metadata, tensors
        self.architecture: str = self._value("general.architecture", str, _MISSING)

    def whole(self, key: str, default: Any = _MISSING) -> int:
        """A whole number; `key` without the architecture's name."""
        return self._value(f"{self.architecture}.{key}", int, default)

    def number(self, key: str, default: Any = _MISSING) -> Any:
        return self._value(f"{self.architecture}.{key}", (int, float), default)

    def flag(self, key: str, default: Any = _MISSING) -> bool:
        return self._value(f"{self.architecture}.{key}", bool, default)

    def d_vocab(self) -> int:
        """Said by the file, or the number of its tokens."""
        own, tokens = f"{self.architecture}.vocab_size", "tokenizer.ggml.tokens"
        return self._value(tokens if own not in self.metadata and tokens in self.metadata else own, int, _MISSING)

    def token_id(self, key: str) -> int | None:
        """A special token's number, where the file has one that is in the vocabulary."""
        number = self._value(f"tokenizer.ggml.{key}_token_id", int, -1)
        return number if 0 <= number < self.d_vocab() else None

    def has(self, tensor: str) -> bool:
        return tensor in self.tensors

    def width(self, tensor: str) -> Any:
        """The length of a tensor's last axis, as a default."""
        return self.tensors[tensor].shape[-1] if tensor in self.tensors else _MISSING

    def must_agree(self, key: str, expected: int) -> None:
        """Refuse what transformers' module of this family cannot hold."""
        if (found := self.whole(key, expected)) != expected:
            raise self.unlike(f"{expected} for {self.architecture + '.' + key!r}", str(found))

    def unlike(self, expected: str, found: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: expected {expected}, found {found}. Use the model's safetensors checkpoint."
        )

    def _value(self, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
        if key not in self.metadata and default is not _MISSING:
            return default
        value = self.metadata.get(key)
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        words = {str: "a word", int: "a whole number", bool: "true or false"}
        expected = "a number" if isinstance(kind, tuple) else words[kind]
        found = "nothing" if value is None else f"{value!r:.60}" if isinstance(value, int | float | str) else "a list"
        raise CheckpointError(f"{self.path}: expected {expected} for {key!r}, found {found}. Fetch the file again.")
