"""Every architecture: a file in the layout of llama.cpp's converter holds what transformers' model holds."""

import pytest
import torch

from gguf_models import CASES, D_MODEL, N_HEADS, N_LAYERS, factors_of_positions, make_model, write
from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import ArchitectureError


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_is_that_of_the_model(tmp_path, case):
    model = make_model(case)
    checkpoint = open_checkpoint(write(model, case, tmp_path / "m.gguf"))
    assert checkpoint.model_type == model.config.model_type
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    for name, value in state.items():
        assert checkpoint.shape(name) == value.shape, name
        # Adding and subtracting 1 may change the last bit.
        exact = "norm" not in name
        read = checkpoint.read(name)
        assert torch.equal(read, value) if exact else torch.allclose(read, value, atol=2e-7, rtol=0), name
        assert torch.equal(checkpoint.read(name, slice(1, 4)), read[1:4]), name
        assert checkpoint.n_bytes(name) == value.numel() * 4 and checkpoint.file_of(name) == "m.gguf"
    assert {name.replace("embed_out.", "lm_head.") for name in checkpoint.names()} == set(state)
    positions = sum(values.nbytes for _, values in factors_of_positions(model.config))
    assert checkpoint.size == sum(checkpoint.n_bytes(name) for name in checkpoint.names()) + positions


APART = {
    "architectures",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "dtype",
    "rope_parameters",
    "head_dim",
    "initializer_range",
    "use_cache",
}
"""Irrelevant, written in another way, or left at transformers' default."""


@pytest.mark.parametrize("case", CASES)
def test_the_config_is_that_of_the_model(tmp_path, case):
    model = make_model(case)
    found = open_checkpoint(write(model, case, tmp_path / "m.gguf")).config
    expected = model.config.to_dict()
    for name, value in found.to_dict().items():
        if name in expected and name not in APART:
            if isinstance(value, float):
                value = pytest.approx(value, rel=1e-6)
            assert value == expected[name], name
    assert found.num_attention_heads == N_HEADS and found.num_hidden_layers == N_LAYERS
    assert found.hidden_size == D_MODEL and found.vocab_size == model.config.vocab_size
    assert getattr(found, "head_dim", None) in (None, getattr(model.config, "head_dim", None), D_MODEL // N_HEADS)


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_safetensors_checkpoint(tmp_path, case):
    """The fingerprint, which covers all that a map reads, does not depend on the format."""
    model = make_model(case)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.copy_((parameter + 1) - 1)  # so that adding 1 loses no bit
    model.save_pretrained(tmp_path / "folder")
    path = write(model, case, tmp_path / "m.gguf")
    try:
        expected = open_model(open_checkpoint(tmp_path / "folder")).fingerprint()
    except ArchitectureError as error:
        pytest.skip(f"not read from safetensors either: {error}")
    opened = open_model(open_checkpoint(path))
    assert opened.fingerprint() == expected and opened.note is None
