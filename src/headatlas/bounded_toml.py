"""TOML that others wrote is parsed only after the time that it can take is bounded, and holds no extreme values.

A key of many parts takes time and memory with the square of their number, and numbers can have any number of digits.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from headatlas.regular_files import read_regular

MOST_BYTES = 1 << 20

MOST_STEPS = 5_000_000
"""Of finding the tables that keys name: about a second."""

MOST_DEPTH = 50
"""Tables and lists inside each other."""


def read_toml(path: Path, **options: Any) -> dict[str, Any]:
    """What a file says.

    Args:
        options: for `tomllib.loads`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, or larger or deeper than such a file can be; the message follows "found".
    """
    content = read_regular(path, MOST_BYTES)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")
    text = content.decode("utf-8").replace("\r\n", "\n")
    dots = [line.count(".") for line in text.split("\n")]
    if sum(each * each for each in dots) + max(dots) * len(dots) > MOST_STEPS:
        raise ValueError("keys of too many parts")
    try:
        found = tomllib.loads(text, **options)
    except RecursionError:
        raise ValueError("too many values inside each other") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python converts no text of so many digits
        raise ValueError("a number of thousands of digits") from None
    _check_values(found)
    return found


def _check_values(found: dict[str, Any]) -> None:
    level: list[Any] = [found]
    for _ in range(MOST_DEPTH):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict | list):
                inner += each.values() if isinstance(each, dict) else each
            elif isinstance(each, int) and not -(2**63) <= each < 2**63:
                raise ValueError("a whole number of more than 64 bits")
        level = inner
    if level:
        raise ValueError(f"more than {MOST_DEPTH} values inside each other")
