"""Every type of quantisation that the gguf package decodes, whole and row by row; others are refused."""

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import _type_traits, dequantize, quantize

from headatlas.checkpoints.gguf import tensors as gguf_tensors
from headatlas.checkpoints.gguf.header import read_header
from headatlas.checkpoints.gguf.tensors import Stored
from headatlas.errors import CheckpointError

TYPES = gguf.GGMLQuantizationType
DECODED = sorted({*_type_traits, TYPES.F32, TYPES.F16}, key=lambda kind: kind.name)
N_ROWS, N_BLOCKS = 7, 3
HALVES = {  # where the blocks hold scales in float16, which random bytes would make infinite
    **dict.fromkeys((TYPES.Q2_K,), (80, 82)),
    TYPES.Q3_K: (108,),
    TYPES.Q4_K: (0, 2),
    TYPES.Q5_K: (0, 2),
    TYPES.Q6_K: (208,),
    TYPES.TQ1_0: (52,),
    TYPES.TQ2_0: (64,),
    TYPES.Q4_1: (0, 2),
    TYPES.Q5_1: (0, 2),
}


def random_blocks(kind):
    """Random bytes, with scales that are finite; IQ1_M spreads its scale over four places."""
    block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    generator = np.random.default_rng(kind)
    blocks = generator.integers(0, 256, (N_ROWS * N_BLOCKS, n_bytes), dtype=np.uint8)
    if kind == TYPES.IQ1_M:
        blocks[:, 55] = 0x30
    elif kind not in (TYPES.MXFP4, TYPES.NVFP4):
        for at in HALVES.get(kind, (0,)):
            blocks[:, at : at + 2] = (
                generator.uniform(-0.1, 0.1, len(blocks)).astype(np.float16).view(np.uint8).reshape(-1, 2)
            )
    else:
        blocks[:, : 4 if kind == TYPES.NVFP4 else 1] = generator.integers(100, 120, (len(blocks), 1))
    return blocks.reshape(N_ROWS, -1), (N_ROWS, N_BLOCKS * block)


def open_tensor(path, packed, kind):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("t", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Stored("t", read_header(path).tensors["t"])


def check(tensor, expected):
    assert tensor.shape == expected.shape and np.isfinite(expected).all() and np.abs(expected).max() > 0
    whole = tensor.read(slice(None))
    assert whole.dtype == torch.float32 and np.array_equal(whole.numpy(), expected)
    for rows in (
        slice(2, 5),
        slice(6, 7),
        slice(0, 0),
        slice(3, None),
        slice(-2, None),
        slice(1, 7, 3),
        slice(5, 1, -2),
    ):
        assert np.array_equal(tensor.read(rows).numpy(), expected[rows]), rows
    assert np.array_equal(tensor.take(np.array([4, 0, 4])).numpy(), expected[[4, 0, 4]])


@pytest.mark.parametrize("kind", DECODED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("at_once", [1, 2**19], ids=["row by row", "whole"])
def test_rows_of_every_type(tmp_path, monkeypatch, kind, at_once):
    monkeypatch.setattr(gguf_tensors, "VALUES_AT_ONCE", at_once)
    if kind in (TYPES.F32, TYPES.F16, TYPES.BF16):
        packed = quantize(np.random.default_rng(0).standard_normal((N_ROWS, 5), np.float32), kind)
    else:
        packed, shape = random_blocks(kind)
        assert dequantize(packed, kind).shape == shape
    check(open_tensor(tmp_path / "t.gguf", packed, kind), dequantize(packed.view(np.uint8), kind))


def can_be_packed(kind):
    try:
        quantize(np.zeros((1, 512), np.float32), kind)
    except NotImplementedError:
        return False
    return True


@pytest.mark.parametrize("kind", list(filter(can_be_packed, DECODED)), ids=lambda kind: kind.name)
def test_what_the_package_packs_is_read_back(tmp_path, kind):
    values = np.random.default_rng(1).standard_normal((N_ROWS, 512), np.float32)
    packed = quantize(values, kind)
    error = np.abs(open_tensor(tmp_path / "t.gguf", packed, kind).read(slice(None)).numpy() - values).max()
    assert error < {TYPES.F32: 1e-9, TYPES.F16: 2e-3, TYPES.BF16: 2e-2, TYPES.Q8_0: 2e-2}.get(kind, 2.5)


def test_all_types_are_tried():
    assert {"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S",
            "IQ4_NL", "IQ4_XS", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4", "BF16", "F16",
            "F32"} <= {kind.name for kind in DECODED}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(set(TYPES) - set(DECODED)), ids=lambda kind: kind.name)
def test_types_that_are_not_decoded(tmp_path, kind):
    block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    path = tmp_path / "t.gguf"
    name = b"t"
    header = b"GGUF" + np.array([3], "<u4").tobytes() + np.array([1, 0, 1], "<u8").tobytes() + name
    header += np.array([1], "<u4").tobytes() + np.array([block], "<u8").tobytes()
    header += np.array([kind], "<u4").tobytes() + np.array([0], "<u8").tobytes()
    path.write_bytes(header + bytes(-len(header) % 32) + bytes(n_bytes))
    with pytest.raises(CheckpointError) as caught:
        Stored("t", read_header(path).tensors["t"]).read(slice(None))
    assert str(caught.value) == (
        f"t.gguf: tensor 't' has the type {kind.name}, which the gguf package cannot read. "
        f"Use a file with another quantisation."
    )


def test_reading_needs_little_more_memory_than_its_result(tmp_path):
    """Decoding at once, the package takes several times the memory of the result."""
    import tracemalloc

    values = np.zeros((4096, 512), np.float32)
    tensor = open_tensor(tmp_path / "t.gguf", quantize(values, TYPES.Q4_0), TYPES.Q4_0)
    tensor.read(slice(0, 1))
    tracemalloc.start()
    tensor.read(slice(None))
    peak = tracemalloc.get_traced_memory()[1]  # numpy's; torch's result is not traced
    tracemalloc.stop()
    assert peak < 32 * gguf_tensors.VALUES_AT_ONCE
    tracemalloc.start()
    tensor.read(slice(100, 110))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
