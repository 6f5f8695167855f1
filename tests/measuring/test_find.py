"""Heads found by what they map: the planted head first, its hits those of the map, words of several tokens named."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import headatlas
from headatlas.errors import SettingsError
from headatlas.measuring.find import find_heads, parse_pairs
from planted import HEAD, LAYER, PAIRS, WORDS, make_planted, write_relation
from running_inputs import read_by_transformers


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
        "this model has no tokens for 'Rome'",
        "the same tokens were named before",
    ]
    assert found.as_dict(3)["left_out"][0]["target"] == "Paris"
    assert len(found.as_dict(3)["heads"]) == 3
    with pytest.raises(SettingsError, match="that can be ranked, found none \\(this model has no tokens for 'Rome'"):
        find_heads(place / "tiny", ["Rome->Paris"])


def test_of_a_target_of_several_tokens_the_first_is_ranked(place):
    (source, target), (other, second) = PAIRS[:2]
    long = f"{second} {source}"
    found = find_heads(place / "tiny", [(source, target), (other, long)], k=1)
    assert found.pairs == ((source, target), (other, long)) and found.left_out == ()
    assert found.first_tokens == ((long, second),) and found.as_dict()["first_tokens"] == [[long, second]]
    assert found.table.iloc[0]["ranks"] == (1, 1)
    again = find_heads(place / "tiny", [(other, second), (other, long)], k=1)
    assert [pair.why for pair in again.left_out] == ["the same tokens were named before"]


@pytest.mark.parametrize("single", [True, False])
def test_a_source_of_several_tokens_is_read_at_its_last_in_context(place, single):
    """The ranks are those of what transformers' own modules hand to the heads behind the prefix and earlier tokens."""
    from headatlas.measuring.prefix import default_prefix
    from headatlas.measuring.session import Session

    words = [PAIRS[3][0]] if single else []
    words += [f"{PAIRS[5][0]} {PAIRS[0][0]}", f"{PAIRS[7][0]} {PAIRS[11][0]} {PAIRS[1][0]}"]
    targets = [PAIRS[number][1] for number in (0, 3, 1)][: len(words)]
    found = find_heads(place / "tiny", list(zip(words, targets, strict=True)), k=1)
    assert found.last_tokens == ((words[-2], PAIRS[0][0]), (words[-1], PAIRS[1][0]))
    assert found.as_dict()["last_tokens"][1] == [words[-1], PAIRS[1][0]]
    assert len(found.pairs) == len(words) and found.left_out == ()

    session = Session(place / "tiny")
    ours, id_of = session.fetched_heads, lambda word: 1 + WORDS.index(word)
    prefix = default_prefix(session, [1])
    reference = AutoModelForCausalLM.from_pretrained(place / "tiny")
    read = [
        read_by_transformers(reference, ours, [[prefix.token, *(id_of(part) for part in word.split())]])
        for word in words
    ]
    W_U, at = ours.W_U().double(), [id_of(word) for word in targets]
    for row in found.table.itertuples():
        W_V, W_O = (each.double() for each in ours.values_and_outputs(row.layer))
        for rank, of_word, target in zip(row.ranks, read, at, strict=True):
            x = torch.nn.functional.pad(of_word[row.layer], (0, 1), value=1.0)
            logits = (x @ W_V[ours.kv_head_of(row.layer)[row.head]] @ W_O[row.head] @ W_U.T)[0]
            assert rank == int((logits >= logits[target]).sum()), row.name
    # Behind other tokens, the word is not what it is alone.
    alone = find_heads(place / "tiny", [(words[-1].split()[-1], targets[-1])], k=1).table.set_index("name")["ranks"]
    assert any(alone[row.name] != row.ranks[-1:] for row in found.table.itertuples())


def test_with_the_profile_maps_a_source_has_no_context(place, tmp_path):
    atlas = headatlas.map_heads(place / "tiny", profile="maps", relations=write_relation(tmp_path / "planted.json"))
    (source, target), (other, _) = PAIRS[:2]
    found = find_heads(atlas, [(source, target), (f"{other} {source}", target)])
    assert [each.why for each in found.left_out] == [
        f"'{other} {source}' is several tokens, of which the last needs the others; with these settings "
        f"(contextualize: first-mlp), heads read single tokens, without context"
    ]


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
