"""Names that a message expects, and names whatever their case."""

import pytest

from headatlas.errors import SettingsError, find_name


def test_case_does_not_matter_unless_names_differ_in_nothing_else():
    assert find_name("relation", " COUNTRY_to_capital ", ["country_to_capital", "b"]) == "country_to_capital"
    assert find_name("relation", "A", ["a", "A"]) == "A"
    with pytest.raises(SettingsError, match="relation: expected one of ab, AB, found 'Ab'"):
        find_name("relation", "Ab", ["ab", "AB", "c"])
    with pytest.raises(SettingsError, match="category: expected one of Knowledge, Other, found 'No'"):
        find_name("category", "No", ["Knowledge", "Other"])
