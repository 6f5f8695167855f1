"""Surveys: an atlas for each model, one index, and no model that stops the others."""

import json
import os
import shutil

import pandas as pd
import pytest

import headatlas
from headatlas.errors import AtlasError, SettingsError
from headatlas.figures import draw_survey, render
from headatlas.measuring import map as survey
from headatlas.measuring import survey as many_models
from models import make_model, save_model
from planted import PAIRS, WORDS, make_planted, write_relation

LIST = """
relations = "planted.json"
profile = "maps"

[[model]]
name = "first"
source = "planted"

[[model]]
name = "bad"
source = "./nothing"

[[model]]
name = "last"
source = "other"
k = 3
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The list, next to two models and a relation."""
    place = tmp_path_factory.mktemp("models")
    make_planted(place / "planted")
    save_model(make_model("gpt2"), place / "other", WORDS)
    write_relation(place / "planted.json", PAIRS)
    (place / "models.toml").write_text(LIST, "utf-8")
    return place / "models.toml"


@pytest.fixture(scope="module")
def surveyed(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("surveyed") / "out"
    return headatlas.survey_models(models, out), out


def test_one_bad_model_does_not_stop_the_rest(models, surveyed):
    index, out = surveyed
    assert index["status"].tolist() == ["done", "failed", "done"]
    nothing = models.parent / "nothing"
    assert index["error"].tolist()[1] == f"{nothing}: expected a model's folder or a .gguf file, found nothing there."
    assert index["model_type"].tolist()[::2] == ["llama", "gpt2"]
    assert index["heads"].tolist()[::2] == [12, 18]
    assert sorted(os.listdir(out)) == ["first", "index.csv", "index.json", "last", "survey.png"]
    assert (out / "survey.png").read_bytes()[:4] == b"\x89PNG"


def test_the_index_says_what_the_atlases_say(surveyed):
    index, out = surveyed
    for name in ("first", "last"):
        atlas = headatlas.load_atlas(out / name)
        row = index.set_index("name").loc[name]
        found = headatlas.classify(atlas)
        assert row["classified"] == row["score_Planted"] == found.n_classified
        found = headatlas.classify(atlas, side="suppression")
        assert row["suppressing"] == row["suppression_Planted"] == found.n_classified
        assert row["fingerprint"] == atlas.manifest.model.fingerprint and row["label"] == atlas.label
        assert (row["n_layers"], row["n_heads"]) == (atlas.n_layers, atlas.n_heads)
    assert index["label"].tolist()[::2] == ["maps", "maps, modified: k=3"]
    read = pd.read_csv(out / "index.csv")
    assert read.columns.tolist() == index.columns.tolist()
    assert read["score_Planted"].fillna(-1).tolist() == index["score_Planted"].fillna(-1).tolist()
    content = json.loads((out / "index.json").read_text("utf-8"))
    assert content["schema"] == 1 and [row["name"] for row in content["models"]] == ["first", "bad", "last"]
    assert content["models"][1]["heads"] is None


def test_the_same_again_confirms_what_is_finished_and_tries_the_failed(models, surveyed, monkeypatch, tmp_path):
    index, finished = surveyed
    out = shutil.copytree(finished, tmp_path / "out")
    measured = []
    measure = survey._measure
    monkeypatch.setattr(survey, "_measure", lambda *given: measured.append(1) or measure(*given))
    assert headatlas.survey_models(models, out).equals(index) and not measured
    place = shutil.copytree(models.parent, tmp_path / "models")
    shutil.copytree(place / "other", place / "nothing")
    again = headatlas.survey_models(place / models.name, out)
    assert again["status"].tolist() == ["done"] * 3 and len(measured) == 1


def test_an_interrupted_survey_goes_on(models, surveyed, tmp_path, monkeypatch):
    index, _ = surveyed
    reported = []

    def interrupt(what, done, of):
        reported.append((what, done, of))
        if what == "layers" and done == 2 and ("models", 2, 3) in reported:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        headatlas.survey_models(models, out, progress=interrupt)
    assert pd.read_csv(out / "index.csv")["status"].tolist() == ["done", "failed", "waiting"]
    again = headatlas.survey_models(models, out)
    assert again.drop(columns="seconds").equals(index.drop(columns="seconds"))
    assert headatlas.load_atlas(out / "last").manifest.run.layers_from_earlier_run == 2
    assert not (out / ".survey.lock").exists()


def test_a_bug_is_reported_as_one_and_stops_nothing(models, tmp_path, monkeypatch):
    def broken(*given):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(survey, "_measure", broken)
    index = headatlas.survey_models(models, tmp_path / "out")
    assert index["status"].tolist() == ["failed"] * 3
    assert index["error"][0] == (
        "headatlas itself failed (ZeroDivisionError: division by zero); the traceback comes with --debug."
    )
    assert (tmp_path / "out" / "survey.png").exists()
    with pytest.raises(ZeroDivisionError):
        headatlas.survey_models(models, tmp_path / "out", raise_bugs=True)


def test_two_surveys_cannot_share_a_folder(models, tmp_path):
    with many_models._held(tmp_path), pytest.raises(AtlasError) as caught:
        headatlas.survey_models(models, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: another survey is writing into this folder. Wait for it, or choose another."
    )


def test_no_atlas_leaves_the_folder(models, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "last").symlink_to(elsewhere)
    with pytest.raises(AtlasError) as caught:
        headatlas.survey_models(models, out)
    assert str(caught.value) == f"{out}/last: expected a folder of the survey, found a link that may lead out of {out}."
    assert not os.listdir(elsewhere) and os.listdir(out) == ["last"]
    own = models.with_name("own.toml")
    own.write_text('[[model]]\nname = "Index.csv"\nsource = "planted"\n', "utf-8")
    with pytest.raises(SettingsError) as caught:
        headatlas.survey_models(own, out)
    message = f"{out}/Index.csv: this name is the survey's own; expected another name for the model."
    assert str(caught.value) == message
    with pytest.raises(AtlasError, match="expected a folder to write the survey into, found a file"):
        headatlas.survey_models(models, models)


def test_the_picture_shows_every_model(surveyed):
    index, _ = surveyed
    figure = draw_survey(index, palette="colour-blind")
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["first", "bad", "last"]
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "Planted"]
    share = line.get_ydata()
    assert share[0] == index["score_Planted"][0] / 12 and share[2] == index["score_Planted"][2] / 18
    assert [text.get_text() for text in figure.axes[0].texts] == ["failed"]
    assert render(figure, "png") == render(draw_survey(index, palette="colour-blind"), "png")
    many = pd.concat([index] * 50, ignore_index=True)
    assert len(draw_survey(many).axes[1].get_xticklabels()) <= 48
    with pytest.raises(SettingsError, match="palette: expected one of paper, colour-blind, found 'grey'"):
        draw_survey(index, palette="grey")
