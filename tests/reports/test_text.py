"""Numbers and lists of words read as people write them."""

from headatlas.reports.blocks import Code
from headatlas.reports.text import agree, count, layers, listed, listed_pieces, p_value, percent


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


def test_lists_of_pieces_read_like_lists_of_words():
    assert listed_pieces([Code("a")]) == (Code("a"),)
    assert listed_pieces([Code("a"), "b"]) == (Code("a"), " and b")
    assert listed_pieces(["a", Code("b"), "c"]) == ("a, ", Code("b"), " and c")
