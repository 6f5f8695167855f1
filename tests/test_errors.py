"""Names that a message expects, and names whatever their case."""

import pytest

from headatlas.errors import LONGEST, AtlasError, SettingsError, find_name


def test_a_message_is_one_printable_line_of_limited_length():
    """Whatever names and values of files it repeats."""
    assert str(AtlasError("a\x1b[31m\nb\u202e")) == "a\\x1b[31m\\nb\\u202e"
    long = str(AtlasError(f"begin {'x' * 10_000_000} end"))
    assert long.startswith("begin xx") and long.endswith("xx end") and len(long) == LONGEST + len(" ... ")


def test_case_does_not_matter_unless_names_differ_in_nothing_else():
    assert find_name("relation", " COUNTRY_to_capital ", ["country_to_capital", "b"]) == "country_to_capital"
    assert find_name("relation", "A", ["a", "A"]) == "A"
    with pytest.raises(SettingsError, match="relation: expected one of ab, AB, found 'Ab'"):
        find_name("relation", "Ab", ["ab", "AB", "c"])
    with pytest.raises(SettingsError, match="category: expected one of Knowledge, Other, found 'No'"):
        find_name("category", "No", ["Knowledge", "Other"])
