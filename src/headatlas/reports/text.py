"""Numbers and lists of words as people read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headatlas.reports.blocks import Inline, Text, join, line

SIGNIFICANT = 0.05
"""From this p-value on a sentence says "no clear ..." and no direction."""


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


def listed_pieces(pieces: Iterable[Inline]) -> Text:
    """The same of pieces that are not all plain text."""
    pieces = list(pieces)
    return line(pieces[0]) if len(pieces) == 1 else line(join(", ", pieces[:-1]), " and ", pieces[-1])


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
