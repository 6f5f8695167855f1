"""The cache of ranges: survives kills, damage and full disks, and never mixes two versions of a file."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from safetensors.torch import save_file

import headatlas
from headatlas.checkpoints.remote import cache as range_cache
from headatlas.errors import CheckpointError
from remote_tensors import NAME, WIDTH, header_bytes, same, store_of

KILLED = """
import sys
from headatlas.checkpoints.remote import cache as range_cache
from headatlas.checkpoints.remote.http import HttpFile
from headatlas.checkpoints.safetensors.remote import RemoteSafetensors
range_cache.PIECE, range_cache.N_TRANSFERS = 4000, 1
store = RemoteSafetensors("here", {"model.safetensors": HttpFile(sys.argv[1], "model.safetensors", no_access="")})
def show(done, total):
    print(done, flush=True)
store.fetch([("E", slice(0, 45))], show)
print("there", flush=True)
store.fetch([("E", None)], show)
"""


def test_after_a_kill_only_missing_pieces_are_transferred(server, tensors):
    environment = os.environ | {"PYTHONPATH": str(Path(headatlas.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, f"{server.url}/{NAME}"],
        env=environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        for line in process.stdout:
            if line == "there\n":
                process.send_signal(signal.SIGKILL)
                break
    came = sum(int(path.name.split("-")[1]) - int(path.name.split("-")[0])
               for path in range_cache.cache_folder().glob("ranges/*/*-*") if path.name[0].isdigit())  # fmt: skip
    assert came >= 45 * WIDTH * 4
    del server.asked[:]
    store = store_of(server)
    same(store.read("E"), tensors["E"])
    assert server.bytes_of(NAME) == 1 + tensors["E"].nbytes - (came - header_bytes(server) + 1)


def damage(kind):
    for path in range_cache.cache_folder().glob("ranges/*/*"):
        content = bytearray(path.read_bytes())
        if kind == "flipped":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        elif kind == "short":
            path.write_bytes(content[:-5])
        else:
            path.unlink()


@pytest.mark.parametrize("kind", ["flipped", "short", "gone"])
def test_a_damaged_cache_is_fetched_again(server, tensors, kind):
    store = store_of(server)
    store.fetch([("E", None)])
    damage(kind)
    same(store.read("E"), tensors["E"])
    same(store_of(server).read("E"), tensors["E"])
    n_asked = server.bytes_of(NAME)
    same(store_of(server).read("E"), tensors["E"])
    assert server.bytes_of(NAME) == n_asked + 1


CHANGED = (
    "model.safetensors: expected the file of the beginning of this run, found a changed one. "
    "Run the same again to read the new one."
)


@pytest.mark.parametrize(
    "noted", ["[" * 100_000, "[3, 3]", '["a", "b"]', '["a", 1e999]', "{}", '["a"' + ",1" * 9_999 + "]"]
)
def test_notes_of_versions_that_are_none(server, tensors, noted):
    same(store_of(server).read("E"), tensors["E"])
    (note,) = range_cache.cache_folder().glob("versions/*.json")
    before = note.read_text("utf-8")
    note.write_text(noted, "utf-8")
    same(store_of(server).read("E"), tensors["E"])
    assert note.read_text("utf-8") == before


@pytest.mark.parametrize("what", ["tag", "length", "shorter"])
def test_a_file_that_changes_during_a_run(server, tensors, what):
    store = store_of(server)
    path = server.folder / NAME
    if what == "tag":
        server.tag = '"second"'
    elif what == "length":
        path.write_bytes(path.read_bytes() + b"0")
    else:
        path.write_bytes(path.read_bytes()[:9])
    with pytest.raises(CheckpointError) as refused:
        store.read("E")
    assert str(refused.value) == CHANGED


def test_a_new_file_is_not_mixed_with_the_old_one(server, tensors):
    same(store_of(server).read("E"), tensors["E"])
    save_file(tensors | {"E": tensors["E"] * 2}, server.folder / NAME)
    server.tag = '"second"'
    same(store_of(server).read("E"), tensors["E"] * 2)


def test_without_a_tag_the_date_counts_and_without_both_nothing_is_kept(server, tensors):
    server.tag, server.modified = None, "Mon, 23 Nov 2026 03:45:49 GMT"
    store_of(server).read("E")
    del server.asked[:]
    store_of(server).read("E")
    assert server.bytes_of(NAME) == 1
    server.modified = None
    store = store_of(server)
    same(store.read("E"), tensors["E"])
    came = server.bytes_of(NAME)
    store.read("E")
    assert server.bytes_of(NAME) == came
    runs = range_cache.cache_folder()
    assert len(list(runs.glob("run-*"))) == 1
    del store
    assert list(runs.glob("run-*")) == []
    store_of(server).read("E")
    assert server.bytes_of(NAME) > came + tensors["E"].nbytes


def test_without_a_connection_the_cache_is_used(server, tensors, monkeypatch):
    store_of(server).read("E")
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    del server.asked[:]
    store = store_of(server)
    same(store.read("E"), tensors["E"])
    with pytest.raises(CheckpointError) as refused:
        store.read("half")
    assert str(refused.value) == (
        "model.safetensors: these bytes are not in the cache, and HF_HUB_OFFLINE forbids requesting them. "
        "Run once with a connection."
    )
    assert server.asked == []


def test_the_cache_is_used_if_the_server_stays_busy(server, tensors):
    store_of(server).read("E")
    server.statuses += [503] * 3
    same(store_of(server).read("E"), tensors["E"])


def test_a_full_disk(server, monkeypatch):
    store = store_of(server)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("headatlas.atomic.os.replace", full)
    with pytest.raises(CheckpointError) as refused:
        store.read("E")
    assert str(refused.value) == (
        f"{range_cache.cache_folder()}: the disk is full. Make room, or set HEADATLAS_CACHE to a folder on another "
        f"disk, and run the same again; what was fetched is kept."
    )
    assert list(range_cache.cache_folder().glob("ranges/*/.*")) == []


def test_a_cache_that_cannot_be_written(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == (
        f"{tmp_path / 'file'}: expected a cache folder that can be written to, found none (Not a directory). "
        f"Set HEADATLAS_CACHE to one."
    )


def test_unfinished_files_are_removed_after_a_week(server):
    store_of(server)
    folder = next(range_cache.cache_folder().glob("ranges/*"))
    old, young, run = folder / ".0-9.1-1.partial", folder / ".0-9.2-2.partial", range_cache.cache_folder() / "run-old"
    run.mkdir()
    for path in (old, young, run / "part-x"):
        path.write_bytes(b"1")
    for path in (old, run):
        os.utime(path, (1, 1))
    store_of(server)
    assert (old.exists(), young.exists(), run.exists()) == (False, True, False)


def test_the_folder_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADATLAS_CACHE", "~/here")
    assert range_cache.cache_folder() == Path.home() / "here"
    monkeypatch.delenv("HEADATLAS_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert range_cache.cache_folder() == tmp_path / "headatlas"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert range_cache.cache_folder() == Path.home() / ".cache" / "headatlas"


def test_concurrent_readers_share_the_cache(server, tensors):
    stores = [store_of(server) for _ in range(4)]
    threads = [threading.Thread(target=store.fetch, args=([("E", None), ("unwanted", None)],)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in [*stores, store_of(server)]:
        same(store.read("E"), tensors["E"])


FETCHER = """
import sys, tracemalloc
from headatlas.checkpoints.remote.http import HttpFile
from headatlas.checkpoints.remote.cache import CachedFile
cached = CachedFile(HttpFile(sys.argv[1], "x", no_access=""))
cached.read(0, 1)
tracemalloc.start()
content = cached.read(0, cached.length)
print(tracemalloc.get_traced_memory()[1])
"""


def test_a_read_needs_no_more_memory_than_its_size(server):
    (server.folder / "x").write_bytes(bytes(8_000_000))
    environment = os.environ | {"PYTHONPATH": str(Path(headatlas.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", FETCHER, f"{server.url}/x"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert int(done.stdout) < 8_000_000 + 2 * 2**20
