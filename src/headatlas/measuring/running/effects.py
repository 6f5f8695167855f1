"""The total effect of each head: its value of the source's token, written at the last token, through all later layers.

Knows modules and token ids. Every head of the model is one row of a batch, so that one pass over the last token gives
the effects of many heads; the tokens before it are computed once.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headatlas.measuring.running.contexts import Contexts
from headatlas.measuring.running.model import NEAR, RunningModel

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

ROWS_AT_ONCE = 128
"""Heads whose effects are computed together."""


def measure_effects(running: RunningModel, contexts: Contexts, most: int) -> dict[str, np.ndarray]:
    """Whether targets are among the k tokens whose final logits rise (fall) most, for each head.

    Args:
        most: pairs of each relation with sources of one token; each is shown in one text.

    Returns:
        hits: Int[ndarray, "group side layer head"]; pairs: of each group, Int[ndarray, "group"].
    """
    import numpy as np
    import torch

    heads = running.heads
    hits = np.zeros((len(contexts.groups), 2, heads.n_layers, heads.n_heads), dtype=np.int32)
    pairs = np.zeros(len(contexts.groups), dtype=np.int64)
    by_prompt: dict[int, list[int]] = {}
    for group in range(len(contexts.groups)):
        for task in _chosen(contexts, group, most):
            by_prompt.setdefault(contexts.prompt[task], []).append(task)
            pairs[group] += 1
    for prompt, tasks in by_prompt.items():
        ids, source = torch.tensor([contexts.prompts[prompt]]), torch.tensor([contexts.source[prompt]])
        for rows, change in head_effects(running, ids, source):
            for task in tasks:
                target, k = contexts.target_ids[task], contexts.k[task]
                own = change[:, [target]]
                for side, others in enumerate(((change >= own).sum(1) - 1, (change <= own).sum(1) - 1)):
                    found = (others < k).int().cpu().numpy()
                    for (layer, head), hit in zip(rows, found, strict=True):
                        hits[contexts.of_group[task], side, layer, head] += hit
    return {"hits": hits, "pairs": pairs}


def head_effects(running: RunningModel, ids: Tensor, source: Tensor) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
    """The change of the final logits by each head: heads, and Float[Tensor, "n_heads d_vocab"] for them.

    Args:
        ids: one prompt, Int[Tensor, "1 n_tokens"].
        source: place of the source's token in it, Int[Tensor, "1"].
    """
    watched = running.watch(ids, source)
    instead = {
        layer: watched.values[layer][0, list(running.heads.kv_head_of(layer))].to(watched.outputs[layer])
        for layer in running.layers
    }
    base = running.last_logits(ids)
    past = _past(running, ids, base)
    every = [(layer, head) for layer in running.layers for head in range(running.heads.n_heads)]
    for start in range(0, len(every), ROWS_AT_ONCE):
        rows = every[start : start + ROWS_AT_ONCE]
        repeated = copy.deepcopy(past)
        if repeated is not None:
            repeated.batch_repeat_interleave(len(rows))
        last = ids if repeated is None else ids[:, -1:]
        with _written(running, rows, instead):
            yield rows, running.last_logits(last.expand(len(rows), -1), repeated) - base


def _past(running: RunningModel, ids: Tensor, base: Tensor) -> Any:
    """The cache of all tokens but the last, if the family's cache can be repeated and gives the same logits."""
    if ids.shape[1] < 2:
        return None
    try:
        past = running.past(ids[:, :-1])
        twice = copy.deepcopy(past)
        twice.batch_repeat_interleave(2)
        found = running.last_logits(ids[:, -1:].expand(2, -1), twice)
    except Exception:  # each family caches in its own way
        return None
    return past if float((found - base).abs().max()) <= NEAR * float(base.abs().max()) else None


@contextlib.contextmanager
def _written(running: RunningModel, rows: list[tuple[int, int]], instead: dict[int, Tensor]) -> Iterator[None]:
    """Inside the block, each row of a batch has the output of one head replaced at the last token."""
    hooks = []
    for layer in {layer for layer, _ in rows}:
        of_layer = [(row, head) for row, (at, head) in enumerate(rows) if at == layer]

        def write(module: Any, args: tuple, layer: int = layer, of_layer: list = of_layer) -> tuple:
            joined = args[0].clone()
            by_head = joined.view(len(rows), -1, running.heads.n_heads, joined.shape[-1] // running.heads.n_heads)
            for row, head in of_layer:
                by_head[row, -1, head] = instead[layer][head]
            return (joined, *args[1:])

        module = running.base.get_submodule(running.heads.attention.output_path(layer))
        hooks.append(module.register_forward_pre_hook(write))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _chosen(contexts: Contexts, group: int, most: int) -> list[int]:
    """Some tasks of a group, each a different pair, in texts that alternate."""
    if contexts.groups[group].tokens != "one":
        return []
    tasks = [task for task, of in enumerate(contexts.of_group) if of == group]
    chosen: list[int] = []
    n_texts = contexts.n_texts
    for number in range(most):
        text = number % n_texts
        used = {_pair(contexts, task) for task in chosen}
        rest = [task for task in tasks if contexts.of_text[task] == text and _pair(contexts, task) not in used]
        if rest:
            # Spread over the prompts, which are ordered by their length.
            chosen.append(rest[number * len(rest) // most])
    return chosen


def _pair(contexts: Contexts, task: int) -> tuple[int, int]:
    """The tokens of a task's source and target."""
    prompt = contexts.prompt[task]
    return contexts.prompts[prompt][contexts.source[prompt]], contexts.target_ids[task]
