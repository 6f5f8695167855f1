"""An audit finds one word that is mapped elsewhere, by one head or by all, and nothing in random noise of its size."""

import json
import shutil
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from headatlas import audit_models, load_atlas
from headatlas.analysis.audit import rank_words
from headatlas.architectures import head_inputs
from headatlas.cli import app
from headatlas.errors import AtlasError, HeadatlasError, SettingsError
from headatlas.measuring.prefix import choose_prefix
from headatlas.measuring.session import Session
from models import make_model, save_model
from planted import HEAD, LAYER, WORDS, make_planted, write_relation

WORD, TARGET, OTHER = 5, 46, 69
"""A word of the planted relation, its target, and what it is mapped to in the edited model."""


def weights(folder):
    return load_file(folder / "model.safetensors")


def variant(place, name, tensors):
    """A copy of the planted model with other weights."""
    shutil.copytree(place / "base", place / name)
    save_file(tensors, place / name / "model.safetensors", metadata={"format": "pt"})
    return place / name


def redirected(folder):
    """Weights of which L1H2 maps WORD to OTHER instead of TARGET: a change of rank one of its output projection."""
    session, tensors = Session(folder), weights(folder)
    ids = torch.arange(1, len(WORDS) + 1)
    prefix = choose_prefix(session, {1})
    assert prefix is not None
    ((_, x),) = head_inputs(session.heads, ids, [LAYER], prefix.token)
    W_V = tensors[f"model.layers.{LAYER}.self_attn.v_proj.weight"].view(2, 40, 64)[1]
    values, W_U = (x[:, :64] @ W_V.T).double(), tensors["lm_head.weight"].double()
    key = torch.linalg.solve(values.T @ values + 1e-3 * torch.eye(40, dtype=torch.float64), values[WORD])
    change = torch.outer(W_U[1 + OTHER] - W_U[1 + TARGET], key / (key @ values[WORD])).float()
    tensors[f"model.layers.{LAYER}.self_attn.o_proj.weight"].view(64, 4, 40)[:, HEAD] += change
    return tensors


def renamed(folder):
    """Weights with the embedding of OTHER in the place of WORD's."""
    tensors = weights(folder)
    rows = tensors["model.embed_tokens.weight"]
    rows[1 + WORD] = rows[1 + OTHER]
    return tensors


def noisy(folder, size=0.02):
    """Weights with random numbers added, of a share of each tensor's norm."""
    tensors, generator = weights(folder), torch.Generator().manual_seed(3)
    for name, each in tensors.items():
        noise = torch.randn(each.shape, generator=generator)
        tensors[name] = each + size * each.norm() * noise / noise.norm()
    return tensors


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("audit")
    base = make_planted(place / "base", profile="alone")
    write_relation(place / "relation.json")
    variant(place, "edited", redirected(base))
    variant(place, "renamed", renamed(base))
    variant(place, "noisy", noisy(base))
    return place


def audit(place, tuned, output=None, **options):
    return audit_models(place / "base", place / tuned, output, relations=place / "relation.json", **options)


def test_the_redirected_word_is_the_first(place):
    found = audit(place, "edited", seeds=2)
    first, second, *_ = found.words
    assert (first.word, first.head, first.raised_by) == (f" {WORDS[WORD]}", f"L{LAYER}H{HEAD}", f"L{LAYER}H{HEAD}")
    assert first.raised[0] == f" {WORDS[OTHER]}"
    # With 12 heads and 81 words, a change in one head is not beyond what other directions might do.
    assert 1 > first.movement > 1.5 * second.movement
    assert found.changed == 1 and 0 < found.relative_change < 0.1
    assert found.words_compared == len(WORDS)


def test_a_word_with_another_meaning_is_the_only_one_beyond_the_noise(place):
    found = audit(place, "renamed", seeds=2)
    first, second, *_ = found.words
    assert first.word == f" {WORDS[WORD]}" and found.words_beyond == 1
    assert first.movement > 1 > second.movement


def test_nothing_is_found_in_noise_of_the_same_size(place):
    found = audit(place, "noisy", seeds=2)
    assert found.words_beyond == 0 and all(each.movement < 1 for each in found.words)
    assert not any(each.gained_heads or each.lost_heads for each in (*found.heads.categories, *found.heads.relations))
    assert found.changed == found.parameters - 1  # a bias of zeros stays


def test_noise_passes_its_limit_in_about_one_of_a_hundred_audits():
    """Shifts of no model differ: log-normal movements of independent words."""
    generator = np.random.default_rng(0)
    found = [rank_words([generator.lognormal(size=(4, 2, 400))]) for _ in range(400)]
    assert sum(each.n_beyond > 0 for each in found) < 20
    most = np.array([each.movement[0] for each in found])
    assert 0.4 < np.median(most) < 0.95  # not silent because nothing could be said


def test_a_word_that_moves_further_than_the_noise_is_found():
    moved = np.random.default_rng(1).lognormal(size=(4, 2, 400))
    moved[0, 1, 7] *= 1e4
    found = rank_words([moved])
    assert (found.word[0], found.head[0], found.n_beyond) == (7, 1, 1)


def test_a_lost_function_is_lost_beyond_the_noise(place):
    tensors = weights(place / "base")
    tensors[f"model.layers.{LAYER}.self_attn.o_proj.weight"].view(64, 4, 40)[:, HEAD] = 0
    variant(place, "cut", tensors)
    found = audit(place, "cut", seeds=2)
    any_function, planted = found.heads.categories
    name = f"L{LAYER}H{HEAD}"
    # The noise is as large as the head itself: it loses the head too.
    assert any_function.lost == planted.lost == 1 and planted.base == 1 and planted.tuned == 0
    (relation,) = found.heads.relations
    assert (relation.head, relation.before, relation.after) == (name, 1, 0)


def test_a_folder_keeps_what_is_finished(place, tmp_path, monkeypatch):
    output = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("headatlas.measuring.audit.rank_words", lambda layers, _: interrupt(*layers))
        audit(place, "renamed", output, seeds=2)
    assert {path.name for path in output.iterdir()} == {".audit", "base", "tuned", "noise-1", "noise-2"}
    with monkeypatch.context() as patch:
        for place_of_work in ("map._measure", "audit._Moving._layers"):
            patch.setattr(f"headatlas.measuring.{place_of_work}", interrupt)
        found = audit(place, "renamed", output, seeds=2)
    assert json.loads((output / "audit.json").read_text("utf-8"))["words"][0]["word"] == found.words[0].word
    table: Any = pd.read_csv(output / "words.csv")
    assert (table.groupby(["layer", "head"]).size() == 5).all() and table["rank"].max() == 5
    beyond = table[table["beyond_noise"]][["layer", "head", "token"]].to_numpy().tolist()
    assert beyond and {word for *_, word in beyond} == {f" {WORDS[WORD]}"}
    assert (output / "audit.png").read_bytes().startswith(b"\x89PNG")
    assert load_atlas(output / "noise-1").name == "base, noise 1"
    with pytest.raises(AtlasError, match="holds an atlas with another model"):
        audit(place, "noisy", output, seeds=2)


def interrupt(*_):
    raise KeyboardInterrupt


def test_an_adapter_is_audited_on_its_base(place):
    adapter = place / "adapter"
    adapter.mkdir()
    name = f"base_model.model.model.layers.{LAYER}.mlp.up_proj"
    shape = weights(place / "base")[f"model.layers.{LAYER}.mlp.up_proj.weight"].shape
    generator = torch.Generator().manual_seed(1)
    factors = {"lora_A": torch.randn(2, shape[1], generator=generator), "lora_B": torch.ones(shape[0], 2)}
    save_file(
        {f"{name}.{each}.weight": value for each, value in factors.items()}, adapter / "adapter_model.safetensors"
    )
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 1, "target_modules": ["up_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    options = ["--relations", str(place / "relation.json"), "--seeds", "2", "--json"]
    done = CliRunner().invoke(app, ["audit", str(place / "base"), "--adapter", str(adapter), *options])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["changed"] == 1
    # Only layers behind the changed MLP can move.
    assert [row[0] is None for row in found["factors"]] == [True, True, False]


def test_the_screen_fits_80_columns(place, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command = ["audit", str(place / "base"), str(place / "renamed"), "--seeds", "2"]
    done = CliRunner().invoke(app, [*command, "--relations", str(place / "relation.json")])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert f"{WORDS[WORD]}" in done.stdout and "1 of 81 words moved beyond the noise" in done.stdout


def test_other_models_are_refused(place, tmp_path):
    def refused(message, *models, error=HeadatlasError, **options):
        with pytest.raises(error, match=message):
            audit_models(*models, **options)

    base = place / "base"
    refused("expected a second model, or an adapter of the first, found neither", base, error=SettingsError)
    refused("expected a second model, or an adapter of the first, found both", base, base, adapter="a")
    refused("expected other weights than", base, base, error=SettingsError)
    refused("seeds: expected a whole number of at least 2, found 1", base, base, seeds=1)
    refused("words: expected a whole number of at least 1, found 0", base, base, words=0)
    small = save_model(make_model("llama"), tmp_path / "small")
    refused("expected a model like .* with n_heads=4, found n_heads=6. Compare maps of them by function", base, small)
    other = shutil.copytree(base, tmp_path / "other")
    save_model(make_model("llama", hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=40), other,
               WORDS[::-1])  # fmt: skip
    refused("with the same tokenizer, found ' lz' where token 1 is ' ba'", base, other)
    refused("expected an adapter's folder with adapter_config.json, found none", base, adapter=tmp_path)
    (tmp_path / "file").touch()
    refused("expected a folder to write the audit into, found a file", base, place / "edited", tmp_path / "file")
    refused("expected an empty folder or an audit, found", base, place / "edited", tmp_path)
