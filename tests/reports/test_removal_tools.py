"""Code for nnsight, nnterp, TransformerLens and Inspect, in these tools; each is skipped where it is not installed.

`pip install nnsight nnterp transformer-lens inspect-ai` in an environment of its own; nothing else here needs them.
"""

import pytest
import torch

from atlases import make_atlas, with_model
from headatlas.reports.removal_code import removal_code
from models import make_model, save_model

HEADS = {0: [1], 1: [0, 2]}
IDS = torch.tensor([[3, 5, 7, 11, 13]])

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def saved(request, tmp_path_factory):
    """A tiny model on disk, its case, and its logits without the heads, by the plain hooks of torch."""
    folder = save_model(make_model(request.param), tmp_path_factory.mktemp(request.param))
    space = code_of(request.param, "torch", folder)
    model = loaded(folder)
    with torch.no_grad(), space["heads_off"](model):
        without = model(IDS).logits
    with torch.no_grad():
        assert not torch.allclose(without, model(IDS).logits, atol=1e-3 * without.abs().max().item())
    return folder, request.param, without


def loaded(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def code_of(case: str, fmt: str, folder) -> dict:
    config = make_model(case).config
    atlas = make_atlas(n_layers=config.num_hidden_layers, n_heads=config.num_attention_heads)
    atlas = with_model(atlas, model_type=config.model_type, source=str(folder))
    space: dict = {"__name__": "code"}
    exec(compile(removal_code(atlas, fmt, HEADS), f"{fmt}.py", "exec"), space)
    return space


def check(found, expected) -> None:
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_nnsight(saved):
    nnsight = pytest.importorskip("nnsight", reason="nnsight is not installed")
    from transformers import AutoTokenizer

    folder, case, expected = saved
    remove_heads = code_of(case, "nnsight", folder)["remove_heads"]
    model = nnsight.LanguageModel(loaded(folder), tokenizer=AutoTokenizer.from_pretrained(folder))
    with torch.no_grad(), model.trace(IDS):
        remove_heads(model)
        logits = model.output.logits.save()
    check(logits, expected)


def test_nnterp(saved):
    nnterp = pytest.importorskip("nnterp", reason="nnterp is not installed")
    folder, case, expected = saved
    remove_heads = code_of(case, "nnterp", folder)["remove_heads"]
    model = nnterp.StandardizedTransformer(str(folder), check_renaming=False)
    with torch.no_grad(), model.trace(IDS):
        remove_heads(model)
        logits = model.logits.save()
    check(logits, expected)


def test_transformer_lens(saved):
    bridge = pytest.importorskip("transformer_lens.model_bridge", reason="TransformerLens is not installed")
    folder, case, expected = saved
    hooks_of = code_of(case, "transformer-lens", folder)["hooks_of"]
    model = bridge.TransformerBridge.boot_transformers(str(folder), device="cpu")
    with torch.no_grad():
        check(model.run_with_hooks(IDS, fwd_hooks=hooks_of()), expected)


def test_inspect(saved):
    pytest.importorskip("inspect_ai", reason="Inspect is not installed")
    folder, case, expected = saved
    model = code_of(case, "inspect", folder)["load"]("hf/local", model_path=str(folder), device="cpu")
    with torch.no_grad():
        check(model.api.model(IDS).logits, expected)
