"""How well scores at each `k` separate relations from shuffled pairs: the measurement behind the profiles' `k`.

Relations are taken by name in two halves, one to choose `k`, the other to report. Of each, the highest share of hits
over all heads, among the pairs that neither the word's embedding nor its row of the unembedding hits, is compared with
the same for the relation's targets paired anew. What cannot be told from copying counts as no separation.

    python tools/separation_by_k.py MODEL [--pairs 40] [--profile alone]
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace

import pandas as pd
import torch

from headatlas.measuring.map import MapOptions, map_session
from headatlas.measuring.session import Session
from headatlas.relations import Relation, builtin_relations, encode_relations
from headatlas.scoring import TargetRanks
from headatlas.settings import MIN_PAIRS, MIN_UNCOPIED, Settings

KS = (1, 3, 5, 10, 15, 25, 50, 100)
SHUFFLED = "-shuffled"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--profile", default="alone")
    options = parser.parse_args()
    session = Session(options.model, profile=options.profile)
    relations = choose(session, options.pairs)
    atlas = map_session(session, MapOptions(relations, k=max(KS), chance=False, self_check=False))
    ranks = atlas.pair_hits.query("side == 'promoted'")
    copied = ranks_of_copying(session, relations)
    names = [relation.name for relation in relations if not relation.name.endswith(SHUFFLED)]
    for half, part in (("choosing", names[::2]), ("reporting", names[1::2])):
        for k in KS:
            found = [separation(ranks, copied, name, k) for name in part]
            apart = [each for each in found if each is not None]
            mean = sum(true - shuffled for true, shuffled in apart) / len(found)
            print(
                f"{half}: k={k}: separation {mean:.3f} over {len(found)} relations, of which "
                f"{len(found) - len(apart)} cannot be told from copying; above 0.15: "
                f"{sum(true > 0.15 for true, _ in apart)}, shuffled {sum(shuffled > 0.15 for _, shuffled in apart)}"
            )


def choose(session: Session, n_pairs: int) -> list[Relation]:
    """Measurable relations of different words by name, each with its targets paired anew behind it."""
    kept = encode_relations(builtin_relations(), session.tokenizer, session.heads.d_vocab, Settings())
    chosen = []
    for each in sorted(kept, key=lambda relation: relation.name):
        if len(each.pairs) < MIN_PAIRS or each.relation.k == "copying" or each.source_ids == each.target_ids:
            continue
        pairs = random.Random(each.name).sample(list(each.pairs), min(n_pairs, len(each.pairs)))
        true = replace(each.relation, pairs=tuple(pairs), k="standard")
        anew = tuple(pair_anew(pairs, set(each.pairs), random.Random(each.name)))
        if len(set(anew)) >= MIN_PAIRS:
            chosen += [true, replace(true, name=each.name + SHUFFLED, pairs=anew)]
    return chosen


def pair_anew(pairs: list[tuple[str, str]], known: set[tuple[str, str]], chance: random.Random):
    """Sources with targets of other pairs; pairs that happen to be true are left out."""
    targets = [target for _, target in pairs]
    chance.shuffle(targets)
    return [
        (source, target) for (source, _), target in zip(pairs, targets, strict=True) if (source, target) not in known
    ]


def ranks_of_copying(session: Session, relations: list[Relation]) -> dict[tuple[str, int, int], int]:
    """By relation, source and target: the best rank, from 0, that copying gives the target."""
    heads = session.heads
    W_U, found = heads.W_U(), {}
    target_ranks = TargetRanks(W_U)
    for each in encode_relations(relations, session.tokenizer, heads.d_vocab, Settings()):
        ids, targets = torch.tensor(each.source_ids), torch.tensor(each.target_ids)
        own = (heads.W_E(ids).double(), heads.outputs_like_rows(W_U[ids]).double())
        best = torch.stack([target_ranks.of(x, targets) for x in own]).min(0).values - 1
        found |= {
            (each.name, *key): rank for *key, rank in zip(each.source_ids, each.target_ids, best.tolist(), strict=True)
        }
    return found


def separation(ranks, copied, name: str, k: int) -> tuple[float, float] | None:
    """The highest share of hits among uncopied pairs, of a relation and of its pairs anew; None if too few are left."""
    shares = []
    for each in (name, name + SHUFFLED):
        left = {
            (source, target) for (relation, source, target), rank in copied.items() if relation == each and rank >= k
        }
        if len(left) < MIN_UNCOPIED:
            return None
        hits = ranks[(ranks["relation"] == each) & (ranks["rank"] < k)]
        pairs = pd.MultiIndex.from_frame(hits[["source_id", "target_id"]])
        among = hits[pairs.isin(left)]
        counts = among.groupby(["layer", "head"]).size()
        shares.append(counts.max() / len(left) if len(counts) else 0.0)
    return shares[0], shares[1]


if __name__ == "__main__":
    main()
