"""Names from files are shown and do nothing else, and numbers read as people write them."""

import re

import pytest
from markdown_it import MarkdownIt

from headatlas.printable import printable
from headatlas.reports.text import agree, code, count, escape, layers, listed, p_value, percent

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


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("make_safe", [escape, code])
def test_names_from_files_are_only_shown(text, make_safe):
    allowed = {"paragraph_open", "inline", "text", "text_special", "paragraph_close", "code_inline"}
    kinds, seen = rendered(make_safe(text))
    assert kinds <= allowed and seen == printable(text).strip()
    if make_safe is escape:
        assert "code_inline" not in kinds
    # In a table: two cells stay two cells.
    kinds, seen = rendered(f"| h | i |\n| --- | --- |\n| {make_safe(text)} | z |")
    assert "td_open" in kinds and not kinds & {"html_inline", "link_open", "image", "em_open", "strong_open"}
    assert seen == f"hi{printable(text).strip()}z"
    # In a list: no list inside.
    assert [token.type for token in MarkdownIt().parse(f"- {make_safe(text)}")].count("bullet_list_open") == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_no_control_character_or_address_is_left(text):
    for shown in (escape(text), code(text)):
        assert shown.isprintable()
    assert not re.search(r"://|www\.|@|<|>", escape(text))


def test_a_plain_name_is_a_code_span():
    assert code("country_to_capital") == "`country_to_capital`" and escape("0.15") == "0.15"


def test_numbers():
    assert [count(number, "head") for number in (0, 1, 2, 1024)] == ["0 heads", "1 head", "2 heads", "1,024 heads"]
    assert [agree(number, "is", "are") for number in (0, 1, 2)] == ["are", "is", "are"]
    assert [p_value(p) for p in (None, 0.0004, 0.001, 0.05, 1.0)] == [
        "not testable",
        "p < 0.001",
        "p = 0.001",
        "p = 0.050",
        "p = 1.000",
    ]
    assert listed(["a"]) == "a" and listed(["a", "b"]) == "a and b" and listed("abc") == "a, b and c"
    assert layers(3, 3) == "layer 3" and layers(3, 9) == "layers 3 to 9" and percent(0.0664) == "6.6 %"
