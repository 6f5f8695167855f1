"""What `prompt` finds: planted heads first, with what they read and write, beside controls; and what it refuses."""

import json

import numpy as np
import pytest

import headatlas
from headatlas.analysis.attribution import says, sentences_of
from headatlas.errors import AtlasError, HeadatlasError, SettingsError
from headatlas.measuring.attribute import attribute_logit, attribution_file, save_attribution
from models import make_model, save_model
from planted import HEAD, LAYER, PAIRS, WORDS, make_planted, plant_values, write_relation
from planted_attention import PLANTED, PREFIX, random_text, save_reading_model, save_uniform_model

REPEATED = " ".join([PREFIX, *WORDS[3:9], WORDS[3]])
"""The planted induction head looks at the second word and writes it."""


def map_model(place, **options):
    write_relation(place / "r.json")
    return headatlas.map_heads(
        place / "model", place / "atlas", relations=place / "r.json", profile="maps", chance=False, self_check=False,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    """The atlas of a model with planted reading heads, which were measured."""
    place = tmp_path_factory.mktemp("reading")
    save_reading_model("rotary", place / "model")
    (place / "t.txt").write_text(random_text(), "utf-8")
    atlas = map_model(place)
    return headatlas.measure_attention(atlas, seeds=1, text=place / "t.txt")


@pytest.fixture(scope="module")
def found(reading):
    return attribute_logit(reading, f" {REPEATED}", ablate=2)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The atlas of a model with a head that maps the words of a relation wherever it looks, and the relation."""
    place = tmp_path_factory.mktemp("planted")
    make_planted(place / "model")
    plant_values(place / "model", by_weights=True)
    return map_model(place), place / "r.json"


def test_the_planted_induction_head_comes_first(found):
    head = found.strongest(1)[0]
    assert (head.layer, head.head) == PLANTED["rotary"]["induction"]
    assert found.token.text == f" {WORDS[4]}" and found.token.rank == 1 and not found.of_several
    ((at, share),) = head.attended(1)
    assert found.tokens[at] == found.token.text and at == 2 and share > 0.9
    assert head.writes[0] == found.token.text and head.rank == 1
    assert head.behaviours == ("induction",) and head.agrees is True
    (check,) = head.checks
    assert (check.kind, check.name, check.agrees) == ("reading", "induction", True)
    assert check.share == pytest.approx(share, abs=1e-3)


def test_it_is_outside_the_range_of_its_controls(found):
    head = found.strongest(1)[0]
    assert head.controls is not None
    low, mean, high = head.controls
    assert low <= mean <= high < head.contribution and head.is_beyond
    assert found.n_controls == 20 and head in found.beyond
    assert found.expected_beyond == pytest.approx(2 * 8 / 21)


def test_parts_add_up_to_the_logit(found):
    assert sum(found.of_parts.values()) == pytest.approx(found.value, rel=1e-5)
    assert len(found.heads) == 8 and len(found.mlps) == len(found.biases) == 2


def test_without_the_planted_head_the_answer_is_lost(found):
    first, second = found.strongest(2)
    assert first.removal is not None and first.removal > 1
    assert [each.removal for each in found.strongest()[2:]] == [None] * 6
    assert len(found.random_removals) == 2
    assert not {name for name, _ in found.random_removals} & {first.name, second.name}
    assert all(fall < first.removal for _, fall in found.random_removals)


def test_sentences_name_the_head_and_its_card(found):
    text = " ".join(sentences_of(found))
    assert f"L1H2 stands out most, {found.strongest(1)[0].contribution:+.2f} (controls" in text
    assert f"it looks at '{WORDS[4]}'" in text and "That is what its card says (induction)." in text


def test_what_a_prompt_does_not_show_is_neither_so_nor_not(reading):
    """Without an earlier copy there is nothing for induction."""
    found = attribute_logit(reading, " " + " ".join([PREFIX, *WORDS[3:9]]))
    by_name = {(each.layer, each.head): each for each in found.heads}
    assert by_name[PLANTED["rotary"]["induction"]].agrees is None
    assert by_name[PLANTED["rotary"]["previous"]].agrees is True
    assert by_name[PLANTED["rotary"]["sink"]].agrees is True


def test_the_planted_relation_head_writes_its_target(planted):
    atlas, relation = planted
    source, target = PAIRS[5]
    found = attribute_logit(atlas, f" {WORDS[80]} {source} {source}", token=target, add_relations=relation, controls=0)
    (head,) = (each for each in found.heads if (each.layer, each.head) == (LAYER, HEAD))
    assert head.contribution > 0 and head.rank == 1 and head.writes[0] == f" {target}"
    assert head.controls is None and head.is_beyond is None
    (check,) = head.checks
    assert (check.name, check.agrees, check.answers) == ("r", True, True)
    assert (check.source, check.target, check.rank, check.k) == (source, target, 1, 1)
    # The share is that of both copies.
    assert check.share == pytest.approx(sum(head.attention[1:]))
    (work,) = found.relations
    assert work.heads == work.hits == (f"L{LAYER}H{HEAD}",) and work.source == source and work.targets == (target,)
    assert work.others == sum(sum(each.attention[1:]) >= 0.1 for each in found.heads) - 1 and work.other_hits == 0
    assert says(head) == f"Its card has the pair {source} -> {target} (r), here at 1, among the first 1"


def test_a_head_that_suppresses_does_what_its_card_says(tmp_path):
    make_planted(tmp_path / "model", sign=-1)
    plant_values(tmp_path / "model", by_weights=True)
    source, target = PAIRS[5]
    atlas = map_model(tmp_path)
    found = attribute_logit(
        atlas, f" {WORDS[80]} {source} {source}", token=target, add_relations=tmp_path / "r.json", controls=0
    )
    (head,) = (each for each in found.heads if (each.layer, each.head) == (LAYER, HEAD))
    (check,) = head.checks
    assert head.relations == () and (check.kind, check.title, check.agrees) == ("suppression", "suppresses r", True)
    assert (check.source, check.target, check.rank, check.k) == (source, target, 1, 1) and head.contribution < 0
    assert says(head) == "That is what its card says (suppresses r)"
    assert {each.checks for each in found.heads if each is not head} == {()}


def test_a_head_that_looks_elsewhere_is_not_said_to_disagree(planted):
    atlas, relation = planted
    other = next(word for word in WORDS if word not in {source for source, _ in PAIRS})
    found = attribute_logit(atlas, f" {other} {other}", add_relations=relation, controls=3)
    (head,) = (each for each in found.heads if (each.layer, each.head) == (LAYER, HEAD))
    assert head.relations == ("r",) and head.agrees is None and found.relations == ()


def test_relations_without_pairs_are_named_and_not_compared(planted):
    found = attribute_logit(planted[0], f" {PAIRS[0][0]}", controls=0)
    assert found.left_out == ("r",) and found.relations == ()


def test_a_prompt_of_one_token_has_no_controls(planted):
    found = attribute_logit(planted[0], f" {PAIRS[0][0]}")
    assert found.n_controls == 0 and {each.controls for each in found.heads} == {None}
    assert all(each.attention == (1.0,) for each in found.heads)


def test_uniform_heads_are_not_named(tmp_path):
    save_uniform_model(tmp_path / "model")
    (tmp_path / "t.txt").write_text(random_text(), "utf-8")
    atlas = headatlas.measure_attention(map_model(tmp_path), seeds=1, text=tmp_path / "t.txt")
    found = attribute_logit(atlas, f" {REPEATED}", controls=3)
    assert {each.behaviours for each in found.heads} == {()} and {each.checks for each in found.heads} == {()}
    n = len(found.tokens)
    assert np.array([each.attention for each in found.heads]) == pytest.approx(1 / n, abs=1e-5)
    assert "Its card names nothing that it does." in sentences_of(found)


def test_another_baseline_gives_the_difference_of_two_logits(reading):
    prompt = f" {REPEATED}"
    first, second = (attribute_logit(reading, prompt, token=WORDS[at], controls=0) for at in (4, 5))
    both = attribute_logit(reading, prompt, token=WORDS[4], against=WORDS[5], controls=0)
    assert both.value == pytest.approx(first.value - second.value, rel=1e-4)
    assert both.against == f" {WORDS[5]}"
    for one, two, difference in zip(first.heads, second.heads, both.heads, strict=True):
        assert difference.contribution == pytest.approx(one.contribution - two.contribution, abs=1e-4)


def test_the_same_again(reading, found):
    again = attribute_logit(reading, f" {REPEATED}", ablate=2)
    assert again == found
    assert attribute_logit(reading, f" {REPEATED}", seed=1).strongest(1)[0].controls != found.strongest(1)[0].controls


def test_json_and_table_have_all_heads(found):
    content = json.loads(json.dumps(found.as_dict()))
    assert [each["name"] for each in content["heads"]] == found.table["name"].tolist()
    assert content["heads"][0]["attended"][0] == {
        "position": 2, "token": found.tokens[2], "share": found.strongest(1)[0].attention[2],
    }  # fmt: skip
    assert content["value"] == pytest.approx(sum(content["of_parts"].values()), rel=1e-5)
    assert found.table["agrees"][0] and found.table["looks_at"][0] == found.tokens[2]


def test_files_have_safe_names(found, tmp_path):
    from dataclasses import replace

    hostile = replace(found, prompt="../../etc/\x1b[31m passwd\n" + "x" * 300)
    files = save_attribution(hostile, tmp_path / "new")
    assert {path.suffix for path in files} == {".png", ".svg", ".json"}
    assert sorted((tmp_path / "new").iterdir()) == sorted(files)
    assert all(len(path.name) < 70 and path.name.startswith("prompt-etc-31m-passwd-xxx") for path in files)
    assert json.loads(files[-1].read_text("utf-8"))["prompt"] == hostile.prompt
    assert attribution_file(found) != attribution_file(replace(found, against="x"))
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(AtlasError, match="cannot be written"):
        save_attribution(found, tmp_path / "file")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": " "}, "prompt: expected a text in UTF-8, found ' '."),
        ({"prompt": "caf\udce9"}, "prompt: expected a text in UTF-8, found 'caf\\udce9'."),
        ({"prompt": f" {WORDS[0]}" * 129}, "prompt: expected a text of 1 to 128 tokens, found 129. Shorten it."),
        ({"token": "unheard"}, "token: expected a word that this model has a token for, found 'unheard'"),
        ({"against": ""}, "against: expected a text in UTF-8, found ''."),
        ({"controls": -1}, "controls: expected a whole number of at least 0, found -1"),
        ({"ablate": -1}, "ablate: expected a whole number of at least 0, found -1"),
        ({"rule": "strict"}, "rule"),
    ],
)
def test_what_is_refused(reading, options, message):
    with pytest.raises(SettingsError) as error:
        attribute_logit(reading, **{"prompt": f" {REPEATED}"} | options)
    assert message in str(error.value)


def test_another_model_is_refused(reading, tmp_path):
    save_model(make_model("llama"), tmp_path / "other", WORDS)
    with pytest.raises(HeadatlasError, match="expected the model of"):
        attribute_logit(reading, REPEATED, model=tmp_path / "other")


@pytest.mark.parametrize("case", ["gpt2", "gemma2", "gpt_oss", "qwen3_next", "mpt"])
def test_other_families(tmp_path, case):
    save_model(make_model(case), tmp_path / "model", WORDS)
    atlas = map_model(tmp_path)
    found = attribute_logit(atlas, f" {' '.join(WORDS[3:9])}", controls=3, ablate=1)
    assert sum(found.of_parts.values()) == pytest.approx(found.value, rel=1e-3, abs=1e-3)
    assert {each.layer for each in found.heads} == set(np.flatnonzero(atlas.has_heads).tolist())
    assert all(sum(each.attention) <= 1 + 1e-5 for each in found.heads)
    assert {each.behaviours for each in found.heads} == {None}
