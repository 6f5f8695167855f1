"""Folders in Hugging Face layout: one file, shards, damage, and names that leave the folder."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.checkpoints.folder import ModelFolder
from headatlas.checkpoints.safetensors.local import SafetensorsFile
from headatlas.checkpoints.tensor_store import open_files
from headatlas.errors import CheckpointError
from models import make_model, save_model

QUANTISED = "Use the checkpoint that it was quantised from, or a GGUF file"
NAME = "model.layers.1.self_attn.v_proj.weight"


@pytest.fixture
def folder(tmp_path):
    return save_model(make_model("llama"), tmp_path / "tiny")


@pytest.fixture
def shards(tmp_path):
    folder = save_model(make_model("llama"), tmp_path / "shards", max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 3
    return folder


def message(folder, act=open_checkpoint):
    with pytest.raises(CheckpointError) as caught:
        act(folder)
    return str(caught.value)


def test_one_file_shards_and_shards_without_index_are_the_same(folder, shards):
    one = open_model(open_checkpoint(folder)).fingerprint()
    assert open_model(open_checkpoint(shards)).fingerprint() == one
    (shards / "model.safetensors.index.json").unlink()
    assert open_model(open_checkpoint(shards)).fingerprint() == one


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_exactly(tmp_path, dtype):
    model = make_model("llama").to(dtype)
    checkpoint = open_checkpoint(save_model(model, tmp_path / "half"))
    expected = model.get_parameter(NAME).float()
    assert torch.equal(checkpoint.read(NAME), expected)
    assert torch.equal(checkpoint.read(NAME, slice(3, 7)), expected[3:7])
    assert checkpoint.shape(NAME) == tuple(expected.shape) and checkpoint.note is None


def test_tokenizer_and_config(folder):
    checkpoint = open_checkpoint(folder)
    assert checkpoint.model_type == "llama" and checkpoint.config.num_hidden_layers == 3
    assert len(checkpoint.load_tokenizer()(" ka", add_special_tokens=False)["input_ids"]) == 1


def test_nothing_there(tmp_path):
    assert (
        message(tmp_path / "no")
        == f"{tmp_path / 'no'}: expected a model's folder or a .gguf file, found nothing there."
    )
    assert message(tmp_path) == f"{tmp_path}: expected a config.json, found none. Is this a model's folder?"


def test_what_is_no_model(folder):
    path = folder / "config.json"
    assert message(path) == f"{path}: expected a model's folder or a .gguf file, found another file."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{]", "expected JSON, found something else (Expecting property name enclosed in double quotes: "
         "line 1 column 2 (char 1))."),
        ("[]", "expected a JSON object, found a list."),
        ("{}", "expected a 'model_type', found None. Is this a language model's folder?"),
        ('{"model_type": ["llama"]}', "expected a 'model_type', found ['llama']. Is this a language model's folder?"),
        (
            '{"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}',
            f"weights quantised by 'gptq' cannot be read. {QUANTISED}.",
        ),
        (
            '{"model_type": "llama", "quantization_config": {}, "quantization_config": [1]}',
            f"weights quantised by 'an unknown method' cannot be read. {QUANTISED}.",
        ),
        (
            '{"model_type": "llama", "num_hidden_layers": 1000000000}',
            "expected at most 2,000 for 'num_hidden_layers', found 1,000,000,000.",
        ),
        (
            '{"model_type": "llava", "thinker": {"text_config": {"num_labels": 1e300}}}',
            f"expected at most 100,000 for 'num_labels', found {1e300:,}.",
        ),
    ],
)  # fmt: skip
def test_bad_configs(folder, text, expected):
    (folder / "config.json").write_text(text, "utf-8")
    assert message(folder) == f"{folder / 'config.json'}: {expected}"


def test_a_config_that_transformers_refuses(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"num_attention_heads": "six"}), "utf-8")
    assert message(folder, lambda folder: open_checkpoint(folder).config).startswith(
        f"{path}: transformers cannot read this config ("
    )


def test_code_in_the_folder_is_not_run(folder, tmp_path):
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\n", "utf-8")
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text("utf-8"))
        content["auto_map"] = {
            "AutoConfig": "evil.C",
            "AutoModelForCausalLM": "evil.C",
            "AutoTokenizer": ["evil.C", "evil.C"],
        }
        (folder / name).write_text(json.dumps(content), "utf-8")
    checkpoint = open_checkpoint(folder)
    checkpoint.load_tokenizer()
    open_model(checkpoint).first_mlp(torch.zeros(1, 48))
    assert not (tmp_path / "ran").exists()


def test_a_config_that_needs_code(folder):
    path = folder / "config.json"
    content = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}}
    path.write_text(json.dumps(content), "utf-8")
    assert message(folder, lambda folder: open_checkpoint(folder).config) == (
        f"{path}: expected a model type that transformers knows, found one that needs its own code, which "
        f"headatlas never runs. Use a checkpoint of the same model for transformers without such code."
    )


def test_only_other_files(folder):
    (folder / "model.safetensors").rename(folder / "consolidated.00.pth")
    assert message(folder) == (
        f"{folder}: expected safetensors files, found only 'consolidated.00.pth', which is not read. "
        f"Convert the model to safetensors."
    )
    (folder / "consolidated.00.pth").unlink()
    assert message(folder) == f"{folder}: expected safetensors files, found none."


def test_an_adapter_s_folder(folder):
    (folder / "config.json").rename(folder / "adapter_config.json")
    assert message(folder) == (
        f"{folder}: expected a model's folder, found an adapter's. Name the model that it was trained on, and this "
        f"folder as its adapter."
    )


def test_the_tensors_may_be_elsewhere(folder, tmp_path):
    """As for remote models: config and tokenizer are local, the tensors are not."""
    expected = open_checkpoint(folder).read(NAME)
    (tmp_path / "blobs").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "blobs" / "x")
    checkpoint = ModelFolder(folder, "org/model", open_files(tmp_path / "blobs", ["x"], SafetensorsFile))
    assert (checkpoint.source, checkpoint.name) == ("org/model", "org/model")
    assert torch.equal(checkpoint.read(NAME), expected) and checkpoint.file_of(NAME) == "x"


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_cut_off_files(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert message(folder).startswith(f"{path}: expected a safetensors file, found a damaged one (")


@pytest.mark.parametrize(
    "header",
    [
        b'{"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}',
        b'{"x": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}',
        b'{"x": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}',
        b'{"x": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 8]}}',
        b'{"x": {"dtype": "Q9", "shape": [2], "data_offsets": [0, 8]}}',
        b"{",
        b"\xff\xfe",
    ],
)
def test_false_headers(folder, header):
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert message(folder).startswith(f"{path}: expected a safetensors file, found a damaged one (")
    path.write_bytes((2**62).to_bytes(8, "little") + header)
    assert message(folder).startswith(f"{path}: expected a safetensors file, found a damaged one (")


@pytest.mark.parametrize(
    "name",
    ["../other.safetensors", "/etc/passwd", "sub/x.safetensors", "x.bin", "..\\x.safetensors", "a\0.safetensors"],
)
def test_an_index_cannot_name_files_outside(shards, name):
    index = shards / "model.safetensors.index.json"
    content = json.loads(index.read_text("utf-8"))
    content["weight_map"][NAME] = name
    index.write_text(json.dumps(content), "utf-8")
    assert message(shards) == f"{index}: expected names of safetensors files in this folder, found {name!r}."


def test_an_index_that_names_the_wrong_file(shards):
    index = shards / "model.safetensors.index.json"
    content = json.loads(index.read_text("utf-8"))
    held = content["weight_map"][NAME]
    other = next(file for file in content["weight_map"].values() if file != held)
    for name, found in ((NAME, f"in {held!r}"), ("model.extra.weight", "nowhere")):
        changed = {"weight_map": content["weight_map"] | {name: other}}
        index.write_text(json.dumps(changed), "utf-8")
        assert message(shards) == (
            f"{index}: expected the tensor {name!r} in {other!r}, found it {found}. Fetch these files again."
        )


def test_an_index_without_its_map_and_a_missing_shard(shards):
    gone = sorted(shards.glob("*.safetensors"))[1]
    gone.unlink()
    index = shards / "model.safetensors.index.json"
    assert message(shards) == f"{shards}: expected the file {gone.name!r}, which {index.name} names, found none."
    long = "x" * 300 + ".safetensors"
    index.write_text(json.dumps({"weight_map": {NAME: long}}), "utf-8")
    assert message(shards) == f"{shards}: expected the file {long!r}, which {index.name} names, found none."
    for content in ('{"weight_map": [1]}', '{"weight_map": {}}', '{"weight_map": {"x": 1}}', "{}"):
        index.write_text(content, "utf-8")
        assert message(shards) == f"{index}: expected a 'weight_map' from tensors to files, found none."


def test_a_missing_shard_without_index(shards):
    (shards / "model.safetensors.index.json").unlink()
    files = sorted(path.name for path in shards.glob("*.safetensors"))
    for gone in (files[1], files[-1]):
        content = (shards / gone).read_bytes()
        (shards / gone).unlink()
        assert message(shards) == (f"{shards}: expected the file {gone!r}, which belongs to {files[0]!r}, found none.")
        (shards / gone).write_bytes(content)


def test_which_of_several_weights_are_the_model_s(folder, shards):
    """As in transformers: one whole file first; weights under other names for other programs are ignored."""
    expected = open_model(open_checkpoint(folder)).fingerprint()
    other = make_model("llama", seed=1)
    save_file({"layers.0.attention.wv.weight": torch.ones(2)}, folder / "consolidated.safetensors")
    save_file(dict(other.state_dict()), folder / "model.fp16.safetensors")
    assert open_model(open_checkpoint(folder)).fingerprint() == expected
    (shards / "model.safetensors.index.json").unlink()
    save_file({"x": torch.ones(2)}, shards / "consolidated.00.safetensors")
    assert "x" not in open_checkpoint(shards)


def test_links_to_files_elsewhere_are_followed(folder, tmp_path):
    """The hub's cache is made of them."""
    expected = open_model(open_checkpoint(folder)).fingerprint()
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    assert open_model(open_checkpoint(folder)).fingerprint() == expected


def test_a_tensor_in_two_files(folder):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    tensors = load_file(folder / "a.safetensors")
    save_file({NAME: tensors[NAME]}, folder / "b.safetensors")
    assert message(folder) == (
        f"{folder}: tensor {NAME!r} is in 'a.safetensors' and again in 'b.safetensors'. "
        f"Expected it once; are these the shards of one model?"
    )


def test_weights_of_another_type(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors[NAME] = tensors[NAME].to(torch.int8)
    save_file(tensors, folder / "model.safetensors")
    assert message(folder, lambda folder: open_checkpoint(folder).read(NAME)) == (
        f"model.safetensors: tensor {NAME!r} has the type I8; expected one of F64, F32, F16, BF16. "
        f"Use the checkpoint that it was quantised from, or a GGUF file."
    )


def test_a_folder_without_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert message(folder, lambda folder: open_checkpoint(folder).load_tokenizer()).startswith(
        f"{folder}: expected a tokenizer (tokenizer.json, or the files that the model's own tokenizer needs), found "
        f"none that transformers can read ("
    )
