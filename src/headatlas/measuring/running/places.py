"""What each layer reads because of a token's place, in models with absolute positions.

A token that is known alone stands at one place. In a model with learned or sinusoidal positions, which are added to
the embedding, the same token reads otherwise elsewhere: by the mean of what its prediction misses at that place, over
texts that the model wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headatlas.measuring.running.predicted import PredictedInputs, inputs_of

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.measuring.running.model import RunningModel

ABSOLUTE = 1e-3
"""How much the first layer reads otherwise elsewhere, relative to what it reads: above this, positions are absolute."""


def has_absolute_places(running: RunningModel, samples: Tensor) -> bool:
    """Whether the first layer, which no other comes before, reads a token differently at another place.

    Args:
        samples: Int[Tensor, "n_sequences n_tokens"], each behind the prefix.
    """
    import torch

    first, ids = running.layers[0], samples[0]
    behind = torch.stack([ids[:1].expand(len(ids) - 1), ids[1:]], dim=1)
    alone, in_text = inputs_of(running, behind)[first][:, 1], inputs_of(running, ids[None])[first][0, 1:]
    return float((alone - in_text).square().mean()) > ABSOLUTE**2 * float(alone.square().mean())


def find_places(running: RunningModel, inputs: PredictedInputs, samples: Tensor) -> dict[int, Tensor]:
    """Layer -> what its attention reads at each place on top of the prediction; empty without absolute positions.

    Args:
        inputs: of the tokens of the samples.
        samples: Int[Tensor, "n_sequences n_tokens"].

    Returns:
        Float[Tensor, "n_tokens d_model"] by layer.
    """
    if not has_absolute_places(running, samples):
        return {}
    predicted = inputs.of(samples)
    found = {layer: (x - predicted[layer]).mean(0) for layer, x in inputs_of(running, samples).items()}
    for each in found.values():
        each[0] = 0
    return found


def at_places(inputs: Mapping[int, Tensor], places: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Predicted inputs, with what their places add; behind the places that are known, what the last one adds."""
    import torch

    if not places:
        return dict(inputs)
    found = {}
    for layer, x in inputs.items():
        order = torch.arange(x.shape[1]).clamp(max=len(places[layer]) - 1)
        found[layer] = x + places[layer][order]
    return found
