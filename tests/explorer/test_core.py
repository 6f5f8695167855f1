"""The page's own core, run by node: classification as in `headatlas.analysis.categories`, search, and the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from atlases import (
    HOSTILE,
    make_atlas,
    make_attention,
    make_composition,
    make_others,
    make_reading_words,
    with_settings,
)
from explorer_core import ask
from headatlas.analysis.card import head_card
from headatlas.analysis.categories import classify
from headatlas.analysis.compare_functions import compare_functions
from headatlas.atlas import Atlas, head_name

pytestmark = pytest.mark.system


def assert_same(atlas: Atlas, views: list[dict[str, Any]], folder: Path) -> None:
    for view, answer in zip(views, ask(atlas, views, folder)["answers"], strict=True):
        expected = classify(atlas, **view)
        assert np.array_equal(np.array(answer["implements"], bool), expected.implements.ravel()), view
        for number, category in enumerate(answer["categories"]):
            has = np.array(answer["has"][number], bool)
            assert np.array_equal(has, expected.has[expected.categories.index(category)].ravel()), view


def test_every_view_has_the_categories_of_the_command_line(tmp_path):
    atlas = make_atlas(n_layers=13, n_heads=7, without_heads=(3,), chance=True)
    thresholds = [f"0.{number:02}" for number in range(96)]
    views = [
        {"side": side, "rule": rule, "threshold": threshold}
        for side in ("score", "suppression")
        for rule in ("plain", "calibrated")
        for threshold in [*thresholds, "0.175", "0.999"]
    ]
    assert_same(atlas, views, tmp_path)


def test_categories_beyond_the_bits_of_a_number_stay_apart(tmp_path):
    atlas = make_atlas(n_layers=6, n_heads=4, categories=tuple(f"Category {number}" for number in range(70)))
    assert_same(atlas, [{"side": "score", "rule": "plain", "threshold": "0.15"}], tmp_path)


@pytest.mark.parametrize("threshold", ["1e-1", "3/20", "1/3", "0.15000000000000000000", "+0.15", "0.", "00.2"])
def test_a_threshold_as_map_accepts_it_is_read(threshold, tmp_path):
    atlas = with_settings(make_atlas(n_layers=5, n_heads=3), threshold=threshold)
    assert_same(atlas, [{"side": "score", "rule": "plain", "threshold": None}], tmp_path)


RELATIONS = ("country_to_capital", "capitalised_to_word", "noun_to_pronoun", "city_to_country")
CATEGORIES = ("Knowledge", "Algorithmic", "Linguistic", "Knowledge 2")


def find(atlases: Atlas | list[Atlas], folder: Path, query: str, **view: str) -> tuple[pd.DataFrame, str]:
    (answer,) = ask(atlases, [{"query": query, **view}], folder)["answers"]
    columns, *rows = answer["table"]
    return pd.DataFrame(rows, columns=columns), answer["summary"]


@pytest.mark.parametrize(
    ("query", "relations"),
    [
        ("capital", {"country_to_capital"}),
        ("Capitals", {"country_to_capital"}),
        ("countries", {"country_to_capital", "city_to_country"}),
        ("capitalised", {"capitalised_to_word"}),
        ("capitalis", {"capitalised_to_word"}),
        ("country to capital", {"country_to_capital"}),
        ("Country -> capital", {"country_to_capital"}),
        ("pronoun", {"noun_to_pronoun"}),
        ("know", {"country_to_capital"}),
        ("knowledge 2", {"city_to_country"}),
    ],
)
def test_a_query_finds_the_heads_that_implement_what_it_names(query, relations, tmp_path):
    atlas = make_atlas(9, 5, categories=CATEGORIES, relations=RELATIONS)
    table, _ = find(atlas, tmp_path, query)
    found = classify(atlas)
    expected = {
        (f"L{layer}H{head}", atlas.relations[number])
        for number, layer, head in np.argwhere(found.implements)
        if atlas.relations[number] in relations
    }
    assert set(zip(table["head"], table["relation"], strict=True)) == expected and expected
    assert set(table["implements"]) == {"true"}
    scores = {(name, relation): atlas.share("score").sel(relation=relation).values for name, relation in expected}
    for row in table.itertuples():
        assert float(row.score) == scores[row.head, row.relation][int(row.layer), int(row.head_index)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("L9H0", "no head L9H0: layers are 0 to 8, heads 0 to 4"),
        ("layer 12", "no layer 12: layers are 0 to 8"),
        ("geometry_words", "geometry words was not measurable: 3 pairs of single tokens"),
        (
            "zebra",
            "nothing matches “zebra”. Try a head (L0H0), a category (Algorithmic, Knowledge, Linguistic, Knowledge 2)",
        ),
        (".*", "nothing matches “.*”"),
    ],
)
def test_a_query_without_a_row_says_why(query, expected, tmp_path):
    atlas = make_atlas(9, 5, categories=CATEGORIES, relations=RELATIONS, unmeasured=("Geometry",))
    table, summary = find(atlas, tmp_path, query)
    assert summary.startswith(expected) and table.empty


def test_heads_of_a_layer_and_heads_without_a_category_are_found(tmp_path):
    atlas = make_atlas(9, 5, categories=CATEGORIES, relations=RELATIONS)
    table, _ = find(atlas, tmp_path, "layer 3")
    hits = atlas.data["hits"].values
    assert len(table) == int((hits[:, 3] > 0).sum()) and set(table["layer"]) == {"3"}
    table, _ = find(atlas, tmp_path, "unclassified")
    none = ~classify(atlas).has.any(0)
    assert len(table) == int((hits[:, none] > 0).sum()) > 0


def test_a_pair_and_words_within_a_relation_are_found(tmp_path):
    atlas = make_atlas(9, 5, categories=CATEGORIES, relations=RELATIONS)
    rows = [
        (relation, source, target, number, number + 1, layer, 1, "promoted", 0)
        for number, (relation, source, target, layer) in enumerate(
            [
                (RELATIONS[0], " France", " Paris", 2),
                (RELATIONS[0], " France", " Paris", 3),
                (RELATIONS[0], " Italy", " Rome", 4),
                (RELATIONS[3], " Paris", " France", 5),
            ]
        )
    ]
    names = ("relation", "source", "target", "source_id", "target_id", "layer", "head", "side", "rank")
    atlas = Atlas(atlas.data, atlas.manifest, pd.DataFrame(rows, columns=list(names)))
    heads = {
        query: set(find(atlas, tmp_path, query)[0]["head"]) for query in ("France->Paris", "capital of France", "Paris")
    }
    assert heads == {
        "France->Paris": {"L2H1", "L3H1"},
        "capital of France": {"L2H1", "L3H1"},
        "Paris": {"L2H1", "L3H1", "L5H1"},
    }
    table, summary = find(atlas, tmp_path, "Paris", relation=RELATIONS[3])
    assert list(table["head"]) == ["L5H1"] and summary.endswith("of city → country alone")


def test_the_difference_lists_what_is_gained_and_lost(tmp_path):
    atlases = [make_atlas(9, 5, seed=seed) for seed in (0, 1)]
    before, after = (classify(atlas).implements for atlas in atlases)
    table, _ = find(atlases, tmp_path, "", compare="difference")
    listed = {(row.head, row.relation): row.change for row in table.itertuples()}
    expected = {
        (f"L{layer}H{head}", atlases[0].relations[number]): "gained" if after[number, layer, head] else "lost"
        for number, layer, head in np.argwhere(before != after)
    }
    assert listed == expected and set(expected.values()) == {"gained", "lost"}
    assert np.allclose(
        table["difference"].astype(float), table["b_score"].astype(float) - table["a_score"].astype(float)
    )
    both, _ = find(atlases, tmp_path, "", compare="both")
    assert len(both) == int((before | after).sum()) and (both["change"] == "kept").sum() == int((before & after).sum())


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path):
    cells = ask(make_atlas(n_layers=3, n_heads=2), [], tmp_path)["cells"]
    assert cells[:6] == ["'=1+1", "'+1", "-1", "-1.5", "'-1+1", "'@sum"]
    assert cells[6:] == ["'\t=1", '"\'\r=1"', '"a""b"', '"a,b"', '"a\nb"', "plain"]


SHARES = {
    "induction": {(2, 3): 0.83, (3, 1): 0.31},
    "sink": {(2, 3): 0.6, (4, 0): 0.7},
}


@pytest.mark.parametrize("query, heads", [("induction", ["L2H3", "L3H1"]), ("Sink", ["L4H0", "L2H3"]), ("duplic", [])])
def test_heads_are_found_by_where_they_look(query, heads, tmp_path):
    atlas = make_attention(make_atlas(n_layers=6, n_heads=5), SHARES)
    (answer,) = ask(atlas, [{"query": query}], tmp_path)["answers"]
    rows = [dict(zip(answer["table"][0], row, strict=True)) for row in answer["table"][1:]]
    assert [row["head"] for row in rows] == heads
    assert "heads that look at: " in answer["summary"]
    for row in rows:
        name = "induction" if query == "induction" else "sink"
        layer, head = int(row["layer"]), int(row["head_index"])
        assert row["relation"] == f"looks at: {name}" and float(row["score"]) == SHARES[name][layer, head]
        assert row["implements"] == "true" and float(row["chance"]) == 0.05 and float(row["q"]) == 1e-9


def test_the_views_of_reading_and_of_both(tmp_path):
    atlas = make_attention(make_atlas(n_layers=6, n_heads=5, categories=("Knowledge",)), SHARES)
    views = [{"query": "", "what": what} for what in ("writing", "reading", "both")]
    writing, reading, both = ([row[3] for row in each["table"][1:]] for each in ask(atlas, views, tmp_path)["answers"])
    assert set(writing) == {"knowledge_relation"} and len(writing) == int(classify(atlas).implements.sum())
    assert sorted(reading) == ["looks at: induction"] * 2 + ["looks at: sink"] * 2
    assert sorted(both) == sorted(writing + reading)


def test_without_attention_there_is_nothing_to_find(tmp_path):
    (answer,) = ask(make_atlas(n_layers=6, n_heads=5), [{"query": "induction"}], tmp_path)["answers"]
    assert len(answer["table"]) == 1 and answer["summary"].startswith("nothing matches")


@pytest.mark.parametrize("word", [" word3", HOSTILE[0], HOSTILE[3], HOSTILE[4]])
def test_heads_are_found_by_the_words_that_they_look_for(word, tmp_path):
    words = [*HOSTILE, *(f" word{number}" for number in range(20))]
    atlas = make_reading_words(make_attention(make_atlas(n_layers=6, n_heads=5)), words)
    rows: Any = atlas.evidence("reading_words")
    rows = rows[(rows["key"] == word) | (rows["query"] == word)]
    table, _ = find(atlas, tmp_path, word.strip())
    assert set(table["head"]) == {f"L{row.layer}H{row.head}" for row in rows.itertuples()} and len(rows)
    assert set(table["relation"]) == {"words that it looks for"}
    assert table["match"].str.contains("looks for ").all()
    pair = rows[rows["kind"] == "pair"].iloc[0]
    table, _ = find(atlas, tmp_path, f"{pair['query']} -> {pair['key']}")
    assert f"L{pair['layer']}H{pair['head']}" in set(table["head"])


def test_edges_of_a_head_are_those_that_the_card_of_the_command_line_names(tmp_path):
    edges = [
        ("previous", 0, 1, 2, 0, "key", 3.0, 1e-3),
        ("previous", 1, 2, 2, 0, "key", 5.0, 2e-3),
        ("induction", 2, 0, 4, 1, "query", 0.9, 1e-3),
        ("previous", 0, 1, 4, 2, "key", 9.0, 0.02),  # not beyond chance
    ]
    atlas = make_composition(make_atlas(n_layers=6, n_heads=5), edges)
    for name in ("L2H0", "L0H1", "L4H2"):
        (answer,) = ask(atlas, [{"edges": name}], tmp_path)["answers"]
        expected: Any = head_card(atlas, name).as_dict()["composition"]
        for end in ("fed_by", "feeds"):
            assert [
                (each["sender"], each["receiver"], each["kind"], each["strength"], each["chance"], each["q"])
                for each in expected[end]
            ] == [tuple(each) for each in answer[end]], name


def test_two_models_of_other_shapes_have_tables_and_places_of_their_own(tmp_path):
    atlases = make_others()
    found = compare_functions(*atlases)
    (match,) = found.matched
    names = [head_name(*match.first), head_name(*match.second)]
    for number, card in enumerate("ab"):
        table, _ = find(list(atlases), tmp_path, "", card=card)
        implemented = classify(atlases[number]).implements
        assert len(table) == implemented.sum() and "difference" not in table
        expected = {(f"L{layer}H{head}", atlases[number].relations[at]) for at, layer, head in np.argwhere(implemented)}
        assert set(zip(table["head"], table["relation"], strict=True)) == expected
        (answer,) = ask(list(atlases), [{"alike": names[number], "which": number}], tmp_path)["answers"]
        assert answer == [[names[1 - number], match.similarity, match.q_value, match.common, match.expected_common]]
    table, summary = find(list(atlases), tmp_path, "", card="b", relation="translation_relation")
    assert table.empty and summary == "translation relation was not measured here"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"card": "b", "head": "L6H1"}, {"card": "b", "head": "L6H1"}),
        ({"card": "b", "head": "L0H2"}, {"card": "b", "head": ""}),
        ({"head": "L0H2"}, {"card": "a", "head": "L0H2"}),
        ({"head": "L6H1"}, {"head": ""}),
        ({"compare": "difference"}, {"compare": "both"}),
        ({"tab": "functions", "relation": HOSTILE[1]}, {"tab": "functions", "relation": HOSTILE[1]}),
    ],
)
def test_the_address_of_two_models_names_heads_of_the_one_whose_card_is_open(given, expected, tmp_path):
    (answer,) = ask(list(make_others()), [{"given": given}], tmp_path)["answers"]
    assert {name: answer[name] for name in expected} == expected
