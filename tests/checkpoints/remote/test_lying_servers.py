"""Servers that lie about what they send, or never end: refused in one sentence, and nothing of it is kept."""

import time

import pytest

from headatlas.architectures.open import open_checkpoint
from headatlas.checkpoints.remote import http, small_files
from headatlas.checkpoints.remote.cache import cache_folder
from headatlas.errors import CheckpointError
from models import make_model, save_model
from remote_tensors import NAME, store_of
from served import serve

REDIRECT = "http://198.51.100.7"
"""An address for documentation, where nobody answers."""


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(http, "PATIENCE", 0.6)


def kept() -> list[str]:
    """Ranges and small files in the cache, finished or not."""
    paths = [*cache_folder().glob("ranges/*/*"), *cache_folder().glob("folders/*/*"), *cache_folder().glob("run-*/*")]
    return sorted(path.name for path in paths if path.is_file())


SLOW = "expected at least 1,000 bytes per second, found"
LIES = {
    "other bytes": ({"content_range": "bytes 7-9/{n}"}, "the server sent the bytes 7 to 9 instead of"),
    "no range": ({"content_range": "chunks 0-9/5000"}, "the server does not say which bytes it sends"),
    "another length": ({"content_range": "bytes 0-9/17"}, "found a changed one"),
    "200 for 206": ({"ranges": False}, "found one that ignores the Range header"),
    "compressed": ({"extra": {"Content-Encoding": "br"}}, "found them compressed by the server (br)"),
    "endless": ({"endless": True}, "the server sent more than it announced"),
    "another scheme": ({"elsewhere": "ftp://host"}, "expected a redirect to https, found one to 'ftp'"),
    "a file": ({"elsewhere": "file:///etc"}, "expected a redirect to https, found one to 'file'"),
    "another host in plain http": ({"elsewhere": REDIRECT}, "expected a redirect to https, found one to plain http"),
    "changed, new tag": ({"tag": '"second"'}, "found a changed one"),
    "a byte now and then": ({"drip": 0.03}, SLOW),
    "a header now and then": ({"drip": 0.03, "drips_headers": True}, f"{SLOW} no whole answer in 0.6 seconds"),
}


@pytest.mark.parametrize("case", LIES)
def test_ranges(server, case):
    settings, what = LIES[case]
    store = store_of(server)
    before = kept()
    for name, value in settings.items():
        n = (server.folder / NAME).stat().st_size
        setattr(server, name, value.format(n=n) if isinstance(value, str) else value)
    started = time.monotonic()
    with pytest.raises(CheckpointError) as refused:
        store.read("E")
    found = str(refused.value)
    assert what in found and "\n" not in found and "secret" not in found
    assert time.monotonic() - started < 10
    assert kept() == before


def test_a_file_that_changes_under_its_tag(server):
    """Another length is seen; another content of the same length cannot be, which the documentation says."""
    store = store_of(server)
    before = kept()
    path = server.folder / NAME
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match="found a changed one"):
        store.read("E")
    assert kept() == before


def test_a_server_that_brings_a_byte_in_each_transfer(server):
    """It would otherwise be asked as often as the file has bytes."""
    store = store_of(server)
    server.breaks += [1] * 1_000
    with pytest.raises(CheckpointError, match="the transfer failed 4 times"):
        store.read("E")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(make_model("llama"), tmp_path_factory.mktemp("model"))


SMALL = {
    "endless": ({"endless": True}, "expected at most 2,000,000 bytes, found more"),
    "compressed": ({"extra": {"Content-Encoding": "gzip"}}, "found them compressed by the server (gzip)"),
    "a byte now and then": ({"drip": 0.03}, SLOW),
    "a header now and then": ({"drip": 0.03, "drips_headers": True}, f"{SLOW} no whole answer in 0.6 seconds"),
    "a part": ({"statuses": [206] * 9}, "expected the whole file, found HTTP 206"),
}


@pytest.mark.parametrize("case", SMALL)
def test_small_files(fresh_cache, model, case, monkeypatch):
    monkeypatch.setattr(small_files, "LIMIT", 2_000_000)
    settings, what = SMALL[case]
    with serve(model, **settings) as served, pytest.raises(CheckpointError) as refused:
        open_checkpoint(served.url)
    assert what in str(refused.value)
    assert kept() == []
