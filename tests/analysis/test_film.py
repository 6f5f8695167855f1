"""Films: when each function appears, in which layers, and whether it stays, from atlases with planted hits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlases import PAIRS, make_atlas, make_evidence
from headatlas.analysis.film import Scene, make_film
from headatlas.analysis.functions_of_models import READING, functions_of, table_of_functions
from headatlas.analysis.reading import BEHAVIOURS, find_reading
from headatlas.atlas import CHANCE_VARIABLES, COPYING_VARIABLES
from headatlas.errors import SettingsError

RELATION = "knowledge_relation"


def planted(places=(), n_layers=5, n_heads=3, categories=("Knowledge",), **options):
    """An atlas in which only these heads implement the first relation, each with one hit more than the one before."""
    atlas = make_atlas(n_layers, n_heads, categories=categories, share=0, **options)
    data = atlas.data.copy(deep=True)
    for more, (layer, head) in enumerate(places):
        data["hits"].values[0, layer, head] = 20 + more
    data["score"].values[:] = data["hits"].values / PAIRS
    return replace(atlas, data=data)


def film_of(*places, **options):
    """A film with one atlas for each list of planted heads, at steps 0, 100, 200, ..."""
    atlases = [planted(each, **options) for each in places]
    return make_film([Scene(f"step-{at}", 100 * at, atlas) for at, atlas in enumerate(atlases)])


HERE, THERE, BOTH = [(1, 2)], [(4, 0)], [(1, 2), (4, 0)]


@pytest.mark.parametrize(
    ("places", "appears", "stays", "lost", "sentence"),
    [
        ([[], [], []], None, False, None, "Does not appear."),
        (
            [[], HERE, HERE], 1, True, None,
            "Appears at step 100, in layer 1 (L1H2), and stays, with the same strongest head.",
        ),
        (
            [[], HERE, BOTH], 1, True, None,
            "Appears at step 100, in layer 1 (L1H2), and stays, at the end in layers 1 and 4 (L4H0).",
        ),
        ([[], [], THERE], 2, True, None, "Appears at step 200, in layer 4 (L4H0), the last one."),
        ([[], THERE, []], 1, False, 2, "Appears at step 100, in layer 4 (L4H0); is gone at step 200."),
        (
            [HERE, HERE], 0, True, None,
            "Is there from the first step on (0), in layer 1 (L1H2), and stays, with the same strongest head.",
        ),
        (
            [HERE, [], THERE], 0, False, None,
            "Is there from the first step on (0), in layer 1 (L1H2); is gone at step 100, and last comes back at step "
            "200, at the end in layer 4 (L4H0).",
        ),
        (
            [HERE, [], HERE, []], 0, False, 3,
            "Is there from the first step on (0), in layer 1 (L1H2); is gone at step 100, and last comes back at step "
            "200, and is gone at step 300.",
        ),
    ],
)  # fmt: skip
def test_a_film_says_when_where_and_whether_it_stays(places, appears, stays, lost, sentence):
    (function,) = film_of(*places).functions
    assert (function.function, function.category) == (RELATION, "Knowledge")
    assert (function.appears, function.stays, function.lost) == (appears, stays, lost)
    assert function.sentence == sentence
    for scene, each in enumerate(places):
        assert function.layers(scene) == tuple(sorted({layer for layer, _ in each}))
        assert function.strongest(scene) == ("L{}H{}".format(*each[-1]) if each else None)


def test_scenes_are_put_in_order_and_have_a_step_each():
    scenes = [Scene(name, step, planted()) for name, step in (("c", 30), ("a", 0), ("b", 7))]
    film = make_film(scenes)
    assert [scene.name for scene in film.scenes] == ["a", "b", "c"] and film.steps == (0, 7, 30)
    with pytest.raises(SettingsError, match="expected at least two models with a step, found 1"):
        make_film(scenes[:1])
    with pytest.raises(SettingsError, match="expected one model for each step, found two for step 7"):
        make_film([*scenes, Scene("d", 7, planted())])


def test_what_was_not_measured_neither_appears_nor_interrupts():
    two = planted(HERE)
    other = planted(categories=("Linguistic",))
    film = make_film([Scene("a", 0, two), Scene("b", 1, other), Scene("c", 2, two)])
    of = {each.function: each for each in film.functions}
    assert of[RELATION].present == (True, None, True)
    assert of[RELATION].stays and of[RELATION].spans == ((0, 2),)
    assert of["linguistic_relation"].present == (None, False, None)
    assert of["linguistic_relation"].sentence == "Does not appear."


def test_heads_that_chance_explains_do_not_count():
    """The level of chance is above the score: the head is above the threshold, and does not count."""
    atlas = planted(HERE, chance=True)
    data = atlas.data.copy(deep=True)
    for name in ("chance", "uncopied_chance"):
        data[name].values[:] = 0.9
    (plain,) = functions_of(atlas)
    (function,) = functions_of(replace(atlas, data=data))
    assert plain.heads == function.heads == ((1, 2),)
    assert function.beyond == () == function.has and function.chance == function.highest_chance == 0.9
    (film,) = make_film([Scene(str(at), at, replace(atlas, data=data)) for at in range(2)]).functions
    assert film.appears is None


def test_the_strongest_head_is_one_that_counts():
    """L4H0 has the higher score, and a higher level of chance."""
    atlas = planted(BOTH, chance=True)
    data = atlas.data.copy(deep=True)
    for (level, *_, p_value), hits in ((CHANCE_VARIABLES["score"], None), (COPYING_VARIABLES["score"][1:], "hits")):
        data[level].values[:] = 0
        data[p_value].values[:] = 1e-9
        if hits:
            data[COPYING_VARIABLES["score"][0]].values[:] = data[hits].values
    data["copied"].values[:] = 0
    (both,) = functions_of(replace(atlas, data=data.copy(deep=True)))
    data["chance"].values[0, 4, 0] = 0.9
    (one,) = functions_of(replace(atlas, data=data))
    assert both.beyond == tuple(BOTH) and (both.name, both.score) == ("L4H0", 21 / PAIRS)
    assert one.beyond == tuple(HERE) and one.heads == tuple(BOTH)
    assert (one.name, one.score, one.chance, one.highest_chance, one.depth) == ("L1H2", 20 / PAIRS, 0.0, 0.9, 0.25)


def test_ways_of_reading_come_last():
    atlas = make_evidence(planted(HERE))
    film = make_film([Scene("a", 0, planted(HERE)), Scene("b", 1, atlas)])
    assert [each.function for each in film.functions] == [RELATION, *(each.name for each in BEHAVIOURS)]
    induction = next(each for each in film.functions if each.function == "induction")
    reading = find_reading(atlas)
    assert reading is not None and induction.category == READING and induction.moments[0] is None
    moment = induction.moments[1]
    assert moment is not None and set(moment.has) == set(reading.heads_of("induction"))
    assert moment.score == reading.value[reading.names.index("induction")].max()


def test_the_table_has_a_row_per_model_and_function():
    table = table_of_functions({"one": functions_of(planted(BOTH)), "two": functions_of(planted(chance=True))})
    assert table["model"].tolist() == ["one", "two"]
    row = table.iloc[0]
    assert (row["strongest"], row["layer"], row["depth"], row["score"]) == ("L4H0", 4, 1.0, 21 / PAIRS)
    assert (row["pairs"], row["heads"]) == (PAIRS, 2)
    assert table["beyond"].isna().tolist() == [True, False] == table["chance"].isna().tolist()
    assert table.iloc[1]["highest_chance"] >= table.iloc[1]["chance"] > 0
