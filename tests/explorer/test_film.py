"""The page of a film: its data says what the atlases say, and no name of theirs becomes markup."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest

from atlases import HOSTILE, make_atlas, make_evidence
from headatlas.analysis.film import Film, Scene, make_film
from headatlas.analysis.reading import find_reading
from headatlas.errors import AtlasError
from headatlas.explorer import build_film, write_film
from headatlas.explorer.film import ONE, UNKNOWN, film_data

SIZES = {"n_layers": 5, "n_heads": 3, "chance": True}


def make_one(**options) -> Film:
    """A film of three atlases; the attention of the last two was measured."""
    atlases = [make_atlas(seed=seed, **(SIZES | options)) for seed in range(3)]
    return make_film(
        [Scene(f"step-{at}", 10 * at, make_evidence(atlas) if at else atlas) for at, atlas in enumerate(atlases)]
    )


@pytest.fixture(scope="module")
def film() -> Film:
    return make_one(without_heads=(3,))


def test_the_page_is_given_what_the_film_says(film):
    data = film_data(film)
    assert [scene["step"] for scene in data["scenes"]] == [0, 10, 20]
    assert data["scenes"][0]["hasHeads"] == [True, True, True, False, True]
    for function, given in zip(film.functions, data["functions"], strict=True):
        assert given["name"] == function.function and given["sentence"] == function.sentence
        for moment, shown in zip(function.moments, given["moments"], strict=True):
            assert (moment is None) == (shown is None)
            if moment is not None and shown is not None:
                assert [divmod(head, 3) for head in shown["heads"]] == list(moment.has)
                assert shown["strongest"] == moment.name and abs(shown["score"] - moment.score) < 1e-4
    colours = dict(data["categories"])
    assert {each["colour"] for each in data["functions"] if not each["reading"]} == set(colours.values())
    assert [name for name, _ in data["ways"]] == [each["title"] for each in data["functions"] if each["reading"]]


def test_bytes_of_scores_are_those_of_the_heads(film):
    data = film_data(film)
    relations = len(film.scenes[0].atlas.relations)
    for scene, given in zip(film.scenes, data["scenes"], strict=True):
        scores = np.frombuffer(base64.b64decode(given["scores"]), "uint8").reshape(len(data["functions"]), 5, 3)
        known = scene.atlas.scores.values
        assert (scores[:relations, 3] == UNKNOWN).all()
        assert np.allclose(scores[:relations, :3] / ONE, known[:, :3], atol=0.5 / ONE)
        reading = find_reading(scene.atlas)
        assert (reading is None) == (scores[relations:] == UNKNOWN).all()
        if reading is not None:
            assert np.allclose(scores[relations:, 4] / ONE, reading.value[:, 4], atol=0.5 / ONE)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_in_the_data_alone(name):
    film = make_one(categories=("Knowledge", name), relations=("capitals", name))
    page = build_film(film)
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", page, re.S)
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", data) and page.count("<script") == 2
    assert name.strip() in "=1+1 Paris" or name not in page.replace(script, "")
    functions = json.loads(base64.b64decode(data))["functions"]
    shown = functions[1]["name"]
    assert shown.isprintable() and (shown == name) == name.isprintable()


def test_a_folder_that_is_not_there_is_one_sentence(film, tmp_path):
    with pytest.raises(AtlasError, match=r"none/film\.html: cannot be written \("):
        write_film(tmp_path / "none" / "film.html", film)
    assert write_film(tmp_path / "film.html", film).read_text("utf-8") == build_film(film)
