"""SalientTables of whole models against the plain formula; restart, memory and what is left out change nothing."""

import errno
import os
import shutil
import tempfile
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch

import headatlas
from atlases import with_model
from headatlas.analysis.descriptions import describing
from headatlas.architectures import Terms, open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.checkpoints.open import demo_model
from headatlas.errors import AtlasError, SettingsError
from headatlas.measuring import own_maps, salient
from headatlas.measuring.salient import measure_salient
from headatlas.measuring.salient_tables import similar_table
from headatlas.measuring.session import Session
from models import make_model, save_model
from needs import need_demo_model
from planted import HEAD, LAYER, PAIRS, make_planted, write_relation

TOKENS, MAPPED = 7, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with more rows than tokens, so that some are padding."""
    return save_model(make_model("llama"), tmp_path_factory.mktemp("model"))


def map_tiny(folder, tmp_path, **options):
    """The atlas of a model, a copy for this test; the model is mapped once."""
    mapped = folder.with_name(f"{folder.name}-atlas{options}")
    if not mapped.exists():
        headatlas.map_heads(
            folder, mapped, relations=write_relation(tmp_path / "planted.json"), **options, profile="maps"
        )
    shutil.copytree(mapped, tmp_path / "atlas")
    return headatlas.load_atlas(tmp_path / "atlas")


def plain_rows(folder, value_bias):
    """Every row of the table as the formula gives it, in float64 and one token at a time."""
    model = open_model(open_checkpoint(folder), Terms(value_bias=value_bias))
    ids = torch.arange(1, 82)  # 0 is special, those from 82 on are padding
    embedding, W_U = model.W_E(ids), model.W_U().double()[ids]
    rows = []
    for layer in range(model.n_layers):
        x = (model.first_mlp(embedding) if layer else embedding).double()
        W_V, W_O = (factor.double() for factor in model.values_and_outputs(layer))
        for head, kv_head in enumerate(model.kv_head_of(layer)):
            bias = W_V[kv_head, model.d_model] if value_bias else 0
            outputs = (x @ W_V[kv_head, : model.d_model] + bias) @ W_O[head]
            amplification = outputs.norm(dim=-1) / x.norm(dim=-1)
            for rank, token in enumerate(amplification.argsort(descending=True)[:TOKENS]):
                order = (outputs[token] @ W_U.T).argsort(descending=True)
                for side, tokens in (("promoted", order), ("suppressed", order.flip(0))):
                    for to_rank, to in enumerate(tokens[:MAPPED]):
                        rows.append((layer, head, rank, int(ids[token]), side, to_rank, int(ids[to])))
    return rows


@pytest.mark.parametrize("value_bias", [False, True])
def test_operations_are_those_of_the_plain_formula(folder, tmp_path, value_bias):
    atlas = map_tiny(folder, tmp_path, value_bias=value_bias)
    atlas = measure_salient(atlas, tokens=TOKENS, mapped=MAPPED)
    table = headatlas.load_atlas(tmp_path / "atlas").evidence("salient")
    names = ["layer", "head", "rank", "token_id", "side", "to_rank", "to_id"]
    assert list(table[names].itertuples(index=False, name=None)) == plain_rows(folder, value_bias)
    facts = atlas.manifest.evidence.salient
    assert facts.junk_tokens == {"padding": 19, "special": 1, "unused": 0, "bytes": 0, "empty": 0}
    assert facts.looked_at == 81


def test_the_planted_head_shows_its_pairs(tmp_path):
    atlas = map_tiny(make_planted(tmp_path / "model"), tmp_path)
    atlas = measure_salient(atlas, tokens=81)
    table = atlas.evidence("salient")
    head = table[(table["layer"] == LAYER) & (table["head"] == HEAD) & (table["to_rank"] == 0)]
    found = head[head["side"] == "promoted"].set_index("token")["to_token"].to_dict()
    assert {source: found[f" {source}"] for source, _ in PAIRS} == {source: f" {target}" for source, target in PAIRS}
    row = atlas.evidence("descriptions").set_index(["layer", "head"]).loc[(LAYER, HEAD)]
    assert (row["rule"], row["confidence"]) == ("relation planted", 1.0)
    assert "aps planted (1.00)" in row["description"]
    others = atlas.evidence("descriptions").query("layer != @LAYER or head != @HEAD")
    assert not others["rule"].str.startswith("relation").any()


def test_junk_comes_when_it_is_asked_for(folder, tmp_path):
    atlas = map_tiny(folder, tmp_path)
    atlas = measure_salient(atlas, junk=True, tokens=101, mapped=1)
    assert set(atlas.evidence("salient")["token_id"]) == set(range(101))
    atlas = measure_salient(atlas, junk=True, tokens=1, mapped=101)
    assert set(atlas.evidence("salient")["to_id"]) == set(range(101))


def test_input_vectors_in_a_file_and_a_restart_change_nothing(folder, tmp_path, monkeypatch):
    atlas = map_tiny(folder, tmp_path)
    atlas = measure_salient(atlas)
    before = {name: atlas.evidence(name) for name in ("salient", "similar")}
    monkeypatch.setattr(salient, "IN_MEMORY", 0)
    monkeypatch.setattr(salient, "BLOCK", 17)
    whole, seen = salient._Work.layer, []

    def interrupted(self, layer, x=None):
        seen.append(layer)
        if layer == 2 and seen.count(2) == 1:
            raise KeyboardInterrupt
        return whole(self, layer, x)

    monkeypatch.setattr(salient._Work, "layer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_salient(atlas)
    atlas = measure_salient(atlas)
    assert seen == [0, 1, 2, 2]
    for name, table in before.items():
        assert table.equals(atlas.evidence(name))
    assert not (tmp_path / "atlas" / salient.SALIENT).exists()


@pytest.mark.parametrize("changed", [{"promoted": np.zeros((1, 6, 7, 3), int)}, {"token": np.full((6, 7), 101)},
                                     {"outputs": None}, {"amplification": np.zeros((6, 7), int)},
                                     {"further": np.zeros(2)}])  # fmt: skip
def test_kept_layers_that_do_not_fit_are_measured_again(folder, tmp_path, monkeypatch, changed):
    atlas = map_tiny(folder, tmp_path)
    whole = measure_salient(atlas, folder, tokens=TOKENS, mapped=MAPPED).evidence("salient")
    made = salient._Work.layer

    def layer(self, layer, x=None):
        arrays = made(self, layer, x)
        if layer == 1:
            arrays = {name: each for name, each in (arrays | changed).items() if each is not None}
        return arrays

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(salient._Work, "layer", layer)
        patch.setattr(salient, "salient_table", stop)
        measure_salient(atlas, folder, tokens=TOKENS, mapped=MAPPED)
    assert (tmp_path / "atlas" / ".salient" / "layer-0001.npz").exists()
    again = []
    monkeypatch.setattr(salient._Work, "layer", lambda self, at, x=None: again.append(at) or made(self, at, x))
    pd.testing.assert_frame_equal(
        measure_salient(atlas, folder, tokens=TOKENS, mapped=MAPPED).evidence("salient"), whole
    )
    assert again == [1]


def test_a_model_that_moved_is_asked_for_and_the_demo_model_is_found(folder, tmp_path, monkeypatch):
    atlas = map_tiny(folder, tmp_path)
    gone = tmp_path / "moved"
    folder.rename(gone)
    try:
        with pytest.raises(AtlasError, match=f"atlas: its model was at {folder}, where nothing is now. Say where"):
            measure_salient(atlas)
        atlas = measure_salient(atlas, gone)
    finally:
        gone.rename(folder)
    monkeypatch.setattr(own_maps, "_of_this_process", {})
    monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AtlasError, match="opens no model that only an atlas names"):
        measure_salient(atlas)
    need_demo_model()
    atlas = with_model(atlas, source=f"/gone/{demo_model().name}")
    with pytest.raises(AtlasError, match="found another"):
        measure_salient(atlas)


def test_another_model_is_refused(folder, tmp_path):
    atlas = map_tiny(folder, tmp_path)
    other = save_model(make_model("llama-tied"), tmp_path / "other")
    with pytest.raises(AtlasError, match=r"expected the model of .*atlas \(fingerprint .*\), found another"):
        measure_salient(atlas, other)
    assert Session.of_atlas(atlas).fingerprint == atlas.manifest.model.fingerprint


def test_at_least_one_token_has_to_be_asked_for(folder, tmp_path):
    with pytest.raises(SettingsError, match="tokens: expected a whole number of at least 1, found 0"):
        measure_salient(map_tiny(folder, tmp_path), tokens=0)


def test_heads_that_are_the_same_or_opposite_are_told_so():
    generator = np.random.default_rng(1)
    first, other = generator.normal(size=(2, 50))
    outputs = [np.stack([first, -first]), None, np.stack([3 * first, other, np.zeros(50)])]
    table = similar_table(outputs, 2)
    found = {(row.layer, row.head, row.rank): row for row in table.itertuples()}
    assert len(found) == 8  # the head without output has no rows and is nobody's like
    assert (found[0, 0, 0].other_layer, found[0, 0, 0].other_head, found[0, 0, 0].similarity) == (2, 0, 1.0)
    assert found[2, 0, 0].other_layer == 0 and found[2, 0, 0].other_head == 0
    cosine = first @ other / np.linalg.norm(first) / np.linalg.norm(other)
    assert found[2, 1, 0].similarity == pytest.approx(abs(cosine), abs=1e-5)


def test_a_full_disk_is_said_in_a_sentence(folder, tmp_path, monkeypatch):
    atlas = map_tiny(folder, tmp_path)
    no_space = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(salient, "IN_MEMORY", 0)
    if hasattr(os, "posix_fallocate"):  # a mapped file without room would end the process
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", Mock(side_effect=no_space))
            with pytest.raises(AtlasError, match=r"0\.0 GiB of input vectors cannot be written \(No space left"):
                measure_salient(atlas)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryDirectory", Mock(side_effect=no_space))
        with pytest.raises(AtlasError, match=r"\.salient: cannot be written \(No space left on device\)\. .* again\.$"):
            measure_salient(atlas)
    assert not (tmp_path / "atlas" / ".salient").exists()
    assert measure_salient(atlas).evidence("salient") is not None


def test_projected_outputs_are_alike_within_the_stated_error(folder, tmp_path, monkeypatch):
    atlas = map_tiny(folder, tmp_path)
    atlas = measure_salient(atlas, similar=17)
    exact = atlas.evidence("similar").set_index(["layer", "head", "other_layer", "other_head"])["similarity"]
    monkeypatch.setattr(salient, "OUTPUTS_IN_MEMORY", 4 * 3 * 6 * 81 * 20)
    atlas = measure_salient(atlas, similar=17)
    facts = atlas.manifest.evidence.similar
    assert facts.projected_to == 20
    found = atlas.evidence("similar").set_index(["layer", "head", "other_layer", "other_head"])["similarity"]
    errors = (found - exact).to_numpy()
    assert 0 < np.sqrt((errors**2).mean()) < 2 * facts.standard_error


def test_topics_are_compared_with_tokens_that_could_be_salient(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(salient, "MOST_ALONE", 20)
    seen, make = [], describing.neighbourhood_of
    monkeypatch.setattr(
        describing, "neighbourhood_of", lambda model, table, ids: seen.append(ids) or make(model, table, ids)
    )
    relation = write_relation(tmp_path / "planted.json")
    atlas = headatlas.map_heads(folder, relations=relation, profile="alone", salient=True)
    (ids,) = seen
    assert len(ids) == 20 and set(atlas.evidence("salient")["token_id"]) <= set(ids)
