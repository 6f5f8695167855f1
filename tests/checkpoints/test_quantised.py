"""Quantised weights, compared with transformers' own conversion to floats; and the kinds that are refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.checkpoints.config import QUANTISED
from headatlas.checkpoints.quantised import Decoding
from headatlas.errors import CheckpointError
from models import make_model, save_model

NAME = "model.layers.1.self_attn.v_proj.weight"
W = "layers.0.w"
FP8_CONFIG = {"quant_method": "fp8", "weight_block_size": [4, 8]}


class Store:
    """Tensors in memory; notes what was read."""

    KINDS = {  # noqa: RUF012
        **{torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.uint8: "U8", torch.int8: "I8"},
        **{torch.float32: "F32", torch.bfloat16: "BF16", torch.float8_e8m0fnu: "F8_E8M0", torch.float64: "F64"},
    }

    def __init__(self, **tensors):
        self.tensors = {name.replace("__", "."): value for name, value in tensors.items()}
        self.was_read = []
        self.size = sum(value.nbytes for value in self.tensors.values())

    def names(self):
        return self.tensors.keys()

    def __contains__(self, name):
        return name in self.tensors

    def shape(self, name):
        return tuple(self.tensors[name].shape)

    def dtype(self, name):
        return self.KINDS[self.tensors[name].dtype]

    def n_bytes(self, name):
        return self.tensors[name].nbytes

    def file_of(self, name):
        return "m.safetensors"

    def read(self, name, rows=None):
        self.was_read.append((name, rows))
        return self.tensors[name].clone() if rows is None else self.tensors[name][rows].clone()

    def fetch(self, wanted, progress=None):
        pass


def decode(tmp_path, quantisation, **tensors):
    return Decoding(tmp_path / "config.json", {"quantization_config": quantisation}, Store(**tensors))


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def in_blocks(weight, height, width, dtype=torch.float8_e4m3fn):
    """Quantised with a factor per block, edges included, by the plainest loop."""
    n_rows, n_columns = weight.shape
    scales = torch.empty(-(-n_rows // height), -(-n_columns // width))
    quantised = torch.empty_like(weight)
    for i in range(len(scales)):
        for j in range(scales.shape[1]):
            block = slice(i * height, (i + 1) * height), slice(j * width, (j + 1) * width)
            scales[i, j] = weight[block].abs().max() / torch.finfo(dtype).max
            quantised[block] = weight[block] / scales[i, j]
    return quantised.to(dtype), scales


def plain_loop(quantised, scales, height, width):
    result = quantised.float()
    for i in range(len(result)):
        for j in range(result.shape[1]):
            result[i, j] *= scales[i // height, j // width].float()
    return result


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("shape", [(12, 16), (13, 19), (3, 5), (4, 8)])
def test_fp8_with_block_scales_and_partial_blocks(tmp_path, shape, dtype):
    exact = random(*shape) * torch.linspace(1, 40, shape[0])[:, None]
    quantised, scales = in_blocks(exact, 4, 8, dtype)
    decoding = decode(tmp_path, FP8_CONFIG, w__weight=quantised, w__weight_scale_inv=scales)
    expected = plain_loop(quantised, scales, 4, 8)
    assert torch.equal(decoding.read("w.weight"), expected)
    assert (expected - exact).abs().max() < 0.13 * exact.abs().max()
    for rows in (slice(0, 1), slice(3, 5), slice(5, 11), slice(2, 2), slice(None), slice(-2, None)):
        assert torch.equal(decoding.read("w.weight", rows), expected[rows])
    if shape in ((12, 16), (4, 8)):
        theirs = Fp8Dequantize(None)._dequantize_one(quantised, scales, torch.float32)
        assert torch.equal(expected, theirs)
    assert list(decoding.names()) == ["w.weight"] and "w.weight_scale_inv" not in decoding
    assert decoding.shape("w.weight") == shape
    assert decoding.note == "Weights are quantised (FP8 with block scales)."
    assert decoding.stored("w.weight") == ["w.weight", "w.weight_scale_inv"]


@pytest.mark.parametrize("name", ["w.qscale_weight", "w.scale"])
def test_other_names_of_the_scales(tmp_path, name):
    quantised, scales = in_blocks(random(13, 19), 4, 8)
    decoding = decode(tmp_path, FP8_CONFIG, **{"w.weight": quantised, name: scales, "w.qscale_act": scales})
    assert torch.equal(decoding.read("w.weight"), plain_loop(quantised, scales, 4, 8))
    assert list(decoding.names()) == ["w.weight"]


def test_only_requested_rows_are_read(tmp_path):
    quantised, scales = in_blocks(random(13, 19), 4, 8)
    decoding = decode(tmp_path, FP8_CONFIG, w__weight=quantised, w__weight_scale_inv=scales)
    decoding.read("w.weight", slice(5, 7))
    parts = [("w.weight", slice(5, 7)), ("w.weight_scale_inv", None)]
    assert decoding.store.was_read == parts == decoding.parts("w.weight", slice(5, 7))


@pytest.mark.parametrize("scale_dtype", [torch.uint8, torch.float8_e8m0fnu, torch.bfloat16, torch.float32])
def test_types_of_scales(tmp_path, scale_dtype):
    """MXFP8 stores exponents of powers of two, as bytes or as a type of their own; a grid implies its block size."""
    exponents = torch.randint(120, 130, (6, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    factors = torch.exp2(exponents.float() - 127)
    scales = exponents if scale_dtype is torch.uint8 else factors.to(scale_dtype)
    quantised = random(6, 96).to(torch.float8_e4m3fn)
    decoding = decode(tmp_path, {"quant_method": "mxfp8"}, w__weight=quantised, w__weight_scale_inv=scales)
    expected = plain_loop(quantised, factors, 1, 32)
    assert torch.equal(decoding.read("w.weight", slice(1, 5)), expected[1:5])
    if scale_dtype is not torch.float8_e8m0fnu:
        assert torch.equal(expected, Fp8Dequantize(None)._dequantize_one(quantised, scales, torch.float32))


def test_experts_in_one_tensor(tmp_path):
    pairs = [in_blocks(random(12, 16, seed=seed), 4, 8) for seed in range(5)]
    quantised, scales = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    decoding = decode(tmp_path, FP8_CONFIG, e__gate_up_proj=quantised, e__gate_up_proj_scale_inv=scales)
    expected = torch.stack([plain_loop(*pair, 4, 8) for pair in pairs])
    assert torch.equal(decoding.read("e.gate_up_proj"), expected)
    assert torch.equal(decoding.read("e.gate_up_proj", slice(1, 3)), expected[1:3])
    theirs = Fp8Dequantize(None)._dequantize_one(quantised, scales, torch.float32)
    assert torch.equal(theirs.reshape(5, 12, 16), expected)


@pytest.mark.parametrize("shape", [(0, 0, 0), (0, 16), (3, 0), (0,)])
def test_empty_tensors(tmp_path, shape):
    empty = torch.zeros(shape).to(torch.float8_e4m3fn)
    decoding = decode(tmp_path, FP8_CONFIG, w=empty, w_scale_inv=torch.tensor(2.0))
    assert decoding.read("w").shape == shape and decoding.read("w", slice(0, 2)).dtype is torch.float32


CHANNELS = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
}


@pytest.mark.parametrize("settings", [CHANNELS, {"quant_method": "fbgemm_fp8"}])
@pytest.mark.parametrize("shape", [(13, 1), (13,), (1,), (), (1, 1)])
def test_one_scale_per_row_or_tensor(tmp_path, settings, shape):
    """Formula of transformers' `CompressedTensorsDequantize`: the quantised value times its scale."""
    quantised = random(13, 19).to(torch.float8_e4m3fn)
    scales = random(*shape).abs()
    decoding = decode(
        tmp_path, settings, w__weight=quantised, w__weight_scale=scales, w__input_scale=scales, a__k_scale=scales
    )
    expected = quantised.float() * (scales[:, None] if shape == (13,) else scales)
    assert torch.equal(decoding.read("w.weight"), expected)
    assert torch.equal(decoding.read("w.weight", slice(3, 8)), expected[3:8])
    assert list(decoding.names()) == ["w.weight"]
    assert decoding.note == "Weights are quantised (FP8 with scales)."


def test_mxfp4(tmp_path):
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (5, 7, 3, 16), generator=generator).to(torch.uint8)
    scales = torch.randint(110, 140, (5, 7, 3), generator=generator).to(torch.uint8)
    tensors = {f"{W}_blocks": blocks, f"{W}_scales": scales, f"{W}_bias": random(5, 7)}
    decoding = decode(tmp_path, {"quant_method": "mxfp4"}, **tensors)
    expected = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert decoding.shape(W) == tuple(expected.shape) == (5, 96, 7)
    assert torch.equal(decoding.read(W), expected)
    assert torch.equal(decoding.read(W, slice(1, 3)), expected[1:3])
    assert sorted(decoding.names()) == [W, f"{W}_bias"]
    assert decoding.stored(W) == [f"{W}_blocks", f"{W}_scales"]
    assert decoding.note == "Weights are quantised (MXFP4)."


def test_a_whole_folder_in_mxfp4(tmp_path):
    """Its tensors have the names and shapes of transformers' own parameters."""
    settings = {"num_hidden_layers": 1, "hidden_size": 96, "intermediate_size": 64, "num_local_experts": 5}
    settings |= {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10, "vocab_size": 101}
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gpt_oss", **settings, layer_types=["full_attention"])
    )
    folder = save_model(model, tmp_path / "oss")
    tensors, expected = load_file(folder / "model.safetensors"), {}
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        n_experts, n_in, n_out = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (n_experts, n_out, n_in // 32, 16), generator=generator).to(torch.uint8)
        scales = torch.randint(120, 130, blocks.shape[:3], generator=generator).to(torch.uint8)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        expected[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert len(expected) == 2
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text("utf-8")) | {
        "quantization_config": {"quant_method": "mxfp4"}
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    checkpoint = open_checkpoint(folder)
    assert {name: checkpoint.shape(name) for name in checkpoint.names()} == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.read(name), tensor)
        assert checkpoint.n_bytes(name) == tensor.numel() // 2 + tensor.numel() // 32


def refused(act):
    with pytest.raises(CheckpointError) as caught:
        act()
    return str(caught.value)


def test_tensors_and_scales_that_do_not_fit(tmp_path):
    fp8 = random(12, 16).to(torch.float8_e4m3fn)
    alone = decode(tmp_path, FP8_CONFIG, w=fp8)
    assert alone.note is None
    assert refused(lambda: alone.read("w")) == (
        f"m.safetensors: tensor 'w' has the type F8_E4M3; expected its scales, found none. {QUANTISED}."
    )
    for shape, where in [((3, 3), "blocks of 4 x 8"), ((2, 2, 2), "blocks of 4 x 8"), ((0, 2), "blocks of 4 x 8")]:
        decoding = decode(tmp_path, FP8_CONFIG, w=fp8, w_scale_inv=torch.ones(shape))
        assert refused(lambda decoding=decoding: decoding.read("w")) == (
            f"m.safetensors: tensor 'w_scale_inv' has shape {shape}, which does not divide 'w' of shape (12, 16) "
            f"into {where}. Is config.json from the same model?"
        )
    decoding = decode(tmp_path, FP8_CONFIG, w=fp8, w_scale_inv=torch.ones(3, 2, dtype=torch.int8))
    assert refused(lambda: decoding.read("w")) == (
        "m.safetensors: tensor 'w_scale_inv' has the type I8; expected one of F64, F32, F16, BF16, F8_E8M0, U8."
    )
    byte = torch.ones(2, 3, 4, 16, dtype=torch.uint8)
    decoding = decode(tmp_path, {"quant_method": "mxfp4"}, w_blocks=byte, w_scales=byte[:, :2, :, 0])
    assert refused(lambda: decoding.read("w")) == (
        "m.safetensors: tensor 'w_blocks' has shape (2, 3, 4, 16) and its scales (2, 2, 4); expected (experts, rows, "
        "columns / 32, 16) and the same without the last."
    )
    decoding = decode(tmp_path, {"quant_method": "mxfp4"}, w_blocks=byte, w_scales=byte[..., 0].float())
    assert refused(lambda: decoding.read("w")) == "m.safetensors: tensor 'w_scales' has the type F32; expected U8."


def test_a_tensor_stored_in_two_ways(tmp_path):
    byte = torch.ones(2, 3, 4, 16, dtype=torch.uint8)
    tensors = {"w_blocks": byte, "w_scales": byte[..., 0], "w": torch.ones(2, 128, 3)}
    assert refused(lambda: decode(tmp_path, {"quant_method": "mxfp4"}, **tensors)) == (
        "m.safetensors: tensor 'w' is stored as MXFP4 and again in plain floats; expected it once. Fetch the files "
        "again."
    )


INT4 = {**CHANNELS, "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int", "strategy": "group"}}}}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        *(({"quant_method": method}, repr(method)) for method in ("gptq", "awq", "eetq", "hqq", "torchao", "fp9")),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "'bitsandbytes' (4 bits)"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "'bitsandbytes' (8 bits)"),
        (INT4, "'compressed-tensors' (4-bit int)"),
        ({**CHANNELS, "transform_config": {"R1": 1}}, "'compressed-tensors' (transform_config)"),
        ({**CHANNELS, "format": "marlin-24"}, "'compressed-tensors' (format marlin-24)"),
        ({"quant_method": "compressed-tensors"}, "'compressed-tensors' (without groups of weights)"),
        ([1], "'an unknown method'"),
        ({"quant_method": ["fp8"]}, "'an unknown method'"),
    ],
)
def test_other_quantisations_are_refused_by_name(tmp_path, settings, name):
    for config in ({"quantization_config": settings}, {"text_config": {"quantization_config": settings}}):
        assert refused(lambda config=config: Decoding(tmp_path / "config.json", config, Store())) == (
            f"{tmp_path / 'config.json'}: weights quantised by {name} cannot be read. {QUANTISED}."
        )


@pytest.mark.parametrize("size", [[0, 8], [4], "128", [4.0, 8], {"a": 1}, [-1, 8]])
def test_an_invalid_block_size(tmp_path, size):
    assert refused(lambda: decode(tmp_path, {"quant_method": "fp8", "weight_block_size": size})) == (
        f"{tmp_path / 'config.json'}: expected two positive whole numbers for 'weight_block_size', found {size}."
    )


def test_quantised_tensors_that_the_config_does_not_mention(tmp_path):
    with_codes = Store(**{"model.layers.0.q_proj.qweight": torch.ones(2, dtype=torch.uint8)})
    assert refused(lambda: Decoding(tmp_path / "config.json", {}, with_codes)) == (
        "m.safetensors: tensor 'model.layers.0.q_proj.qweight' belongs to weights quantised by GPTQ or AWQ, which "
        f"cannot be read. {QUANTISED}."
    )


def test_a_whole_folder_in_fp8(tmp_path):
    """The opened model equals the one that transformers' formula gives."""
    model = make_model("llama")
    folder = save_model(model, tmp_path / "fp8")
    tensors, expected = load_file(folder / "model.safetensors"), model.state_dict()
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        tensors[name], tensors[f"{name}_scale_inv"] = in_blocks(tensors[name], 4, 8)
        expected[name].copy_(plain_loop(tensors[name], tensors[f"{name}_scale_inv"], 4, 8))
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text("utf-8")) | {"quantization_config": FP8_CONFIG}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    checkpoint = open_checkpoint(folder)
    plain = open_checkpoint(save_model(model, tmp_path / "plain"))
    opened, other = open_model(checkpoint), open_model(plain)
    for ours, theirs in zip(opened.values_and_outputs(1), other.values_and_outputs(1), strict=True):
        assert torch.equal(ours, theirs)
    rows = torch.ones(1, 48)
    assert torch.equal(opened.first_mlp(rows), other.first_mlp(rows))
    assert opened.note == "Weights are quantised (FP8 with block scales)."
    assert sorted(checkpoint.names()) == sorted(plain.names())
    n_rows, n_columns = checkpoint.shape(NAME)
    assert checkpoint.n_bytes(NAME) == n_rows * n_columns + 4 * -(-n_rows // 4) * -(-n_columns // 8)
    assert checkpoint.size == sum(checkpoint.n_bytes(name) for name in checkpoint.names())
    assert not hasattr(checkpoint.config, "quantization_config")
