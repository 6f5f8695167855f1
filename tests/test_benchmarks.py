from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import run
import shapes
from apart import run_apart
from interrupts import start_hearing
from measures import Bounds, measure_bounds

TINY = shapes.Shape("tiny", "llama", 5, 2, 1, 128, 96, 9511)
SHARES = shapes.HitShares((0.0, 0.006, 0.002, 0.02), (0.0, 0.0, 0.004, 0.002))


@pytest.fixture(scope="module", params=["maps", "alone"])
def measured(request, tmp_path_factory) -> tuple[run.Row, Path]:
    """A row of a tiny shape, measured in this process, and the folder in which its checkpoint was made."""
    scratch = tmp_path_factory.mktemp("scratch")
    options = run._parse(
        ["--layers", "2", "--heads-for-loop", "1", "--rounds", "1", "--threads", "1", "--scratch", str(scratch)]
    )

    def run_here(function, *args):
        if function is measure_bounds:
            _flip_one_decision(*args)
        return function(*args), 12_345_678

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "run_apart", run_here)
        return run.measure_shape(TINY, SHARES, options, request.param), scratch


def _flip_one_decision(source, threads, pair_hits, looped, profile):
    """While the checkpoint is there: a decision in which map and loop differ is found, and who is wrong."""
    bounds, (layer, heads) = Bounds(source, threads, profile), *looped.items()
    right = bounds.hits_of(layer, pair_hits)[:, heads]
    flipped = right.clone()
    flipped[1, 0, 17] = ~flipped[1, 0, 17]
    assert bounds.compare(layer, heads, right, right) == (0, 0)
    assert bounds.compare(layer, heads, right, flipped) == (1, 0)
    assert bounds.compare(layer, heads, flipped, right) == (1, 1)


def test_no_hit_differs_from_the_plain_loop(measured):
    row, _ = measured
    assert row["different"] == 0
    assert row["loop_hits"] > 20


def test_planted_share_is_near_the_wanted_one(measured):
    row, _ = measured
    assert row["share_wanted"] == pytest.approx(0.0085)
    # What an earlier layer adds makes the words of a narrow model alike, so that fewer planted targets are hit.
    assert row["share"] == pytest.approx(row["share_wanted"], rel=0.1 if row["profile"] == "maps" else 0.4)


def test_files_are_freed(measured):
    _, scratch = measured
    assert list(scratch.iterdir()) == []


def test_row_has_all_columns_and_says_what_was_extrapolated(measured):
    row, _ = measured
    heading, _, cells, _, note = run.markdown_table([json.loads(json.dumps(row))]).splitlines()
    assert [each.strip() for each in heading.strip("|").split("|")] == list(run.COLUMNS)
    assert [each for each in cells.strip("|").split("|") if not each.strip()] == []
    assert cells.startswith("| tiny* |")
    assert "1 of 10" in cells and "≈" in cells
    assert "2 layers × 2 heads measured, the other 3 layers extrapolated" in note


def test_extrapolation_repeats_the_later_layers():
    assert run._extrapolate([10.0, 1.0, 3.0], 3) == 14
    assert run._extrapolate([10.0, 1.0, 3.0], 6) == 10 + 5 * 2


def test_table_replaces_the_text_between_the_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{run.START}\nold\n{run.END}\nafter\n", "utf-8")
    run.put_into(page, "new")
    assert page.read_text("utf-8") == f"before\n{run.START}\nnew\n{run.END}\nafter\n"
    page.write_text("no markers", "utf-8")
    with pytest.raises(SystemExit, match="expected the lines"):
        run.put_into(page, "new")


def test_planted_heads_keep_the_mean_and_the_spread():
    heads = SHARES.spread_over(8, 0.005, random.Random(0))
    assert sum(map(sum, heads)) == pytest.approx(8 * 0.005)
    assert sum(sum(head) == 0 for head in heads) == 2


@pytest.mark.parametrize(("name", "n_layers"), [("pythia-6.9b", 32), ("llama-3.1-8b", 32), ("llama-70b", 2)])
def test_as_many_layers_as_fit(name, n_layers):
    shape = shapes.SHAPES[name]
    assert shape.n_layers_within(shapes.MOST_BYTES) == n_layers
    assert shape.n_bytes(n_layers) <= shapes.MOST_BYTES


def test_too_little_space_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    refused = pytest.raises(SystemExit, match=r"tiny needs 1,005,\d{3},\d{3} free bytes, found 1,000")
    with refused, shapes.checkpoint_of(TINY, SHARES, 2, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_memory_of_a_process_is_reported():
    answer, peak = run_apart(sum, [3, 4])
    assert answer == 7
    assert peak is None or peak > 1_000_000


STOPPED = """
import sys, time, run, shapes
from pathlib import Path
from types import SimpleNamespace
from test_benchmarks import SHARES, TINY

def rows(options):
    with shapes.checkpoint_of(TINY, SHARES, 1, Path(options.scratch)):
        print("written", flush=True)
        time.sleep(600)
        yield

run.measure_rows = rows
sys.exit(run.main(sys.argv[1:]))
"""


@pytest.mark.system
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_files_are_freed_when_it_is_stopped(tmp_path, number, code):
    folders = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", STOPPED, "--scratch", str(tmp_path), "-o", str(tmp_path / "results.json")]
    with start_hearing(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": folders}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(300) == code
    assert list(tmp_path.iterdir()) == []
