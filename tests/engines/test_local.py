"""What engines have in common, and what is refused without a connection to a cluster."""

import sys

import numpy as np
import pytest

import headatlas
from headatlas.engines import LayerResult, LocalEngine, RayEngine, Task
from headatlas.engines.engine import LayerChance
from headatlas.errors import SettingsError
from headatlas.settings import Settings


def task(**changed):
    ids = np.arange(5)
    given = {"source": "m", "adapter": None, "fingerprint": "f", "settings": Settings(), "source_ids": ids}
    return Task(**({**given, "target_ids": ids + 1, "k": ids + 2, "ends": ids + 3} | changed))


def test_tasks_with_one_key_are_the_same():
    keys = [
        task().key,
        task(source=None).key,
        task(adapter="a").key,
        task(fingerprint="g").key,
        task(settings=Settings(value_bias=True)).key,
        task(source_ids=np.arange(5) + 1).key,
        task(k=np.arange(5) + 3).key,
    ]
    assert task().key == keys[0] and len(set(keys)) == len(keys)


@pytest.mark.parametrize("with_chance", [False, True])
def test_a_result_survives_the_way_through_arrays(with_chance):
    rng = np.random.default_rng(3)
    n_relations, n_heads = 5, 7
    chance = LayerChance(
        level=rng.random((2, n_relations, n_heads)),
        exact=rng.random((2, n_relations, n_heads)) < 0.5,
        p_value=rng.random((2, n_relations, n_heads)),
        copied=rng.integers(0, 256, 11, np.uint8),
        uncopied_level=rng.random((2, n_relations, n_heads)),
        uncopied_p_value=rng.random((2, n_relations, n_heads)),
    )
    result = LayerResult(
        promoted=rng.integers(0, 256, (n_heads, 11), np.uint8),
        suppressed=rng.integers(0, 256, (n_heads, 11), np.uint8),
        promoted_ranks=rng.integers(0, 25, 13, np.int32),
        suppressed_ranks=rng.integers(0, 25, 17, np.int32),
        underflows=rng.random(n_heads) < 0.5,
        in_float64=19,
        chance=chance if with_chance else None,
    )
    arrays = result.to_arrays()
    again = LayerResult.from_arrays(arrays)
    assert isinstance(again.in_float64, int) and (again.chance is not None) == with_chance
    assert again.to_arrays().keys() == arrays.keys()
    expected, found = vars(result), vars(again)
    if again.chance is not None:
        expected, found = expected | vars(chance), found | vars(again.chance)
    for name in expected.keys() - {"chance"}:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name, strict=name != "in_float64")


def test_device_and_threads_are_the_engine_s(tmp_path):
    with pytest.raises(SettingsError) as caught:
        headatlas.map_heads("m", engine=LocalEngine(), threads=2)
    assert str(caught.value) == "engine: device and threads belong to the engine; expected neither in addition to it."


def test_ray_that_is_missing_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError) as caught:
        RayEngine()
    assert str(caught.value) == "engine: ray is not installed. Run `pip install 'headatlas[ray]'`."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threads": 0}, "threads: expected a whole number of at least 1, found 0."),
        ({"layers_per_task": 0}, "layers_per_task: expected a whole number of at least 1, found 0."),
        *(
            (
                {"gpus_per_task": gpus},
                f"gpus_per_task: expected 0, a share of one GPU such as 0.5, or a whole number, found {gpus}.",
            )
            for gpus in (-1, 1.5)
        ),
    ],
)
def test_arguments_outside_their_range(given, message):
    with pytest.raises(SettingsError) as caught:
        RayEngine(**given)
    assert str(caught.value) == message
