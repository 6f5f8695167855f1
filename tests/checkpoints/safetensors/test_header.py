"""False headers: each is refused with its own message, and costs nothing."""

import json
import random

import pytest
import torch
from safetensors import SafetensorError, deserialize
from safetensors.torch import save

from headatlas.checkpoints.safetensors.header import Damaged, StoredTensor, header_length, parse_header
from headatlas.checkpoints.tensor_store import BITS

GOOD = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}

NO_OFFSETS = "the tensor 'x' has data_offsets that are not a beginning and an end"


def parsed(header, n_data=24):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return parse_header(text, 8 + len(text) + n_data)


def test_what_the_library_writes():
    content = save({"b": torch.zeros(3, 5, dtype=torch.bfloat16), "a": torch.zeros(7), "none": torch.zeros(0, 4)})
    length = header_length(content[:8], len(content))
    tensors = parse_header(content[8 : 8 + length], len(content))
    data = 8 + length
    assert tensors == {
        "a": StoredTensor("F32", (7,), data, data + 28),
        "none": StoredTensor("F32", (0, 4), data + 28, data + 28),
        "b": StoredTensor("BF16", (3, 5), data + 28, data + 58),
    }


def test_a_type_that_nobody_knows_is_left_to_the_reader():
    assert parsed({"x": GOOD | {"dtype": "F3"}})["x"].dtype == "F3"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[1]", "its header does not begin with '{'"),
        (b'{"x": ', "its header is not JSON"),
        (b'{"x": "\xff"}', "its header is not JSON"),
        (b'{"x":' * 100_000, "its header is not JSON"),
        (b'{"x": ' + b"1" * 5_000 + b"}", "its header is not JSON"),
        (b'{"x": 1, "x": 2}', "'x' is there twice"),
        (b'{"x": {"dtype": "F32", "dtype": "F32"}}', "'dtype' is there twice"),
        ({"__metadata__": {"a": 1}, "x": GOOD}, "its '__metadata__' is not a table of texts"),
        ({"x": 5}, "the tensor 'x' does not have a dtype, a shape and data_offsets"),
        ({"x": {"dtype": "F32", "shape": [2, 3]}}, "the tensor 'x' does not have a dtype, a shape and data_offsets"),
        ({"x": GOOD | {"dtype": 5}}, "the tensor 'x' has no dtype"),
        ({"x": GOOD | {"shape": [2, -3]}}, "the tensor 'x' has a shape that is not a list of whole numbers"),
        ({"x": GOOD | {"shape": [2, True]}}, "the tensor 'x' has a shape that is not a list of whole numbers"),
        ({"x": GOOD | {"shape": [2, 2**63]}}, "the tensor 'x' has a shape that is not a list of whole numbers"),
        ({"x": GOOD | {"shape": [2**62, 2**62, 0]}}, "the tensor 'x' has a shape with too many numbers"),
        ({"x": GOOD | {"shape": [2**62] * 100_000}}, "the tensor 'x' has a shape with too many numbers"),
        ({"x": GOOD | {"shape": [2, 4]}}, "the tensor 'x' of type F32 and shape [2, 4] has 24 bytes"),
        ({"x": GOOD | {"dtype": "F16"}}, "the tensor 'x' of type F16 and shape [2, 3] has 24 bytes"),
        (
            {"x": GOOD | {"data_offsets": [24, 0]}},
            NO_OFFSETS,
        ),
        ({"x": GOOD | {"data_offsets": [0]}}, NO_OFFSETS),
        (
            {"x": GOOD | {"data_offsets": [-8, 16]}},
            NO_OFFSETS,
        ),
        ({"x": GOOD | {"data_offsets": [8, 32]}}, "the tensor 'x' ends at byte 105, outside the file of 97"),
        ({"x": GOOD, "y": GOOD}, "the tensor 'y' overlaps another one"),
        (
            {"x": {"dtype": "F32", "shape": [5], "data_offsets": [4, 24]}},
            "the tensor 'x' leaves a hole before it",
        ),
        ({"x": {"dtype": "F32", "shape": [5], "data_offsets": [0, 20]}}, "its tensors end at byte 90 of 94"),
    ],
)
def test_lies(header, message):
    with pytest.raises(Damaged) as refused:
        parsed(header)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (2**64 - 1, "it announces a header of 18,446,744,073,709,551,615 bytes, more than the 16,777,216 allowed"),
        (16_777_217, "it announces a header of 16,777,217 bytes, more than the 16,777,216 allowed"),
        (93, "it announces a header of 93 bytes in a file of 100"),
        (1, "it announces a header of 1 bytes in a file of 100"),
    ],
)
def test_lengths_that_lie(length, message):
    with pytest.raises(Damaged) as refused:
        header_length(length.to_bytes(8, "little"), 100)
    assert str(refused.value) == message


def ours(content):
    """Whether a file is taken, and read: an unknown type is refused only when it is read."""
    try:
        tensors = parse_header(content[8 : 8 + header_length(content[:8], len(content))], len(content))
    except Damaged:
        return False
    return all(tensor.dtype in BITS for tensor in tensors.values())


def theirs(content):
    try:
        deserialize(content)
    except SafetensorError:
        return False
    return True


def test_what_the_library_takes_and_refuses():
    random_ = random.Random(7)
    header = json.dumps({"x": GOOD, "y": {"dtype": "BF16", "shape": [3], "data_offsets": [24, 30]}}).encode()
    taken = 0
    for _ in range(3000):
        changed = bytearray(header)
        for _ in range(random_.randrange(3)):
            changed[random_.randrange(len(changed))] = random_.choice(b'{}[],:"0123456789FxB -')
        content = len(changed).to_bytes(8, "little") + changed + bytes(30 + random_.choice([0, 0, 0, 1, -1]))
        assert ours(content) == theirs(content), content
        taken += ours(content)
    assert 100 < taken < 2900
