"""Text from files, made safe for a terminal and for a spreadsheet."""

from __future__ import annotations


def printable(text: object) -> str:
    """The text with every control, format or otherwise unprintable character written as its escape.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )


def plain_cell(text: str) -> str:
    """The text as a cell of a table that spreadsheets open: they would run one that begins like a formula.

    >>> plain_cell("=1+1"), plain_cell("a")
    ("'=1+1", 'a')
    """
    return f"'{text}" if text.startswith(tuple("=+-@\t\r")) else text
