"""Inputs that are predicted from tokens: fitted on texts of the model itself, and exact where they must be."""

import numpy as np
import pytest
import torch

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.measuring.running import predicted
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.predicted import inputs_of, predict_inputs, write_samples
from models import make_model

PREFIX = 3


@pytest.fixture(scope="module", params=["llama", "gpt2", "bloom"])
def running(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    make_model(request.param).save_pretrained(folder)
    return RunningModel(open_model(open_checkpoint(folder)))


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(predicted, "SAMPLES", 7)


def test_samples_begin_with_the_prefix_and_depend_on_the_seed_alone(running, few, monkeypatch):
    samples = write_samples(running, PREFIX, 11, seed=5)
    assert samples.shape == (7, 11)
    assert (samples[:, 0] == PREFIX).all()
    assert samples.max() < running.heads.d_vocab
    assert len(samples[:, 1:].unique()) > 20
    assert torch.equal(samples, write_samples(running, PREFIX, 11, seed=5))
    assert not torch.equal(samples, write_samples(running, PREFIX, 11, seed=6))
    # A family whose kept keys and values do not give the logits of a whole run writes the same texts, more slowly.
    monkeypatch.setattr(RunningModel, "can_continue", lambda self, ids: False)
    assert torch.equal(samples, write_samples(running, PREFIX, 11, seed=5))


def test_samples_follow_the_probabilities_of_the_model(running, few, monkeypatch):
    only = torch.full((1, running.heads.d_vocab), -1e9)
    only[0, 13] = 0.0
    monkeypatch.setattr(RunningModel, "last_logits", lambda self, ids, past=None: only.expand(len(ids), -1))
    assert (write_samples(running, PREFIX, 5)[:, 1:] == 13).all()


def test_what_the_first_layer_reads_is_predicted_exactly_without_positions(running, few):
    """The first layer reads embeddings; in GPT-2 their positions too, which the token alone does not tell."""
    samples = write_samples(running, PREFIX, 31)
    ids = torch.tensor([[PREFIX, 7, 19, 2, 7, 40], [PREFIX, 40, 23, 19, 19, 1]])
    found = predict_inputs(running, PREFIX, ids[:, 1:], samples).of(ids)
    real = inputs_of(running, ids)
    assert list(found) == list(real) == running.layers
    assert all(found[layer].shape == real[layer].shape for layer in real)
    assert all(torch.allclose(found[layer][:, 0], real[layer][:, 0], atol=1e-5) for layer in real)
    assert torch.allclose(found[1][0, 1], found[1][0, 4])  # the same token
    error = float((found[0] - real[0]).norm() / real[0].norm())
    assert error > 0.1 if running.heads.model_type == "gpt2" else error < 0.05


def test_the_fit_is_that_of_a_plain_ridge_regression():
    numbers = np.random.default_rng(0)
    x, y = numbers.normal(size=(29, 5)), numbers.normal(size=(29, 3))
    square = x.T @ x
    expected = np.linalg.solve(square + 0.1 * np.trace(square) / 5 * np.eye(5), x.T @ y)
    found = predicted.ridge(torch.from_numpy(square), torch.from_numpy(x.T @ y), 0.1)
    assert np.allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("noise", "penalty"), [(0.0, min(predicted.PENALTIES)), (30.0, max(predicted.PENALTIES))])
def test_samples_that_were_not_fitted_choose_the_penalty(noise, penalty, monkeypatch):
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(8, 7, 23, generator=numbers)
    y = x @ torch.randn(23, 5, generator=numbers) + noise * torch.randn(8, 7, 5, generator=numbers)
    rows, outputs = x.flatten(0, 1).double(), y.flatten(0, 1).double()
    assert torch.equal(predicted._fit(x, y), predicted.ridge(rows.T @ rows, rows.T @ outputs, penalty))


@pytest.mark.parametrize(
    "ids",
    [
        np.zeros((2, 2), int),
        np.zeros((32, 2, 2), int),
        np.zeros((32, 3)),
        np.full((32, 3), 101),
        -np.ones((32, 3), int),
    ],
)
def test_kept_samples_that_are_none(ids):
    with pytest.raises(ValueError, match="samples: expected token ids"):
        predicted.kept_samples(ids, 101)
    assert predicted.kept_samples(np.full((32, 3), 100), 101).tolist() == [[100] * 3] * 32
