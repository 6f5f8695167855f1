"""Where heads would look if they knew each token alone: their attention, from inputs that are predicted from weights.

A token's input in a text is predicted from what the same layer reads for the token alone, behind the prefix, by one
linear map per layer. The maps are fitted to texts that the model itself writes, so that no text is needed. Queries,
keys, norms and positions are those of transformers' own attention modules, which read the predicted inputs.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.measuring.running.model import TOKENS_AT_ONCE, RunningModel

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SAMPLES, SAMPLE_TOKENS = 32, 128
"""Texts that the model writes, and the tokens of each, the prefix included."""

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Weights of the penalty of a fit, relative to the mean square of a channel of what is fitted from."""

HELD_OUT = 4
"""One of so many samples chooses the penalty."""


@dataclass(frozen=True)
class PredictedInputs:
    """What each layer's attention reads for a token of a text, predicted from the token.

    Args:
        tokens: that can be predicted, in ascending order, Int[Tensor, "n_known"].
        of_tokens: layer -> Float[Tensor, "n_known d_model"].
        first: layer -> what it reads for the prefix, which knows no other token, Float[Tensor, "d_model"].
    """

    tokens: Tensor
    of_tokens: dict[int, Tensor]
    first: dict[int, Tensor]

    def of(self, ids: Tensor) -> dict[int, Tensor]:
        """Layer -> Float[Tensor, "n_sequences n_tokens d_model"], for sequences behind the prefix."""
        import torch

        places = torch.searchsorted(self.tokens, ids[:, 1:].contiguous())
        return {
            layer: torch.cat([self.first[layer].expand(len(ids), 1, -1), x[places]], dim=1)
            for layer, x in self.of_tokens.items()
        }

    def only(self, tokens: Tensor) -> PredictedInputs:
        """Those of some of the tokens, in ascending order."""
        import torch

        places = torch.searchsorted(self.tokens, tokens)
        return PredictedInputs(tokens, {layer: x[places] for layer, x in self.of_tokens.items()}, self.first)


def predict_inputs(running: RunningModel, prefix: int, tokens: Tensor, samples: Tensor) -> PredictedInputs:
    """Fit what each layer reads in the samples to what it reads for their tokens alone, and predict it for `tokens`.

    Args:
        prefix: the first token of every text, also of `samples`.
        tokens: Int[Tensor, "n_tokens"].
        samples: texts that the model has written, Int[Tensor, "n_sequences n_tokens"].
    """
    import torch

    tokens = tokens.unique()
    known, places = torch.cat([tokens, samples[:, 1:].flatten()]).unique(return_inverse=True)
    of_tokens, of_samples = places[: len(tokens)], places[len(tokens) :]
    first = {layer: x[0, 0] for layer, x in inputs_of(running, torch.tensor([[prefix]])).items()}
    behind = torch.stack([torch.full_like(known, prefix), known], dim=1)
    alone = {layer: x[:, 1] for layer, x in inputs_of(running, behind).items()}
    in_samples = inputs_of(running, samples)
    predicted = {}
    for layer, x in alone.items():
        features = torch.nn.functional.pad(x, (0, 1), value=1.0)
        known_inputs = features[of_samples].view(*samples[:, 1:].shape, -1)
        predicted[layer] = features[of_tokens] @ _fit(known_inputs, in_samples[layer][:, 1:])
    return PredictedInputs(tokens, predicted, first)


def inputs_of(running: RunningModel, ids: Tensor) -> dict[int, Tensor]:
    """What each layer's attention reads: Float[Tensor, "n_sequences n_tokens d_model"] by layer, on the CPU.

    Args:
        ids: Int[Tensor, "n_sequences n_tokens"].
    """
    import torch

    found: dict[int, list[Tensor]] = defaultdict(list)
    hooks = []
    for layer in running.layers:

        def note(module: Any, args: tuple, kwargs: dict[str, Any], layer: int = layer) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            found[layer].append(x.float().cpu())

        module = running.base.get_submodule(running.heads.attention.path(layer))
        hooks.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        with torch.inference_mode():
            for part in ids.split(max(1, TOKENS_AT_ONCE // ids.shape[1])):
                running.base(input_ids=part.to(running.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: torch.cat(each) for layer, each in found.items()}


def write_samples(running: RunningModel, prefix: int, n_tokens: int = SAMPLE_TOKENS, seed: int = 0) -> Tensor:
    """Texts of the model: each token is drawn with the probability that the model gives it behind the tokens before.

    Returns:
        Int[Tensor, "n_samples n_tokens"], the prefix first.
    """
    import torch

    numbers = torch.Generator().manual_seed(seed)
    ids = torch.full((SAMPLES, 1), prefix)
    past = running.past(ids) if running.can_continue(ids[:2].repeat(1, 2)) else None
    logits = running.last_logits(ids)
    while True:
        chances = logits[:, : running.heads.d_vocab].float().softmax(-1).cpu()
        drawn = torch.multinomial(chances, 1, generator=numbers)
        ids = torch.cat([ids, drawn], dim=1)
        if ids.shape[1] == n_tokens:
            return ids
        logits = running.last_logits(ids) if past is None else running.last_logits(drawn, past)


def kept_samples(ids: np.ndarray, d_vocab: int) -> Tensor:
    """Texts as `write_samples` returned them; raises `ValueError` where a kept part holds something else."""
    import torch

    whole = ids.ndim == 2 and len(ids) == SAMPLES and ids.dtype.kind == "i"
    if not whole or not ((ids >= 0) & (ids < d_vocab)).all():
        raise ValueError("samples: expected token ids of the model's own texts, found others")
    return torch.from_numpy(ids)


def _fit(x: Tensor, y: Tensor) -> Tensor:
    """The linear map from vectors `x` to `y` that is fitted with the penalty that suits samples which it has not seen.

    Args:
        x, y: Float[Tensor, "n_samples n_tokens ..."].
    """
    seen = [number for number in range(len(x)) if number % HELD_OUT]
    held_out = x[::HELD_OUT].flatten(0, 1), y[::HELD_OUT].flatten(0, 1)
    products = _products(x[seen], y[seen])

    def error(penalty: float) -> float:
        return float((held_out[0] @ ridge(*products, penalty) - held_out[1]).square().mean())

    return ridge(*_products(x, y), min(PENALTIES, key=error))


def _products(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """What a fit needs to know of all rows: `x.T @ x` and `x.T @ y`, in float64."""
    x, y = x.flatten(0, 1).double(), y.flatten(0, 1).double()
    return x.T @ x, x.T @ y


def ridge(square: Tensor, product: Tensor, penalty: float) -> Tensor:
    """The linear map from rows of `x` to rows of `y` with the least squares, and a penalty on its size.

    Args:
        square: `x.T @ x`, Float64[Tensor, "n_features n_features"].
        product: `x.T @ y`, Float64[Tensor, "n_features n_outputs"].
    """
    import torch

    penalized = square.clone()
    penalized.diagonal().add_(penalty * square.diagonal().mean())
    return torch.linalg.solve(penalized, product).float()
