"""A place for each file of tests, and the demo model's atlas, which is made once for all workers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from documented import DEMO, Place, copy_demo, make_place

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
    own = tmp_path_factory.getbasetemp()
    shared = Place((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "demo")
    with FileLock(shared.folder.with_suffix(".lock")):
        if not (shared.folder / "demo-atlas" / "atlas.json").exists():
            shared.folder.mkdir(exist_ok=True)
            shared.run(DEMO)
    return shared


@pytest.fixture(scope="module")
def demo(place: Place, with_demo: Place) -> Path:
    """The demo model's atlas, in a place of its own for what examples add to it."""
    return copy_demo(with_demo, place)
