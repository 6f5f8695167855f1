"""The table `descriptions`: a sentence for every head of an atlas, from its salient operations and its relations."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from headatlas._version import __version__
from headatlas.analysis.categories import classify
from headatlas.analysis.descriptions.description import KnownRelation, describe
from headatlas.analysis.descriptions.finding import Operation
from headatlas.analysis.descriptions.neighbourhood import Neighbourhood
from headatlas.analysis.descriptions.usual import Usual
from headatlas.atlas.evidence import DescriptionsFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    from torch import Tensor

    from headatlas.architectures import HeadModel
    from headatlas.atlas import Atlas

COLUMNS = ("layer", "head", "description", "rule", "confidence")
N_SAMPLE, SEED = 1024, 21
"""Number of random tokens that show which cosines of two embeddings are usual, and the seed of the draw."""

MOST_WIDTH, BLOCK = 512, 4096
"""Largest width of embeddings, to which wider ones are projected by random signs; tokens that are read at once."""


def describe_heads(
    atlas: Atlas,
    operations: pd.DataFrame,
    neighbourhood: Neighbourhood | None = None,
    vocabulary: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, DescriptionsFacts]:
    """The table `descriptions`, with a row per head, and how many heads each rule describes.

    Args:
        operations: the table `salient`.
        neighbourhood: of all tokens in that table; without it, descriptions contain no topics.
        vocabulary: the tokens that could be salient, with which salient ones are compared; default: all that are.
    """
    import pandas as pd

    by_head = operations.groupby(["layer", "head"], sort=True)
    heads = {place: operations_of(rows.to_dict("records")) for place, rows in by_head}
    usual = Usual.of(list(heads.values()), vocabulary)
    rows = []
    for layer in range(atlas.n_layers):
        for head in range(atlas.n_heads if atlas.has_heads[layer] else 0):
            known = known_relations(atlas, layer, head)
            found = describe(heads.get((layer, head), ()), known, neighbourhood, usual)
            rows.append((layer, head, found.text, found.rule, found.confidence))
    counts = Counter(rule.split(" ")[0] if rule.startswith("relation ") else rule for *_, rule, _ in rows)
    facts = DescriptionsFacts(len(rows), dict(counts.most_common()), __version__)
    return pd.DataFrame(rows, columns=list(COLUMNS)), facts


def operations_of(rows: Iterable[Mapping[Any, Any]]) -> list[Operation]:
    """One head's rows of the table `salient` as operations, one per salient token, the most amplified first."""
    found: dict[int, tuple[int, str, dict[str, list[tuple[int, str]]]]] = {}
    for row in sorted(rows, key=lambda row: (row["rank"], row["side"], row["to_rank"])):
        empty: dict[str, list[tuple[int, str]]] = {"promoted": [], "suppressed": []}
        sides = found.setdefault(row["rank"], (row["token_id"], row["token"], empty))[2]
        sides[row["side"]].append((row["to_id"], row["to_token"]))
    return [
        Operation(token_id, token, tuple(sides["promoted"]), tuple(sides["suppressed"]))
        for token_id, token, sides in found.values()
    ]


def known_relations(atlas: Atlas, layer: int, head: int) -> list[KnownRelation]:
    """The relations that a head implements: by the rule `calibrated`, or `plain` if chance levels were not measured."""
    chance = atlas.chance()
    implements = classify(atlas, rule="plain" if chance is None else "calibrated").implements[:, layer, head]
    scores = atlas.scores.values[:, layer, head]
    return [
        KnownRelation(name, float(scores[at]), None if chance is None else float(chance.values[at, layer, head]))
        for at, name in enumerate(atlas.relations)
        if implements[at]
    ]


def neighbourhood_of(model: HeadModel, operations: pd.DataFrame, plain: list[int]) -> Neighbourhood:
    """The embeddings of all tokens in the table `salient`.

    Args:
        plain: the tokens from which the sample is drawn.
    """
    import numpy as np
    import torch

    ids = torch.from_numpy(np.union1d(operations["token_id"], operations["to_id"]).astype(np.int64))
    generator = torch.Generator().manual_seed(SEED)
    sample = torch.tensor(plain)[torch.randperm(len(plain), generator=generator)[:N_SAMPLE]].sort().values
    width = min(model.d_model, MOST_WIDTH)
    signs = torch.randint(2, (model.d_model, width), generator=generator).float() * 2 - 1

    def vectors(tokens: Tensor) -> np.ndarray:
        parts = [model.W_E(part) for part in tokens.split(BLOCK)]
        return torch.cat([part if width == model.d_model else part @ signs for part in parts]).numpy()

    return Neighbourhood(ids.numpy(), vectors(ids), vectors(sample))
