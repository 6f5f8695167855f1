"""Numbered files and indexes: which files belong to one model, whatever the format."""

import json

import pytest

from headatlas.checkpoints.shards import (
    SAFETENSORS,
    TORCH_BIN,
    Numbering,
    numbered_files,
    numbering,
    one_per_model,
    weight_files,
)
from headatlas.errors import CheckpointError


def test_the_numbering_in_a_name():
    assert numbering("a-00002-of-00013.gguf") == Numbering("a", 2, 13, ".gguf")
    assert numbered_files("a-00002-of-00003.bin") == [f"a-0000{number}-of-00003.bin" for number in (1, 2, 3)]
    for name in ("a.gguf", "a-2-of-3.gguf", "a-00002-of-00003", "-00001-of-00002.bin", "a-0000\u0662-of-00003.bin"):
        assert numbering(name) is None and numbered_files(name) == [name]


def test_one_file_of_each_model():
    files = ["b-00002-of-00002.gguf", "a.gguf", "b-00001-of-00002.gguf", "b-00001-of-00003.gguf"]
    assert one_per_model(files) == ["a.gguf", "b-00001-of-00002.gguf", "b-00001-of-00003.gguf"]


@pytest.mark.parametrize(
    ("names", "listed", "found"),
    [
        (SAFETENSORS, {"model.safetensors", "model.safetensors.index.json", "x.safetensors"}, ["model.safetensors"]),
        (SAFETENSORS, {"b.safetensors", "a.safetensors", "consolidated.safetensors", "a.bin"},
         ["a.safetensors", "b.safetensors"]),
        (SAFETENSORS, {"x/a.safetensors", "a\\b.safetensors", "a\0.safetensors"}, []),
        (TORCH_BIN, {"optimizer.bin", "training_args.bin", "x.safetensors"}, []),
        (TORCH_BIN, {"pytorch_model-00001-of-00001.bin", "optimizer.bin"}, ["pytorch_model-00001-of-00001.bin"]),
    ],
)  # fmt: skip
def test_which_files_hold_the_weights(tmp_path, names, listed, found):
    assert weight_files(names, listed, tmp_path, "here") == found


def test_an_index_names_the_files(tmp_path):
    index = tmp_path / SAFETENSORS.index
    index.write_text(
        json.dumps({"weight_map": {"v": "b.safetensors", "w": "a.safetensors", "x": "a.safetensors"}}), "utf-8"
    )
    assert weight_files(SAFETENSORS, [SAFETENSORS.index], tmp_path, "here") == ["a.safetensors", "b.safetensors"]
    index.write_text(json.dumps({"weight_map": {"v": "b.bin"}}), "utf-8")
    with pytest.raises(CheckpointError) as refused:
        weight_files(SAFETENSORS, [SAFETENSORS.index], tmp_path, "here")
    assert str(refused.value) == (
        f"here/{SAFETENSORS.index}: expected names of safetensors files in this folder, found 'b.bin'."
    )


def test_a_missing_file_of_several(tmp_path):
    with pytest.raises(CheckpointError) as refused:
        weight_files(SAFETENSORS, ["m-00001-of-00002.safetensors"], tmp_path, "here")
    assert str(refused.value) == (
        "here: expected the file 'm-00002-of-00002.safetensors', which belongs to 'm-00001-of-00002.safetensors', "
        "found none."
    )
