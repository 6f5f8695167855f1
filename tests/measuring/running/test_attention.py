"""The attention of every family comes from its modules, layer by layer, with the tokens that a mask shows."""

import pytest
import torch

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import ArchitectureError
from headatlas.measuring.running.attention import most_tokens, watch_attention
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.predicted import inputs_of
from models import CASES, STRUCTURE_CASES, make_model

IDS = torch.randint(1, 90, (2, 23), generator=torch.Generator().manual_seed(0))
WITHOUT = ("falcon-serial",)
"""Families whose attention cannot be had."""

SLIDING = {"exaone4": (0, 1), "gemma2": (0, 2), "gemma3_text": (0, 1, 2), "gemma4_text": (0, 1), "olmo3": (0, 1, 2)}
SLIDING["gemma4_text-shared"], SLIDING["gpt_oss"] = (0, 2), (0, 2)
"""Layers with a window of 16 tokens."""


def watch(case, folder):
    make_model(case).save_pretrained(folder)
    running, seen = RunningModel(open_model(open_checkpoint(folder))), {}
    watch_attention(running, IDS, lambda layer, *each: seen.setdefault(layer, []).append(each))
    return running, seen


@pytest.mark.parametrize("case", [each for each in (*CASES, *STRUCTURE_CASES) if each not in WITHOUT])
def test_every_layer_with_heads_is_seen_once(case, tmp_path):
    running, seen = watch(case, tmp_path)
    assert list(seen) == running.layers and all(len(each) == 1 for each in seen.values())
    n_tokens = IDS.shape[1]
    at = torch.arange(n_tokens)
    back = at[:, None] - at
    for layer, [(attention, visible)] in seen.items():
        assert attention.shape == (2, running.heads.n_heads, n_tokens, n_tokens)
        window = 16 if layer in SLIDING.get(case, ()) else n_tokens
        assert torch.equal(visible, ((back >= 0) & (back < window)).expand(2, -1, -1)), layer
        assert (attention[~visible[:, None].expand_as(attention)] == 0).all()
        total = attention.sum(-1)
        if case == "gpt_oss":  # the rest is on the sink, a parameter
            assert (total < 0.999).all()
        else:
            assert torch.allclose(total, torch.ones_like(total), atol=1e-5)


def test_a_window_inside_the_module_counts(tmp_path):
    """GPT-Neo hides distant tokens in a buffer of its own."""
    make_model("gpt_neo", window_size=5).save_pretrained(tmp_path)
    running, seen = RunningModel(open_model(open_checkpoint(tmp_path))), {}
    watch_attention(running, IDS, lambda layer, _, visible: seen.update({layer: visible[0, -1].sum().item()}))
    assert seen == {0: 23, 1: 5, 2: 23}


def test_attention_that_is_not_handed_out_is_refused(tmp_path):
    with pytest.raises(ArchitectureError, match="transformers' FalconAttention does not hand out its attention"):
        watch("falcon-serial", tmp_path)


@pytest.mark.parametrize("case", [each for each in (*CASES, *STRUCTURE_CASES) if each not in WITHOUT])
def test_another_input_gives_its_own_attention_and_changes_nothing_else(case, tmp_path):
    """The attention's own input gives its own attention; the model runs on as if the other had not been there."""
    running, seen = watch(case, tmp_path)
    own = inputs_of(running, IDS)
    others = {layer: x.flip(1) for layer, x in own.items()}
    again = {}
    watch_attention(running, IDS, lambda layer, *each: again.setdefault(layer, each), [own, others])
    for layer, [(attention, visible)] in seen.items():
        same, visible_again, of_own, _ = again[layer]
        assert torch.equal(same, attention) and torch.equal(visible_again, visible)
        assert torch.allclose(of_own, attention, atol=1e-5), layer
    assert any(not torch.allclose(each[3], each[0], atol=1e-5) for each in again.values())


def test_hooks_are_removed_after_an_error(tmp_path):
    make_model("llama").save_pretrained(tmp_path)
    running = RunningModel(open_model(open_checkpoint(tmp_path)))

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch_attention(running, IDS, fail)
    assert not any(module._forward_hooks for module in running.base.modules())


def test_damaged_attention_is_refused(tmp_path):
    make_model("llama").save_pretrained(tmp_path)
    running = RunningModel(open_model(open_checkpoint(tmp_path)))
    with torch.no_grad():
        running.base.layers[1].self_attn.q_proj.weight.fill_(3e38)
    with pytest.raises(ArchitectureError, match=r"layer 1: expected attention to tokens that the mask shows"):
        watch_attention(running, IDS, lambda *_: None)


@pytest.mark.parametrize("case, most", [("gpt2", 64), ("opt", 64), ("mpt", 64), ("bloom", None), ("llama", 64)])
def test_the_most_tokens_that_a_model_reads(case, most, tmp_path):
    make_model(case).save_pretrained(tmp_path)
    assert most_tokens(open_model(open_checkpoint(tmp_path))) == most
