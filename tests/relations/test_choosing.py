"""The relations of a run."""

import json

import pytest

from headatlas.errors import RelationError
from headatlas.relations import Relation, builtin_relations, choose_relations

OWN = Relation("own", (("France", "Paris"),))


def test_the_default_is_the_built_in_relations():
    assert choose_relations() == builtin_relations()


def test_relations_and_files_can_be_mixed_and_are_sorted_by_category_and_name(tmp_path):
    path = tmp_path / "law.json"
    path.write_text(json.dumps({"category": "Law", "pairs": [["judge", "court"]]}), "utf-8")
    law = Relation("law", (("judge", "court"),), "Law")
    assert choose_relations([OWN, path]) == choose_relations(path, [OWN]) == choose_relations(str(path), iter([OWN]))
    assert choose_relations([OWN, path]) == [law, OWN]
    assert choose_relations(None, [OWN])[-1] == OWN


def test_two_of_one_name_and_none_at_all_are_refused():
    with pytest.raises(RelationError, match="'own': expected one relation of this name, found two"):
        choose_relations([OWN], [OWN])
    with pytest.raises(RelationError, match=r"^relations: expected at least one, found none\.$"):
        choose_relations([])
