"""What the heads of each layer read for tokens: the input vectors of a map, and those of words of several tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from headatlas.architectures.alone import read_alone, read_in_context

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.architectures.heads import HeadModel


def head_inputs(
    model: HeadModel, ids: Tensor, layers: Iterable[int], prefix: int | None = None, **alone: Any
) -> Generator[tuple[int, Tensor]]:
    """What the heads of some layers read for some tokens, by `model.contextualize`, in the order of the layers.

    Args:
        ids: Int[Tensor, "n_ids"].
        layers: those without heads are skipped.
        prefix: for `alone`, the token before each of them.
        alone: for `alone`, the other arguments of `read_alone`.

    Returns:
        A generator of layers with Float32[Tensor, "n_ids d_in"]. d_in is d_model or, if the bias of the values is
        counted, one more for the factor 1 of the bias: the rows of `HeadModel.values_and_outputs`.
    """
    wanted = sorted(layer for layer in set(layers) if model.has_heads(layer))
    if model.contextualize == "alone":
        assert prefix is not None, "words are read alone behind a prefix"
        return _alone(model, ids, wanted, prefix, alone)
    embedding = model.W_E(ids)
    later = model.first_mlp(embedding) if model.contextualize == "first-mlp" and any(wanted) else embedding
    embedding, later = _with_bias(model, embedding), _with_bias(model, later)
    # The vectors are computed before the generator is started, so that W_U need not be in memory yet.
    return (each for each in [(layer, later if layer else embedding) for layer in wanted])


def word_inputs(
    model: HeadModel, words: Sequence[tuple[int, ...]], prefix: int | None = None
) -> Generator[tuple[int, Tensor]]:
    """What the heads of each layer read at the last token of each word, behind the word's other tokens.

    A word of one token is read as by `head_inputs`.

    Args:
        words: the tokens of each; several only for `alone`, whose heads read in context.
        prefix: for `alone`, the token before each word.

    Returns:
        A generator as of `head_inputs`, with a row per word.
    """
    import torch

    layers = [layer for layer in range(model.n_layers) if model.has_heads(layer)]
    of_length: dict[int, list[int]] = defaultdict(list)
    for place, tokens in enumerate(words):
        of_length[len(tokens)].append(place)
    single = of_length.pop(1, [])
    assert not of_length or (model.contextualize == "alone" and prefix is not None), "only `alone` reads in context"
    behind = []
    for places in of_length.values():
        sequences = torch.tensor([[prefix, *words[place]] for place in places])
        behind.append((places, read_in_context(model, sequences)))
    ids = torch.tensor([words[place][0] for place in single], dtype=torch.long)
    alone = head_inputs(model, ids, layers, prefix) if single else ((layer, None) for layer in layers)
    for layer, x in alone:
        parts = [] if x is None else [(single, x)]
        parts += [(places, _with_bias(model, found[layer])) for places, found in behind]
        order = torch.tensor([place for places, _ in parts for place in places]).argsort()
        yield layer, torch.cat([rows for _, rows in parts])[order]


def _alone(
    model: HeadModel, ids: Tensor, wanted: list[int], prefix: int, options: dict[str, Any]
) -> Generator[tuple[int, Tensor]]:
    if not wanted:
        return
    with closing(read_alone(model, ids, prefix, wanted[0], **options)) as layers:
        for layer, x in layers:
            if layer in wanted:
                yield layer, _with_bias(model, x)
            if layer == wanted[-1]:
                return


def _with_bias(model: HeadModel, x: Tensor) -> Tensor:
    """The bias is one more row of W_V, for which the input of every token is 1."""
    import torch

    return torch.nn.functional.pad(x, (0, 1), value=1.0) if model.terms.value_bias else x
