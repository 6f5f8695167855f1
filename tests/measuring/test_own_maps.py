"""Someone else's atlas opens no address, name or path; the user's own map does."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

import headatlas
from headatlas.checkpoints.remote.cache import cache_folder
from headatlas.cli import app
from headatlas.errors import AtlasError
from headatlas.measuring import own_maps
from headatlas.measuring.session import Session
from planted import make_planted, write_relation
from served import serve

PAIR = "big->small"
COMMANDS = (
    ["find", "atlas", PAIR],
    ["salient", "atlas"],
    ["attention", "atlas"],
    ["validate", "atlas"],
    ["ablate", "atlas", "--relation", "country_to_capital"],
    ["composition", "atlas"],
    ["remove", "atlas", "--relation", "country_to_capital", "-o", "adapter"],
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("own")
    make_planted(place / "tiny")
    write_relation(place / "planted.json", name="country_to_capital")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADATLAS_CACHE", str(place / "cache"))
        patch.setattr(own_maps, "_of_this_process", {})
        headatlas.map_heads(
            place / "tiny", place / "atlas", relations=place / "planted.json", self_check=False, profile="maps"
        )
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of the atlas, in another process of a user who has made no map."""
    shutil.copytree(made / "atlas", tmp_path / "atlas")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own_maps, "_of_this_process", {})
    return tmp_path


def name_model(folder, source):
    path = folder / "atlas.json"
    content = json.loads(path.read_text("utf-8"))
    content["model"]["source"] = source
    path.write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_no_address_is_asked_that_only_an_atlas_names(place, command):
    with serve(place) as served:
        source = f"{served.url}/model?all=1"
        name_model(place / "atlas", source)
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2, done.output
        assert not served.asked
    assert " ".join(done.output.split()).endswith(
        f"Error: atlas: the atlas names {source} as its model. headatlas opens no model that only an atlas names: if "
        f"you trust it, repeat with --model '{source}' (in Python, model=)."
    )


@pytest.mark.parametrize("source", ["org/model", "org/model@v1", "hf://org/model", "./pipe", "tiny", "a\x1b[31m b"])
def test_no_name_or_path_is_opened_that_only_an_atlas_names(place, source, made, monkeypatch):
    shutil.copytree(made / "tiny", place / "tiny")
    name_model(place / "atlas", source)
    if hasattr(os, "mkfifo"):
        os.mkfifo(place / "pipe")
    opened = []
    monkeypatch.setattr("headatlas.architectures.open.open_checkpoint", lambda *where: opened.append(where))
    with pytest.raises(AtlasError, match="opens no model that only an atlas names") as caught:
        headatlas.find_heads(place / "atlas", [PAIR])
    assert not opened and "\x1b" not in str(caught.value)


def test_the_model_of_ones_own_map_is_opened_unasked(made, monkeypatch):
    monkeypatch.setenv("HEADATLAS_CACHE", str(made / "cache"))
    monkeypatch.setattr(own_maps, "_of_this_process", {})
    atlas = headatlas.load_atlas(made / "atlas")
    assert own_maps.model_of(atlas) == str(made / "tiny")
    assert Session.of_atlas(atlas).fingerprint == atlas.manifest.model.fingerprint
    (record,) = (made / "cache" / "maps").iterdir()
    if os.name == "posix":
        assert stat.S_IMODE(record.stat().st_mode) == 0o600
    text = record.read_text("utf-8")
    for damaged in ("", "[]", text.replace('"run"', '"ran"'), text.replace(str(made / "atlas"), "/elsewhere")):
        record.write_text(damaged, "utf-8")
        with pytest.raises(AtlasError, match="opens no model"):
            own_maps.model_of(atlas)
    record.write_text(text, "utf-8")


def test_what_an_atlas_names_changes_nothing_where_the_map_is_ones_own(made, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADATLAS_CACHE", str(made / "cache"))
    monkeypatch.setattr(own_maps, "_of_this_process", {})
    before = (made / "atlas" / "atlas.json").read_text("utf-8")
    name_model(made / "atlas", "https://elsewhere.org/model")
    assert own_maps.model_of(headatlas.load_atlas(made / "atlas")) == str(made / "tiny")
    (made / "atlas" / "atlas.json").write_text(before, "utf-8")


def test_an_atlas_that_was_moved_asks_for_its_model(made, place, monkeypatch):
    monkeypatch.setenv("HEADATLAS_CACHE", str(made / "cache"))
    with pytest.raises(AtlasError, match=f"repeat with --model {made / 'tiny'} "):
        headatlas.find_heads(place / "atlas", [PAIR])
    atlas = headatlas.load_atlas(place / "atlas")
    assert Session.of_atlas(atlas, made / "tiny").fingerprint == atlas.manifest.model.fingerprint


def test_an_atlas_in_memory_knows_its_model_and_a_confirmed_one_too(made, tmp_path, monkeypatch):
    monkeypatch.setattr(own_maps, "_of_this_process", {})
    monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path / "cache"))
    options = {"relations": made / "planted.json", "self_check": False, "profile": "maps"}
    atlas = headatlas.map_heads(made / "tiny", **options)
    assert own_maps.model_of(atlas) == str(made / "tiny")
    assert not cache_folder().exists()
    shutil.copytree(made / "atlas", tmp_path / "atlas")
    headatlas.map_heads(made / "tiny", tmp_path / "atlas", **options)
    monkeypatch.setattr(own_maps, "_of_this_process", {})
    assert own_maps.model_of(headatlas.load_atlas(tmp_path / "atlas")) == str(made / "tiny")


@pytest.mark.parametrize("source", ["demo", "/somewhere/SmolLM2-135M-Instruct.Q4_1.gguf"])
def test_the_demo_model_is_the_one_of_its_package(place, source):
    name_model(place / "atlas", source)
    assert own_maps.model_of(headatlas.load_atlas(Path("atlas"))) == "demo"


def test_a_map_is_safe_where_nothing_can_be_noted(made, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path / "file"))
    options = {"relations": made / "planted.json", "self_check": False, "profile": "maps"}
    headatlas.map_heads(made / "tiny", tmp_path / "atlas", **options)
    assert (tmp_path / "atlas" / "atlas.json").is_file()
