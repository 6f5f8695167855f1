"""How the columns of a Parquet file are compressed, read from its footer.

pyarrow ends the process when it is asked for the name of a codec that it does not know. The footer is a struct in
Thrift's compact protocol: https://parquet.apache.org/docs/file-format/metadata/ names its fields,
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md their encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

NAMES = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")
TO_CODEC = (4, 1, 3, 4)
"""Fields on the way to a codec: row groups, their columns, the metadata of a column, its codec."""

STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)
DEEPEST = 64
LONGEST_NUMBER = 10
"""Bytes of a whole number of 64 bits."""


def codecs(content: bytes) -> set[str]:
    """The codecs of all columns: their names, or `codec 8` for one without a name.

    Raises:
        ValueError: the footer is damaged.
    """
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8] if length + 8 <= len(content) else b""
    try:
        found = set(_Footer(footer).numbers(TO_CODEC))
    except IndexError:
        raise ValueError("the footer ends too early") from None
    return {NAMES[number] if 0 <= number < len(NAMES) else f"codec {number}" for number in found}


class _Footer:
    """A struct, read from its first byte to its last."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def numbers(self, path: tuple[int, ...], depth: int = 0) -> Iterator[int]:
        """The whole numbers of 32 bits at the end of a path of fields, through structs and lists of structs."""
        if depth > DEEPEST:
            raise ValueError("the footer is nested too deeply")
        field = 0
        while (head := self.byte()) & 0x0F != STOP:
            kind = head & 0x0F
            field = field + (head >> 4) if head >> 4 else self.signed()
            wanted = path[1:] if path and field == path[0] else None
            if kind in (TRUE, FALSE):
                continue  # the value is the type
            if wanted == () and kind == I32:
                yield self.signed()
            else:
                yield from self.value(kind, wanted or (), depth)

    def value(self, kind: int, path: tuple[int, ...], depth: int) -> Iterator[int]:
        """What `numbers` finds in a value, which is passed over."""
        if depth > DEEPEST:
            raise ValueError("the footer is nested too deeply")
        if kind in (TRUE, FALSE, BYTE):
            self.skip(1)
        elif kind in (I16, I32, I64):
            self.unsigned()
        elif kind == DOUBLE:
            self.skip(8)
        elif kind == BINARY:
            self.skip(self.unsigned())
        elif kind in (LIST, SET):
            head = self.byte()
            for _ in range(head >> 4 if head >> 4 < 15 else self.unsigned()):
                yield from self.value(head & 0x0F, path, depth + 1)
        elif kind == MAP:
            kinds = self.byte() if (size := self.unsigned()) else 0
            for _ in range(size):
                yield from self.value(kinds >> 4, (), depth + 1)
                yield from self.value(kinds & 0x0F, (), depth + 1)
        elif kind == STRUCT:
            yield from self.numbers(path, depth + 1)
        else:
            raise ValueError(f"the footer has a value of type {kind}")

    def byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def skip(self, n_bytes: int) -> None:
        self.at += n_bytes
        if self.at > len(self.content):
            raise IndexError

    def unsigned(self) -> int:
        number = 0
        for place in range(LONGEST_NUMBER):
            byte = self.byte()
            number |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return number
        raise ValueError("the footer has a number of more than 64 bits")

    def signed(self) -> int:
        number = self.unsigned()
        return number >> 1 ^ -(number & 1)
