"""What words that pairs share do to p-values: the decision "beyond chance" with three ways to pair targets anew.

    python tools/shared_words.py ATLAS [--model MODEL] [--draws 100000] [--side score]

- `free`: the targets of all pairs in random order, as the p-values of an atlas, but simulated instead of bounded.
- `clusters`: pairs that share a word, directly or through others, keep together. Clusters of as many pairs exchange
  their targets; a cluster of a size that no other has keeps its own, and is no evidence.
- `classes`: sources with a common target keep together. The distinct targets exchange their places, and hits count
  beyond the rate at which a target is hit from all sources, since targets of many pairs may be promoted more often.

Each of the last two is `free` for a relation whose words all differ. Simulated are the cells (head and relation) above
the threshold and MIN_EXCESS above chance, of relations with words that pairs share; their matrices of hits are computed
by plain products in float64, and must have the hits of the atlas. The others keep the p-value of the atlas, and
Benjamini and Hochberg's procedure is applied to all again.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.stats import false_discovery_control

from headatlas.architectures import head_inputs
from headatlas.atlas import HITS_SIDES, Atlas, load_atlas
from headatlas.measuring.session import Session
from headatlas.settings import MAX_Q, MIN_EXCESS

SCHEMES = ("free", "clusters", "classes")
AT_ONCE = 2_000


@dataclass
class Words:
    """The pairs of a relation as places in the lists of its distinct sources and targets.

    Args:
        sources, targets: token ids: Int64[ndarray, "n_sources"], Int64[ndarray, "n_targets"].
        row, column: of each pair: Int64[ndarray, "n_pairs"].
        cluster: of each pair, the same for pairs that share a word: Int64[ndarray, "n_pairs"].
        hits: matrices of hits by head: Bool[ndarray, "n_sources n_targets"].
    """

    sources: np.ndarray
    targets: np.ndarray
    row: np.ndarray
    column: np.ndarray
    cluster: np.ndarray
    hits: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    @classmethod
    def of_pairs(cls, source_ids: np.ndarray, target_ids: np.ndarray) -> "Words":
        sources, row = np.unique(source_ids, return_inverse=True)
        targets, column = np.unique(target_ids, return_inverse=True)
        return cls(sources, targets, row, column, clusters(source_ids, target_ids))


def clusters(source_ids: np.ndarray, target_ids: np.ndarray) -> np.ndarray:
    """The number of each pair's cluster; a pair of a word with itself is a cluster too."""
    above: dict[int, int] = {}

    def root(word: int) -> int:
        while above.setdefault(word, word) != word:
            word = above[word]
        return word

    for source, target in zip(source_ids.tolist(), target_ids.tolist(), strict=True):
        above[root(source)] = root(target)
    return np.unique([root(source) for source in source_ids.tolist()], return_inverse=True)[1]


def columns(words: Words, scheme: str, draws: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """The place of each pair's new target, in parts: Int64[ndarray, "n_draws n_pairs"]."""
    for start in range(0, draws, AT_ONCE):
        n = min(AT_ONCE, draws - start)
        if scheme == "free":
            yield generator.permuted(np.tile(words.column, (n, 1)), axis=1)
        elif scheme == "classes":
            places = np.tile(np.arange(len(words.targets)), (n, 1))
            yield generator.permuted(places, axis=1)[:, words.column]
        else:
            yield words.column[_whole_clusters(words.cluster, n, generator)]


def _whole_clusters(cluster: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """Of each draw, the pair whose target each pair gets."""
    members = [np.flatnonzero(cluster == each) for each in range(cluster.max() + 1)]
    taken = np.empty((n, len(cluster)), np.int64)
    for size in {len(each) for each in members}:
        alike = np.stack([each for each in members if len(each) == size])
        order = generator.permuted(np.tile(np.arange(len(alike)), (n, 1)), axis=1)
        taken[:, alike.ravel()] = alike[order].reshape(n, -1)
    return taken


def least_p(words: Words, scheme: str) -> float:
    """One in the number of ways to pair anew: no p-value can be below it."""
    sizes = Counter(Counter(words.cluster.tolist()).values()).values()
    n = {"free": [len(words.row)], "clusters": list(sizes), "classes": [len(words.targets)]}[scheme]
    return math.exp(-sum(math.lgamma(each + 1) for each in n))


def simulate(words: Words, scheme: str, draws: int, seed: int = 0) -> dict[tuple[int, int], float]:
    """p-values of all heads with a matrix of hits: `(1 + draws with as many hits or more) / (1 + draws)`."""
    weights = {head: _weights(words, D, scheme) for head, D in words.hits.items()}
    observed = {head: each[words.row, words.column].sum() for head, each in weights.items()}
    at_least = dict.fromkeys(weights, 0)
    for drawn in columns(words, scheme, draws, np.random.default_rng(seed)):
        cells = words.row * len(words.targets) + drawn
        for head, each in weights.items():
            at_least[head] += int((each.ravel()[cells].sum(1) >= observed[head] - 1e-4).sum())
    return {head: (1 + n) / (1 + draws) for head, n in at_least.items()}


def _weights(words: Words, D: np.ndarray, scheme: str) -> np.ndarray:
    # Rates cancel in the other schemes, where each target keeps its number of pairs.
    rate = D[words.row].mean(0) if scheme == "classes" else 0
    return (D - rate).astype(np.float32)


def fill_matrices(atlas: Atlas, session: Session, relations: list[Words], wanted: np.ndarray, side: str) -> None:
    """Compute the matrices of hits of the wanted cells: Bool[ndarray, "n_relations n_layers n_heads"]."""
    model, sign = session.heads, 1.0 if side == "score" else -1.0
    ids = torch.from_numpy(np.unique(np.concatenate([each.sources for each in relations])))
    prefix = atlas.manifest.prefix.token if atlas.manifest.prefix else None
    W_U = model.W_U().double()
    ks = [int(k) for k in atlas.data["k"].values]
    layers = np.flatnonzero(wanted.any((0, 2))).tolist()
    for layer, x in head_inputs(model, ids, layers, prefix):
        W_V, W_O = (each.double() for each in model.values_and_outputs(layer))
        for head in np.flatnonzero(wanted[:, layer].any(0)).tolist():
            output = sign * (x.double() @ W_V[model.kv_head_of(layer)[head]] @ W_O[head])
            for at in np.flatnonzero(wanted[:, layer, head]).tolist():
                words = relations[at]
                logits = output[torch.searchsorted(ids, torch.from_numpy(words.sources))] @ W_U.T
                # A target is a hit if it is above the (k + 1)-th highest logit; rounding makes no difference.
                limit = logits.topk(ks[at] + 1).values[:, -1:]
                margin = 1e-12 * logits.abs().amax(1, keepdim=True)
                words.hits[layer, head] = (logits[:, words.targets] > limit + margin).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas")
    parser.add_argument("--model")
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--side", choices=list(HITS_SIDES), default="score")
    options = parser.parse_args()
    atlas, side = load_atlas(options.atlas), options.side
    p_values, chance = atlas.p_values(side), atlas.chance(side)
    pairs = atlas.pairs
    if p_values is None or chance is None or pairs is None:
        raise SystemExit(f"{options.atlas}: expected an atlas with chance levels and pairs.")
    relations = [
        Words.of_pairs(each["source_id"].to_numpy(), each["target_id"].to_numpy())
        for each in (pairs[pairs["relation"] == name] for name in atlas.relations)
    ]
    bound, above = p_values.values, atlas.above(None, side) & atlas.has_heads[None, :, None]
    exceeds = above & (atlas.share(side).values - chance.values > MIN_EXCESS)
    share_words = np.array([len(each.row) > each.cluster.max() + 1 for each in relations])
    wanted = exceeds & (bound < 1) & share_words[:, None, None]
    print(f"{wanted.sum()} cells of {wanted.any((1, 2)).sum()} relations are simulated, {options.draws:,} draws each")
    fill_matrices(atlas, Session.of_atlas(atlas, options.model), relations, wanted, side)
    hits = atlas.data["hits" if side == "score" else "suppression_hits"].values
    for at, words in enumerate(relations):
        for (layer, head), D in words.hits.items():
            if D[words.row, words.column].sum() != hits[at, layer, head]:
                raise SystemExit(f"{atlas.relations[at]}, L{layer}H{head}: the plain products have other hits.")
    found = {scheme: bound.copy() for scheme in SCHEMES}
    for at, words in enumerate(relations):
        for scheme in SCHEMES if words.hits else ():
            for (layer, head), p in simulate(words, scheme, options.draws).items():
                found[scheme][at, layer, head] = p
    report(atlas, relations, {"bound": bound} | found, exceeds, wanted, options.draws)


def adjusted(p_values: np.ndarray, has_heads: np.ndarray, method: str = "bh") -> np.ndarray:
    """q-values over all heads and relations; 1 in layers without heads."""
    q_values, tested = np.ones_like(p_values), p_values[:, has_heads]
    q_values[:, has_heads] = false_discovery_control(tested.ravel(), method=method).reshape(tested.shape)
    return q_values


def report(
    atlas: Atlas,
    relations: list[Words],
    found: dict[str, np.ndarray],
    exceeds: np.ndarray,
    wanted: np.ndarray,
    draws: int,
) -> None:
    """Print the tables of docs/evidence.md."""
    named = {name: exceeds & (adjusted(p, atlas.has_heads) < MAX_Q) for name, p in found.items()}
    limits = {name: found[name][adjusted(found[name], atlas.has_heads) < MAX_Q].max(initial=0) for name in found}
    print("| relation | pairs | clusters | targets | " + " | ".join(named) + " |")
    print("| --- |" + " ---: |" * (3 + len(named)))
    for at, words in enumerate(relations):
        counts = [int(each[at].sum()) for each in named.values()]
        if len(set(counts)) > 1:
            possible = [name not in SCHEMES or least_p(words, name) <= limits[name] for name in named]
            cells = [str(count) if able else "undecidable" for count, able in zip(counts, possible, strict=True)]
            sizes = [str(n) for n in (len(words.row), words.cluster.max() + 1, len(words.targets))]
            print(f"| `{atlas.relations[at]}` | " + " | ".join([*sizes, *cells]) + " |")
    print("| all | | | | " + " | ".join(str(int(each.sum())) for each in named.values()) + " |")
    for name in SCHEMES:
        lost, new = named["bound"] & ~named[name], named[name] & ~named["bound"]
        before, after = (int(named[each].any(0).sum()) for each in ("bound", name))
        print(
            f"{name}: of {named['bound'].sum()} cells, {lost.sum()} not named and {new.sum()} more; heads with a cell "
            f"{after} instead of {before}; p up to {limits[name]:.2g}"
        )
    careful = exceeds & (adjusted(found["bound"], atlas.has_heads, "by") < MAX_Q)
    print(f"Benjamini and Yekutieli, any dependence between tests: {careful.sum()} cells of the atlas's p-values")
    p, exact = found["bound"][wanted], found["free"][wanted]
    resolved = (exact > 100 / draws) & (p < 1)
    if resolved.any():
        quartiles = ", ".join(
            f"{each:.2f}" for each in np.quantile(p[resolved] / exact[resolved], np.linspace(0, 1, 5))
        )
        print(f"bound over simulated p: {quartiles} (least, quartiles, most) of {resolved.sum()} cells")


if __name__ == "__main__":
    main()
