"""Headers of GGUF files: sound ones, and every kind of false one, refused with an exact message."""

import struct

import gguf
import numpy as np
import pytest

from headatlas.checkpoints.gguf import header
from headatlas.checkpoints.gguf.header import read_header
from headatlas.errors import CheckpointError

U8, U32, STRING, ARRAY, U64 = 0, 4, 8, 9, 10
F32, Q8_0 = 0, 8
HUGE = 2**60


def text(word, length=None):
    content = word if isinstance(word, bytes) else word.encode()
    return struct.pack("<Q", len(content) if length is None else length) + content


def key(name, kind, content):
    return text(name) + struct.pack("<I", kind) + content


def array(kind, count, content=b""):
    return struct.pack("<IQ", kind, count) + content


def tensor(name, shape, kind=F32, offset=0):
    inner_first = shape[::-1]
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *inner_first, kind, offset)


def whole(keys=(), tensors=(), data=b"", version=3, magic=b"GGUF", n_keys=None, n_tensors=None):
    counts = (len(tensors) if n_tensors is None else n_tensors, len(keys) if n_keys is None else n_keys)
    header = magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + data


TABLE = {
    "not gguf": (whole(magic=b"GGML"), "it begins with b'GGML'"),
    "version": (whole(version=1), "it is version 1; expected little-endian version 2 or 3"),
    "byte order": (whole(version=3 << 24), "it is big-endian; expected little-endian version 2 or 3"),
    "cut": (whole()[:10], "it ends inside its header: at byte 8, 8 more were expected"),
    "keys": (whole(n_keys=HUGE), "it announces 1,152,921,504,606,846,976 keys, more than it has room for"),
    "tensors": (whole(n_tensors=HUGE), "it announces 1,152,921,504,606,846,976 tensors, more than it has room for"),
    "long text": (
        whole([text("a", HUGE) + bytes(12)]),
        "it ends inside its header: at byte 32, 1,152,921,504,606,846,976 more were expected",
    ),
    "long name": (whole([], [tensor("t" * 1025, (1,))], bytes(4)), "the name at byte 32 has 1,025 bytes"),
    "long key": (whole([key("a" * 1025, U8, b"1")]), "the name at byte 32 has 1,025 bytes"),
    "not utf-8": (whole([key(b"\xff", U8, b"1")]), "the text at byte 32 is not UTF-8"),
    "key twice": (whole([key("a", U8, b"1")] * 2), "the key 'a' is there twice"),
    "kind of value": (whole([key("a", 13, b"1")]), "the key 'a' has the unknown type 13"),
    "kind in array": (whole([key("a", ARRAY, array(ARRAY, 1))]), "the key 'a' is an array of the unknown type 9"),
    "long array": (
        whole([key("a", ARRAY, array(U64, HUGE))]),
        "it ends inside its header: at byte 49, 9,223,372,036,854,775,808 more were expected",
    ),
    "many strings": (
        whole([key("a", ARRAY, array(STRING, HUGE))]),
        "it announces 1,152,921,504,606,846,976 strings, more than it has room for",
    ),
    "alignment": (whole([key("general.alignment", U32, struct.pack("<I", 24))]), "its alignment is 24"),
    "no alignment": (whole([key("general.alignment", U32, struct.pack("<I", 0))]), "its alignment is 0"),
    "dimensions": (whole([], [tensor("t", (1,) * 5)]), "the tensor 't' has 5 dimensions"),
    "no dimension": (whole([], [tensor("t", ())]), "the tensor 't' of type F32 has the shape ()"),
    "empty": (whole([], [tensor("t", (0, 2))]), "the tensor 't' of type F32 has the shape (0, 2)"),
    "part of a block": (whole([], [tensor("t", (2, 33), Q8_0)]), "the tensor 't' of type Q8_0 has the shape (2, 33)"),
    "kind of tensor": (whole([], [tensor("t", (2,), 255)]), "the tensor 't' has the unknown type 255"),
    "beyond the end": (whole([], [tensor("t", (3,))], bytes(11)), "it ends before the tensor 't' does"),
    "far beyond": (whole([], [tensor("t", (3,), offset=2**63)], bytes(12)), "it ends before the tensor 't' does"),
    "overflow": (whole([], [tensor("t", (2**62, 4))], bytes(12)), "it ends before the tensor 't' does"),
    "tensor twice": (whole([], [tensor("t", (1,))] * 2, bytes(32)), "the tensor 't' is there twice"),
    "overlap": (
        whole([], [tensor("u", (2,), offset=4), tensor("t", (2,))], bytes(32)),
        "the tensor 'u' overlaps another one",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_false_header_is_refused_before_more_is_read_than_the_file_has(tmp_path, monkeypatch, name):
    content, what = TABLE[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    steps = []
    skip = header._Reader.skip
    monkeypatch.setattr(header._Reader, "skip", lambda self, n_bytes: (steps.append(n_bytes), skip(self, n_bytes))[1])
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert str(caught.value) == f"{path}: expected a GGUF file, found a damaged one ({what}). Fetch it again."
    # All reads but the refused one are within the file, and no announced count is iterated over.
    assert sum(steps[:-1]) <= len(content) and len(steps) <= len(content)


def test_nothing_there_an_empty_file_and_a_folder(tmp_path):
    def message(path):
        with pytest.raises(CheckpointError) as caught:
            read_header(path)
        return str(caught.value)

    (tmp_path / "empty.gguf").touch()
    assert message(tmp_path / "no.gguf") == f"{tmp_path}/no.gguf: expected a GGUF file, found nothing there."
    assert message(tmp_path / "empty.gguf") == (
        f"{tmp_path}/empty.gguf: expected a GGUF file, found an empty one. Fetch it again."
    )
    assert message(tmp_path) == (
        f"{tmp_path}: expected a GGUF file, cannot read it (it is no file, but a device, a pipe, a socket or a folder)."
    )


def test_every_cut_of_a_file_is_noticed(tmp_path):
    keys = [key("a", STRING, text("word")), key("b", ARRAY, array(STRING, 2, text("x") + text("yz")))]
    content = whole(keys, [tensor("t", (3, 2)), tensor("u", (2,), offset=32)], bytes(40))
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    assert read_header(path).metadata == {"a": "word", "b": 2}
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_header(path)


def test_it_agrees_with_the_gguf_package(tmp_path):
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    values = {
        "whole": 7,
        "negative": -7,
        "real": 0.5,
        "flag": True,
        "words": "Ġä",
        "numbers": [3, 1, 2],
        "list": ["a", "b"],
    }
    writer.add_uint64("whole", 7)
    writer.add_int16("negative", -7)
    writer.add_float32("real", 0.5)
    writer.add_bool("flag", True)
    writer.add_string("words", "Ġä")
    writer.add_array("numbers", [3, 1, 2])
    writer.add_array("list", ["a", "b"])
    writer.add_custom_alignment(64)
    writer.add_tensor("t", np.arange(6, dtype=np.float32).reshape(3, 2))
    writer.add_tensor("q", gguf.quants.quantize(np.ones((5, 64), np.float32), gguf.GGMLQuantizationType.Q8_0),
                      raw_dtype=gguf.GGMLQuantizationType.Q8_0)  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(path)
    for name, value in values.items():
        found = header.metadata[name]
        assert found == (len(value) if name == "list" else value) if name != "numbers" else found.tolist() == value
    for theirs in gguf.GGUFReader(path).tensors:
        ours = header.tensors[theirs.name]
        assert ours.shape == tuple(reversed(theirs.shape.tolist())) and ours.kind == theirs.tensor_type
        assert (ours.start, ours.n_bytes) == (theirs.data_offset, theirs.n_bytes)
