"""JSON that others wrote is parsed only after the memory that it can take is bounded.

A byte of JSON can take thirty in memory (`[[],[],...]`), so a limit on its length is not enough.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headatlas.regular_files import open_regular

STRUCTURE = ",[{"
"""Each value but the outermost follows one of these; each takes about 110 bytes of memory at most, besides its text."""


class TooLarge(ValueError):
    """The JSON is longer, or has more values, than is allowed; the message follows the word "expected"."""


def check_size(content: bytes | str, most_values: int, structure: str = STRUCTURE) -> None:
    """Raise `TooLarge` if JSON, or a table with another `structure`, can hold more values; takes no memory.

    >>> check_size(b'{"a": [1, 2]}', 2)
    Traceback (most recent call last):
        ...
    headatlas.bounded_json.TooLarge: at most 2 values, found about 3
    """
    if isinstance(content, bytes):
        found = sum(content.count(mark.encode()) for mark in structure)
    else:
        found = sum(content.count(mark) for mark in structure)
    if found > most_values:
        raise TooLarge(f"at most {most_values:,} values, found about {found:,}")


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """The bytes of a regular file; raises `TooLarge` or `OSError`."""
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise TooLarge(f"at most {most_bytes:,} bytes, found more")
    return content


def parse_bounded(content: bytes, most_values: int, **options: Any) -> Any:
    """What JSON in UTF-8 says.

    Args:
        options: for `json.loads`.

    Raises:
        ValueError: it is no JSON, or `TooLarge`.
        RecursionError: its values are nested too deep.
    """
    check_size(content, most_values)
    return json.loads(content.decode("utf-8-sig"), **options)
