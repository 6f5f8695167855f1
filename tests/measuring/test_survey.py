"""Surveys: an atlas for each model, one index, and no model that stops the others."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import headatlas
from headatlas.analysis.functions_of_models import functions_of, table_of_functions
from headatlas.analysis.reading import find_reading
from headatlas.cli import app
from headatlas.errors import AtlasError, SettingsError
from headatlas.figures import PALETTES, draw_functions_of_models, draw_sizes, draw_survey, render
from headatlas.measuring import attention
from headatlas.measuring import map as survey
from headatlas.measuring import survey as many_models
from headatlas.measuring import validate as validation
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
    files = ["first", "functions.csv", "functions.png", "index.csv", "index.json", "last", "sizes.png", "survey.png"]
    assert sorted(os.listdir(out)) == files
    for name in ("survey.png", "functions.png", "sizes.png"):
        assert (out / name).read_bytes()[:4] == b"\x89PNG"


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


def test_the_same_again_draws_the_pictures_as_they_are_asked_for(models, surveyed, rendered, tmp_path):
    out = shutil.copytree(surveyed[1], tmp_path / "out")
    options = ["--width", "column", "--palette", "colour-blind", "--font", "serif"]
    result = CliRunner().invoke(app, ["survey", str(models), "-o", str(out), *options])
    assert result.exit_code == 1 and "Picture:" in result.stdout, result.output  # one model of the list is not there
    for name in ("survey.png", "sizes.png"):
        assert imread(out / name).shape[1] == round(300 * 3.25)
    planted = to_rgb(PALETTES["colour-blind"].of_categories(("Planted",))["Planted"])
    assert np.isclose(imread(out / "survey.png")[..., :3], planted, atol=0.01).all(-1).sum() > 20


def test_a_look_that_no_picture_has_is_refused_before_a_model_is_read(models, tmp_path):
    for look in ({"width": "poster"}, {"palette": "neon"}, {"font": "comic"}):
        with pytest.raises(SettingsError, match=f"{next(iter(look))}: expected"):
            headatlas.survey_models(models, tmp_path / "out", **look)
    assert not (tmp_path / "out").exists()


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
    with pytest.raises(ZeroDivisionError):  # with parts of an earlier run, these could be the reason
        headatlas.survey_models(models, tmp_path / "other", raise_bugs=True)


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


SERIES = """
relations = "planted.json"
profile = "maps"
self_check = false

[[model]]
name = "late"
source = "against"
step = 2000

[[model]]
name = "planted"
source = "planted"
step = 1000
salient = true
attention = { seeds = 1, text = "text.txt" }
validate = { pairs = 5, templates = "texts.toml" }

[[model]]
name = "untrained"
source = "untrained"
step = 0
attention = { text = "./nothing.txt" }
"""


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Three models of one shape: without, with and against the planted relation. Returns list, index and folder."""
    place = tmp_path_factory.mktemp("series")
    make_planted(place / "planted")
    make_planted(place / "against", sign=-1)
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 40}
    save_model(make_model("llama", **sizes), place / "untrained", WORDS)
    write_relation(place / "planted.json", PAIRS)
    (place / "text.txt").write_text(" " + " ".join(WORDS[number * 7 % 81] for number in range(600)), "utf-8")
    (place / "texts.toml").write_text('templates = ["baz {source} bez"]\n', "utf-8")
    (place / "models.toml").write_text(SERIES, "utf-8")
    return place / "models.toml", headatlas.survey_models(place / "models.toml", place / "out"), place / "out"


def test_more_is_measured_where_the_list_asks_for_it(series):
    models, index, out = series
    index = index.set_index("name")
    late, planted, untrained = (index.loc[name] for name in ("late", "planted", "untrained"))
    atlas = headatlas.load_atlas(out / "planted")
    reading, facts = find_reading(atlas), atlas.manifest.evidence
    assert reading is not None and planted["reading"] == reading.n_named
    assert [planted[f"reads_{name}"] for name in reading.names] == [reading.of(name).sum() for name in reading.names]
    assert facts.attention.seeds == 1 and facts.validation.pairs == 5
    assert planted["described"] == 12 - facts.descriptions.rules.get("unclear", 0)
    (pearson,) = [
        each.pearson for each in facts.validation.correlations
        if (each.side, each.condition, each.counted) == ("score", "attention-fixed", "own")
    ]  # fmt: skip
    assert planted["agreement_attention_fixed"] == pearson
    assert planted["parameters"] == late["parameters"] == untrained["parameters"]
    weights = AutoModelForCausalLM.from_pretrained(models.parent / "planted").parameters()
    assert planted["parameters"] == sum(each.numel() for each in weights)
    assert pd.isna(late["reading"]) and pd.isna(late["described"]) and pd.isna(late["agreement_attention_fixed"])
    assert not headatlas.load_atlas(out / "late").manifest.evidence.names
    assert not (out / "sizes.png").exists()


def test_a_measurement_that_fails_leaves_the_map_and_the_others(series):
    models, index, out = series
    row = index.set_index("name").loc["untrained"]
    nothing = models.parent / "nothing.txt"
    assert row["status"] == "failed" and row["heads"] == 12
    assert row["error"].startswith(f"attention: {nothing}: ")
    assert headatlas.load_atlas(out / "untrained").relations == ["planted"]


def test_what_was_measured_is_not_measured_again(series, tmp_path, monkeypatch):
    models, index, finished = series
    out = shutil.copytree(finished, tmp_path / "out")
    measured = []

    def note(name, module):
        measure = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, **options: measured.append(name) or measure(*given, **options))

    for name, module in (("measure_attention", attention), ("validate_atlas", validation), ("_measure", survey)):
        note(name, module)
    # Of the model whose measurement failed, that is tried again.
    assert headatlas.survey_models(models, out).equals(index) and measured == ["measure_attention"]
    measured.clear()
    other = models.with_name("other.toml")
    other.write_text(SERIES.replace("pairs = 5", "pairs = 6"), "utf-8")
    headatlas.survey_models(other, out)
    assert measured == ["validate_atlas", "measure_attention"]
    assert headatlas.load_atlas(out / "planted").manifest.evidence.validation.pairs == 6


def test_the_film_shows_when_and_where_a_relation_appears(series):
    _, index, out = series
    film = many_models.film_of(index, out)
    assert film is not None and film.steps == (0, 1000, 2000)
    of = {each.function: each for each in film.functions}
    assert of["planted"].sentence == "Appears at step 1,000, in layer 1 (L1H2); is gone at step 2,000."
    assert of["induction"].present[0] is None is of["induction"].present[2]
    functions = pd.read_csv(out / "functions.csv")
    rows = functions[functions["function"] == "planted"].set_index("model")
    assert rows["strongest"]["planted"] == "L1H2" and rows["score"]["planted"] == 1.0
    assert rows["heads"].to_dict() == {"late": 0, "planted": 1, "untrained": 0} == rows["beyond"].to_dict()
    assert (out / "film.html").read_text("utf-8").count("<script") == 2


def test_without_steps_there_is_no_film(models, series, tmp_path):
    list_, _, finished = series
    out = shutil.copytree(finished, tmp_path / "out")
    without = list_.with_name("without.toml")
    without.write_text("\n".join(line for line in SERIES.splitlines() if not line.startswith("step")), "utf-8")
    index = headatlas.survey_models(without, out)
    assert index["step"].isna().all() and many_models.film_of(index, out) is None
    assert not (out / "film.html").exists()


def test_the_pictures_of_functions_show_what_the_table_says(series):
    _, index, out = series
    table = table_of_functions({name: functions_of(headatlas.load_atlas(out / name)) for name in index["name"]})
    figure = draw_functions_of_models(index, table, palette="colour-blind")
    scores, counts, layers = figure.axes[:3]
    assert [label.get_text() for label in scores.get_xticklabels()] == index["name"].tolist()
    assert [label.get_text() for label in scores.get_yticklabels()][:2] == ["planted", "Previous token"]
    here = {
        (round(text.get_position()[0] - 0.5), text.get_text()) for text in counts.texts if text.get_position()[1] < 1
    }
    assert here == {(1, "1")}
    assert [text.get_text() for text in layers.texts if text.get_position()[1] < 1] == ["1"]
    sizes = draw_sizes(index.assign(parameters=[3e6, 1e6, 2e9]), table)
    (line,) = [line for line in sizes.axes[0].lines if line.get_label() == "Planted"]
    assert line.get_xdata().tolist() == [1e6, 3e6, 2e9] and line.get_ydata().tolist() == [1.0, 0.0, 0.0]
    for draw in (draw_functions_of_models, draw_sizes):
        with pytest.raises(SettingsError, match="palette: expected one of paper, colour-blind, found 'grey'"):
            draw(index, table, palette="grey")


def test_the_index_is_safe_for_terminals_and_spreadsheets():
    from headatlas.measuring.survey import _csv

    row = {"name": "a", "source": "=HYPERLINK(1)", "step": pd.NA, "error": "a\tb\x1b[31m", "+score": 2, "share": -0.5}
    table = pd.DataFrame([row, row | {"step": 3, "error": None}]).astype({"step": "Int64"})
    assert _csv(table).splitlines() == [
        "name,source,step,error,'+score,share",
        "a,'=HYPERLINK(1),,a\\tb\\x1b[31m,2,-0.5",
        "a,'=HYPERLINK(1),3,,2,-0.5",
    ]
