"""A run that is killed at any moment goes on with the same command and gives the identical atlas."""

import os
import random
import signal
import subprocess
import sys
import time
from itertools import chain, islice
from pathlib import Path

import pytest

import headatlas
from interrupts import start_hearing
from models import make_model, save_model
from needs import ROOT, need_demo_model
from planted import PAIRS, WORDS, write_relation

N_LAYERS = 40
MOMENTS = ("layer-0023.npz", "figure.png", "atlas.json")
"""A run is killed as soon as it has written one of these, so that the clock plays no part; tests/test_faults.py kills
at random moments."""

N_KILLS = int(os.environ.get("HEADATLAS_KILLS", str(len(MOMENTS))))
"""More of them by hand, after layers at random: `HEADATLAS_KILLS=50 pytest -m system tests/measuring/test_kill.py`."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("kill")
    save_model(make_model("llama", num_hidden_layers=N_LAYERS), place / "tiny", WORDS)
    write_relation(place / "r.json", PAIRS)
    return place


def start(place: Path, out: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "headatlas", "map", "tiny", "-o", out, "--relations", "r.json"]
    return start_hearing(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def wait_until_written(out: Path, process: subprocess.Popen, name: str) -> None:
    """Return as soon as a part or a file of the atlas is there; a process that ended before it wrote it has failed."""
    places = [out / name, out / ".unfinished" / name]
    while not any(place.exists() for place in places):
        if process.poll() is not None and not any(place.exists() for place in places):
            raise AssertionError(process.stderr.read())
        time.sleep(0.002)


@pytest.mark.system
def test_killed_runs_go_on(place):
    with start(place, "whole") as first:
        assert first.wait(600) == 0, first.stderr.read()
    whole = headatlas.load_atlas(place / "whole")
    generator = random.Random(0)
    random_layers = (f"layer-{generator.randrange(N_LAYERS):04d}.npz" for _ in range(N_KILLS))
    for number, moment in enumerate(islice(chain(MOMENTS, random_layers), N_KILLS)):
        out = place / f"killed{number}"
        with start(place, out.name) as process:
            wait_until_written(out, process, moment)
            process.send_signal(signal.SIGKILL)
        if moment.startswith("layer"):
            assert list(out.glob(".unfinished/layer-*.npz"))
        if not (out / "atlas.json").exists():
            with pytest.raises(headatlas.errors.AtlasError):
                headatlas.load_atlas(out)
        with start(place, out.name) as again:
            assert again.wait(600) == 0, again.stderr.read()
        atlas = headatlas.load_atlas(out)
        assert atlas.table.equals(whole.table) and atlas.pair_hits.equals(whole.pair_hits)
        assert not (out / ".unfinished").exists()


KEEP_EVERY_RESIDUAL = """
from headatlas.measuring import kept_residuals
kept_residuals.SAVE_EVERY = 0
from headatlas.cli import main
main()
"""


@pytest.mark.system
def test_a_killed_map_of_a_real_model_goes_on(tmp_path):
    need_demo_model()
    relation = ROOT / "src/headatlas/relations/data/country_to_capital.json"
    options = ["map", "demo", "--profile", "alone", "--relations", str(relation)]
    options += ["--no-chance", "--no-self-check", "--no-salient"]
    python, pipes = [sys.executable], {"stderr": subprocess.PIPE, "encoding": "utf-8"}
    out = tmp_path / "killed"
    with subprocess.Popen([*python, "-c", KEEP_EVERY_RESIDUAL, *options, "-o", str(out)], **pipes) as process:
        wait_until_written(out, process, "layer-0013.npz")
        process.kill()
    assert list(out.glob(".unfinished/residuals-*.npz")) and not (out / "atlas.json").exists()
    for folder in (out, tmp_path / "whole"):
        subprocess.run([*python, "-m", "headatlas", *options, "-o", str(folder)], check=True, **pipes)
    again, whole = (headatlas.load_atlas(folder) for folder in (out, tmp_path / "whole"))
    assert again.manifest.run.layers_from_earlier_run >= 14 > 0 == whole.manifest.run.layers_from_earlier_run
    assert again.table.equals(whole.table) and again.pair_hits.equals(whole.pair_hits)
    assert again.manifest.prefix == whole.manifest.prefix and whole.table["hits"].sum() > 100


@pytest.mark.system
def test_ctrl_c_exits_with_130_and_says_how_to_go_on(place):
    process = start(place, "interrupted")
    out = place / "interrupted"
    wait_until_written(out, process, "layer-0000.npz")
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 130 and "the same command continues where it stopped" in messages
    assert "Traceback" not in messages
    assert not (out / "atlas.json").exists()


@pytest.mark.system
def test_a_second_run_into_the_folder_is_refused(place):
    out = place / "shared"
    with start(place, "shared") as first:
        wait_until_written(out, first, "layer-0000.npz")
        # Held in the middle, so that it cannot be finished before the second has begun.
        first.send_signal(signal.SIGSTOP)
        second = start(place, "shared")
        _, messages = second.communicate(timeout=300)
        first.send_signal(signal.SIGCONT)
        assert second.returncode == 2 and "another run is writing into this folder" in messages
        assert first.wait(600) == 0
    assert headatlas.load_atlas(out).n_layers == N_LAYERS
