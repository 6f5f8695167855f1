"""Evidence is replaced: whenever its writer is killed, readers find the old table or the new one, never an error."""

import hashlib
import os
from dataclasses import replace

import pytest

from atlases import make_atlas, make_evidence
from headatlas.atlas import load_atlas, save_atlas, save_evidence
from headatlas.atlas.files import settle_tables, waiting_path

NAME = "validation"


class Killed(BaseException):
    pass


@pytest.fixture
def folder(tmp_path):
    return save_atlas(make_evidence(make_atlas(3, 2, categories=("Knowledge",))), tmp_path / "atlas")


def changed(atlas):
    """Other numbers, and other facts, than the atlas has."""
    table = atlas.evidence(NAME)
    facts = atlas.manifest.evidence.validation
    return {NAME: (table.assign(pairs=table["pairs"] + 1), replace(facts, seed=facts.seed + 1))}


def state(folder):
    """Table and facts, which belong together."""
    atlas = load_atlas(folder)
    return atlas.evidence(NAME).to_csv(), atlas.manifest.evidence.validation


@pytest.mark.parametrize("last", range(1, 9))
def test_a_writer_that_is_killed_leaves_the_old_or_the_new(folder, monkeypatch, last):
    """Killed before its `last` step of flushing and renaming; the files stay as they are then."""
    atlas, before, left = load_atlas(folder), state(folder), [last]
    new = changed(atlas)

    def counted(act):
        def acts(*args):
            left[0] -= 1
            if left[0] <= 0:
                raise Killed
            return act(*args)

        return acts

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync"):
            patch.setattr(os, name, counted(getattr(os, name)))
        with pytest.raises(Killed):
            save_evidence(atlas, new)
    middle = state(folder)
    save_evidence(load_atlas(folder), new)
    after = state(folder)
    assert middle in (before, after) and before[0] != after[0] and before[1] != after[1]
    # The facts become new with the manifest, before the table is in its place: steps 1 to 3 write the table.
    assert (middle == after) == (last > 5)
    assert not [each.name for each in folder.iterdir() if each.suffix in (".next", ".partial")]


def test_a_table_that_waits_is_put_in_place_or_removed(folder):
    table, waiting = folder / f"{NAME}.parquet", waiting_path(folder, NAME)
    content, other = table.read_bytes(), waiting_path(folder, "salient")
    table.rename(waiting)
    other.write_bytes(b"unfinished")
    assert load_atlas(folder).evidence(NAME) is not None
    settle_tables(folder, load_atlas(folder).manifest)
    assert table.read_bytes() == content and not waiting.exists() and not other.exists()
    assert load_atlas(folder).evidence("salient") is not None


def test_a_link_that_waits_is_not_followed(folder, tmp_path):
    table, waiting = folder / f"{NAME}.parquet", waiting_path(folder, NAME)
    outside = tmp_path / "outside"
    table.rename(outside)
    waiting.symlink_to(outside)
    with pytest.raises(Exception, match="a link that leads out of its folder"):
        load_atlas(folder).evidence(NAME)
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()
    settle_tables(folder, load_atlas(folder).manifest)
    assert not waiting.is_symlink() and hashlib.sha256(outside.read_bytes()).hexdigest() == digest
