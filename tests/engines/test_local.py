"""What engines have in common, and what is refused before any cluster is asked."""

import sys

import numpy as np
import pytest

import headatlas
from headatlas.engines import LocalEngine, RayEngine, Task
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
