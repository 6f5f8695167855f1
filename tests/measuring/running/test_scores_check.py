"""The self-check of queries and keys: what is understood of every family, and what it catches."""

import pytest
import torch

from headatlas.architectures import open_model, query_key
from headatlas.architectures.open import open_checkpoint
from headatlas.architectures.query_key import ALIBI, HALF, INTERLEAVED, NO_POSITIONS
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.scores_check import check_scores
from models import CASES, STRUCTURE_CASES, make_model, save_model

NOT_READ = {"llama4_text", "llama4_text-experts", "llama4", "gemma4_text", "gemma4_text-shared"}
"""Norms and temperatures of their own, keys of other layers; in Gemma 4 only some layers."""

NO_ATTENTION = {"falcon-serial"}
"""Refused: it hands out no attention."""


def running_model(folder, case, **changes):
    return RunningModel(open_model(open_checkpoint(save_model(make_model(case, **changes), folder))))


def check(running):
    return check_scores(running, torch.arange(3, 24))


@pytest.mark.parametrize("case", [each for each in [*CASES, *STRUCTURE_CASES] if each not in NO_ATTENTION])
def test_scores_of_every_family_are_read_or_said_not_to_be(tmp_path, case):
    running = running_model(tmp_path, case)
    found = check(running)
    assert list(found) == running.layers
    if case in NOT_READ:
        assert not all(each.agrees for each in found.values())
    else:
        assert max(each.error for each in found.values()) < 1e-5


@pytest.mark.parametrize(
    ("case", "positions"),
    [("llama", HALF), ("gptj", INTERLEAVED), ("gpt2", NO_POSITIONS), ("bloom", ALIBI), ("deepseek_v3", INTERLEAVED)],
)
def test_positions_are_named(tmp_path, case, positions):
    assert {each.positions for each in check(running_model(tmp_path, case)).values()} == {positions}


def test_layers_without_positions_are_told_apart(tmp_path):
    found = check(running_model(tmp_path, "exaone4"))
    assert [found[layer].positions for layer in range(3)] == [HALF, HALF, NO_POSITIONS]


@pytest.mark.parametrize("case", ["llama", "gpt_neox", "gpt2", "gemma3_text", "phi3"])
def test_queries_of_other_heads_are_noticed(tmp_path, monkeypatch, case):
    read = query_key._queries_and_keys

    def swapped(model, layer, x):
        q, k, parts = read(model, layer, x)
        return (q[[1, 0, *range(2, len(q))]] if layer == 1 else q), k, parts

    running = running_model(tmp_path, case)
    monkeypatch.setattr(query_key, "_queries_and_keys", swapped)
    found = check(running)
    assert [found[layer].agrees for layer in range(3)] == [True, False, True]
    assert found[1].error > 0.01


@pytest.mark.parametrize("case", ["llama", "gptj", "qwen3", "deepseek_v3"])
def test_a_wrong_rotary_base_is_noticed(tmp_path, monkeypatch, case):
    angles = query_key._angles
    running = running_model(tmp_path, case)
    monkeypatch.setattr(query_key, "_angles", lambda *given: [(1.01 * each, factor) for each, factor in angles(*given)])
    assert not any(each.agrees for each in check(running).values())


def test_the_atlas_says_what_is_not_read(tmp_path):
    import headatlas
    from planted import WORDS, write_relation
    from planted_attention import random_text

    save_model(make_model("gemma4_text"), tmp_path / "model", WORDS)
    write_relation(tmp_path / "r.json")
    (tmp_path / "t.txt").write_text(random_text(), "utf-8")
    made = headatlas.map_heads(tmp_path / "model", tmp_path / "atlas", relations=tmp_path / "r.json", profile="maps")
    table = made.table
    atlas = headatlas.load_atlas(tmp_path / "atlas")
    atlas = headatlas.measure_attention(atlas, text=tmp_path / "t.txt", seeds=1)
    read, unread = atlas.manifest.evidence.attention.scores_check
    assert (read.layers, read.positions, unread.layers, unread.positions) == ((0, 1), HALF, (2,), None)
    assert read.error < 1e-5 and unread.error is None
    assert "Not read: layers 2, whose attention is the model's own" in headatlas.write_report(atlas)
    assert headatlas.load_atlas(tmp_path / "atlas").manifest.evidence.attention == atlas.manifest.evidence.attention
    assert atlas.table.equals(table)
