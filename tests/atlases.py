"""Synthetic atlases, with the categories of every head chosen by the test."""

from __future__ import annotations

import numpy as np

from headatlas.atlas import Atlas, build_dataset

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
) -> Atlas:
    """An atlas of one relation per category in which about `share` of the heads implement each relation.

    Args:
        relations: names of the relations; default: the category's name and `_relation`.
        unmeasured: categories of a relation that was not measurable.
        without_heads: layers of linear attention.
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
    data = build_dataset(
        [(relation, category, 10, PAIRS) for relation, category in zip(names, categories, strict=True)],
        {"hits": hits, "suppression_hits": suppression_hits},
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
        "measure": "weights",
        "label": "maps",
        "model": {
            "name": name,
            "source": "demo",
            "fingerprint": "f" * 64,
            "n_layers": n_layers,
            "n_heads": n_heads,
            "n_kv_heads": 3,
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
