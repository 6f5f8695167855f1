"""GGUF files: the same weights as the safetensors checkpoint, quantised ones, and damaged ones."""

import struct

import gguf
import numpy as np
import pytest
import torch

from headatlas.architectures import open_model
from headatlas.checkpoints import open_checkpoint
from headatlas.errors import ArchitectureError, CheckpointError
from models import make_model, save_model

KV = {"llama": 2, "qwen2": 2, "qwen3": 3}
NAME = "model.layers.1.self_attn.v_proj.weight"


def write_gguf(model, path, quantise=(), architecture=None, more=lambda writer: None):
    """The model as a GGUF file; tensors whose GGUF name contains a part of `quantise` as Q8_0."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture or config.model_type)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(d_head)
    writer.add_value_length(d_head)
    writer.add_rope_dimension_count(d_head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    letters = [chr(code) for code in range(97, 123)]
    words = ["Ġ", "Ġa", "Ġab", "Ġabc"]
    tokens = ["<|end|>", *letters, *words, *(f"<{number}>" for number in range(config.vocab_size - 31))]
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (config.vocab_size - 1))
    writer.add_token_merges(["Ġ a", "Ġa b", "Ġab c"])
    writer.add_eos_token_id(0)
    more(writer)
    kind = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[config.model_type]
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, _, suffix = name.rpartition(".")
        stored, values = f"{names.get_name(stem)}.{suffix}", parameter.float().numpy()
        if any(part in stored for part in quantise):
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(stored, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(stored, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def plain_model(case, **changes):
    """Without what GGUF of these families does not keep (biases), and with widths that Q8_0 can hold."""
    changes = (
        {"hidden_size": 96, "head_dim": 16}
        | ({"attention_bias": False, "mlp_bias": False} if case == "llama" else {})
        | changes
    )
    return make_model(case, **changes)


@pytest.mark.parametrize("case", ["llama", "llama-tied", "qwen2", "qwen3"])
def test_gguf_in_f32_is_the_safetensors_checkpoint(tmp_path, case):
    model = plain_model(case)
    folder = save_model(model, tmp_path / "folder")
    path = write_gguf(model, tmp_path / "m.gguf")
    from_folder, from_gguf = (open_model(open_checkpoint(source)) for source in (folder, path))
    assert from_gguf.fingerprint() == from_folder.fingerprint()
    assert from_gguf.note is None
    ids = torch.tensor([5, 1])
    assert torch.equal(from_gguf.first_mlp(from_gguf.W_E(ids)), from_folder.first_mlp(from_folder.W_E(ids)))


def test_quantised_weights_are_read_as_such_and_said(tmp_path):
    model = plain_model("llama")
    path = write_gguf(model, tmp_path / "m.gguf", quantise=("attn_v.weight", "attn_output.weight"))
    checkpoint = open_checkpoint(path)
    exact = model.get_parameter(NAME).detach()
    read = checkpoint.read(NAME)
    assert read.shape == exact.shape and 0 < (read - exact).abs().max() < 0.01
    assert torch.equal(checkpoint.read(NAME, slice(3, 9)), read[3:9])
    assert checkpoint.note == "Weights are quantised (Q8_0, F32; embedding F32)."


def test_its_tokenizer(tmp_path):
    tokenizer = open_checkpoint(write_gguf(plain_model("llama"), tmp_path / "m.gguf")).load_tokenizer()
    assert len(tokenizer(" abc", add_special_tokens=False)["input_ids"]) == 1


def test_a_folder_with_one_gguf_file(tmp_path):
    path = write_gguf(plain_model("llama"), tmp_path / "m.gguf")
    assert open_checkpoint(tmp_path).source == str(path)
    (tmp_path / "n.gguf").write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match=r"expected one model, found 2 .gguf files"):
        open_checkpoint(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a model's folder or a .gguf file, found nothing there"):
        open_checkpoint(tmp_path / "no.gguf")


def test_damaged_files(tmp_path):
    whole = write_gguf(plain_model("llama"), tmp_path / "m.gguf").read_bytes()
    path = tmp_path / "damaged.gguf"
    lies = {
        "empty": b"",
        "no magic": b"GGML" + whole[4:],
        "cut in the header": whole[:100],
        "cut in the names": whole[:3_000],
        "cut in the last tensor": whole[:-1_000],
        "too many tensors": whole[:8] + struct.pack("<Q", 2**60) + whole[16:],
        "too many keys": whole[:16] + struct.pack("<Q", 2**60) + whole[24:],
        "a long string": whole[:24] + struct.pack("<Q", 2**60) + whole[32:],
    }
    for name, content in lies.items():
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(path)
        assert str(caught.value).startswith(f"{path}: expected a GGUF file, found a damaged one ("), name


def test_split_files_and_other_architectures_are_refused(tmp_path):
    split = write_gguf(
        plain_model("llama"), tmp_path / "s.gguf", more=lambda writer: writer.add_uint16("split.count", 2)
    )
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(split)
    assert str(caught.value) == (
        f"{split}: expected a GGUF file in one piece, found a split one. Merge it with llama-gguf-split."
    )
    other = write_gguf(plain_model("llama"), tmp_path / "o.gguf", architecture="falcon")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(other)
    assert str(caught.value) == (
        f"{other}: expected a GGUF file of llama, qwen2, qwen3, found 'falcon'. Use the model's safetensors checkpoint."
    )


def test_a_missing_tensor(tmp_path):
    model = plain_model("llama")
    state = {name: value for name, value in model.state_dict().items() if name != NAME}
    model.state_dict = lambda: state
    opened = open_model(open_checkpoint(write_gguf(model, tmp_path / "m.gguf")))
    with pytest.raises(ArchitectureError, match=f"expected a tensor '{NAME}', found none"):
        opened.values_and_outputs(1)
    with pytest.raises(CheckpointError, match=r"expected a tensor 'blk.1.attn_v.weight', found none"):
        opened.checkpoint.read(NAME)


def test_weights_that_are_not_finite(tmp_path):
    model = plain_model("llama")
    with torch.no_grad():
        model.get_parameter(NAME)[0, 0] = np.nan
    with pytest.raises(ArchitectureError, match="1 values that are NaN or infinite"):
        open_model(open_checkpoint(write_gguf(model, tmp_path / "m.gguf"))).fingerprint()
