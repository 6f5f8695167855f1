"""What the page of a film reads: `explorer/src/film-message.ts` has the same types with the same keys.

Keys are written as TypeScript writes them. Every text is plain and printable; the page shows it and never as markup.
"""

from __future__ import annotations

from typing import TypedDict


class Moment(TypedDict):
    """A function at a step.

    `strongest` head and its `layer`, share of pairs or attention, its level of chance, the highest `level` of chance of
    all heads, and the `heads` that have the function, by number (layer times heads, plus head).
    """

    strongest: str
    layer: int | None
    score: float
    chance: float | None
    level: float | None
    heads: list[int]


class FilmFunction(TypedDict):
    """A relation, or a way of reading; None are steps at which it was not measured."""

    name: str
    title: str
    category: str
    colour: str
    reading: bool
    sentence: str
    moments: list[Moment | None]


class Scene(TypedDict):
    """A model; `scores` are bytes in base64, (function, layer, head): 250 times the score, 255 where not known."""

    name: str
    step: int
    layers: int
    heads: int
    hasHeads: list[bool]
    scores: str


class FilmData(TypedDict):
    """A film: colours of categories and of ways of reading by name, of two and more of them, and of a scale."""

    title: str
    note: str
    categories: list[tuple[str, str]]
    counts: list[str]
    ways: list[tuple[str, str]]
    wayCounts: list[str]
    scale: list[str]
    scenes: list[Scene]
    functions: list[FilmFunction]
