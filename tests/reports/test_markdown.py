"""Blocks become Markdown in which names from files are shown and do nothing else."""

import re

import pytest
from markdown_it import MarkdownIt

from headatlas.printable import printable
from headatlas.reports.blocks import (
    Code,
    CodeBlock,
    Inline,
    Picture,
    Strong,
    Title,
    bullets,
    heading,
    line,
    paragraph,
    table,
)
from headatlas.reports.markdown import to_markdown

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "`x` | `y`",
    "``` | x",
    "[x](http://x)",
    "![x](y)",
    "a\x1b[31m\nb\u202e",
    "a\n\n# b\n",
    "# h",
    "*b* _c_ ~~d~~ **e**",
    "&lt;&amp;",
    "\\| \\<b> \\",
    "- x",
    "+ x",
    "1. x",
    "12) x",
    "===",
    "> q",
    "<!-- x",
    "http://x.y www.x.y a@b.c",
    " padded ",
    "$x$",
    "2024-11-23T00:00:00+00:00",
]


def rendered(markdown: str) -> tuple[set[str], str]:
    """The kinds of tokens in the Markdown, and the text that a reader sees."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    inner = [child for token in tokens for child in token.children or []]
    return {token.type for token in (*tokens, *inner)}, "".join(each.content for each in inner)


def plain(text: str) -> Inline:
    return text


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("piece", [plain, Code, Strong])
def test_names_from_files_are_only_shown(text, piece):
    allowed = {"paragraph_open", "inline", "text", "text_special", "paragraph_close"}
    allowed |= {Code: {"code_inline"}, Strong: {"strong_open", "strong_close"}}.get(piece, set())
    kinds, seen = rendered(to_markdown([paragraph(piece(text))]))
    assert kinds <= allowed and seen == printable(text).strip()
    # In a table: two cells stay two cells.
    kinds, seen = rendered(to_markdown([table(["h", "i"], [[piece(text), "z"]])]))
    assert "td_open" in kinds and not kinds & {"html_inline", "link_open", "image", "em_open"}
    assert seen == f"hi{printable(text).strip()}z"
    # In a list: no list inside.
    tokens = MarkdownIt().parse(to_markdown([bullets([piece(text)])]))
    assert [token.type for token in tokens].count("bullet_list_open") == 1
    # In a title: one line.
    tokens = MarkdownIt().parse(to_markdown([Title(line(piece(text)))]))
    assert [token.type for token in tokens] == ["heading_open", "inline", "heading_close"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_control_character_or_address_is_left(text):
    for piece in (text, Code(text), Strong(text)):
        assert to_markdown([paragraph(piece)]).removesuffix("\n").isprintable()
    assert not re.search(r"://|www\.|@|<|>", to_markdown([paragraph(text)]))


def test_numbers_and_plain_names_are_not_escaped():
    text = "p < 0.001, q <0.05: 1,024 of 2,048 heads (50.0 %); L0H1–L2H3 → 0.15, 2.13.0+cpu"
    assert to_markdown([paragraph("of ", Code("a_to_b"), f": {text}")]) == f"of `a_to_b`: {text}\n"
    assert to_markdown([table(["why"], [["-"]], right=(0,))]) == "| why |\n| ---: |\n| - |\n"


def test_every_block_is_followed_by_an_empty_line():
    blocks = [Title(("t",)), heading("h"), paragraph("p"), bullets(["a", "b"]), Picture("map", "my map).png")]
    assert to_markdown(blocks) == "# t\n\n## h\n\np\n\n- a\n- b\n\n![map](my%20map%29.png)\n"


@pytest.mark.parametrize("text", ["a\nb", "```\n# x", "a\n````", "\x1b[31m"])
def test_nothing_ends_a_block_of_code(text):
    (token,) = MarkdownIt().parse(to_markdown([CodeBlock(text, "bibtex")]))
    assert (token.type, token.info) == ("fence", "bibtex")
    assert token.content == "\n".join(map(printable, text.split("\n"))) + "\n"
