"""The page reads the header with the keys with which Python writes it."""

from __future__ import annotations

import re
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from headatlas.explorer import film_message, message
from needs import ROOT

MESSAGES = {"message.ts": message, "film-message.ts": film_message}
SIMPLE = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def source(file: str) -> str:
    return (ROOT / "explorer" / "src" / file).read_text("utf-8")


def interfaces(file: str) -> dict[str, dict[str, str]]:
    """Types of the keys of each interface of the page."""
    found = re.findall(r"^export interface (\w+) \{\n(.*?)^\}", source(file), re.M | re.S)
    keys = {name: dict(re.findall(r"^  (\w+): (.*);$", body, re.M)) for name, body in found}
    named = dict(re.findall(r"^export type (\w+) = (.*);$", source(file), re.M))
    return {name: {key: named.get(kind, kind) for key, kind in each.items()} for name, each in keys.items()}


def typescript(kind: Any) -> str:
    """A type of Python as TypeScript writes it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in SIMPLE:
        return SIMPLE[kind]
    if is_typeddict(kind):
        return kind.__name__
    if origin is list:
        item = typescript(arguments[0])
        if arguments[0] == message.Block:
            return "Block[]"
        return f"({item})[]" if " | " in item else f"{item}[]"
    if origin is tuple:
        return f"[{', '.join(map(typescript, arguments))}]"
    if origin is dict:
        return f"Record<string, {typescript(arguments[1])}>"
    if str(origin).endswith("Literal"):
        return " | ".join(f'"{word}"' for word in arguments)
    return " | ".join(map(typescript, arguments))


@pytest.mark.parametrize("file", MESSAGES)
def test_every_type_has_the_keys_and_types_of_the_page_s(file) -> None:
    found = interfaces(file)
    types = {name: each for name, each in vars(MESSAGES[file]).items() if is_typeddict(each)}
    assert set(found) == set(types)
    for name, each in types.items():
        assert found[name] == {key: typescript(kind) for key, kind in get_type_hints(each).items()}, name


def test_the_parts_of_a_report_are_those_of_the_page() -> None:
    assert f"export type Block = {typescript(message.Block)};" in source("message.ts")
