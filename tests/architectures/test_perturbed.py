"""A model moved in random directions: by the right amount, the same for the same seed, however it is read."""

import pytest
import torch

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.architectures.perturbed import differences, perturbed_model
from headatlas.errors import ArchitectureError
from models import make_model, save_model


def opened(model, folder):
    return open_model(open_checkpoint(save_model(model, folder)), None, "alone")


@pytest.fixture(scope="module", params=["llama", "gpt2", "mixtral"])
def pair(request, tmp_path_factory):
    """A model, and one of which a matrix differs by rank 1, another by full rank, and a norm."""
    place, models = tmp_path_factory.mktemp("pair"), [make_model(request.param) for _ in range(2)]
    names = dict(models[1].named_parameters())
    matrices = [name for name, each in names.items() if ".1." in name and each.ndim == 2 and min(each.shape) > 8]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        thin, full = names[matrices[0]], names[matrices[1]]
        thin += torch.outer(*(torch.randn(n, generator=generator) for n in thin.shape)) * 0.01
        full += torch.randn(full.shape, generator=generator) * 0.02
    base, other = (opened(model, place / str(at)) for at, model in enumerate(models))
    return base, other


def test_norms_and_ranks_of_differences(pair):
    base, other = pair
    found = differences(base, other)
    assert len(found) == 2
    assert sorted(each.rank or 0 for each in found.values()) == [0, 1]
    for name, each in found.items():
        before, after = (model.tree.read(name) for model in pair)
        assert each.norm == pytest.approx(float((after - before).norm()), rel=1e-5)
        assert each.size == pytest.approx(float(before.norm()), rel=1e-5)
    assert differences(base, base) == {}


def test_a_random_direction_is_as_long_and_as_thin(pair):
    base, other = pair
    found = differences(base, other)
    one, same, another = (perturbed_model(base, found, seed) for seed in (1, 1, 2))
    again = differences(base, one)
    assert again.keys() == found.keys()
    for name, each in found.items():
        assert again[name].norm == pytest.approx(each.norm, rel=0.2 if each.rank is None else 1e-3)
        assert again[name].rank == each.rank
        whole = one.tree.read(name)
        assert torch.equal(whole, same.tree.read(name)) and not torch.equal(whole, another.tree.read(name))
        torch.testing.assert_close(one.tree.read(name, slice(3, 9)), whole[3:9], rtol=0, atol=1e-6)
    untouched = next(part.parameter for part in base.parts() if part.parameter not in found)
    assert torch.equal(one.tree.read(untouched), base.tree.read(untouched))
    assert one.fingerprint() == same.fingerprint() != another.fingerprint()


def test_blocks_are_drawn_the_same_however_rows_are_read(pair, monkeypatch):
    monkeypatch.setattr("headatlas.architectures.perturbed.BLOCK", 4)
    base, other = pair
    found = differences(base, other)
    one = perturbed_model(base, found, 1)
    (name,) = [name for name, each in found.items() if each.rank is None]
    torch.testing.assert_close(one.tree.read(name, slice(3, 9)), one.tree.read(name)[3:9])


def test_another_shape_is_refused(tmp_path):
    base, other = (opened(make_model("llama", **more), tmp_path / name) for name, more in
                   (("a", {}), ("b", {"intermediate_size": 31})))  # fmt: skip
    with pytest.raises(ArchitectureError, match=r"expected a parameter .*mlp.* of shape .*a, found \(31, 48\)"):
        differences(base, other)
