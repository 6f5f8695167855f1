"""One block of bytes for the page: a JSON header with all words, and arrays of numbers behind it.

Layout before compression: the header's length (4 bytes, little endian), the header in UTF-8 padded with spaces to a
multiple of 8, then the arrays, each at a multiple of 8. The header is `message.Header`; its `arrays` says name, type,
shape and offset. Words that occur often are stored once in `words`, and arrays hold their numbers.
`explorer/src/data.ts` reads it.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from headatlas.explorer import message

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

NOTHING = 0xFFFFFFFF
"""In an array of numbers of words or heads: there is none."""


class Words:
    """Numbers for strings, each string once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers))

    def numbers(self, table: pd.DataFrame, column: str) -> np.ndarray:
        """Numbers of a column's words: UInt32[ndarray, "n_rows"]."""
        import numpy as np
        import pandas as pd

        codes, unique = pd.factorize(np.asarray(table[column].to_numpy(), dtype=object))
        return np.array([self.number(str(word)) for word in unique], dtype="uint32")[codes]

    @property
    def all(self) -> list[str]:
        # A lone surrogate cannot be written as UTF-8.
        return [word.encode("utf-8", "replace").decode("utf-8") for word in self._numbers]


class Arrays:
    """Arrays by name, each in the bytes at a multiple of 8."""

    def __init__(self) -> None:
        self.places: dict[str, message.Stored] = {}
        self._bytes: list[bytes] = []
        self._size = 0

    def add(self, name: str, values: np.ndarray) -> None:
        self.places[name] = message.Stored(type=str(values.dtype), shape=list(values.shape), offset=self._size)
        stored = values.tobytes()
        stored += b"\0" * (-len(stored) % 8)
        self._bytes.append(stored)
        self._size += len(stored)

    def pack(self, header: message.Header) -> bytes:
        text = json.dumps(header, ensure_ascii=False, allow_nan=False).encode()
        text += b" " * (-(len(text) + 4) % 8)
        return struct.pack("<I", len(text)) + text + b"".join(self._bytes)
