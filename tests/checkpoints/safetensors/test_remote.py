"""Tensors of safetensors files behind http: equal to local ones, and only the needed bytes are transferred."""

import json

import pytest

from headatlas.checkpoints.remote import cache as range_cache
from headatlas.checkpoints.safetensors.remote import RemoteSafetensors
from headatlas.errors import CheckpointError
from remote_tensors import NAME, WIDTH, file_of, header_bytes, same, store_of


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


def test_only_the_needed_bytes_are_transferred_and_only_once(server, tensors):
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
    # Rows that were not fetched are fetched when they are read.
    same(store.read("E", slice(4, 14)), tensors["E"][4:14])
    assert server.bytes_of(NAME) == header_bytes(server) + needed + 3 * WIDTH * 4

    del server.asked[:]
    again = store_of(server)
    again.fetch(wanted, lambda done, total: seen.append((done, total)))
    same(again.read("E", slice(4, 14)), tensors["E"][4:14])
    assert seen[-1] == (needed, needed)
    assert server.bytes_of(NAME) == 1  # the first byte, for the version


def test_the_version_of_a_pinned_file_is_not_requested_again(server, tensors):
    store_of(server, pinned=True).read("half")
    del server.asked[:]
    same(store_of(server, pinned=True).read("half"), tensors["half"])
    assert server.asked == []


def test_adjacent_tensors_are_one_request_and_long_ones_several(server, tensors, monkeypatch):
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
        (b"\xff" * 20, "it announces a header of 18,446,744,073,709,551,615 bytes, more than the 16,777,216 allowed"),
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
