"""Relations are found by their names and by their titles."""

import pytest

from headatlas.errors import SettingsError
from headatlas.relations import find_relation

KNOWN = ["country_to_capital", "name_copying", "adj_to_noun", "adjective_to_noun"]


@pytest.mark.parametrize(
    "asked",
    ["country_to_capital", "Country_To_Capital", "country → capital", "country->capital", " Country  -> Capital"],
)
def test_a_relation_is_found_by_name_and_by_title(asked):
    assert find_relation("relation", asked, KNOWN) == "country_to_capital"


def test_a_name_goes_before_a_title():
    assert find_relation("relation", "a → b", ["a_to_b", "a → b"]) == "a → b"


@pytest.mark.parametrize("asked", ["adjective -> noun", "capital -> country", "->", ""])
def test_what_is_no_relation_or_two_is_refused(asked):
    with pytest.raises(SettingsError, match="relation: expected "):
        find_relation("relation", asked, KNOWN)
