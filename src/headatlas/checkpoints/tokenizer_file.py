"""What a `tokenizer.json` may say: its steps are looked at before the tokenizers library runs any of them.

The library trusts the file: a chain of replacements can double a word forty times, a regular expression can be tried
for ever, and loading it already runs them. What published tokenizers do is far from these limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headatlas.bounded_json import TooLarge, check_size, read_bounded
from headatlas.errors import CheckpointError

MOST_BYTES, MOST_VALUES = 64 << 20, 4_000_000
"""Largest file of a tokenizer; the largest published ones have 35 MB and 2 million values."""

MOST_STEPS, MOST_GROWTH = 100, 100
"""Steps before a word is cut, and how many times as long they may make it."""

MOST_REPEATS, MOST_IN_A_ROW = 1_000, 5
"""Largest number in braces in a regular expression, and most repetitions in one of its choices."""

SUFFIXES = (".json", ".txt", ".model", ".tiktoken")
NO_TOKENIZERS = (".index.json", "trainer_state.json")
"""Ends of the names of other files, which a long training makes large."""

PARTS = re.compile(r'"(?:normalizer|pre_tokenizer|decoder|post_processor|added_tokens)"\s*:\s*')
BRACES = re.compile(r"\{(\d*)(,?)(\d*)\}")
ESCAPED_LETTER = re.compile(r"\\u00[4-7][0-9a-fA-F]")


def check_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer that is too large, or whose steps may not end.

    Raises:
        CheckpointError: a file is one of these, or cannot be read.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES and path.is_file() and not path.name.endswith(NO_TOKENIZERS):
            try:
                content = read_bounded(path, MOST_BYTES)
                if path.suffix == ".json":
                    check_size(content, MOST_VALUES)
                if path.name == "tokenizer.json":
                    _check_steps(content)
            except TooLarge as error:
                raise CheckpointError(f"{path}: expected {error}. Is it the tokenizer of a language model?") from error
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
            except _Endless as error:
                raise CheckpointError(
                    f"{path}: expected steps that end, found {error}. Use the tokenizer that the model was published "
                    f"with."
                ) from error


class _Endless(Exception):
    """A step could take for ever; the message says which."""


def _check_steps(content: bytes) -> None:
    steps = [step for part in _parts(content) for step in _steps(part)]
    if len(steps) > MOST_STEPS:
        raise _Endless(f"{len(steps):,} of them")
    growth = 1.0
    for step in steps:
        pattern = step.get("pattern")
        pattern = pattern if isinstance(pattern, dict) else {}
        literal, regex = pattern.get("String"), pattern.get("Regex")
        if isinstance(regex, str):
            _check_regex(regex)
        if step.get("type") == "Replace":
            if literal == "":
                raise _Endless("a replacement of the empty text")
            replaced = len(literal) if isinstance(literal, str) else 1
            growth *= max(1.0, len(str(step.get("content", ""))) / replaced)
            if growth > MOST_GROWTH:
                raise _Endless(f"replacements that make a word more than {MOST_GROWTH} times as long")


def _parts(content: bytes) -> Iterator[Any]:
    """The parts of the file that are no vocabulary, without parsing the vocabulary, which takes long."""
    try:
        text = content.decode("utf-8")
        if ESCAPED_LETTER.search(text):  # a name may be written so that it is not found below
            yield {key: value for key, value in json.loads(text).items() if key != "model"}
            return
        decoder = json.JSONDecoder()
        for match in PARTS.finditer(text):
            yield decoder.raw_decode(text, match.end())[0]
    except (ValueError, AttributeError, RecursionError):
        return  # it is no JSON, as the library will say


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    parts = [part]
    while parts:
        here = parts.pop()
        if isinstance(here, dict):
            if isinstance(here.get("type"), str):
                yield here
            parts.extend(here.values())
        elif isinstance(here, list):
            parts.extend(here)


def _check_regex(pattern: str) -> None:
    """Refuse what makes a matcher that tries all ways try exponentially many of them."""
    shown = ascii(pattern[:60])
    groups: list[bool] = [False]
    """Of each open group, whether it holds a repetition or a choice."""
    if re.search(r"\(\?(#|~|[a-zA-Z-]*x)", pattern):
        raise _Endless(f"the regular expression {shown} with comments or absent text")
    at, last_group, was_repeat, in_a_row = 0, False, False, 0
    while at < len(pattern):
        mark = pattern[at]
        step, repeats, closed = 1, False, False
        braces = BRACES.match(pattern, at)
        if mark == "\\":
            step = 2
            if pattern[at + 1 : at + 2].isdigit() or pattern[at + 1 : at + 2] in ("k", "g"):
                raise _Endless(f"the regular expression {shown}, which looks back at what it has found")
        elif mark == "[":
            step = _class_length(pattern, at)
        elif mark == "(":
            groups.append(False)
        elif mark == ")":
            inner = groups.pop() if len(groups) > 1 else False
            groups[-1] |= inner
            closed = inner
        elif mark == "|":
            groups[-1], in_a_row = True, 0
        elif mark in "*+" or braces:
            repeats = True
            if braces:
                step = braces.end()
                if max((int(number[:9]) for number in (braces[1], braces[3]) if number), default=0) > MOST_REPEATS:
                    raise _Endless(f"the regular expression {shown}, which repeats more than {MOST_REPEATS:,} times")
            if last_group or (was_repeat and mark != "+"):
                raise _Endless(f"the regular expression {shown}, which repeats a choice or a repetition")
            groups[-1] = True
            in_a_row += not was_repeat
            if in_a_row > MOST_IN_A_ROW:
                raise _Endless(
                    f"the regular expression {shown}, which has more than {MOST_IN_A_ROW} things repeated in a row"
                )
        elif mark == "?":
            repeats, closed = was_repeat, last_group  # reluctant, or optional
        last_group, was_repeat = closed, repeats
        at += step


def _class_length(pattern: str, start: int) -> int:
    """Characters of a class such as `[^\\s[a-z]]`, with its brackets."""
    depth, at = 0, start
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            depth += 1
        elif pattern[at] == "]" and at > start + 1:
            depth -= 1
            if not depth:
                break
        at += 1
    return at + 1 - start
