"""The search against the plain loop, on the demo model, in one run.

Prints the time of both, their ratio, the share of the full work that the search does, peak memory, and how many hits
differ. The loop takes minutes; `--layers 0,23` times both on some layers only.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path

import torch

from headatlas.architectures import open_model
from headatlas.checkpoints import demo_model, open_checkpoint
from headatlas.relations import builtin_relations, encode_relations
from headatlas.scoring import RankSearch
from headatlas.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reference import plain_loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", help="comma-separated; default: all")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    started = time.perf_counter()
    checkpoint = open_checkpoint(demo_model())
    model = open_model(checkpoint)
    settings = Settings.of_profile(model.d_vocab)
    encoded = encode_relations(builtin_relations(), checkpoint.load_tokenizer(), model.d_vocab, settings)
    relations = [relation for relation in encoded if relation.measurable]
    layers = [int(layer) for layer in arguments.layers.split(",")] if arguments.layers else range(model.n_layers)
    sources = torch.tensor([token for relation in relations for token in relation.source_ids])
    ids, source = sources.unique(return_inverse=True)
    targets = torch.tensor([token for relation in relations for token in relation.target_ids])
    k = torch.tensor([relation.k for relation in relations for _ in relation.pairs])
    W_U = model.W_U()
    embedding = model.W_E(ids)
    later = model.first_mlp(embedding)
    circuits = {layer: model.values_and_outputs(layer) for layer in layers}
    print(f"{len(relations)} relations, {len(source)} pairs, {len(ids)} sources; opened in {_since(started):.1f} s")

    started = time.perf_counter()
    search = RankSearch(W_U, source, targets, k, arguments.threads)
    found = {
        layer: torch.stack(search.layer(later if layer else embedding, *circuits[layer], model.kv_head_of(layer)))
        for layer in layers
    }
    search_seconds = _since(started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"search: {search_seconds:.1f} s, {search.work.logits / search.work.full:.1%} of all logits, "
        f"{search.work.in_float64} close calls, peak memory {peak:,.0f} MB, {arguments.threads} threads"
    )

    started = time.perf_counter()
    ends = torch.tensor([0] + [len(relation.pairs) for relation in relations]).cumsum(0).tolist()
    n_different = n_hits = 0
    for number, layer in enumerate(layers):
        x = later if layer else embedding
        W_V, W_O = circuits[layer]
        for head in range(model.n_heads):
            for relation, first, last in zip(relations, ends, ends[1:], strict=False):
                part = slice(first, last)
                sides = plain_loop(
                    x, W_V[model.kv_head_of(layer)[head]], W_O[head], W_U, source[part], targets[part], relation.k
                )
                for side, hits in enumerate(sides):
                    n_hits += int(hits.sum())
                    n_different += int((hits != found[layer][side][head, part]).sum())
        print(f"loop: layer {number + 1} of {len(layers)}, {_since(started):.0f} s", end="\r", flush=True)
    loop_seconds = _since(started)
    print(f"loop:   {loop_seconds:.1f} s, {n_hits} hits, of which {n_different} differ            ")
    print(f"ratio:  {loop_seconds / search_seconds:.0f}")


def _since(started: float) -> float:
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
