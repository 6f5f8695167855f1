"""The parts of a logit add up to the model's own, in every family; each is that of the formula."""

import pytest
import torch

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import ArchitectureError
from headatlas.measuring.running.direct import split_logit
from headatlas.measuring.running.model import RunningModel
from models import make_model

IDS = torch.tensor([[5, 17, 3, 88, 41], [60, 2, 9, 9, 71]])
TOKEN, OTHER = 7, 23

FAMILIES = [
    "llama", "gpt2", "gpt_neox", "bloom", "mpt", "falcon-serial", "phi", "gpt_neo", "gemma2", "gemma4_text-shared",
    "granite", "cohere2", "opt", "opt-narrow", "qwen3_next", "gpt_oss", "deepseek_v2", "olmo2", "llava", "olmo_hybrid",
    "vaultgemma",
]  # fmt: skip
"""Biases, parallel and serial blocks, residuals inside MLPs, norms behind blocks and on the residual, scaled and capped
logits, layers without heads, experts, a projection behind the last layer."""


def open_running(folder, case):
    make_model(case).save_pretrained(folder)
    return RunningModel(open_model(open_checkpoint(folder)))


def uncapped(running):
    """Logits in front of a cap."""
    seen = []
    hook = running.model.get_output_embeddings().register_forward_hook(lambda _, __, output: seen.append(output))
    running.last_logits(IDS)
    hook.remove()
    return seen[0].reshape(len(IDS), -1, seen[0].shape[-1])[:, -1].double()


@pytest.mark.parametrize("case", FAMILIES)
def test_the_parts_add_up_to_the_models_logit(tmp_path, case):
    running = open_running(tmp_path, case)
    mean, against = split_logit(running, IDS, TOKEN), split_logit(running, IDS, TOKEN, OTHER)
    own = running.last_logits(IDS).double()
    assert mean.logits.double() == pytest.approx(own, rel=1e-4, abs=1e-5)
    assert mean.capped == (case in ("gemma2", "vaultgemma"))
    logits = uncapped(running) if mean.capped else own
    for parts, baseline in ((mean, logits.mean(-1)), (against, logits[:, OTHER])):
        expected = logits[:, TOKEN] - baseline
        assert parts.value == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert parts.total == pytest.approx(expected, rel=1e-4, abs=2e-5)
    layers = [layer for layer in range(running.heads.n_layers) if running.heads.has_heads(layer)]
    assert set(mean.outputs) == set(layers)
    assert mean.heads[:, layers].abs().min() > 0 and mean.heads[:, layers].isfinite().all()
    assert mean.mlps.abs().sum() > 0 and mean.embedding.abs().min() > 0


@pytest.mark.parametrize("case", ["llama", "gpt2", "olmo2"])
def test_a_heads_part_is_that_of_the_formula(tmp_path, case):
    """`z_h @ W_O_h`, a norm behind the attention, the final norm's scale of this prompt, and the unembedding."""
    running = open_running(tmp_path, case)
    heads, parts = running.heads, split_logit(running, IDS, TOKEN)
    seen = {}
    names = {str(heads.family.final_norm)}
    if heads.family.norm_after_attention:
        names |= {f"layers.{layer}.{heads.family.norm_after_attention}" for layer in running.layers}
    hooks = [
        running.base.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: seen.__setitem__(name, args[0][:, -1].double())
        )
        for name in names
    ]
    watched = running.watch(IDS, torch.zeros(2, dtype=torch.long))
    for hook in hooks:
        hook.remove()

    def normed(rows, name):
        """Rows as the norm changes them beside what it read."""
        module, read = running.base.get_submodule(name), seen[name]
        gain = module.weight.detach().double()
        if isinstance(module, torch.nn.LayerNorm):
            scale = (read.var(-1, unbiased=False) + module.eps).rsqrt()
            rows = rows - rows.mean(-1, keepdim=True)
        else:
            scale = (read.square().mean(-1) + module.variance_epsilon).rsqrt()
        return rows * scale[:, None, None] * gain

    W_U = running.model.get_output_embeddings().weight.detach().double()
    direction = W_U[TOKEN] - W_U.mean(0)
    for layer in running.layers:
        _, W_O = heads.values_and_outputs(layer)
        rows = torch.einsum("phd,hdm->phm", watched.outputs[layer], W_O).double()
        if heads.family.norm_after_attention:
            rows = normed(rows, f"layers.{layer}.{heads.family.norm_after_attention}")
        expected = normed(rows, str(heads.family.final_norm)) @ direction
        assert parts.heads[:, layer] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_model_that_hands_on_more_than_its_residual_is_refused(tmp_path):
    running = open_running(tmp_path, "llama-ungrouped")
    layer = running.base.layers[1]
    layer.register_forward_hook(lambda _, __, output: output + output.tanh())
    with pytest.raises(
        ArchitectureError, match=r"add up to the logit, found a difference of .* hands more from layer to layer"
    ):
        split_logit(running, IDS, TOKEN)


def test_the_model_is_left_as_it_was(tmp_path):
    running = open_running(tmp_path, "gpt2")
    before = running.last_logits(IDS)
    hooked = [name for name, module in running.model.named_modules() if module._forward_hooks]
    split_logit(running, IDS, TOKEN)
    assert running.last_logits(IDS) == pytest.approx(before, abs=1e-5)
    assert [name for name, module in running.model.named_modules() if module._forward_hooks] == hooked
    assert not any(module._forward_pre_hooks for module in running.model.modules())
