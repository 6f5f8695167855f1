"""Files behind http: wrong answers, refusals and redirects, and where a login is sent."""

import pytest

from headatlas.checkpoints.remote.http import HttpFile
from headatlas.checkpoints.safetensors.remote import RemoteSafetensors
from headatlas.errors import CheckpointError
from remote_tensors import NAME, file_of, same, store_of
from served import serve


def test_a_server_that_ignores_ranges_is_refused(server):
    server.ranges = False
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == (
        "model.safetensors: expected a server that sends parts of a file, found one that ignores the Range header and "
        "sends all of it. Download the model and name its folder."
    )


@pytest.mark.parametrize(
    ("content_range", "message"),
    [
        ("bytes 0-1/{n}", "the server sent the bytes 0 to 1 instead of its first one"),
        ("nonsense", "the server does not say which bytes it sends"),
        ("bytes 0-0/*", "the server does not say which bytes it sends"),
        ("bytes 0-0/" + "9" * 5_000, "the server does not say which bytes it sends"),
        ("bytes -5-0/9", "the server does not say which bytes it sends"),
    ],
)
def test_answers_with_a_wrong_content_range(server, content_range, message):
    server.content_range = content_range.format(n=99)
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == (
        f"model.safetensors: the transfer failed 4 times at byte 0 ({message}). "
        f"Run the same again; what was fetched is kept."
    )


def test_other_bytes_than_requested(server):
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
        # The redirect is remembered until its signature has expired.
        assert len(front.asked) == 1
        server.statuses.append(403)
        same(store.read("brain"), tensors["brain"])
        assert len(front.asked) == 2
        server.statuses += [403, 403]
        with pytest.raises(CheckpointError) as refused:
            store.read("unwanted")
        assert str(refused.value) == "model.safetensors: the server refuses access (HTTP 403). Ask its owner."


def test_circular_and_unsupported_redirects(server):
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
