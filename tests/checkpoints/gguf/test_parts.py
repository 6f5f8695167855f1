"""Split models: opened by any part or by their folder, and every way in which parts can fail to belong together."""

import gguf
import pytest
import torch

from gguf_models import make_model, write
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import CheckpointError

COUNT = 3


@pytest.fixture(scope="module")
def model():
    return make_model("llama")


def split(model, folder, **options):
    """Parts written by the gguf package, by the number of tensors in each."""
    folder.mkdir(exist_ok=True)
    write(model, "llama", folder / "m.gguf", split_max_tensors=-(-len(model.state_dict()) // COUNT), **options)
    return sorted(folder.glob("*.gguf"))


def change(path, key, value):
    """Overwrite a number in a part's header."""
    content = bytearray(path.read_bytes())
    at = content.index(key.encode()) + len(key) + 4
    width = 2 if key in ("split.no", "split.count") else 4
    content[at : at + width] = value.to_bytes(width, "little")
    path.write_bytes(content)


def message(path):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    return str(caught.value)


def test_any_part_and_the_folder_open_all(tmp_path, model):
    parts = split(model, tmp_path / "split")
    assert [part.name for part in parts] == [f"m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    whole = open_checkpoint(write(model, "llama", tmp_path / "whole.gguf"))
    files = set()
    for source in (*parts, tmp_path / "split"):
        checkpoint = open_checkpoint(source)
        assert set(checkpoint.names()) == set(whole.names())
        assert checkpoint.size == whole.size and checkpoint.config.to_dict() == whole.config.to_dict()
        assert checkpoint.load_tokenizer().get_vocab() == whole.load_tokenizer().get_vocab()
        for name in whole.names():
            assert torch.equal(checkpoint.read(name), whole.read(name))
            files.add(checkpoint.file_of(name))
    assert files == {part.name for part in parts}


def test_a_first_part_without_tensors(tmp_path, model):
    parts = split(model, tmp_path / "split", small_first_shard=True)
    assert len(parts) == 4 and set(open_checkpoint(parts[2]).names()) >= {"lm_head.weight"}


def test_two_models_in_a_folder(tmp_path, model):
    split(model, tmp_path / "split")
    write(model, "llama", tmp_path / "split" / "n.gguf")
    assert message(tmp_path / "split") == (
        f"{tmp_path}/split: expected one model, found 2 .gguf files. Name one of them."
    )


def test_a_missing_part(tmp_path, model):
    parts = split(model, tmp_path / "split")
    parts[1].unlink()
    assert message(parts[2]) == (
        f"{tmp_path}/split: expected the file 'm-00002-of-00003.gguf', which belongs to 'm-00003-of-00003.gguf', "
        f"found none. Fetch it too."
    )


def test_parts_under_other_names(tmp_path, model):
    parts = split(model, tmp_path / "split")
    other = parts[0].rename(tmp_path / "split" / "other.gguf")
    assert message(other) == (
        f"{other}: expected a name that ends in '-00001-of-00003.gguf' (its split.count is 3), found another one. "
        f"Give the parts the names that they were published under."
    )
    alone = write(model, "llama", tmp_path / "x-00001-of-00002.gguf")
    assert message(alone) == (
        f"{alone}: expected a name that ends in '-00001-of-00001.gguf' (its split.count is 1), found another one. "
        f"Give the parts the names that they were published under."
    )


@pytest.mark.parametrize(
    ("part", "key", "value", "expected"),
    [
        (1, "split.no", 2, 1),
        (0, "split.no", 1, 0),
        (2, "split.count", 4, 3),
        (2, "split.tensors.count", 9, 30),
    ],
)
def test_false_counts(tmp_path, model, part, key, value, expected):
    parts = split(model, tmp_path / "split")
    change(parts[part], key, value)
    assert message(parts[0]) == (
        f"{parts[part]}: expected {expected} for {key!r}, found {value}. "
        f"Are these the parts of one model? Fetch the parts again."
    )


def test_another_number_of_tensors(tmp_path, model):
    parts = split(model, tmp_path / "split")
    for part in parts:
        change(part, "split.tensors.count", 31)
    assert message(parts[0]) == f"{parts[0]}: expected 31 tensors in its 3 parts, found 30. Fetch the parts again."


def test_a_tensor_in_two_parts(tmp_path, model):
    parts = split(model, tmp_path / "split")
    content = parts[1].read_bytes()
    parts[2].write_bytes(content)
    change(parts[2], "split.no", 2)
    name = next(iter(gguf.GGUFReader(parts[1]).tensors)).name
    assert message(parts[0]) == (
        f"{parts[2]}: tensor {name!r} is in 'm-00002-of-00003.gguf' too. Expected it once; "
        f"are these the parts of one model? Fetch the parts again."
    )


def test_a_part_of_another_model(tmp_path, model):
    parts = split(model, tmp_path / "split")
    other = gguf.GGUFWriter(parts[1], "qwen2")
    other.add_uint16("split.no", 1)
    other.add_uint16("split.count", 3)
    other.add_int32("split.tensors.count", 30)
    other.write_header_to_file()
    other.write_kv_data_to_file()
    other.write_tensors_to_file()
    other.close()
    assert message(parts[0]) == (
        f"{parts[1]}: expected a part of the same model as 'm-00001-of-00003.gguf', found another "
        f"'general.architecture'. Fetch the parts again."
    )


def test_a_part_without_numbers_and_a_damaged_one(tmp_path, model):
    parts = split(model, tmp_path / "split")
    content = parts[1].read_bytes()
    parts[1].write_bytes(content.replace(b"split.no", b"split.so"))
    assert message(parts[0]) == (
        f"{parts[1]}: expected a whole number for 'split.no', found nothing. Fetch the parts again."
    )
    parts[1].write_bytes(content[:-1])
    assert message(parts[0]).startswith(f"{parts[1]}: expected a GGUF file, found a damaged one (it ends before")
