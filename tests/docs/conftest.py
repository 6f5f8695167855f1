"""A place for each file of tests, and the demo model's atlas, which is made and measured once for all workers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from documented import ATTENTION, DEMO, Place, copy_demo, make_place

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These files first, since they take longest: `make test-system` hands files to workers in this order."""
    items.sort(key=lambda item: not item.path.is_relative_to(HERE))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with make_place(tmp_path_factory.mktemp("docs")) as place:
        yield place


@pytest.fixture(scope="session")
def with_demo(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The place with the demo model's atlas that all workers share, and that none of them changes."""
    with shared_place(tmp_path_factory, "demo") as place:
        if not (place.folder / "demo-atlas" / "atlas.json").exists():
            place.run_once(DEMO)
    return place


@pytest.fixture(scope="session")
def with_attention(tmp_path_factory: pytest.TempPathFactory, with_demo: Place) -> Place:
    """The same with where its heads look, which takes minutes to measure."""
    with shared_place(tmp_path_factory, "attention") as place:
        if not (place.folder / "demo-atlas" / "reading.png").exists():
            copy_demo(with_demo, place, DEMO)
            place.run_once(ATTENTION)
    return place


@contextmanager
def shared_place(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[Place]:
    """A place of all workers, for one of them at a time."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    folder.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        yield Place(folder)


@pytest.fixture(scope="module")
def demo(place: Place, with_demo: Place) -> Path:
    """The demo model's atlas, in a place of its own for what examples add to it."""
    return copy_demo(with_demo, place, DEMO)


@pytest.fixture(scope="module")
def demo_with_attention(place: Place, with_attention: Place) -> Path:
    """The same, for pages that measure attention too."""
    return copy_demo(with_attention, place, DEMO, ATTENTION)
