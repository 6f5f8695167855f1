"""What `composition` finds: planted pairs of heads and no other edge, with their chance level; and what it refuses."""

import numpy as np
import pytest
import torch
from pandas.testing import assert_frame_equal
from transformers import AutoModelForCausalLM

import headatlas
from headatlas.analysis.composition import find_composition
from headatlas.errors import HeadatlasError, SettingsError
from headatlas.measuring import composition as measuring
from models import make_model, save_model
from planted import WORDS, write_relation
from planted_attention import PLANTED, PREFIX, make_reading_model, save_reading_model


def map_model(place):
    """The atlas of the model in a folder, with a relation of its words."""
    write_relation(place / "r.json")
    return headatlas.map_heads(
        place / "model", place / "atlas", relations=place / "r.json", profile="maps", chance=False, self_check=False
    )


def measure(place, **options):
    return headatlas.measure_composition(headatlas.load_atlas(place / "atlas"), **({"seeds": 1} | options))


def named(atlas):
    """The edges that are named: (kind, sender, receiver)."""
    return {(each.kind, each.sender, each.receiver) for each in find_composition(atlas).edges}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder with a planted model with rotary positions and its atlas, and that atlas with its composition."""
    place = tmp_path_factory.mktemp("composition")
    save_reading_model("rotary", place / "model")
    map_model(place)
    return place, measure(place)


def check_planted(atlas, kind):
    found = find_composition(atlas)
    previous, induction = PLANTED[kind]["previous"], PLANTED[kind]["induction"]
    assert [each[:2] for each in found.strongest()] == [induction]
    assert found.share[induction] == pytest.approx(1, abs=0.01) == found.measured[induction]
    assert named(atlas) == {("key", previous, induction)}
    assert found.sentence(*induction) == "Fed by L0H1 (previous token) through its keys."
    assert found.sentence(*previous) == "Feeds L1H2."
    assert found.sentence(1, 3) == "No edge to or from another head is beyond random pairs."
    paths = atlas.evidence("paths")
    assert len(paths) == 6 and set(paths["kind"]) == {"key"}
    edge, others = paths[paths["draw"] == 0].iloc[0], paths[paths["draw"] > 0]
    assert edge["share_change"] == pytest.approx(-1, abs=0.05) and edge["share_change_high"] < -0.9
    assert others["share_change"].to_numpy() == pytest.approx(0, abs=1e-4)


def test_a_planted_pair_is_found_and_nothing_else(planted):
    place, atlas = planted
    check_planted(atlas, "rotary")
    again = headatlas.load_atlas(place / "atlas")
    for name in ("composition", "edges", "paths"):
        assert_frame_equal(again.evidence(name), atlas.evidence(name))
        assert getattr(again.manifest.evidence, name) == getattr(atlas.manifest.evidence, name)
    assert all((place / "atlas" / f"composition.{suffix}").is_file() for suffix in ("png", "svg"))


def test_a_planted_pair_with_learned_positions(tmp_path):
    """What a token reads because of its place is not lost, though a token alone stands at one place."""
    save_reading_model("learned", tmp_path / "model")
    map_model(tmp_path)
    check_planted(measure(tmp_path), "learned")


def test_a_planted_pair_with_alibi(tmp_path):
    save_reading_model("alibi", tmp_path / "model")
    map_model(tmp_path)
    atlas = measure(tmp_path)
    assert named(atlas) == {("key", PLANTED["alibi"]["previous"], PLANTED["alibi"]["induction"])}


def test_without_the_induction_head_no_edge_is_named(tmp_path):
    """The previous-token head writes, but random heads read: a sender alone makes no edge."""
    model = make_reading_model("rotary")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        attention = model.model.layers[1].self_attn
        for name in ("q_proj", "k_proj", "v_proj"):
            weight = getattr(attention, name).weight
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5)
    save_model(model, tmp_path / "model", [*WORDS, PREFIX])
    map_model(tmp_path)
    atlas = measure(tmp_path)
    table = atlas.evidence("edges")
    assert set(zip(table["sender_layer"], table["sender_head"], strict=True)) == {PLANTED["rotary"]["previous"]}
    assert len(table) == 8 and (table["strength"] != 0).any()
    assert named(atlas) == set() and find_composition(atlas).strongest() == []
    assert (
        len(atlas.evidence("paths")) == 0
        and atlas.manifest.evidence.paths.without_random
        == (atlas.manifest.evidence.paths.copying,) * measuring.RANDOM_PATHS
    )


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2", "gpt_neox", "qwen3_next"])
def test_random_weights_have_no_senders_and_no_edges(tmp_path, case):
    save_model(make_model(case), tmp_path / "model", WORDS)
    map_model(tmp_path)
    atlas = measure(tmp_path)
    found = find_composition(atlas)
    assert found.edges == () and found.strongest() == [] and len(atlas.evidence("edges")) == 0
    heads = atlas.evidence("composition")
    assert sorted(set(heads["layer"])) == np.flatnonzero(atlas.has_heads).tolist()
    assert heads["share"].to_numpy() == pytest.approx(heads["alone"].to_numpy())
    assert len(headatlas.load_atlas(tmp_path / "atlas").evidence("edges")) == 0


def test_renumbered_heads_renumber_the_result(planted, tmp_path):
    place, atlas = planted
    model, order = AutoModelForCausalLM.from_pretrained(place / "model"), [2, 0, 3, 1]
    with torch.no_grad():
        for layer in model.model.layers:
            for name, dim in (("q_proj", 0), ("k_proj", 0), ("v_proj", 0), ("o_proj", 1)):
                weight = getattr(layer.self_attn, name).weight
                weight.copy_(torch.cat([weight.chunk(4, dim)[head] for head in order], dim))
    save_model(model, tmp_path / "model", [*WORDS, PREFIX])
    map_model(tmp_path)
    renumbered = measure(tmp_path)
    found = {
        (kind, (sender[0], order[sender[1]]), (receiver[0], order[receiver[1]]))
        for kind, sender, receiver in named(renumbered)
    }
    assert found == named(atlas) != set()
    one, other = atlas.evidence("composition"), renumbered.evidence("composition")
    other = other.assign(head=[order[head] for head in other["head"]]).sort_values(["layer", "head"], ignore_index=True)
    for name in ("previous", "share", "alone", "by_keys", "score", "measured"):
        assert one[name].to_numpy() == pytest.approx(other[name].to_numpy(), abs=1e-4)


def test_an_interrupted_measurement_goes_on(planted, monkeypatch):
    place, whole = planted
    original, calls = measuring.run_without, []

    def stops(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(measuring, "run_without", stops)
    with pytest.raises(KeyboardInterrupt):
        measure(place)
    monkeypatch.setattr(measuring, "watch_attention", None)  # is not needed again
    monkeypatch.setattr(measuring, "write_samples", None)
    atlas = measure(place)
    for name in ("composition", "edges", "paths"):
        assert_frame_equal(atlas.evidence(name), whole.evidence(name))
    assert not (place / "atlas" / measuring.PARTS).exists()


def test_progress_counts_senders_and_paths(planted):
    seen = []
    measure(planted[0], progress=lambda stage, done, total: seen.append((stage.value, done, total)))
    assert [each[1:] for each in seen if each[0] == "senders"] == [(0, 1), (1, 1)]
    assert [each[1:] for each in seen if each[0] == "paths"] == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds: expected a whole number of at least 1, found 0."),
        ({"device": "nowhere"}, "device: expected"),
    ],
)
def test_what_cannot_be_is_refused(planted, options, message):
    with pytest.raises(SettingsError, match=message):
        measure(planted[0], **options)


def test_another_model_is_refused(planted, tmp_path):
    save_model(make_model("llama"), tmp_path / "other", WORDS)
    with pytest.raises(HeadatlasError, match="expected the model of"):
        measure(planted[0], model=tmp_path / "other")
