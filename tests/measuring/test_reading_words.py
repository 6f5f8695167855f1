"""The words that heads look for: a head made by hand is found, and one that looks at everything names nothing."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import headatlas
from headatlas.analysis.reading_words import CERTAIN, LEAST_SCORE, summarise_words, words_of
from headatlas.measuring import attention as measuring
from headatlas.measuring.reading_words import MOST_WORDS, OF_TEXT, choose_words
from headatlas.reports.card import agreement_of_words
from models import make_model, save_model
from planted import WORDS, write_relation
from planted_attention import PLANTED, PREFIX, SIZES, SLOW, make_codes, random_text, save_reading_model

QUERY, KEY, LOOKS = WORDS[11], WORDS[42], (0, 2)
"""The head LOOKS looks for the word KEY if the word is QUERY."""


def plant_words(model) -> None:
    codes, sizes, (layer, head) = make_codes(SIZES["rotary"].code), SIZES["rotary"], LOOKS
    attention, row = model.model.layers[layer].self_attn, head * sizes.d_head + SLOW[0]
    with torch.no_grad():
        for module, word, size in ((attention.q_proj, QUERY, 1.5), (attention.k_proj, KEY, 1.0)):
            code = torch.zeros(sizes.half)
            code[sizes.token] = size * codes[1 + WORDS.index(word)]
            module.weight[row] = torch.cat([code, -code]) / 2


def measured(place, model):
    """The atlas of a model with its attention measured; `place` is a new folder."""
    save_model(model, place / "model", [*WORDS, PREFIX])
    write_relation(place / "r.json")
    (place / "t.txt").write_text(random_text(), "utf-8")
    headatlas.map_heads(
        place / "model", place / "atlas", relations=place / "r.json", profile="maps", chance=False, self_check=False
    )
    return measure(place)


def measure(place):
    return headatlas.measure_attention(headatlas.load_atlas(place / "atlas"), text=place / "t.txt", seeds=1)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder with a planted model, and its atlas."""
    place = tmp_path_factory.mktemp("planted")
    save_reading_model("rotary", place / "first")
    model = AutoModelForCausalLM.from_pretrained(place / "first")
    plant_words(model)
    return place, measured(place, model)


def test_a_planted_head_is_found(planted):
    _, atlas = planted
    found = words_of(atlas, *LOOKS)
    (query, rows), *others = found.pairs
    assert (query.strip(), rows[0]["key"].strip()) == (QUERY, KEY)
    assert rows[0]["score"] > max(row["score"] for _, each in others for row in each[:1]) > 0
    assert found.of_pairs.certain and found.of_pairs.value > 0.9 > CERTAIN > abs(found.of_pairs.control)
    # The text has the pair, and the running model's attention is what the weights say.
    assert rows[0]["seen"] > 0 and rows[0]["real"] == pytest.approx(rows[0]["score"], rel=0.15)


def test_a_head_that_looks_for_copies_looks_for_the_word_itself(planted):
    _, atlas = planted
    found = words_of(atlas, *PLANTED["rotary"]["duplicate"])
    assert found.pairs and all(rows[0]["key"] == query for query, rows in found.pairs)
    assert found.of_pairs.certain


def test_a_sink_looks_for_its_token_whoever_asks(planted):
    _, atlas = planted
    found = words_of(atlas, *PLANTED["rotary"]["sink"])
    assert found.keys[0]["key"].strip() == PREFIX and found.keys[0]["score"] > 10
    assert not found.pairs


def test_heads_of_zeros_name_no_words_and_those_of_a_place_are_uncertain(planted):
    _, atlas = planted
    for place in ((0, 0), (1, 1), (1, 3)):
        found = words_of(atlas, *place)
        assert found.keys == [] and found.pairs == []
        assert not found.of_keys.certain and not found.of_pairs.certain
    found = words_of(atlas, *PLANTED["rotary"]["previous"])
    assert not found.of_keys.certain and not found.of_pairs.certain


def test_uniform_attention_names_no_words(tmp_path):
    model = make_model("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.zero_()
            layer.self_attn.q_proj.bias.zero_()
    atlas = measured(tmp_path, model)
    assert len(atlas.evidence("reading_words")) == 0
    found = words_of(atlas, 0, 0)
    assert found.keys == [] and found.pairs == []
    text = headatlas.write_report(atlas)
    assert "times as much attention on text" not in text
    card = headatlas.head_card(atlas, "L0H0")
    assert "Whoever asks: none." in headatlas.write_card(card)


def test_the_table_is_kept_in_the_atlas(planted):
    place, atlas = planted
    again = headatlas.load_atlas(place / "atlas")
    table = again.evidence("reading_words")
    assert table.equals(atlas.evidence("reading_words"))
    facts = again.manifest.evidence.reading_words
    assert facts == atlas.manifest.evidence.reading_words
    assert facts.words == len(WORDS) + 1 and facts.distances == (2, 8, 32) and facts.least == LEAST_SCORE
    assert (table["score"] >= LEAST_SCORE).all() and set(table["kind"]) == {"any", "pair"}
    assert (table["query"].eq("") == table["kind"].eq("any")).all()
    found = summarise_words(again)
    assert found.n_heads <= 8 and found.certain["pair"] >= 2 and found.seen["pair"] > 0
    assert found.mean["pair"] > 0.3 > abs(found.control["pair"])


def test_cards_and_report_show_the_words(planted):
    _, atlas = planted
    card = headatlas.head_card(atlas, "L0H2")
    words = card.as_dict()["reading_words"]
    first = words["pairs"]["queries"][0]
    assert first["token"].strip() == QUERY and first["looks_for"][0]["token"].strip() == KEY
    assert first["looks_for"][0]["times"] == pytest.approx(math.exp(first["looks_for"][0]["score"]))
    text = headatlas.write_card(card)
    assert f"| {QUERY} | {KEY} ×" in text and "Correlation with its attention on text: whoever asks" in text
    known = {"agreement": 0.21, "control": 0.01, "certain": False}
    assert agreement_of_words({"keys": known, "pairs": known | {"agreement": None}}) == (
        "Correlation with its attention on text: whoever asks 0.21 (other words: 0.01, so these are uncertain); of "
        "each word not known."
    )
    report = headatlas.write_report(atlas)
    assert (
        f"Words that heads look for, which their cards name: from the weights, {len(WORDS) + 1} words were scored"
        in report
    )


def test_renumbered_heads_renumber_the_words(planted, tmp_path):
    place, atlas = planted
    model, order = AutoModelForCausalLM.from_pretrained(place / "model"), [2, 0, 3, 1]
    with torch.no_grad():
        for layer in model.model.layers:
            for name, dim in (("q_proj", 0), ("k_proj", 0), ("v_proj", 0), ("o_proj", 1)):
                weight = getattr(layer.self_attn, name).weight
                weight.copy_(torch.cat([weight.chunk(4, dim)[head] for head in order], dim))
    renumbered = measured(tmp_path, model)
    for layer in range(2):
        for head in range(4):
            one, other = words_of(renumbered, layer, head), words_of(atlas, layer, order[head])
            assert [row["key"] for row in one.keys] == [row["key"] for row in other.keys]
            scores = [[row["score"] for _, rows in each.pairs for row in rows] for each in (one, other)]
            assert scores[0] == pytest.approx(scores[1], abs=1e-3)
            assert one.of_pairs.value == pytest.approx(other.of_pairs.value, abs=1e-3) or one.of_pairs.value is None


def test_an_interrupted_measurement_gives_the_same_words(planted, monkeypatch):
    place, _ = planted
    original, done = measuring._measure, []

    def stops(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return original(*args)

    whole = measure(place).evidence("reading_words")
    monkeypatch.setattr(measuring, "_measure", stops)
    with pytest.raises(KeyboardInterrupt):
        measure(place)
    parts = place / "atlas" / measuring.PARTS
    assert (parts / "words.npz").exists() and (parts / "text-00000.npz").exists()
    monkeypatch.setattr(measuring, "_measure", original)
    assert measure(place).evidence("reading_words").equals(whole)


def test_words_are_those_of_the_text_then_of_the_relations():
    ordinary = range(10, 2000)
    text = [token for token in range(OF_TEXT + 400) for _ in range(2000 - token)]
    words = choose_words(text, ordinary, [[(1500, 1501), (1502, 1503)], [(1504, 9)]], [1999, 1998])
    assert words == sorted(words) and len(words) == MOST_WORDS
    assert set(range(10, 10 + OF_TEXT)) | {1500, 1501, 1502, 1503, 1504} <= set(words)
    assert not {9, 1999} & set(words)
    assert choose_words([12, 11, 12, 5], ordinary, [], [1999]) == [11, 12, 1999]
    assert np.all(np.diff(words) > 0)
