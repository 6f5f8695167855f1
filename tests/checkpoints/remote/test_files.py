"""Tensors behind http: the same as local ones, only the needed bytes travel, and what breaks goes on."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import headatlas
from headatlas.checkpoints.remote import cache as range_cache
from headatlas.checkpoints.remote import retrying
from headatlas.checkpoints.remote.file import Broken
from headatlas.checkpoints.remote.http import HttpFile
from headatlas.checkpoints.safetensors.remote import RemoteSafetensors
from headatlas.errors import CheckpointError
from served import serve

NAME = "model.safetensors"
ROWS, WIDTH = 103, 67


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(retrying, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tensors():
    generator = torch.Generator().manual_seed(1)
    return {
        "E": torch.randn(ROWS, WIDTH, generator=generator),
        "half": torch.randn(13, 11, generator=generator).half(),
        "brain": torch.randn(17, 5, generator=generator).bfloat16(),
        "eight": torch.randn(19, 3, generator=generator).to(torch.float8_e4m3fn),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 7),
        "unwanted": torch.randn(211, 97, generator=generator),
    }


@pytest.fixture
def server(tmp_path, tensors):
    (tmp_path / "served").mkdir()
    save_file(tensors, tmp_path / "served" / NAME)
    with serve(tmp_path / "served") as served:
        yield served


def file_of(served, name=NAME, **options):
    return HttpFile(f"{served.url}/{name}", name, no_access="Ask its owner.", **options)


def store_of(served, **options):
    return RemoteSafetensors("here", {NAME: file_of(served, **options)})


def header_bytes(served):
    """What opening costs: a first byte for the version, the header and its length."""
    return 1 + 8 + int.from_bytes((served.folder / NAME).read_bytes()[:8], "little")


def same(one, other):
    assert one.dtype == other.dtype and one.shape == other.shape
    assert one.reshape(-1).view(torch.uint8).equal(other.reshape(-1).contiguous().view(torch.uint8))


def test_values_bit_for_bit(server, tensors):
    store = store_of(server)
    assert set(store.names()) == set(tensors)
    assert store.size == sum(each.nbytes for each in tensors.values())
    for name, tensor in tensors.items():
        assert store.shape(name) == tuple(tensor.shape)
        assert store.n_bytes(name) == tensor.nbytes
        assert store.file_of(name) == NAME
        same(store.read(name), tensor)
    assert [store.dtype(name) for name in ("E", "half", "brain", "eight")] == ["F32", "F16", "BF16", "F8_E4M3"]
    for rows in (slice(3, 8), slice(-2, None), slice(0, 0), slice(50, 9999), slice(1, 20, 3), slice(9, 2)):
        same(store.read("E", rows), tensors["E"][rows])


def test_only_the_needed_bytes_travel_and_only_once(server, tensors):
    store = store_of(server)
    assert server.bytes_of(NAME) == header_bytes(server)
    seen = []
    wanted = [("half", None), ("E", slice(5, 10)), ("E", slice(10, 12)), ("E", slice(8, 11)), ("E", slice(90, 91))]
    store.fetch(wanted, lambda done, total: seen.append((done, total)))
    needed = tensors["half"].nbytes + (7 + 1) * WIDTH * 4
    assert server.bytes_of(NAME) == header_bytes(server) + needed
    assert seen[0] == (0, needed) and seen[-1] == (needed, needed) and seen == sorted(seen)
    n_asked = len(server.asked)
    for name, rows in wanted:
        store.read(name, rows)
    assert len(server.asked) == n_asked
    # What was not fetched fetches itself: only the rows between those that are there.
    same(store.read("E", slice(4, 14)), tensors["E"][4:14])
    assert server.bytes_of(NAME) == header_bytes(server) + needed + 3 * WIDTH * 4

    del server.asked[:]
    again = store_of(server)
    again.fetch(wanted, lambda done, total: seen.append((done, total)))
    same(again.read("E", slice(4, 14)), tensors["E"][4:14])
    assert seen[-1] == (needed, needed)
    assert server.bytes_of(NAME) == 1  # the first byte, for the version


def test_a_pinned_file_is_not_even_asked_for_its_version(server, tensors):
    store_of(server, pinned=True).read("half")
    del server.asked[:]
    same(store_of(server, pinned=True).read("half"), tensors["half"])
    assert server.asked == []


def test_touching_tensors_are_one_request_and_long_ones_several(server, tensors, monkeypatch):
    store = store_of(server)
    n_asked = len(server.asked)
    store.fetch([(name, None) for name in tensors])
    assert len(server.asked) == n_asked + 1
    monkeypatch.setattr(range_cache, "PIECE", 1000)
    fresh = RemoteSafetensors("here", {NAME: file_of(server, identity="another")})
    n_asked = len(server.asked)
    fresh.fetch([("E", None)])
    assert len(server.asked) == n_asked + -(-tensors["E"].nbytes // 1000)
    same(fresh.read("E"), tensors["E"])


@pytest.mark.parametrize("statuses", [[503, 429], [500], [502, 504, 408]])
def test_busy_servers_are_asked_again(server, tensors, statuses):
    store = store_of(server)
    server.statuses += statuses
    same(store.read("E"), tensors["E"])


def test_a_server_that_stays_busy(server):
    server.statuses += [503] * 9
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == (
        "model.safetensors: the transfer failed 4 times at byte 0 (HTTP 503). Run the same again; what was "
        "fetched is kept."
    )


def test_a_broken_transfer_goes_on_where_it_broke(server, tensors):
    store = store_of(server)
    start = server.bytes_of(NAME)
    server.breaks += [700, 900, 0]
    same(store.read("E"), tensors["E"])
    assert server.bytes_of(NAME) - start == tensors["E"].nbytes


def test_after_giving_up_only_missing_pieces_travel(server, tensors, monkeypatch):
    monkeypatch.setattr(range_cache, "PIECE", 4000)
    monkeypatch.setattr(range_cache, "N_TRANSFERS", 1)
    store = store_of(server)
    server.breaks += [None, None, 0, 0, 0, 0]
    with pytest.raises(CheckpointError, match=r"the transfer failed 4 times at byte [\d,]+ \(the connection broke: "):
        store.fetch([("E", None)])
    del server.breaks[:], server.asked[:]
    again = store_of(server)
    same(again.read("E"), tensors["E"])
    assert server.bytes_of(NAME) == 1 + tensors["E"].nbytes - 2 * 4000


KILLED = """
import sys
from headatlas.checkpoints.remote import cache as range_cache
from headatlas.checkpoints.remote.http import HttpFile
from headatlas.checkpoints.safetensors.remote import RemoteSafetensors
range_cache.PIECE, range_cache.N_TRANSFERS = 4000, 1
store = RemoteSafetensors("here", {"model.safetensors": HttpFile(sys.argv[1], "model.safetensors", no_access="")})
def tell(done, total):
    print(done, flush=True)
store.fetch([("E", slice(0, 45))], tell)
print("there", flush=True)
store.fetch([("E", None)], tell)
"""


def test_after_a_kill_only_missing_pieces_travel(server, tensors):
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


@pytest.mark.parametrize("what", ["tag", "length", "shorter"])
def test_a_file_that_changes_in_the_middle(server, tensors, what):
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


def test_a_server_that_ignores_ranges_sends_nothing(server):
    server.ranges = False
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == (
        "model.safetensors: expected a server that sends parts of a file, found one that ignores the Range header and "
        "sends all of it. Download the model and name its folder."
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("bytes 0-1/{n}", "the server sent the bytes 0 to 1 instead of its first one"),
        ("nonsense", "the server does not say which bytes it sends"),
        ("bytes 0-0/*", "the server does not say which bytes it sends"),
        ("bytes 0-0/" + "9" * 5_000, "the server does not say which bytes it sends"),
        ("bytes -5-0/9", "the server does not say which bytes it sends"),
    ],
)
def test_answers_with_a_wrong_content_range(server, said, message):
    server.content_range = said.format(n=99)
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == (
        f"model.safetensors: the transfer failed 4 times at byte 0 ({message}). "
        f"Run the same again; what was fetched is kept."
    )


def test_other_bytes_than_asked_for(server):
    store = store_of(server)
    length = (server.folder / NAME).stat().st_size
    server.content_range = f"bytes 0-9/{length}"
    with pytest.raises(CheckpointError, match=r"the server sent the bytes 0 to 9 instead of [\d,]+ to [\d,]+"):
        store.read("E")


def test_compressed_bytes_are_refused(server):
    server.extra = {"Content-Encoding": "gzip"}
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == (
        "model.safetensors: expected the file's own bytes, found them compressed by the server (gzip)."
    )


@pytest.mark.parametrize("status", [401, 403])
def test_no_access(server, status):
    server.statuses += [status]
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == f"model.safetensors: the server refuses access (HTTP {status}). Ask its owner."


def test_a_login_is_not_sent_on_to_another_server(server, tensors, tmp_path):
    (tmp_path / "empty").mkdir()
    with serve(tmp_path / "empty", elsewhere=server.url, login="Bearer hf_secret") as front:
        (tmp_path / "empty" / NAME).write_bytes(b"a pointer")
        store = RemoteSafetensors("here", {NAME: file_of(front, headers={"authorization": "Bearer hf_secret"})})
        same(store.read("E"), tensors["E"])
        same(store.read("half"), tensors["half"])
        assert {each.authorization for each in front.asked} == {"Bearer hf_secret"}
        assert {each.authorization for each in server.asked} == {None}
        assert front.bytes_of(NAME) == 0
        # The redirect is remembered; when its signature has run out, the front is asked again.
        assert len(front.asked) == 1
        server.statuses.append(403)
        same(store.read("brain"), tensors["brain"])
        assert len(front.asked) == 2
        server.statuses += [403, 403]
        with pytest.raises(CheckpointError) as refused:
            store.read("unwanted")
        assert str(refused.value) == "model.safetensors: the server refuses access (HTTP 403). Ask its owner."


def test_redirects_that_lead_round_or_away(server):
    server.elsewhere = server.url
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == "model.safetensors: expected a file, found more than 5 redirects."
    server.elsewhere = "ftp://host"
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == "model.safetensors: expected a redirect to https, found one to 'ftp'."


def test_a_redirect_to_plain_http():
    file, here = HttpFile("https://host/x", "x", no_access=""), HttpFile("http://[::1]/x", "x", no_access="")
    mirror = HttpFile("http://host/x", "x", no_access="")
    for each, url in ((file, "http://other/x"), (file, "http://127.0.0.1/x"), (here, "http://other/x")):
        with pytest.raises(CheckpointError) as refused:
            each._next(each.address, url)
        assert str(refused.value) == "x: expected a redirect to https, found one to plain http."
    assert here._next(here.address, "http://127.0.0.1/x") == "http://127.0.0.1/x"
    assert mirror._next(mirror.address, "http://other/x") == "http://other/x"
    for url in ("http://[", "https://host:99999/x"):
        with pytest.raises(CheckpointError) as refused:
            file._next("https://host/x", url)
        assert str(refused.value) == "x: expected a redirect to an address, found another text."
    assert file._next("https://host/x", "https://me:secret@other/x?s=1") == "https://other/x?s=1"
    assert file._next("https://host/x", "/y") == "https://host/y"


def test_without_a_connection_the_cache_serves(server, tensors, monkeypatch):
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


def test_a_server_that_is_busy_for_long_leaves_the_cache_to_serve(server, tensors):
    store_of(server).read("E")
    server.statuses += [503] * 3
    same(store_of(server).read("E"), tensors["E"])


def test_a_full_disk(server, monkeypatch):
    store = store_of(server)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(range_cache.os, "replace", full)
    with pytest.raises(CheckpointError) as refused:
        store.read("E")
    assert str(refused.value) == (
        f"{range_cache.cache_folder()}: the disk is full. Make room, or set HEADATLAS_CACHE to a folder on another "
        f"disk, and run the same again; what was fetched is kept."
    )
    assert list(range_cache.cache_folder().glob("ranges/*/part-*")) == []


def test_a_cache_that_cannot_be_written(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == (
        f"{tmp_path / 'file'}: expected a cache folder that can be written to, found none (Not a directory). "
        f"Set HEADATLAS_CACHE to one."
    )


def test_what_a_killed_run_left_is_swept_after_a_week(server):
    store_of(server)
    folder = next(range_cache.cache_folder().glob("ranges/*"))
    old, young, run = folder / "part-old", folder / "part-young", range_cache.cache_folder() / "run-old"
    run.mkdir()
    for path in (old, young, run / "part-x"):
        path.write_bytes(b"1")
    for path in (old, run):
        os.utime(path, (1, 1))
    store_of(server)
    assert (old.exists(), young.exists(), run.exists()) == (False, True, False)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADATLAS_CACHE", "~/here")
    assert range_cache.cache_folder() == Path.home() / "here"
    monkeypatch.delenv("HEADATLAS_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert range_cache.cache_folder() == tmp_path / "headatlas"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert range_cache.cache_folder() == Path.home() / ".cache" / "headatlas"


def test_pauses_grow_and_a_server_s_wish_counts(server, monkeypatch):
    monkeypatch.setattr(retrying, "PAUSES", (1.0, 2.0))
    file = file_of(server)
    for failures, least in ((1, 0.8), (2, 1.6), (9, 1.6)):
        assert least <= retrying.next_pause(file, failures, Broken("busy"), retries=9) <= least * 1.5
    assert retrying.next_pause(file, 1, Broken("busy", pause=30.0)) == 30.0
    assert retrying.next_pause(file, 1, Broken("busy", pause=1e9)) == retrying.LONGEST_PAUSE
    with pytest.raises(retrying.Unreachable, match=r"the transfer failed 3 times at byte 7 \(busy\)"):
        retrying.next_pause(file, 3, Broken("busy"), at=7)


def test_two_at_once_share_the_cache(server, tensors):
    stores = [store_of(server) for _ in range(4)]
    threads = [threading.Thread(target=store.fetch, args=([("E", None), ("unwanted", None)],)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in [*stores, store_of(server)]:
        same(store.read("E"), tensors["E"])


def test_a_tensor_in_two_files(server):
    (server.folder / "more.safetensors").write_bytes((server.folder / NAME).read_bytes())
    with pytest.raises(CheckpointError) as refused:
        RemoteSafetensors("here", {name: file_of(server, name) for name in (NAME, "more.safetensors")})
    assert str(refused.value) == (
        "here: tensor 'E' is in 'model.safetensors' and again in 'more.safetensors'. Expected it once; are these the "
        "shards of one model?"
    ).replace("'E'", repr(next(iter(RemoteSafetensors("here", {NAME: file_of(server)}).names()))))


def test_a_tensor_that_is_not_there(server):
    with pytest.raises(CheckpointError) as refused:
        store_of(server).read("F")
    assert str(refused.value) == "here: expected a tensor 'F', found none. Is the checkpoint complete?"


def write(server, header, n_data):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    (server.folder / NAME).write_bytes(len(text).to_bytes(8, "little") + text + bytes(n_data))


def test_an_unknown_type_is_refused_when_it_is_read(server):
    write(server, {"x": {"dtype": "F3", "shape": [2], "data_offsets": [0, 4]}}, 4)
    store = store_of(server)
    with pytest.raises(CheckpointError, match=r"^model.safetensors: tensor 'x' has the type F3; expected one of B"):
        store.read("x")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it has 0 bytes"),
        (b"1234567", "it has 7 bytes"),
        (b"\xff" * 20, "it announces a header of 18,446,744,073,709,551,615 bytes, more than the 100,000,000 allowed"),
        (b"\x40" + bytes(7) + b"{}", "it announces a header of 64 bytes in a file of 10"),
        (b"\x02" + bytes(7) + b"{}more", "its tensors end at byte 10 of 14"),
        (b"\x04" + bytes(7) + b"{\"\"}", "its header is not JSON"),
    ],
)  # fmt: skip
def test_files_that_are_something_else(server, content, what):
    (server.folder / NAME).write_bytes(content)
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == (
        f"model.safetensors: expected a safetensors file, found a damaged one ({what}). "
        f"Was it uploaded whole, and from a source that you trust?"
    )


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


def test_a_read_costs_its_own_size(server):
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
