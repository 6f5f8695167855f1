"""A map that runs out of space says so, loses no finished layer, and goes on when there is room."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import headatlas
from models import make_model, save_model
from planted import PAIRS, WORDS, write_relation

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform == "win32", reason="needs the limits of processes that POSIX knows"),
]
N_LAYERS = 40

FULL_AFTER = """
import os, resource, sys

left = int(sys.argv.pop(1))
replace = os.replace


def counted(*names, **options):
    global left
    replace(*names, **options)
    left -= 1
    if not left:
        # From now on the kernel refuses every byte to every file, whoever writes it; pipes are not files.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


os.replace = counted
from headatlas.__main__ import main

sys.exit(main())
"""
"""The command line on a disk that is full once a given number of files is in place."""

DESCRIPTION = 2
"""Files that a run writes before its layers: what it measures, and how far its input is from the model's."""


def run(place: Path, *program: str) -> subprocess.CompletedProcess:
    arguments = ["map", "tiny", "-o", "out", "--relations", "r.json", "--profile", "maps"]
    command = [sys.executable, *program, *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, encoding="utf-8", timeout=600)


def test_a_full_disk_loses_nothing(tmp_path):
    save_model(make_model("llama", num_hidden_layers=N_LAYERS), tmp_path / "tiny", WORDS)
    relation = write_relation(tmp_path / "r.json", PAIRS)
    whole = headatlas.map_heads(tmp_path / "tiny", relations=relation, profile="maps")
    out = tmp_path / "out"
    salient = DESCRIPTION + N_LAYERS
    # There is room for some layers, then for all, then for their salient operations, then for the first figure.
    for room, kept in ((DESCRIPTION + 7, 7), (N_LAYERS - 7, N_LAYERS), (salient, N_LAYERS), (1, N_LAYERS)):
        done = run(tmp_path, "-c", FULL_AFTER, str(room))
        assert done.returncode == 2, done
        (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert f"cannot be written ({os.strerror(errno.EFBIG)})" in sentence, sentence
        assert sentence.endswith("run the same command again."), sentence
        assert "Traceback" not in done.stderr and not (out / "atlas.json").exists()
        assert len(list(out.glob(".unfinished/layer-*.npz"))) == kept
    done = run(tmp_path, "-m", "headatlas")
    assert done.returncode == 0, done
    atlas = headatlas.load_atlas(out)
    assert atlas.manifest.run.layers_from_earlier_run == N_LAYERS
    assert atlas.table.equals(whole.table) and atlas.pair_hits.equals(whole.pair_hits)
    assert not (out / ".unfinished").exists()
