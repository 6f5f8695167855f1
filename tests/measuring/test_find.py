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
        "this model has no token for the beginning of 'Paris'",
        "'Rome' is not one token of this model",
        "the same two tokens were named before",
    ]
    assert found.as_dict(3)["left_out"][0]["target"] == "Paris"
    assert len(found.as_dict(3)["heads"]) == 3
    with pytest.raises(SettingsError, match="with single-token words, found none \\('Rome' is not one token"):
        find_heads(place / "tiny", ["Rome->Paris"])


def test_of_a_target_of_several_tokens_the_first_is_ranked(place, monkeypatch):
    from headatlas.measuring import find
    from headatlas.relations import encoding

    (source, target), (other, second) = PAIRS[:2]
    tokenizer = find.Session(place / "tiny").tokenizer
    ids = encoding.single_token_ids({second}, tokenizer)
    # This tokenizer knows whole words only.
    monkeypatch.setattr(encoding, "first_token_ids", lambda words, _: dict.fromkeys(words, ids[second]))
    found = find_heads(place / "tiny", [(source, target), (other, "second-hand")], k=1)
    assert found.pairs == ((source, target), (other, "second-hand")) and found.left_out == ()
    assert found.first_tokens == (("second-hand", second),) and found.as_dict()["first_tokens"] == [
        ["second-hand", second]
    ]
    assert found.table.iloc[0]["ranks"] == (1, 1)
    again = find_heads(place / "tiny", [(other, second), (other, "second-hand")], k=1)
    assert [pair.why for pair in again.left_out] == ["the same two tokens were named before"]


def test_bad_words_and_heads_are_refused_before_weights_are_read(place, monkeypatch):
    from headatlas.measuring.head import atlas_for_head
    from headatlas.measuring.session import Session

    def read(self):
        raise AssertionError("weights were read")

    monkeypatch.setattr(Session, "fetched_heads", property(read))
    with pytest.raises(SettingsError, match="found none"):
        find_heads(place / "atlas", ["Rome->Paris"])
    with pytest.raises(SettingsError, match="head: expected L0H0 to L2H3 in tiny, found 'L9H0'"):
        atlas_for_head(place / "tiny", "L9H0")


@pytest.mark.parametrize("text", ["", "France", "->Paris", "France->", "a->b->c", "France=>Paris"])
def test_what_is_no_pair_is_refused(text):
    with pytest.raises(SettingsError, match="pair: expected two words such as France->Paris, found"):
        parse_pairs([text])


def test_no_pair_is_refused():
    with pytest.raises(SettingsError, match="expected at least one such as France->Paris, found none"):
        parse_pairs([])
