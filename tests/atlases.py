"""Synthetic atlases, with the categories of every head chosen by the test."""

from __future__ import annotations

import numpy as np
import pandas as pd

from headatlas.atlas import CHANCE_VARIABLES, Atlas, build_dataset

PAIRS = 40


def make_atlas(
    n_layers: int = 30,
    n_heads: int = 9,
    categories: tuple[str, ...] = ("Algorithmic", "Knowledge", "Linguistic", "Translation"),
    unmeasured: tuple[str, ...] = (),
    share: float = 0.15,
    name: str = "demo-135M",
    note: str | None = None,
    relations: tuple[str, ...] = (),
    seed: int = 0,
    without_heads: tuple[int, ...] = (),
    chance: bool = False,
) -> Atlas:
    """An atlas of one relation per category in which about `share` of the heads implement each relation.

    Args:
        relations: names of the relations; default: the category's name and `_relation`.
        unmeasured: categories of a relation that was not measurable.
        without_heads: layers of linear attention.
        chance: with chance levels of 0 to 0.2 and p-values.
    """
    generator = np.random.default_rng(seed)
    names = relations or tuple(f"{category.lower()}_relation" for category in categories)
    shape = (len(categories), n_layers, n_heads)
    above = generator.random(shape) < share
    hits = np.where(above, generator.integers(7, PAIRS + 1, shape), generator.integers(0, 7, shape)).astype("int32")
    suppression_hits = np.where(generator.random(shape) < share / 2, 20, 1).astype("int32")
    for counts in (hits, suppression_hits):
        counts[:, list(without_heads)] = 0
    validity = ["not applicable" if layer in without_heads else "exact" for layer in range(n_layers)]
    variables = {"hits": hits, "suppression_hits": suppression_hits}
    if chance:
        for side, counts in (("score", hits), ("suppression", suppression_hits)):
            level = generator.random(shape) * 0.2
            p_values = np.where(counts / PAIRS > level, 10.0 ** -(counts / 4), 1.0)
            exact = generator.random(shape) < 0.5
            variables |= dict(zip(CHANCE_VARIABLES[side], (level, exact, p_values), strict=True))
    data = build_dataset(
        [(relation, category, 10, PAIRS) for relation, category in zip(names, categories, strict=True)],
        variables,
        validity,
    )
    measured = [
        {"relation": relation, "category": category, "k": 10, "pairs": PAIRS, "in_file": PAIRS, "measurable": True}
        for relation, category in zip(names, categories, strict=True)
    ]
    dropped = [
        {"relation": f"{category.lower()}_words", "category": category, "k": 10, "pairs": 3, "measurable": False}
        for category in unmeasured
    ]
    manifest = {
        "identity": {"measure": "weights", "model": name},
        "measure": "weights",
        "label": "maps",
        "model": {
            "name": name,
            "source": "demo",
            "fingerprint": "f" * 64,
            "n_layers": n_layers,
            "n_heads": n_heads,
            "n_kv_heads": 3,
            "d_vocab": 50_257,
            "note": note,
            "validity": [
                {"kind": kind, "why": why, "layers": [at for at, each in enumerate(validity) if each == kind]}
                for kind, why in (("exact", ""), ("not applicable", "linear attention"))
                if kind in validity
            ],
        },
        "settings": {"k": 10, "k_copying": 1, "threshold": "0.15", "contextualize": "first-mlp", "profile": "maps"},
        "relations": {"set": "test", "hash": "a" * 64, "items": [*measured, *dropped]},
    }
    return Atlas(data, manifest)


HOSTILE = ("</script><b>", '"quote"', "=1+1", "\x1b[31m", "\u202eright-to-left", "👩‍🚀", " Paris", "<|im_start|>")
"""Tokens as a tokenizer may hold them."""


def make_evidence(atlas: Atlas, n_tokens: int = 4, n_mapped: int = 2, seed: int = 0) -> Atlas:
    """The atlas with all kinds of evidence, with the columns that docs/folder.md names; some tokens are hostile."""
    generator = np.random.default_rng(seed)
    places = [(int(layer), head) for layer in np.flatnonzero(atlas.has_heads) for head in range(atlas.n_heads)]
    words = [*HOSTILE, *(f" word{number}" for number in range(50))]

    def word() -> tuple[int, str]:
        number = int(generator.integers(len(words)))
        return number, words[number]

    operations = [
        (layer, head, rank, *token, 3.0 - rank / n_tokens, side, to_rank, *word())
        for layer, head in places
        for rank in range(n_tokens)
        for token in [word()]
        for side in ("promoted", "suppressed")
        for to_rank in range(n_mapped)
    ]
    names = ("layer", "head", "rank", "token_id", "token", "amplification", "side", "to_rank", "to_id", "to_token")
    atlas = atlas.with_evidence({"salient": (pd.DataFrame(operations, columns=list(names)), {"tokens": n_tokens})})
    similar = [(*places[at], 0, *places[at - 1], 0.5) for at in range(len(places))]
    names = ("layer", "head", "rank", "other_layer", "other_head", "similarity")
    atlas = atlas.with_evidence({"similar": (pd.DataFrame(similar, columns=list(names)), {})})
    told = [(*place, f"maps {word()[1]} to {word()[1]}", "unclear" if at % 3 else "same word", 0.5)
            for at, place in enumerate(places)]  # fmt: skip
    names = ("layer", "head", "description", "rule", "confidence")
    atlas = atlas.with_evidence({"descriptions": (pd.DataFrame(told, columns=list(names)), {})})
    validation = [
        (relation, *place, condition, tokens, PAIRS, hits, 1, hits / PAIRS, 1 / PAIRS)
        for relation in atlas.relations
        for condition in ("attention-fixed", "in-context")
        for tokens in ("one", "several")
        for place in places
        for hits in [int(generator.integers(PAIRS))]
    ]
    names = ("relation", "layer", "head", "condition", "tokens", "pairs", "hits", "suppression_hits", "score",
             "suppression")  # fmt: skip
    atlas = atlas.with_evidence({"validation": (pd.DataFrame(validation, columns=list(names)), {})})
    first, *others = atlas.relations
    ablation = [
        (first, task, order, removed, max(0, 30 - removed), PAIRS)
        for task in (first, *others[:1])
        for order in ("score", "random 1", "random 2")
        for removed in range(5)
    ]
    names = ("relation", "task", "order", "removed", "correct", "prompts")
    atlas = atlas.with_evidence({"ablation": (pd.DataFrame(ablation, columns=list(names)), {})})
    return atlas
