"""A run that is killed at any moment goes on with the same command and gives the identical atlas."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import headatlas
from interrupts import start_hearing
from models import make_model, save_model
from planted import PAIRS, WORDS, write_relation

N_KILLS = int(os.environ.get("HEADATLAS_KILLS", "5"))
"""More of them by hand: `HEADATLAS_KILLS=50 pytest -m system tests/test_kill.py`."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("kill")
    save_model(make_model("llama", num_hidden_layers=40), place / "tiny", WORDS)
    write_relation(place / "r.json", PAIRS)
    return place


def start(place: Path, out: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "headatlas", "map", "tiny", "-o", out, "--relations", "r.json"]
    return start_hearing(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


@pytest.mark.system
def test_killed_runs_go_on(place):
    began = time.perf_counter()
    assert start(place, "whole").wait(300) == 0
    seconds = time.perf_counter() - began
    whole = headatlas.load_atlas(place / "whole")
    generator = random.Random(0)
    killed_late = 0
    for number in range(N_KILLS):
        out = place / f"killed{number}"
        process = start(place, out.name)
        # Later half of the run: before it, packages are imported and nothing is written.
        moment = began = time.perf_counter()
        if number % 2:
            while not list(out.glob(".unfinished/layer-*.npz")) and time.perf_counter() < moment + 120:
                time.sleep(0.002)
            time.sleep(generator.uniform(0, 0.3))
        else:
            time.sleep(generator.uniform(0.5, 1) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        killed_late += bool(list(out.glob(".unfinished/layer-*.npz")))
        if not (out / "atlas.json").exists():
            with pytest.raises(headatlas.errors.AtlasError):
                headatlas.load_atlas(out)
        again = start(place, out.name)
        assert again.wait(300) == 0, again.stderr.read()
        atlas = headatlas.load_atlas(out)
        assert atlas.table.equals(whole.table) and atlas.pair_hits.equals(whole.pair_hits)
        assert not (out / ".unfinished").exists()
    assert killed_late


@pytest.mark.system
def test_ctrl_c_exits_with_130_and_says_how_to_go_on(place):
    process = start(place, "interrupted")
    out = place / "interrupted"
    while not list(out.glob(".unfinished/layer-*.npz")):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on where it stopped" in messages
    assert "Traceback" not in messages
    assert not (out / "atlas.json").exists()


@pytest.mark.system
def test_a_second_run_into_the_folder_is_refused(place):
    first = start(place, "shared")
    out = place / "shared"
    while not list(out.glob(".unfinished/layer-*.npz")):
        assert first.poll() is None
        time.sleep(0.002)
    # Held in the middle, so that it cannot be finished before the second has begun.
    first.send_signal(signal.SIGSTOP)
    second = start(place, "shared")
    _, messages = second.communicate(timeout=120)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2 and "another run is writing into this folder" in messages
    assert first.wait(300) == 0
    assert headatlas.load_atlas(out).n_layers == 40
