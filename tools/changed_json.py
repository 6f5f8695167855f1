"""Change one value somewhere in a JSON document, for the fuzzers."""

from __future__ import annotations

import copy
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 10**9, 2**31, 2**53, 2**63, -(2**63), 10**30, 0.5, -0.0, 1.5, 1e300, -1e300,
    float("nan"), float("inf"), "", "a", "0.15", "1e-999999999", "1" * 5000, "\x1b[31m", "<script>", "\u202e", "\ud800",
    "L0H0", "L99H99", "../../x", "/dev/zero", "https://localhost/x", [], [None], [[]], {}, {"a": None}, [0, 0], ["a"],
)  # fmt: skip
"""What a value is replaced by."""


def change_json(content: dict[str, Any] | list[Any], chance: random.Random) -> str:
    """Replace, remove, add or double one value, in place; what was changed, in words.

    Args:
        content: not empty.
    """
    inner: Any = content
    path: list[str] = []
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = chance.choice(keys)
        path.append(str(key))
        value = inner[key]
        if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
            break
        inner = value
    where = ".".join(path)
    new = copy.deepcopy(chance.choice(VALUES))  # which a later change can change
    act = chance.choice(["replace", "replace", "replace", "near", "remove", "add", "copy"])
    if act == "near" and isinstance(value, int | float) and not isinstance(value, bool):
        inner[key] = value + chance.choice([-1, 1, 2, 10**6, 0.5])
        return f"{where} becomes {inner[key]}"
    if act == "remove":
        del inner[key]
        return f"{where} removed"
    if act == "add" and isinstance(inner, dict):
        inner["further"] = new
        return f"{where}: a further key"
    if act == "copy" and isinstance(inner, list):
        inner.append(copy.deepcopy(value))
        return f"{where} twice"
    inner[key] = new
    return f"{where} becomes {str(inner[key])[:40]!r}"
