"""A map that runs out of space says so, loses no finished layer, and goes on when there is room."""

import subprocess
import sys
from pathlib import Path

import pytest

import headatlas
from models import make_model, save_model
from planted import PAIRS, WORDS, write_relation

pytestmark = pytest.mark.system
N_LAYERS = 40


class SmallDisk:
    """A file system of its own, in memory; where none may be mounted, a limit on the size of every file instead.

    The limit stops a map only at its larger files, when all layers are there.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.prefix = path, ""
        self.mounted = not subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path]).returncode
        self.resize(64)

    def resize(self, kilobytes: int) -> None:
        if self.mounted:
            subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", self.path], check=True)
        else:
            self.prefix = f"ulimit -f {kilobytes // 4}; "

    def call(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
        command = ["bash", "-c", f'{self.prefix}exec "$0" -m headatlas "$@"', sys.executable, *arguments]
        return subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=300)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", self.path], check=True)


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.close()


def test_a_full_disk_loses_nothing(tmp_path, disk):
    save_model(make_model("llama", num_hidden_layers=N_LAYERS), tmp_path / "tiny", WORDS)
    relation = write_relation(tmp_path / "r.json", PAIRS)
    whole = headatlas.map_heads(tmp_path / "tiny", relations=relation)
    out = disk.path / "out"
    kept = 0
    # First there is no room for all layers, then none for the figures.
    for kilobytes in (64, 240):
        disk.resize(kilobytes)
        done = disk.call("map", "tiny", "-o", str(out), "--relations", "r.json", cwd=tmp_path)
        assert done.returncode == 2, done
        (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert "cannot be written (" in sentence and sentence.endswith("run the same command again."), sentence
        assert "Traceback" not in done.stderr and not (out / "atlas.json").exists()
        layers = len(list(out.glob(".unfinished/layer-*.npz")))
        assert layers > kept or kept == N_LAYERS
        kept = layers
        if disk.mounted:
            assert "No space left on device" in sentence and (kept < N_LAYERS) == (kilobytes == 64)
    assert kept == N_LAYERS
    disk.resize(16_384)
    done = disk.call("map", "tiny", "-o", str(out), "--relations", "r.json", cwd=tmp_path)
    assert done.returncode == 0, done
    atlas = headatlas.load_atlas(out)
    assert atlas.manifest["run"]["layers_from_earlier_run"] == N_LAYERS
    assert atlas.table.equals(whole.table) and atlas.pair_hits.equals(whole.pair_hits)
    assert not (out / ".unfinished").exists()
