"""Blocks as Markdown; text that may come from files is escaped here, once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from headatlas.printable import printable
from headatlas.reports.blocks import (
    Block,
    BulletList,
    Code,
    CodeBlock,
    Heading,
    Paragraph,
    Picture,
    Piece,
    Strong,
    Table,
    Text,
    Title,
)


def to_markdown(blocks: Iterable[Block]) -> str:
    """Markdown of the blocks, as GitHub and CommonMark with tables read it."""
    return "\n\n".join(map(_block, blocks)) + "\n"


def _block(block: Block) -> str:
    match block:
        case Title(text):
            return f"# {_inline(text)}"
        case Heading(text):
            return f"## {_inline(text)}"
        case Paragraph(text):
            return _own_line(text)
        case BulletList(items):
            return "\n".join(f"- {_own_line(item)}" for item in items)
        case Table(header, rows, right):
            rule = ["---:" if number in right else "---" for number in range(len(header))]
            cells = [[_inline(cell) for cell in row] for row in (header, *rows)]
            return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:]))
        case CodeBlock(text, language):
            fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
            return "\n".join([f"{fence}{language}", *map(printable, text.split("\n")), fence])
        case Picture(text, file):
            return f"![{escape(text)}]({quote(file, safe='/.-_~')})"


def _own_line(text: Text) -> str:
    """Text at the beginning of a line, where some characters would begin a list or underline a heading."""
    shown = re.sub(r"^(\s*)([-+=])", r"\1\\\2", _inline(text))
    return re.sub(r"^(\s*\d+)([.)])(?=\s|$)", r"\1\\\2", shown)


def _inline(text: Text) -> str:
    return "".join(map(_piece, text))


def _piece(piece: Piece) -> str:
    match piece:
        case Code(text):
            return code(text)
        case Strong(text):
            return f"**{escape(text)}**" if text and text == text.strip() else escape(text)
        case text:
            return escape(text)


def escape(text: str) -> str:
    """Text as Markdown that shows it and does nothing else, within a line: no markup, HTML, link or control character.

    >>> print(escape("<b> a|b\\n, p < 0.05"))
    &lt;b&gt; a\\|b\\\\n, p < 0.05
    """
    text = printable(text).replace("&", "&amp;").replace(">", "&gt;")
    # Before a space or digit it begins no HTML.
    text = re.sub(r"<(?![ \d])", "&lt;", text)
    text = re.sub(r"([\\`*_\[\]|~#$!])", r"\\\1", text)
    # Addresses become links by themselves.
    text = text.replace("://", "&#58;//").replace("@", "&#64;")
    return re.sub(r"www\.", lambda match: match[0][:-1] + "&#46;", text, flags=re.IGNORECASE)


def code(text: str) -> str:
    """A name as a code span, or escaped if a code span cannot hold it."""
    shown = printable(text)
    if not shown.strip() or shown != shown.strip() or "`" in shown or "|" in shown:
        return escape(text)
    return f"`{shown}`"
