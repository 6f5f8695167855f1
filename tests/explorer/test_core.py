"""The page's own classification, run by node, against `headatlas.categories.classify`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlases import make_atlas
from headatlas.atlas import Atlas
from headatlas.categories import classify
from headatlas.explorer.payload import build_payload

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.system


def ask(atlas: Atlas, views: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    assert shutil.which("node") and (ROOT / "node_modules").exists(), "the explorer's tests need node: run `npm ci`"
    (folder / "payload").write_bytes(build_payload([atlas]))
    command = ["node", "explorer/tests/classify.mjs", str(folder / "payload")]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(views), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same(atlas: Atlas, views: list[dict[str, Any]], folder: Path) -> None:
    for view, answer in zip(views, ask(atlas, views, folder)["answers"], strict=True):
        expected = classify(atlas, **view)
        assert np.array_equal(np.array(answer["implements"], bool), expected.implements.ravel()), view
        for number, category in enumerate(answer["categories"]):
            has = np.array(answer["has"][number], bool)
            assert np.array_equal(has, expected.has[expected.categories.index(category)].ravel()), view


def test_every_view_has_the_categories_of_the_command_line(tmp_path):
    atlas = make_atlas(n_layers=13, n_heads=7, without_heads=(3,), chance=True)
    thresholds = [f"0.{number:02}" for number in range(96)]
    views = [
        {"kind": kind, "profile": profile, "threshold": threshold}
        for kind in ("score", "suppression")
        for profile in ("maps", "calibrated")
        for threshold in [*thresholds, "0.175", "0.999"]
    ]
    assert_same(atlas, views, tmp_path)


def test_categories_beyond_the_bits_of_a_number_stay_apart(tmp_path):
    atlas = make_atlas(n_layers=6, n_heads=4, categories=tuple(f"Category {number}" for number in range(70)))
    assert_same(atlas, [{"kind": "score", "profile": "maps", "threshold": "0.15"}], tmp_path)


@pytest.mark.parametrize("threshold", ["1e-1", "3/20", "1/3", "0.15000000000000000000", "+0.15", "0.", "00.2"])
def test_a_threshold_as_map_accepts_it_is_read(threshold, tmp_path):
    atlas = make_atlas(n_layers=5, n_heads=3)
    atlas.manifest["settings"]["threshold"] = threshold
    assert_same(atlas, [{"kind": "score", "profile": "maps", "threshold": None}], tmp_path)


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path):
    cells = ask(make_atlas(n_layers=3, n_heads=2), [], tmp_path)["cells"]
    assert cells[:6] == ["'=1+1", "'+1", "-1", "-1.5", "'-1+1", "'@sum"]
    assert cells[6:] == ["'\t=1", '"\'\r=1"', '"a""b"', '"a,b"', '"a\nb"', "plain"]
