"""What a layer reads because of a token's place, in models with learned positions and in those with rotary ones."""

import pytest
import torch

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.places import at_places, find_places, has_absolute_places
from headatlas.measuring.running.predicted import inputs_of, predict_inputs
from models import make_model, save_model
from planted import WORDS

SAMPLES = torch.randint(1, 90, (40, 23), generator=torch.Generator().manual_seed(3))
SAMPLES[:, 0] = 5


def open_running(case, folder):
    save_model(make_model(case), folder / "model", WORDS)
    return RunningModel(open_model(open_checkpoint(folder / "model")))


@pytest.mark.parametrize(
    ("case", "absolute"), [("gpt2", True), ("opt", True), ("llama", False), ("gemma2", False), ("bloom", False)]
)
def test_absolute_positions_are_seen(tmp_path, case, absolute):
    running = open_running(case, tmp_path)
    assert has_absolute_places(running, SAMPLES) is absolute
    inputs = predict_inputs(running, 5, SAMPLES[:, 1:], SAMPLES)
    places = find_places(running, inputs, SAMPLES)
    assert bool(places) is absolute
    if not absolute:
        predicted = inputs.of(SAMPLES)
        assert all(x is predicted[layer] for layer, x in at_places(predicted, places).items())


def test_places_bring_the_prediction_nearer(tmp_path):
    running = open_running("gpt2", tmp_path)
    inputs = predict_inputs(running, 5, torch.arange(1, 90), SAMPLES)
    places = find_places(running, inputs, SAMPLES)
    other = torch.randint(1, 90, (9, 29), generator=torch.Generator().manual_seed(4))  # longer than the samples
    other[:, 0] = 5
    known, predicted = inputs_of(running, other), inputs.of(other)
    better = at_places(predicted, places)
    for layer, x in known.items():
        assert torch.equal(better[layer][:, 0], predicted[layer][:, 0])
        at = slice(1, 23)
        error, before = ((each[layer][:, at] - x[:, at]).square().mean() for each in (better, predicted))
        assert error < before
        assert better[layer].shape == x.shape
