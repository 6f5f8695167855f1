"""A path that is removed, against a residual from which the sender's output is taken by hand."""

import pytest
import torch

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.paths import Path, run_without
from headatlas.measuring.running.writes import watch_norms
from models import make_model, save_model
from planted import WORDS

N = 9


def open_writes(case, folder):
    save_model(make_model(case), folder / "model", WORDS)
    heads = open_model(open_checkpoint(folder / "model"))
    running = RunningModel(heads)
    samples = torch.randint(1, 60, (3, 12), generator=torch.Generator().manual_seed(2))
    return watch_norms(running, samples)


def sequences():
    drawn = torch.stack([torch.randperm(80, generator=torch.Generator().manual_seed(seed))[:N] + 1 for seed in (0, 1)])
    return torch.cat([torch.zeros(2, 1, dtype=torch.long), drawn, drawn], 1)


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2", "gpt_neox"])
def test_without_paths_nothing_changes(tmp_path, case):
    writes, ids = open_writes(case, tmp_path), sequences()
    effects = run_without(writes, ids, [], [(1, 0)])
    logits = writes.running.logits(ids, ids.shape[1])
    expected = logits.double().softmax(-1)[:, N + 1 : 2 * N].gather(-1, ids[:, N + 2 :, None])[..., 0].mean(1)
    assert effects.copying == pytest.approx(expected.numpy())
    assert list(effects.shares) == [(1, 0)]


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("kind", ["key", "query", "value"])
def test_a_sender_that_writes_nothing_changes_nothing(tmp_path, case, kind):
    writes, ids = open_writes(case, tmp_path), sequences()
    running, path = writes.running, Path((0, 1), (1, 2), kind)
    whole = run_without(writes, ids, [], [(1, 2)])
    changed = run_without(writes, ids, [path])
    assert abs(changed.copying - whole.copying).max() > 1e-9
    if kind == "value":  # what it looks at stays
        assert changed.shares[1, 2] == pytest.approx(whole.shares[1, 2], abs=1e-6)
    else:
        assert abs(changed.shares[1, 2] - whole.shares[1, 2]).max() > 1e-7
    output = running.base.get_submodule(running.heads.attention.output_path(0))
    width = running.heads.attention.sizes(0).d_head

    def mute(module, args):
        joined = args[0].clone()
        joined[..., width : 2 * width] = 0
        return (joined, *args[1:])

    hook = output.register_forward_pre_hook(mute)
    muted, removed = run_without(writes, ids, [], [(1, 2)]), run_without(writes, ids, [path])
    hook.remove()
    assert removed.copying == pytest.approx(muted.copying, rel=1e-5)
    assert removed.shares[1, 2] == pytest.approx(muted.shares[1, 2], rel=1e-4)


@pytest.mark.parametrize(("case", "silent"), [("llama", "down_proj"), ("gpt2", "mlp.c_proj")])
def test_without_its_only_path_a_sender_might_as_well_be_mute(tmp_path, case, silent):
    """Nothing but a norm lies between the attention of both layers, if the MLP between them is silent."""
    writes, ids = open_writes(case, tmp_path), sequences()
    running, receiver = writes.running, (1, 2)
    with torch.no_grad():
        for name, parameter in running.base.named_parameters():
            if silent in name:
                parameter.zero_()
    removed = run_without(writes, ids, [Path((0, 1), receiver, kind) for kind in ("key", "query")])
    width = running.heads.attention.sizes(0).d_head

    def mute(module, args):
        joined = args[0].clone()
        joined[:, 1:, width : 2 * width] = 0
        return (joined, *args[1:])

    output = running.base.get_submodule(running.heads.attention.output_path(0))
    whole = run_without(writes, ids, [], [receiver])
    hook = output.register_forward_pre_hook(mute)
    muted = run_without(writes, ids, [], [receiver])
    hook.remove()
    assert abs(muted.shares[receiver] - whole.shares[receiver]).max() > 1e-5
    assert removed.shares[receiver] == pytest.approx(muted.shares[receiver], rel=1e-5)
