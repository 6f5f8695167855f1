"""Heads found by what they map: the planted head first, its hits those of the map, words of several tokens named."""

import pytest

import headatlas
from headatlas.errors import SettingsError
from headatlas.measuring.find import find_heads, parse_pairs
from planted import HEAD, LAYER, PAIRS, make_planted, write_relation


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("find")
    make_planted(place / "tiny", profile="alone")
    headatlas.map_heads(place / "tiny", place / "atlas", relations=write_relation(place / "planted.json", k="standard"))
    return place


def test_the_planted_head_comes_first(place):
    found = find_heads(place / "tiny", [tuple(pair) for pair in PAIRS[:5]], k=1)
    first = found.table.iloc[0]
    assert (first["name"], first["hits"], first["median_rank"]) == (f"L{LAYER}H{HEAD}", 5, 1.0)
    assert first["ranks"] == (1, 1, 1, 1, 1)
    assert found.table["hits"].iloc[1:].max() < 5
    assert len(found.table) == 12


def test_hits_are_those_of_the_map(place):
    atlas = headatlas.load_atlas(place / "atlas")
    found = find_heads(atlas, [tuple(pair) for pair in PAIRS])
    assert found.k == 10
    for row in found.table.itertuples():
        assert row.hits == int(atlas.data["hits"].sel(relation="planted", layer=row.layer, head=row.head)), row.name


def test_words_of_several_tokens_are_named(place):
    (source, target), (other, _) = PAIRS[:2]
    found = find_heads(
        place / "atlas", [f"{source}->{target}", f"{other} → Paris", f"Rome->{target}", (source, target)]
    )
    assert found.pairs == ((source, target),)
    assert [pair.why for pair in found.left_out] == [
        "'Paris' is not one token of this model",
        "'Rome' is not one token of this model",
        "the same two tokens were named before",
    ]
    assert found.as_dict(3)["left_out"][0]["target"] == "Paris"
    assert len(found.as_dict(3)["heads"]) == 3
    with pytest.raises(SettingsError, match="with single-token words, found none \\('Rome' is not one token"):
        find_heads(place / "tiny", ["Rome->Paris"])


@pytest.mark.parametrize("text", ["", "France", "->Paris", "France->", "a->b->c", "France=>Paris"])
def test_what_is_no_pair_is_refused(text):
    with pytest.raises(SettingsError, match="pair: expected two words such as France->Paris, found"):
        parse_pairs([text])


def test_no_pair_is_refused():
    with pytest.raises(SettingsError, match="expected at least one such as France->Paris, found none"):
        parse_pairs([])
