"""Pieces of Markdown: names from files made safe, numbers as people read them, tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from headatlas.printable import printable

SIGNIFICANT = 0.05
"""From this p-value on a sentence says "no clear ..." and no direction."""


def escape(text: object) -> str:
    """Text from a file as Markdown that shows it and does nothing else: no markup, HTML, link or control character.

    >>> print(escape("<b> a|b\\n"))
    &lt;b&gt; a\\|b\\\\n
    """
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~#$!])", r"\\\1", text)
    # Addresses become links by themselves.
    text = text.replace("://", "&#58;//").replace("@", "&#64;")
    text = re.sub(r"www\.", lambda match: match[0][:-1] + "&#46;", text, flags=re.IGNORECASE)
    # At a line's start these would begin a list.
    text = re.sub(r"^(\s*)([-+=])", r"\1\\\2", text)
    return re.sub(r"^(\s*\d+)([.)])(?=\s|$)", r"\1\\\2", text)


def code(text: object) -> str:
    """A name as a code span, or escaped where a code span cannot hold it."""
    shown = printable(text)
    if not shown.strip() or shown != shown.strip() or "`" in shown or "|" in shown:
        return escape(text)
    return f"`{shown}`"


def table(header: list[str], rows: list[list[str]], right: tuple[int, ...] = ()) -> str:
    """A table of finished cells; `right` are the columns of numbers."""
    rule = ["---:" if number in right else "---" for number in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def p_value(p: float | None) -> str:
    """`p = 0.023`, `p < 0.001`, or `not testable`."""
    if p is None:
        return "not testable"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def is_clear(p: float | None) -> bool:
    return p is not None and p < SIGNIFICANT


def count(number: int, noun: str) -> str:
    """`1 head`, `1,024 heads`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def agree(number: int, one: str, many: str) -> str:
    """The word that goes with the number: `is` or `are`."""
    return one if number == 1 else many


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    words = list(words)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def layers(first: int, last: int) -> str:
    """`layer 3` or `layers 3 to 9`."""
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def percent(share: float) -> str:
    """A share as people read it: `6.6 %`."""
    return f"{100 * share:.1f} %"


def ratio(value: float) -> str:
    """One digit after the point: `3.1`."""
    return f"{value:.1f}"


def or_none(value: float | None, show: Callable[[float], str]) -> str:
    """A number as `show` writes it, or `not testable`."""
    return "not testable" if value is None else show(value)
