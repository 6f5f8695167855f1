"""Safetensors files: parts of tensors in their stored type, and every kind of false header."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from headatlas.checkpoints.safetensors.local import SafetensorsFile
from headatlas.checkpoints.tensor_store import open_files
from headatlas.errors import CheckpointError

FILE = "model.safetensors"


def write(folder, header, data=b"", length=None):
    folder.mkdir(exist_ok=True)
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / FILE).write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return folder


def tensor(dtype="F32", shape=(2, 3), offsets=(0, 24)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_rows_in_the_stored_type(tmp_path):
    tensors = {
        "a": torch.randn(7, 5).bfloat16(),
        "b": torch.randn(3, 2, 11).to(torch.float8_e4m3fn),
        "c": torch.tensor(2.0),
        "d": torch.zeros(0, 13),
        "e": torch.arange(6, dtype=torch.uint8),
    }
    save_file(tensors, tmp_path / FILE)
    files = open_files(tmp_path, [FILE], SafetensorsFile)
    assert set(files.names()) == set(tensors) and "a" in files and "f" not in files
    for name, expected in tensors.items():
        assert files.shape(name) == tuple(expected.shape) and files.n_bytes(name) == expected.nbytes
        assert files.read(name).dtype == expected.dtype
        assert torch.equal(files.read(name).float(), expected.float())
        if expected.ndim:
            assert torch.equal(files.read(name, slice(1, 3)).float(), expected[1:3].float())
    assert [files.dtype(name) for name in "abcde"] == ["BF16", "F8_E4M3", "F32", "F32", "U8"]
    assert files.size == sum(expected.nbytes for expected in tensors.values())
    assert files.file_of("a") == FILE and files.fetch([("a", None)]) is None


LIES = {
    "offset outside the file": (
        {"a": tensor(shape=(2, 30), offsets=(0, 240))},
        "incomplete metadata, file not fully covered",
    ),
    "offsets that overlap": ({"a": tensor(), "b": tensor(offsets=(12, 36))}, "invalid offset for tensor `b`"),
    "a gap": ({"a": tensor(), "b": tensor(offsets=(28, 52))}, "invalid offset for tensor `b`"),
    "offsets backwards": ({"a": tensor(offsets=(24, 0))}, "invalid offset for tensor `a`"),
    "negative offset": ({"a": tensor(offsets=(-24, 0))}, "invalid JSON in header: invalid value: integer `-24`"),
    "negative size": ({"a": tensor(shape=(-2, -3))}, "invalid JSON in header: invalid value: integer `-2`"),
    "huge sizes": ({"a": tensor(shape=(2**62, 4))}, "overflow computing buffer size from shape and/or element type"),
    "size and offsets": ({"a": tensor(shape=(2, 4))}, "invalid shape, data type, or offset for tensor"),
    "unknown type": ({"a": tensor("Q9")}, "invalid JSON in header: unknown variant `Q9`"),
    "type of another width": ({"a": tensor("F64")}, "invalid shape, data type, or offset for tensor"),
    "no list": ([1], "invalid JSON in header: "),
    "no object": ({"a": 3}, "invalid JSON in header: "),
    "shape that is a text": ({"a": tensor(shape="22")}, "invalid JSON in header: "),
    "not JSON": (b"{]", "invalid JSON in header: "),
    "not UTF-8": (b"\xff\xfe", "invalid UTF-8 in header: "),
    "deep": (b"[" * 10_000, "invalid JSON in header: "),
}


@pytest.mark.parametrize("case", LIES)
def test_false_headers(tmp_path, case):
    header, what = LIES[case]
    assert what in refused(write(tmp_path / "m", header, bytes(24)), what)


@pytest.mark.parametrize(
    ("length", "what"),
    [(2**62, "header too large"), (2**20, "invalid header length"), (0, "invalid JSON in header: EOF")],
)
def test_header_lengths_that_lie(tmp_path, length, what):
    refused(write(tmp_path / "m", {"a": tensor()}, bytes(24), length=length), what)


@pytest.mark.parametrize("second", [tensor(), tensor(shape=(3, 2)), tensor("I32")])
def test_a_tensor_twice_in_a_header(tmp_path, second):
    header = b'{"a": %s, "a": %s}' % (json.dumps(tensor()).encode(), json.dumps(second).encode())
    folder = write(tmp_path / "m", header, bytes(24))
    with pytest.raises(CheckpointError) as caught:
        open_files(folder, [FILE], SafetensorsFile)
    assert str(caught.value) == (
        f"{folder / FILE}: expected each tensor once, found 'a' twice in the header. Fetch it again."
    )


def refused(folder, what):
    with pytest.raises(CheckpointError) as caught:
        open_files(folder, [FILE], SafetensorsFile)
    found = str(caught.value)
    beginning = f"{folder / FILE}: expected a safetensors file, found a damaged one (Error while deserializing header: "
    assert found.startswith(f"{beginning}{what}") and found.endswith("). Fetch it again.")
    return found


def test_a_type_that_torch_cannot_cut_into_rows(tmp_path):
    folder = write(tmp_path / "m", {"a": tensor("F4", (4, 12))}, bytes(24))
    with pytest.raises(CheckpointError, match=r"model.safetensors: tensor 'a' of the type F4 cannot be read"):
        open_files(folder, [FILE], SafetensorsFile).read("a", slice(0, 2))


def test_missing_files_and_tensors_and_what_is_there_twice(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    save_file({"a": torch.ones(2)}, tmp_path / "y.safetensors")
    for files, expected in [
        (["z.safetensors"], "expected the file 'z.safetensors', found none. Is the checkpoint complete?"),
        (
            ["x.safetensors", "y.safetensors"],
            "tensor 'a' is in 'x.safetensors' and again in 'y.safetensors'. Expected it once; are these the shards of "
            "one model?",
        ),
    ]:
        with pytest.raises(CheckpointError) as caught:
            open_files(tmp_path, files, SafetensorsFile)
        assert str(caught.value) == f"{tmp_path}: {expected}"
