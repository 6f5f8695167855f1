"""GGUF files: the same weights as the safetensors checkpoint, quantised ones, and those that cannot be read."""

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from headatlas.architectures import open_model
from headatlas.architectures.gguf.table import ARCHITECTURES
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import ArchitectureError, CheckpointError
from models import make_model, save_model

KV = {"llama": 2, "qwen2": 2, "qwen3": 3}
NAME = "model.layers.1.self_attn.v_proj.weight"


def write_gguf(model, path, quantise=(), architecture=None, more=lambda writer: None, extra=()):
    """The model as a GGUF file, in the layout of llama.cpp's converter (except for the order in queries and keys).

    Args:
        quantise: tensors whose GGUF name contains one of these become Q8_0.
        more: adds metadata; extra: names and arrays of tensors to add.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, architecture or config.model_type)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_key_length(d_head)
        writer.add_value_length(d_head)
        writer.add_rope_dimension_count(d_head)
        writer.add_rope_freq_base(70_000.0)
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
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            values = np.ascontiguousarray(values.T)
        if any(part in stored for part in quantise):
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(stored, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(stored, values)
    for name, values in extra:
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def plain_model(case, **changes):
    """With widths that Q8_0 can hold, and for llama without biases, which its files do not store."""
    if case != "gpt2":
        changes = {"hidden_size": 96, "head_dim": 16} | changes
    if case == "llama":
        changes = {"attention_bias": False, "mlp_bias": False} | changes
    return make_model(case, **changes)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("llama", {}),
        ("llama", {"head_dim": 10}),
        ("llama-tied", {}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 6}),
        ("gpt2", {}),
    ],
)
def test_gguf_in_f32_is_the_safetensors_checkpoint(tmp_path, case, changes):
    model = plain_model(case, **changes)
    folder = save_model(model, tmp_path / "folder")
    path = write_gguf(model, tmp_path / "m.gguf")
    from_folder, from_gguf = (open_model(open_checkpoint(source)) for source in (folder, path))
    assert from_gguf.fingerprint() == from_folder.fingerprint()
    assert from_gguf.note is None
    ids = torch.tensor([5, 1])
    assert torch.equal(from_gguf.first_mlp(from_gguf.W_E(ids)), from_folder.first_mlp(from_folder.W_E(ids)))
    for ours, theirs in zip(from_gguf.values_and_outputs(2), from_folder.values_and_outputs(2), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("case", ["llama", "llama-tied", "qwen2", "qwen3", "gpt2"])
def test_config_and_layout_are_those_that_transformers_reads(tmp_path, case):
    """The oracle is the slow GGUF reader of transformers; it also proves that the files of this test are right."""
    model = plain_model(case)
    checkpoint = open_checkpoint(write_gguf(model, tmp_path / "m.gguf"))
    theirs = load_gguf_checkpoint(checkpoint.source, return_tensors=True, model_to_load=model)
    expected = AutoConfig.for_model(**theirs["config"]).to_dict()
    # Left at its default by transformers in some of these families; ids of special tokens do not matter here.
    apart = {"head_dim", "attention_bias", "mlp_bias", "n_inner", "n_positions"}
    apart |= {"eos_token_id", "bos_token_id", "pad_token_id"}
    ours = {key: value for key, value in checkpoint.config.to_dict().items() if key not in apart}
    assert ours == {key: expected[key] for key in ours}
    tensors = theirs["tensors"]
    assert {"c_proj", "o_proj"} & {name.split(".")[-2] for name in tensors}
    for name, value in tensors.items():
        assert torch.equal(checkpoint.read(name), value), name


def test_its_tokenizer_is_the_one_that_transformers_reads(tmp_path):
    path = write_gguf(plain_model("llama"), tmp_path / "m.gguf")
    ours = open_checkpoint(path).load_tokenizer()
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    assert len(ours(" abc", add_special_tokens=False)["input_ids"]) == 1


def test_rows_of_a_transposed_and_of_a_one_dimensional_tensor(tmp_path):
    model = plain_model("gpt2")
    checkpoint = open_checkpoint(write_gguf(model, tmp_path / "m.gguf"))
    for name in ("transformer.h.1.attn.c_attn.weight", "transformer.h.0.ln_2.bias", "transformer.wte.weight"):
        expected = model.get_parameter(name).detach()
        assert checkpoint.shape(name) == expected.shape
        assert torch.equal(checkpoint.read(name, slice(3, 11)), expected[3:11])


def test_quantised_weights_are_read_and_noted(tmp_path):
    model = plain_model("llama")
    path = write_gguf(model, tmp_path / "m.gguf", quantise=("attn_v.weight", "attn_output.weight"))
    checkpoint = open_checkpoint(path)
    exact = model.get_parameter(NAME).detach()
    read = checkpoint.read(NAME)
    assert read.shape == exact.shape and 0 < (read - exact).abs().max() < 0.01
    assert torch.equal(checkpoint.read(NAME, slice(3, 9)), read[3:9])
    assert checkpoint.note == "Weights are quantised (Q8_0, F32; embedding F32)."


def test_a_folder_with_one_gguf_file(tmp_path):
    path = write_gguf(plain_model("llama"), tmp_path / "m.gguf")
    assert open_checkpoint(tmp_path).source == str(path)
    (tmp_path / "n.gguf").write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match=r"expected one model, found 2 .gguf files"):
        open_checkpoint(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a model's folder or a .gguf file, found nothing there"):
        open_checkpoint(tmp_path / "no.gguf")


def message(path, act=open_checkpoint):
    with pytest.raises(CheckpointError) as caught:
        act(path)
    return str(caught.value)


def test_other_architectures_are_refused(tmp_path):
    other = write_gguf(plain_model("llama"), tmp_path / "o.gguf", architecture="mamba")
    assert message(other) == (
        f"{other}: expected a GGUF file of {', '.join(ARCHITECTURES)}, found 'mamba'. "
        f"Use the model's safetensors checkpoint."
    )
    experts = write_gguf(plain_model("qwen2"), tmp_path / "e.gguf", more=lambda writer: writer.add_expert_count(8))
    assert message(experts) == (
        f"{experts}: expected one MLP per layer in 'qwen2', found a mixture of experts. "
        f"Use the model's safetensors checkpoint."
    )


def test_inconsistent_metadata(tmp_path):
    def change(key, value):
        return lambda writer: writer.kv_data[0].__setitem__(f"llama.{key}", value)

    path = tmp_path / "m.gguf"
    u32, text = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.STRING
    write_gguf(plain_model("llama"), path, more=change("block_count", gguf.GGUFValue(0, u32)))
    assert message(path) == f"{path}: expected a number of layers from 1 to 9,999, found 0."
    write_gguf(plain_model("llama"), path, more=change("block_count", gguf.GGUFValue("3", text)))
    assert message(path) == (
        f"{path}: expected a whole number for 'llama.block_count', found '3'. Fetch the file again."
    )
    write_gguf(plain_model("llama"), path, more=change("block_count", gguf.GGUFValue(2**32 - 1, u32)))
    assert message(path) == f"{path}: expected a number of layers from 1 to 9,999, found 4294967295."
    write_gguf(plain_model("llama"), path, more=change("block_count", gguf.GGUFValue(4, u32)))
    assert message(path) == f"{path}: expected tensors of 4 layers, found only 3. Fetch the file again."
    write_gguf(plain_model("llama"), path, more=change("attention.head_count", gguf.GGUFValue(0, u32)))
    assert message(path, lambda path: open_checkpoint(path).config) == (
        f"{path}: transformers cannot read this config (integer modulo by zero)."
    )
    write_gguf(plain_model("llama"), path, more=change("attention.head_count_kv", gguf.GGUFValue(0, u32)))
    with pytest.raises(ArchitectureError) as caught:
        open_model(open_checkpoint(path))
    assert str(caught.value) == (
        f"{path}: transformers cannot build a model of this config (ZeroDivisionError: integer division or modulo by "
        f"zero). Is the config complete?"
    )
    write_gguf(plain_model("llama"), path, more=change("block_count", gguf.GGUFValue(2, u32)))
    assert message(path) == f"{path}: expected tensors of 2 layers, found more. Fetch the file again."
    per_layer = gguf.GGUFValue([2, 2, 3], gguf.GGUFValueType.ARRAY)
    write_gguf(plain_model("llama"), path, more=change("attention.head_count_kv", per_layer))
    assert message(path, lambda path: open_checkpoint(path).config) == (
        f"{path}: expected a whole number for 'llama.attention.head_count_kv', found a list. Fetch the file again."
    )


def test_biases_of_the_mlp_are_not_left_out(tmp_path):
    model = make_model("llama", hidden_size=96, head_dim=16)  # with biases
    folder = open_model(open_checkpoint(save_model(model, tmp_path / "folder")))
    opened = open_model(open_checkpoint(write_gguf(model, tmp_path / "m.gguf")))
    ids = torch.tensor([5, 1])
    assert torch.equal(opened.first_mlp(opened.W_E(ids)), folder.first_mlp(folder.W_E(ids)))
    extra = [("blk.0.ffn_up.bias", np.ones(37, np.float32))]
    opened = open_model(open_checkpoint(write_gguf(plain_model("qwen2"), tmp_path / "m.gguf", extra=extra)))
    with pytest.raises(ArchitectureError) as caught:
        opened.fingerprint()
    assert str(caught.value) == (
        "m.gguf: tensor 'model.layers.0.mlp.up_proj.bias' has no place in the model that this config describes; "
        "expected none. Is config.json from the same model?"
    )


def test_a_missing_tensor(tmp_path):
    model = plain_model("llama")
    state = {name: value for name, value in model.state_dict().items() if name != NAME}
    model.state_dict = lambda: state
    opened = open_model(open_checkpoint(write_gguf(model, tmp_path / "m.gguf")))
    with pytest.raises(ArchitectureError, match=f"expected a tensor '{NAME}', found none"):
        opened.values_and_outputs(1)
    with pytest.raises(CheckpointError, match=f"expected a tensor '{NAME}', found none"):
        opened.checkpoint.read(NAME)


def test_weights_that_are_not_finite(tmp_path):
    model = plain_model("llama")
    with torch.no_grad():
        model.get_parameter(NAME)[0, 0] = np.nan
    with pytest.raises(ArchitectureError, match="1 values that are NaN or infinite"):
        open_model(open_checkpoint(write_gguf(model, tmp_path / "m.gguf"))).fingerprint()
