"""The page reads the header with the keys with which Python writes it."""

from __future__ import annotations

import re
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from headatlas.explorer import message
from needs import ROOT

SOURCE = (ROOT / "explorer" / "src" / "message.ts").read_text("utf-8")
TYPES = {name: each for name, each in vars(message).items() if is_typeddict(each)}
SIMPLE = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def interfaces() -> dict[str, dict[str, str]]:
    """Types of the keys of each interface of the page."""
    found = re.findall(r"^export interface (\w+) \{\n(.*?)^\}", SOURCE, re.M | re.S)
    keys = {name: dict(re.findall(r"^  (\w+): (.*);$", body, re.M)) for name, body in found}
    named = dict(re.findall(r"^export type (\w+) = (.*);$", SOURCE, re.M))
    return {name: {key: named.get(kind, kind) for key, kind in each.items()} for name, each in keys.items()}


def typescript(kind: Any) -> str:
    """A type of Python as TypeScript writes it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in SIMPLE:
        return SIMPLE[kind]
    if is_typeddict(kind):
        return kind.__name__
    if origin is list:
        return "Block[]" if arguments[0] == message.Block else f"{typescript(arguments[0])}[]"
    if origin is tuple:
        return f"[{', '.join(map(typescript, arguments))}]"
    if origin is dict:
        return f"Record<string, {typescript(arguments[1])}>"
    if str(origin).endswith("Literal"):
        return " | ".join(f'"{word}"' for word in arguments)
    return " | ".join(map(typescript, arguments))


def test_every_type_has_the_keys_and_types_of_the_page_s() -> None:
    found = interfaces()
    assert set(found) == set(TYPES)
    for name, each in TYPES.items():
        assert found[name] == {key: typescript(kind) for key, kind in get_type_hints(each).items()}, name
    assert f"export type Block = {typescript(message.Block)};" in SOURCE
