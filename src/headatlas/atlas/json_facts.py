"""Frozen dataclasses as JSON and back; what is read is checked against the annotations of the fields.

A field's annotation is an annotated `int`, `float` or `str` such as `Count` and `Text`, `bool`, a `StrEnum`, another
dataclass, `tuple[T, ...]` (a JSON list), `Mapping[str, T]` (a JSON object), `Json`, or one of these `| None` (null).
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from headatlas.errors import AtlasError

T = TypeVar("T")

MOST_TEXT, MOST_ITEMS, MOST_DEPTH = 1_000_000, 1_000_000, 30
"""Characters of a text, items of a list or an object, and nested values in a JSON value of any kind."""

PLAIN = re.compile(r"[\w.-]{1,60}", re.ASCII)
SURROGATE = re.compile("[\ud800-\udfff]")
"""Halves of characters, which JSON can hold and UTF-8 cannot."""

SHOWN = 60
"""Characters of a wrong text that a message shows."""


@dataclass(frozen=True)
class Within:
    """A number from `low` to `high`; NaN is in no range."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"from {self.low:,} to {self.high:,}" if self.high < 2**53 else f"of at least {self.low:,}"


@dataclass(frozen=True)
class OneOf:
    """One of a few texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Matches:
    """A text that matches the whole of a regular expression; `what` names such a text in messages."""

    pattern: str
    what: str


class AnyJson:
    """A JSON value of any kind."""


Json = Annotated[Any, AnyJson()]
ANY_TEXT = r"(?s).*"
Text = Annotated[str, Matches(ANY_TEXT, "text")]
Digest = Annotated[str, Matches(r"[0-9a-f]{64}", "a SHA-256 (64 hexadecimal digits)")]
Whole = Annotated[int, Within(-(2**63), 2**63)]
Count = Annotated[int, Within(0, 2**53)]
Size = Annotated[int, Within(1, 2**53)]
Share = Annotated[float, Within(0, 1)]
Positive = Annotated[float, Within(0, 1e300)]
"""A finite number of at least 0, such as seconds or an error."""


def read_facts(kind: type[T], value: object, where: str | Path, remedy: str = "Run the map again.") -> T:
    """A dataclass from the JSON object that `write_facts` made of it.

    Args:
        where: the file, for messages.
        remedy: what to do about a wrong value, a sentence.

    Raises:
        AtlasError: a key is missing or unknown, or a value is of another type or outside its range.
    """
    return _Reader(str(where), remedy).read(kind, value, "")


def write_facts(value: Any) -> Any:
    """A dataclass as JSON types; every field is a key, and None is null."""
    if is_dataclass(value):
        return {field.name: write_facts(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: write_facts(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [write_facts(each) for each in value]
    return value.value if isinstance(value, StrEnum) else value


def describe(value: object) -> str:
    """A JSON value in a few words, for messages.

    >>> describe(None), describe([1, 2]), describe("x" * 99)[:10]
    ('null', 'a list', "'xxxxxxxxx")
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return ascii(value[:SHOWN])
    if isinstance(value, int | float):
        return repr(value) if abs(value) < 1e18 or isinstance(value, float) else "a number beyond any range"
    return "a list" if isinstance(value, Sequence) else "an object" if isinstance(value, Mapping) else "something else"


@cache
def _annotations(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


class _Reader:
    def __init__(self, where: str, remedy: str) -> None:
        self.where, self.remedy = where, remedy

    def refuse(self, path: str, expected: str, found: str) -> NoReturn:
        at = f"{path}: " if path else ""
        raise AtlasError(f"{self.where}: {at}expected {expected}, found {found}. {self.remedy}")

    def read(self, kind: Any, value: Any, path: str) -> Any:
        if is_dataclass(kind):
            return self.dataclass(kind, value, path)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            (one,) = (each for each in arguments if each is not types.NoneType)
            return None if value is None else self.read(one, value, path)
        if origin is Annotated:
            return self.annotated(arguments[0], arguments[1], value, path)
        if origin is tuple:
            if not isinstance(value, list | tuple) or len(value) > MOST_ITEMS:
                self.refuse(path, f"a list of at most {MOST_ITEMS:,} items", describe(value))
            return tuple(self.read(arguments[0], each, f"{path}[{at}]") for at, each in enumerate(value))
        if origin is Mapping:
            self.check_object(value, path)
            return {name: self.read(arguments[1], each, _join(path, name)) for name, each in value.items()}
        if kind is bool:
            if not isinstance(value, bool):
                self.refuse(path, "true or false", describe(value))
            return value
        if not isinstance(value, str) or value not in (texts := [each.value for each in kind]):
            self.refuse(path, f"one of {', '.join(each.value for each in kind)}", describe(value))
        return kind(texts[texts.index(value)])

    def dataclass(self, kind: Any, value: Any, path: str) -> Any:
        self.check_object(value, path)
        known = {field.name: field for field in fields(kind)}
        for name in value:
            if name not in known:
                self.refuse(path, f"only the keys {', '.join(known)}", describe(name))
        given = {}
        for name, field in known.items():
            if name in value:
                given[name] = self.read(_annotations(kind)[name], value[name], _join(path, name))
            elif field.default is MISSING and field.default_factory is MISSING:
                self.refuse(path, f"the key {name!r}", "none")
        return kind(**given)

    def annotated(self, kind: Any, rule: Any, value: Any, path: str) -> Any:
        if isinstance(rule, AnyJson):
            self.check_any(value, path, 0)
            return value
        if isinstance(rule, Within):
            types_of_number = (int,) if kind is int else (int, float)
            if isinstance(value, bool) or not isinstance(value, types_of_number) or not rule.low <= value <= rule.high:
                what = "a whole number" if kind is int else "a number"
                self.refuse(path, f"{what} {rule}", describe(value))
            return kind(value)
        if isinstance(rule, OneOf):
            if not isinstance(value, str) or value not in rule.texts:
                self.refuse(path, f"one of {', '.join(rule.texts)}", describe(value))
            return value
        self.check_text(value, path, rule.what)
        if rule.pattern != ANY_TEXT and not re.fullmatch(rule.pattern, value):
            self.refuse(path, rule.what, describe(value))
        return value

    def check_text(self, value: object, path: str, what: str) -> None:
        if not isinstance(value, str):
            self.refuse(path, what, describe(value))
        if len(value) > MOST_TEXT or SURROGATE.search(value):
            self.refuse(path, f"{what} of at most {MOST_TEXT:,} Unicode characters", describe(value))

    def check_object(self, value: Any, path: str) -> None:
        if not isinstance(value, Mapping) or len(value) > MOST_ITEMS:
            self.refuse(path, "an object", describe(value))
        for name in value:
            self.check_text(name, path, "keys that are text")

    def check_any(self, value: Any, path: str, depth: int) -> None:
        if depth > MOST_DEPTH:
            self.refuse(path[:SHOWN], f"at most {MOST_DEPTH} values inside each other", "more")
        if isinstance(value, str):
            self.check_text(value, path, "text")
        elif isinstance(value, Mapping):
            self.check_object(value, path)
            for name, each in value.items():
                self.check_any(each, _join(path, name), depth + 1)
        elif isinstance(value, list):
            for at, each in enumerate(value):
                self.check_any(each, f"{path}[{at}]", depth + 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self.annotated(float, Within(-1e300, 1e300), value, path)
        elif value is not None and not isinstance(value, bool):
            self.refuse(path, "a JSON value", describe(value))


def _join(path: str, name: str) -> str:
    """A key behind a path; a key that is no plain word is quoted and cut short."""
    plain = len(name) <= SHOWN and name.isidentifier() and name.isascii()
    key = name if plain or PLAIN.fullmatch(name) else ascii(name[:SHOWN])
    return f"{path}.{key}" if path else key
