"""An atlas with all tables, whose files a test may replace."""

import os

import pytest

from atlases import make_atlas, make_evidence, with_pairs
from headatlas.atlas import save_atlas


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    atlas = make_atlas(5, 3, chance=True, without_heads=(2,), categories=("Knowledge", "Code"))
    return save_atlas(make_evidence(with_pairs(atlas)), tmp_path_factory.mktemp("made") / "atlas")


@pytest.fixture
def folder(made, tmp_path):
    folder = tmp_path / "atlas"
    folder.mkdir()
    for path in made.iterdir():
        os.link(path, folder / path.name)
    return folder
