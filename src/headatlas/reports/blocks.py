"""A report as data: blocks that hold text, which Markdown, the explorer's page and a terminal each render their way.

Text is plain and may come from files: it holds no markup, and whoever renders it escapes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A name set as code, such as that of a relation."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Words with emphasis."""

    text: str


Piece = str | Code | Strong
"""A part of a line; a string is plain text."""

Text = tuple[Piece, ...]
"""A line; plain pieces are not empty and never follow each other."""

Inline = Piece | Text
"""What can become a line, by `line`."""


@dataclass(frozen=True)
class Title:
    text: Text


@dataclass(frozen=True)
class Heading:
    text: Text


@dataclass(frozen=True)
class Paragraph:
    text: Text


@dataclass(frozen=True)
class BulletList:
    items: tuple[Text, ...]


@dataclass(frozen=True)
class Table:
    """A header and rows of as many cells; `right` are the numbers of the columns aligned to the right."""

    header: tuple[Text, ...]
    rows: tuple[tuple[Text, ...], ...]
    right: tuple[int, ...] = ()


@dataclass(frozen=True)
class CodeBlock:
    """Lines as they are, in a language such as `bibtex`."""

    text: str
    language: str


@dataclass(frozen=True)
class Picture:
    """A picture in the folder of the report: its description and its file's relative name."""

    text: str
    file: str


Block = Title | Heading | Paragraph | BulletList | Table | CodeBlock | Picture
Blocks = tuple[Block, ...]


def line(*parts: Inline) -> Text:
    """Pieces one after the other.

    >>> line("of ", Code("r0"), " and", ("", " of ", Code("r1")))
    ('of ', Code(text='r0'), ' and of ', Code(text='r1'))
    """
    pieces: list[Piece] = []
    for part in parts:
        for piece in part if isinstance(part, tuple) else (part,):
            if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
                pieces[-1] += piece
            elif piece != "":
                pieces.append(piece)
    return tuple(pieces)


def join(separator: str, parts: Iterable[Inline]) -> Text:
    """The parts with the separator between them."""
    found: list[Inline] = []
    for part in parts:
        found += [separator, part] if found else [part]
    return line(*found)


def paragraph(*parts: Inline) -> Paragraph:
    return Paragraph(line(*parts))


def heading(*parts: Inline) -> Heading:
    return Heading(line(*parts))


def bullets(items: Iterable[Inline]) -> BulletList:
    return BulletList(tuple(line(item) for item in items))


def table(header: Sequence[Inline], rows: Iterable[Sequence[Inline]], right: tuple[int, ...] = ()) -> Table:
    return Table(tuple(line(cell) for cell in header), tuple(tuple(line(cell) for cell in row) for row in rows), right)
