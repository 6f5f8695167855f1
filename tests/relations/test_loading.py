"""A user's own relations: every accepted form, and the exact message for every way to get it wrong."""

import json

import pytest

from headatlas.errors import RelationError
from headatlas.relations import Relation, builtin_relations, check_names, load_relations, set_hash

PAIRS = [["France", "Paris"], ["Japan", "Tokyo"]]


def write(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("own.json", {"pairs": PAIRS}, Relation("own", (("France", "Paris"), ("Japan", "Tokyo")))),
        ("list.json", PAIRS, Relation("list", (("France", "Paris"), ("Japan", "Tokyo")))),
        ("t.csv", "source,target\nFrance,Paris\n", Relation("t", (("France", "Paris"),))),
        ("t.csv", "\ufeffrank,Target,Source\n1,Paris,France\n\n", Relation("t", (("France", "Paris"),))),
        ("t.tsv", 'source\ttarget\nsay "so\t a b \n', Relation("t", (('say "so', "a b"),))),
        (
            "full.json",
            {
                "name": "n",
                "category": "Mine",
                "k": 3,
                "description": "d",
                "source": "s",
                "license": "l",
                "pairs": PAIRS,
            },
            Relation("n", (("France", "Paris"), ("Japan", "Tokyo")), "Mine", 3, "d", "s", "l"),
        ),
    ],
)
def test_forms(tmp_path, name, content, expected):
    assert load_relations(write(tmp_path, name, content)) == [expected]


def test_a_folder_gives_its_files_in_order_and_leaves_out_others(tmp_path):
    write(tmp_path, "b.json", PAIRS)
    write(tmp_path, "a.csv", "source,target\nFrance,Paris\n")
    write(tmp_path, "README.md", "text")
    assert [relation.name for relation in load_relations(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.json",
            "{",
            "expected JSON, found Expecting property name enclosed in double quotes: line 1 column 2 (char 1).",
        ),
        ("x.json", "[" * 100_000, "expected JSON, found maximum recursion depth exceeded"),
        ("x.json", {"pair": PAIRS}, "expected a list of pairs, or an object with the key 'pairs' and such a list."),
        (
            "x.json",
            {"pairs": PAIRS, "kk": 1},
            "expected only the keys category, description, k, license, name, pairs, source, found also 'kk'.",
        ),
        (
            "x.json",
            [["France", "Paris"], ["Japan"]],
            "pair 2: expected two words [source, target], found \"['Japan']\".",
        ),
        ("x.json", [["France", 7]], "pair 1: expected two words [source, target], found \"['France', 7]\"."),
        ("x.json", [["France", " "]], "pair 1: expected two words, found an empty word in ['France', ' ']."),
        ("x.json", [], "relation 'x': expected at least one pair, found none."),
        (
            "x.json",
            {"pairs": PAIRS, "k": 0},
            "relation 'x': k must be 'standard', 'copying' or a whole number from 1 to 1,000,000,000, found 0.",
        ),
        (
            "x.json",
            {"pairs": PAIRS, "k": True},
            "relation 'x': k must be 'standard', 'copying' or a whole number from 1 to 1,000,000,000, found True.",
        ),
        (
            "x.json",
            {"pairs": PAIRS, "name": "a\x1b[1m"},
            "relation 'a\\x1b[1m': name must be up to 100 printable characters, found 'a\\x1b[1m'.",
        ),
        (
            "x.json",
            {"pairs": PAIRS, "category": 7},
            "relation 'x': category must be up to 100 printable characters, found 7.",
        ),
        (
            "x.json",
            {"pairs": PAIRS, "k": 2**63},
            "relation 'x': k must be 'standard', 'copying' or a whole number from 1 to 1,000,000,000, found 9223372036",
        ),
        ("x.json", '{"k": ' + 5_000 * "9" + "}", "expected JSON with pairs of words, found a number of thousands of"),
        ("x.json", '[["a", "b"], [' + 5_000 * "9" + ', "c"]]', "expected JSON with pairs of words, found a number of"),
        ("x.json", '[["a", "\\ud83d"]]', "relation 'x': expected text, found half of a character (a surrogate) in"),
        ("x.json", {"pairs": PAIRS, "license": []}, "'license' must be text, found []."),
        ("x.csv", "from,to\na,b\n", "expected the columns source and target in the first line, found from, to."),
        ("x.csv", "", "expected the columns source and target in the first line, found an empty file."),
        ("x.csv", "source,target\na,b,c\n", "line 2: expected 2 columns, found 3."),
        ("x.csv", "source,target\n,b\n", "line 2: expected two words, found an empty word in ['', 'b']."),
        ("x.csv", "source,target\n", "relation 'x': expected at least one pair, found none."),
        ("x.txt", "a b", "expected a relation file with the suffix .json, .csv, .tsv, found .txt."),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(RelationError) as caught:
        load_relations(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_not_utf8(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"source,target\nCura\xe7ao,x\n")
    with pytest.raises(RelationError) as caught:
        load_relations(path)
    assert str(caught.value) == f"{path}: expected UTF-8 text, found byte 0xe7 at 18."


def test_nothing_there(tmp_path):
    with pytest.raises(RelationError, match="expected a relation file or a folder of them, found nothing there"):
        load_relations(tmp_path / "no")
    with pytest.raises(RelationError, match=r"expected relation files .* in this folder, found none"):
        load_relations(tmp_path)


def test_two_of_one_name(tmp_path):
    with pytest.raises(RelationError, match="'a': expected one relation of this name, found two"):
        load_relations([write(tmp_path, "a.json", PAIRS), write(tmp_path, "a.csv", "source,target\na,b\n")])
    with pytest.raises(RelationError, match="found two"):
        check_names([Relation("a", (("x", "y"),)), Relation("a", (("x", "z"),))])


def test_hashes_follow_the_content_and_not_the_order_of_relations():
    a, b = Relation("a", (("x", "y"),)), Relation("b", (("x", "y"),))
    assert set_hash([a, b]) == set_hash([b, a])
    changed = [
        Relation("a", (("x", "z"),)),
        Relation("a", (("x", "y"),), category="C"),
        Relation("a", (("x", "y"),), k="copying"),
    ]
    assert len({each.hash for each in (a, b, *changed)}) == 5
    assert Relation("a", (("x", "y"),), description="other words").hash == a.hash


def test_builtin_relations_are_sorted_by_category():
    categories = [relation.category for relation in builtin_relations()]
    assert sorted(set(categories), key=categories.index) == ["Algorithmic", "Knowledge", "Linguistic", "Translation"]
    assert categories == sorted(categories)
