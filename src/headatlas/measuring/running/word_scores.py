"""How much each word looks for each other word: scores of attention modules at a fixed distance, from predicted inputs.

All keys stand at one position and all queries at a later one, so that only the two words differ between pairs. The
modules are transformers' own, with the positions, masks and biases that they are handed for a short sequence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headatlas.measuring.running.attention import attention_in, call_again, visible_tokens
from headatlas.measuring.running.model import RunningModel

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.measuring.running.predicted import PredictedInputs

DISTANCES = (2, 8, 32)
"""Tokens from a query back to its key; scores are the mean over them."""

KEY_AT = 4
"""Position of the keys."""

N_PLACES = 41
"""Tokens of the short sequence: a prime, which is no other size of a model."""


def distances_for(most: int | None) -> tuple[int, ...]:
    """The distances that fit into as many tokens as a model reads at once.

    >>> distances_for(16), distances_for(None)
    ((2, 8), (2, 8, 32))
    """
    return tuple(each for each in DISTANCES if most is None or KEY_AT + each < most) or DISTANCES[:1]


def score_words(
    running: RunningModel, prefix: int, inputs: PredictedInputs, most: int | None, see: Callable[[int, Tensor], None]
) -> None:
    """Score all pairs of the words that are predicted, and show the scores of each layer to `see`.

    Args:
        inputs: of the words; `prefix` is the token in front of them.
        most: tokens that the model reads at once; None: any number.
        see: called with a layer and the scores before the softmax, up to a constant per query, of each query (rows)
            for each key: Float[Tensor, "n_heads n_words n_words"]. Distances beyond a layer's window do not count.
    """
    import torch

    distances = distances_for(most)
    n_places = min(N_PLACES, most or N_PLACES)
    ids = torch.full((1, n_places), prefix)
    shared: dict[tuple[int, int, int], dict[str, Any]] = {}
    hooks = []

    def show(layer: int, module: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        attention = attention_in(running, module, output, 1, n_places)
        visible = visible_tokens(module, kwargs.get("attention_mask"), attention)[0, :, KEY_AT].tolist()
        n_words = len(inputs.tokens)
        scores, seen = torch.zeros(running.heads.n_heads, n_words, n_words), 0
        for distance in distances:
            if visible[KEY_AT + distance]:
                scores += scores_at(module, args, kwargs, layer, distance)
                seen += 1
        see(layer, scores / max(1, seen))

    def scores_at(module: Any, args: tuple, kwargs: dict[str, Any], layer: int, distance: int) -> Tensor:
        x, first = inputs.of_tokens[layer], inputs.first[layer][None]
        n_words, at_once = len(x), _most_keys(module, len(x))
        scores = torch.empty(running.heads.n_heads, n_words, n_words)
        for low in range(0, n_words, at_once):
            keys = x[low : low + at_once]
            for start in range(0, n_words, at_once):
                queries = x[start : start + at_once]
                places = torch.tensor([0] + [KEY_AT] * len(keys) + [KEY_AT + distance] * len(queries))
                own = shared.setdefault((distance, low, start), {})
                placed = _at_places(args, places, n_places), _at_places(kwargs, places, n_places)
                output = call_again(module, *placed, torch.cat([first, keys, queries])[None], own)
                attention = attention_in(running, module, output, 1, len(places))[0, :, 1 + len(keys) :]
                logs = attention.float().cpu().clamp_min(torch.finfo(torch.float32).tiny).log()
                of_keys = logs[..., 1 : 1 + len(keys)]
                if at_once < n_words:
                    of_keys = of_keys - logs[..., :1]  # the first token is the same in all parts
                scores[:, start : start + len(queries), low : low + len(keys)] = of_keys
        return scores - scores.mean(-1, keepdim=True)

    for layer in running.layers:
        module = running.base.get_submodule(running.heads.attention.path(layer))
        hooks.append(module.register_forward_hook(functools.partial(show, layer), with_kwargs=True))
    try:
        with torch.inference_mode():
            running.base(input_ids=ids.to(running.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()


def _most_keys(module: Any, n_words: int) -> int:
    """Most keys, and queries, of a call: all, unless the module itself hides what is far away (GPT-Neo)."""
    kept: Any = getattr(module, "bias", None)
    if kept is None or kept.dim() != 4:
        return n_words
    shown = kept[0, 0]
    most = next(n for n in range(len(shown) - 1, 0, -1) if shown[n, : n + 1].all())
    return min(n_words, most // 2)


def _at_places(given: Any, places: Tensor, n_places: int) -> Any:
    """An argument for a sequence in which each token has a place of another sequence, from that for the other one."""
    import torch

    if isinstance(given, torch.Tensor):
        for dim, size in enumerate(given.shape):
            if size == n_places:
                given = given.index_select(dim, places.to(given.device))
        return given
    if isinstance(given, tuple):
        return tuple(_at_places(each, places, n_places) for each in given)
    if isinstance(given, dict):
        return {name: _at_places(_last(name, each, n_places), places, n_places) for name, each in given.items()}
    return given


def _last(name: str, given: Any, n_places: int) -> Any:
    """MPT hands out the bias of every position that a model can have; a module takes the last ones."""
    return given[..., -n_places:] if name == "position_bias" else given
