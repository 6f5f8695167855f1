"""A checkpoint or adapter of any bytes is read or refused with a message.

`HEADATLAS_EXAMPLES=20000 pytest tests/checkpoints/test_mangled_files.py` looks for longer.
"""

import json
import os
import warnings

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from headatlas.architectures.open import FAMILIES
from headatlas.checkpoints.adapter import CONFIG, AdaptedCheckpoint
from headatlas.checkpoints.folder import ModelFolder
from headatlas.errors import HeadatlasError
from models import make_model, save_model

EXAMPLES = int(os.environ.get("HEADATLAS_EXAMPLES", "150"))
bounded = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
TENSORS = {"model.a.weight": torch.arange(6.0).reshape(2, 3), "model.b.weight": torch.ones(4, 3).bfloat16()}
CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["set", "insert", "cut", "swap"]), st.binary(min_size=1, max_size=9)),
    min_size=1,
    max_size=4,
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**31, 2**63, -(2**63), 10**30])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def mangled(content, changes):
    for where, how, new in changes:
        at = int(where * len(content))
        if how == "set":
            content = content[:at] + new + content[at + len(new) :]
        elif how == "insert":
            content = content[:at] + new + content[at:]
        elif how == "cut":
            content = content[:at] + content[at + len(new) ** 2 :]
        else:  # a copy at another place
            content = content[:at] + content[len(content) - at :][: len(new)] + content[at:]
    return content


def read_all(open_it):
    try:
        checkpoint = open_it()
        assert checkpoint.size >= 0
        for name in checkpoint.names():
            assert name in checkpoint and checkpoint.file_of(name)
            try:
                checkpoint.n_bytes(name)
                values = checkpoint.read(name)
                assert values.dtype is torch.float32 and tuple(values.shape) == checkpoint.shape(name)
                if values.ndim:
                    assert len(checkpoint.read(name, slice(1, 2))) <= 1
            except HeadatlasError as error:
                assert "\n" not in str(error)
    except HeadatlasError as error:
        assert str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mangled")
    (folder / "config.json").write_text('{"model_type": "llama"}', "utf-8")
    return folder


def check_file(folder, file, content):
    path = folder / file
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's, about repeated names
            read_all(lambda: ModelFolder(folder))
    finally:
        path.unlink()


@bounded
@given(changes=CHANGES)
def test_safetensors(folder, changes):
    save_file(TENSORS, folder / "whole")
    check_file(folder, "model.safetensors", mangled((folder / "whole").read_bytes(), changes))


@bounded
@given(header=st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "F4", "F8_E4M3", "F8_E8M0", "I64", "BOOL", "C64", "x"]),
     "shape": st.lists(st.integers(-1, 5) | NUMBERS, max_size=3),
     "data_offsets": st.sampled_from([[0, 24], [24, 48], [0, 48], [0, 0]]) | VALUES}) | VALUES))  # fmt: skip
def test_safetensors_headers(folder, header):
    text = json.dumps(header).encode()
    check_file(folder, "model.safetensors", len(text).to_bytes(8, "little") + text + bytes(48))


@pytest.mark.parametrize("zipped", [True, False])
@bounded
@given(changes=CHANGES)
def test_torch_files(folder, zipped, changes):
    torch.save(TENSORS, folder / "whole", _use_new_zipfile_serialization=zipped)
    check_file(folder, "pytorch_model.bin", mangled((folder / "whole").read_bytes(), changes))


@bounded
@given(content=VALUES, whole=VALUES)
@example(content={"a": "model.safetensors"}, whole=None)
def test_shard_indexes(folder, content, whole):
    save_file(TENSORS, folder / "a.safetensors")
    for value in (whole, {"weight_map": content}, {"weight_map": {"model.a.weight": content}}):
        check_file(folder, "model.safetensors.index.json", json.dumps(value).encode())
    (folder / "a.safetensors").unlink()


@bounded
@given(
    settings=st.dictionaries(
        st.sampled_from(["quant_method", "weight_block_size", "config_groups", "format", "load_in_4bit"]), VALUES
    ),
    method=st.sampled_from(["fp8", "mxfp4", "mxfp8", "compressed-tensors", "fbgemm_fp8", "gptq"]),
    dtype=st.sampled_from([torch.uint8, torch.float8_e4m3fn, torch.float32]),
    shape=st.lists(st.integers(0, 5), max_size=4),
    grid=st.lists(st.integers(0, 5), max_size=4),
)
def test_quantised_tensors_and_configs(folder, settings, method, dtype, shape, grid):
    config = folder / "config.json"
    ends = {"mxfp4": ("_blocks", "_scales"), "fbgemm_fp8": ("", "_scale")}.get(method, ("", "_scale_inv"))
    scales = torch.ones(grid).to(torch.uint8 if method == "mxfp4" else torch.float32)
    save_file({f"a{ends[0]}": torch.ones(shape).to(dtype), f"a{ends[1]}": scales}, folder / "model.safetensors")
    for part in ({"quant_method": method}, {"quant_method": method} | settings, settings):
        config.write_text(json.dumps({"model_type": "llama", "quantization_config": part}), "utf-8")
        read_all(lambda: ModelFolder(folder))
    config.write_text('{"model_type": "llama"}', "utf-8")
    (folder / "model.safetensors").unlink()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return ModelFolder(save_model(make_model("llama"), tmp_path_factory.mktemp("base")))


KEYS = ["peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "bias"]
KEYS += ["target_modules", "modules_to_save", "use_dora", "init_lora_weights", "task_type"]
PATTERNS = st.dictionaries(st.text("qv_proj.*+?\\d[]^$|", max_size=12), VALUES | st.integers(1, 9), max_size=3)
SHAPES = st.sampled_from([(3, 48), (20, 3), (20,), (101, 48), (), (0, 3), (3, 101)])
NAMES = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["base_model.model.", "base_model.", ""]),
        st.sampled_from(["model.layers.1.self_attn.v_proj", "layers.1.self_attn.v_proj", "lm_head", "v_proj", ""]),
        st.sampled_from([".lora_A.weight", ".lora_B.weight", ".weight", ".bias", ".lora_embedding_A", ""]),
    ),
)


@bounded
@given(
    config=st.dictionaries(st.sampled_from(KEYS), VALUES | PATTERNS) | VALUES,
    shapes=st.dictionaries(
        NAMES, st.sampled_from([(3, 48), (20, 3), (20,), (101, 48), (), (0, 3), (3, 101)]), max_size=4
    ),
)
def test_adapters(base, tmp_path_factory, config, shapes):
    folder = tmp_path_factory.getbasetemp() / "adapter"
    folder.mkdir(exist_ok=True)
    save_file({name: torch.ones(shape) for name, shape in shapes.items()}, folder / "adapter_model.safetensors")
    good = {"peft_type": "LORA", "r": 3}
    for content in (config, good | config if isinstance(config, dict) else good):
        (folder / CONFIG).write_text(json.dumps(content), "utf-8")
        try:
            adapted = AdaptedCheckpoint(base, folder, FAMILIES)
        except HeadatlasError:
            continue
        for name in ("model.layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.v_proj.bias"):
            assert tuple(adapted.read(name, slice(1, 3)).shape) == (2, *base.shape(name)[1:])
