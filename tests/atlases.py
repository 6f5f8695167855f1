"""Synthetic atlases, with the categories of every head chosen by the test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from headatlas.analysis.composition import LEAST_STRENGTH
from headatlas.analysis.written import COLUMNS as WRITTEN_COLUMNS
from headatlas.atlas import CHANCE_VARIABLES, COPYING_VARIABLES, Atlas, Manifest, build_dataset
from headatlas.atlas.evidence import (
    AblationFacts,
    AttentionFacts,
    CompositionFacts,
    DescriptionsFacts,
    EdgesFacts,
    HeadVisFacts,
    PathsFacts,
    ReadingWordsFacts,
    RemovalFacts,
    SalientFacts,
    ScoresCheck,
    SimilarFacts,
    ValidationFacts,
    WrittenFacts,
)
from headatlas.atlas.headvis import METRICS
from headatlas.atlas.manifest import (
    ImportedFacts,
    ModelFacts,
    RelationFacts,
    RelationsFacts,
    SettingsFacts,
    ToolFacts,
    ValidityFacts,
)

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
        variables |= make_copying(variables, np.random.default_rng(seed + 1))
        variables["copied"][:, list(without_heads)] = 0
    data = build_dataset(
        [(relation, category, 10, PAIRS) for relation, category in zip(names, categories, strict=True)],
        variables,
        validity,
    )
    measured = [
        RelationFacts(relation, category, measurable=True, k=10, in_file=PAIRS, pairs=PAIRS)
        for relation, category in zip(names, categories, strict=True)
    ]
    dropped = [
        RelationFacts(f"{category.lower()}_words", category, measurable=False, k=10, pairs=3) for category in unmeasured
    ]
    manifest = Manifest(
        tool=ToolFacts("headatlas", "1"),
        created="2026-01-01T00:00:00+00:00",
        measure="weights",
        label="maps",
        identity={"measure": "weights", "model": name},
        model=ModelFacts(
            name=name,
            source="demo",
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=3 if n_heads % 3 == 0 else None,
            d_vocab=50_257,
            fingerprint="f" * 64,
            note=note,
            validity=tuple(
                ValidityFacts(kind, why, tuple(at for at, each in enumerate(validity) if each == kind))
                for kind, why in (("exact", ""), ("not applicable", "linear attention"))
                if kind in validity
            ),
        ),
        settings=SettingsFacts("0.15", k=10, k_copying=1, contextualize="first-mlp"),
        relations=RelationsFacts("test", (*measured, *dropped), hash="a" * 64),
    )
    return Atlas(data, manifest)


def make_copying(variables: dict[str, np.ndarray], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """The variables of copying for those of an atlas: a fifth of the relations cannot be told from it in each layer."""
    shape = variables["hits"].shape
    copied = generator.integers(0, 25, shape[:2]).astype("int32")
    copied[generator.random(shape[:2]) < 0.2] = PAIRS - 5
    found = {"copied": copied}
    for side, hits in (("score", variables["hits"]), ("suppression", variables["suppression_hits"])):
        rest = np.minimum(hits, PAIRS - copied[:, :, None])
        uncopied = generator.integers(rest // 2, rest + 1).astype("int32")
        level = np.where(hits > 2, generator.random(shape) * 0.2, np.nan)
        p_values = np.where(hits > 2, 10.0 ** -(uncopied / 3), 1.0)
        found |= dict(zip(COPYING_VARIABLES[side], (uncopied, level, p_values), strict=True))
    return found


def make_others(n_layers: int = 5, n_heads: int = 3, other: tuple[int, int] = (7, 2)) -> tuple[Atlas, Atlas]:
    """Two models of other shapes, with a hostile name and category: their heads hit random pairs, and L1H2 of the first
    the same 25 capitals as L5H0 of the second.
    """
    names = ("knowledge_relation", "linguistic_relation")
    words = [(relation, f" s{number}", f" t{number}") for relation in names for number in range(PAIRS)]
    columns = ["relation", "source", "target"]
    pairs = pd.DataFrame(words, columns=columns).assign(source_id=0, target_id=1)
    generator = np.random.default_rng(0)

    def with_hits(atlas: Atlas, planted: tuple[int, int]) -> Atlas:
        rows = []
        for layer in range(atlas.n_layers):
            for head in range(atlas.n_heads):
                chosen = range(25) if (layer, head) == planted else generator.choice(len(words), 12, replace=False)
                rows += [(*words[pair], layer, head, "promoted", 0) for pair in chosen]
        hits = pd.DataFrame(rows, columns=[*columns, "layer", "head", "side", "rank"])
        return replace(atlas, pairs=pairs, pair_hits=hits.assign(source_id=0, target_id=1))

    first = make_atlas(n_layers, n_heads, chance=True, name="small")
    categories, relations = ("Knowledge", "Linguistic", HOSTILE[0]), (*names, HOSTILE[1])
    second = make_atlas(*other, categories=categories, relations=relations, name=HOSTILE[0])
    return with_hits(first, (1, 2)), with_hits(second, (5, 0))


IMPORTED = ImportedFacts("scores.csv", "e" * 64)


def with_manifest(atlas: Atlas, **changes) -> Atlas:
    """The same atlas with other values in its manifest."""
    return replace(atlas, manifest=replace(atlas.manifest, **changes))


def with_model(atlas: Atlas, **changes) -> Atlas:
    """The same atlas with other facts about its model."""
    return with_manifest(atlas, model=replace(atlas.manifest.model, **changes))


def with_settings(atlas: Atlas, **changes) -> Atlas:
    """The same atlas with other settings."""
    return with_manifest(atlas, settings=replace(atlas.manifest.settings, **changes))


SALIENT = SalientFacts(
    tokens=4, mapped=2, similar=1, junk=False, vocabulary=60, looked_at=58, junk_tokens={"special": 2},
    heads_without_output=0, tokens_without_output=0, tool="1", seconds=1.5, processor_seconds=1, device="cpu",
)  # fmt: skip
SIMILAR = SimilarFacts(heads=1, probes=256, seed=20, projected_to=None, standard_error=0.0, tool="1")
DESCRIPTIONS = DescriptionsFacts(heads=1, rules={"unclear": 1}, tool="1")
VALIDATION = ValidationFacts(
    templates=("The {source} is",), pairs=40, seed=0, relations=(), left_out=(), groups=(), prompts=1, effects=0,
    seconds=1, device="cpu", packages={}, correlations=(),
)  # fmt: skip
ATTENTION = AttentionFacts(
    prefix=28, seeds=2, sequences=8, random_tokens=48, text=None, text_sha256="c" * 64, text_tokens=4131, pieces=17,
    samples=32, sample_tokens=127, samples_sha256="d" * 64,
    limits={"previous": 0.3, "induction": 0.3, "duplicate": 0.3, "self": 0.3, "sink": 0.5, "local": 0.5,
            "delimiter": 0.3},
    scores_check=(ScoresCheck((0, 1), "rotary halves", 3e-7), ScoresCheck((2,), None, None)),
    tool="1", seconds=1, device="cpu", packages={},
)  # fmt: skip

COMPOSITION = CompositionFacts(
    prefix=28, seeds=2, sequences=8, random_tokens=48, samples=32, sample_tokens=127, limit=0.3, least_share=0.1,
    draws=24, tool="1", seconds=1, device="cpu", packages={},
)  # fmt: skip
PREVIOUS = "previous"
HEADVIS = HeadVisFacts(
    file="m.json", sha256="b" * 64, model="google/tiny", dataset="some/texts", sequences=40, tokens=512, metrics=(),
    tool="1",
)  # fmt: skip
WRITTEN = WrittenFacts(
    model="org/model", host="host.org", prompt_version=1, prompt_sha256="c" * 64, options=5, group=3, seed=0,
    left_out=0, empty=0, tool="1",
)  # fmt: skip

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
    atlas = atlas.with_evidence(
        {"salient": (pd.DataFrame(operations, columns=list(names)), replace(SALIENT, tokens=n_tokens))}
    )
    similar = [(*places[at], 0, *places[at - 1], 0.5) for at in range(len(places))]
    names = ("layer", "head", "rank", "other_layer", "other_head", "similarity")
    atlas = atlas.with_evidence({"similar": (pd.DataFrame(similar, columns=list(names)), SIMILAR)})
    told = [(*place, f"maps {word()[1]} to {word()[1]}", "unclear" if at % 3 else "same word", 0.5)
            for at, place in enumerate(places)]  # fmt: skip
    names = ("layer", "head", "description", "rule", "confidence")
    atlas = atlas.with_evidence({"descriptions": (pd.DataFrame(told, columns=list(names)), DESCRIPTIONS)})
    validation = [
        (relation, *place, condition, tokens, PAIRS // 2, PAIRS, hits, 1, hits / PAIRS, 1 / PAIRS)
        for relation in atlas.relations
        for condition in ("attention-fixed", "in-context")
        for tokens in ("one", "several")
        for place in places
        for hits in [int(generator.integers(PAIRS))]
    ]
    names = ("relation", "layer", "head", "condition", "tokens", "pairs", "prompts", "hits", "suppression_hits",
             "score", "suppression")  # fmt: skip
    atlas = atlas.with_evidence({"validation": (pd.DataFrame(validation, columns=list(names)), VALIDATION)})
    first, *others = atlas.relations
    ablation = [
        (first, task, order, removed, max(0, 30 - removed), PAIRS, -0.5 * removed)
        for task in (first, *others[:1])
        for order in ("score", "random 1", "random 2")
        for removed in range(5)
    ]
    names = ("relation", "task", "order", "removed", "correct", "prompts", "log_probability")
    atlas = atlas.with_evidence({"ablation": (pd.DataFrame(ablation, columns=list(names)), AblationFacts({}))})
    metrics = [(*place, *generator.random(len(METRICS))) for place in places]
    table = pd.DataFrame(metrics, columns=["layer", "head", *METRICS])
    atlas = atlas.with_evidence({"headvis": (table, replace(HEADVIS, metrics=tuple(METRICS)))})
    rows = [(*place, f"maps {word()[1]} to {word()[1]}", "salient", 3, at % 4, 3, "unclear", 1, 2)
            for at, place in enumerate(places)]  # fmt: skip
    written = pd.DataFrame(rows, columns=list(WRITTEN_COLUMNS))
    atlas = atlas.with_evidence({"written": (written, WRITTEN)})
    atlas = make_composition(make_removal(make_attention(atlas), {(0, 1): 0.3}))
    return make_reading_words(atlas, words)


def make_composition(atlas: Atlas, edges: Sequence[tuple] | None = None) -> Atlas:
    """The atlas with the evidence of `composition`: in every later layer, head 0 is a predicted induction head.

    Args:
        edges: (about, sender layer, sender head, layer, head, kind, strength, q); default: one from the first layer.
    """
    layers = [int(layer) for layer in np.flatnonzero(atlas.has_heads)]
    columns = ("layer", "head", "previous", "share", "low", "high", "alone", "by_keys", "score", "chance", "p_value",
               "q_value", "measured")  # fmt: skip
    heads = []
    for layer in layers:
        for head in range(atlas.n_heads):
            found = layer > layers[0] and head == 0
            share, q = (0.6 - layer / 100, 1e-3) if found else (0.02, 1.0)
            previous = 0.9 if layer == layers[0] and head == 1 else 0.03
            heads.append((layer, head, previous, share, share, share, 0.02, share, share, 0.02, q, q, share / 2))
    if edges is None:
        edges = [(PREVIOUS, layers[0], 1, layers[-1], 0, "key", 5.0, 1e-3)]
    names = (
        "about",
        "sender_layer",
        "sender_head",
        "layer",
        "head",
        "kind",
        "strength",
        "chance",
        "p_value",
        "q_value",
    )
    # Without edges, too, the columns have their types, as in a table that was measured.
    places = dict.fromkeys((*names[1:5], "edge", "draw"), "int64") | {"about": "str", "kind": "str"}
    table = pd.DataFrame([(*each[:7], 0.0, each[7], each[7]) for each in edges], columns=list(names))
    table = table.astype({name: places.get(name, "float64") for name in table})
    changes = [f"{what}{end}" for what in ("share_change", "copying_change") for end in ("", "_low", "_high")]
    paths = pd.DataFrame(
        [(*each[1:6], number, draw, 0.5, *(6 * [-0.25 / (1 + draw)])) for number, each in enumerate(edges)
         for draw in range(3)],
        columns=["sender_layer", "sender_head", "layer", "head", "kind", "edge", "draw", "share", *changes],
    )  # fmt: skip
    paths = paths.astype({name: places.get(name, "float64") for name in paths})
    return atlas.with_evidence(
        {
            "composition": (pd.DataFrame(heads, columns=list(columns)), COMPOSITION),
            "edges": (table, EdgesFacts({"key": 900, "query": 0, "value": 900}, LEAST_STRENGTH, "1")),
            "paths": (paths, PathsFacts(4, 0.5, 0.25, (0.5, 0.4375), "1")),
        }
    )


def make_reading_words(atlas: Atlas, words: list[str], n_queries: int = 2, n_keys: int = 3, seed: int = 0) -> Atlas:
    """The atlas with the evidence `reading_words`; some words are hostile."""
    numbers = iter(np.random.default_rng(seed).integers(len(words), size=10_000).tolist())
    rows = []
    for layer in np.flatnonzero(atlas.has_heads):
        for head in range(atlas.n_heads):
            for query in range(-1, n_queries):
                asked = (-1, "") if query < 0 else (number := next(numbers), words[number])
                for rank in range(n_keys):
                    key = next(numbers)
                    rows.append(
                        (int(layer), head, "any" if query < 0 else "pair", max(query, 0), *asked, rank, key, words[key],
                         3.0 - rank / n_keys, np.nan if rank else 1.5, 0 if rank else 7)
                    )  # fmt: skip
    names = ("layer", "head", "kind", "rank", "query_id", "query", "key_rank", "key_id", "key", "score", "real", "seen")
    facts = ReadingWordsFacts(words=len(words), distances=(2, 8), least=0.7, tool="0.1.0")
    return atlas.with_evidence({"reading_words": (pd.DataFrame(rows, columns=list(names)), facts)})


ATTENTION_COLUMNS = [
    "layer", "head", "input", "behaviour", "value", "low", "high", "chance", "p_value", "q_value", "predicted", "rows",
]  # fmt: skip
READ = (
    ("random", "previous"), ("random", "induction"), ("random", "duplicate"), ("random", "self"), ("text", "sink"),
    ("text", "local"), ("text", "delimiter"), ("text", "entropy"), ("text", "agreement_keys"),
    ("text", "agreement_pairs"),
)  # fmt: skip


def make_attention(atlas: Atlas, shares: dict[str, dict[tuple[int, int], float]] | None = None, seed: int = 0) -> Atlas:
    """The atlas with the evidence `attention`.

    Args:
        shares: behaviour -> head -> share of its attention, all others 0.05; default: random ones.
    """
    generator = np.random.default_rng(seed)
    rows = []
    for kind, behaviour in READ:
        for layer in np.flatnonzero(atlas.has_heads):
            for head in range(atlas.n_heads):
                value = float(generator.random() ** 3)
                if shares is not None:
                    value = shares.get(behaviour, {}).get((int(layer), head), 0.05)
                known = behaviour != "entropy" and "agreement" not in behaviour
                q = 1e-9 if value > 0.1 else 1.0
                statistics = (0.05 if behaviour != "entropy" else np.nan, *((q, q) if known else (np.nan, np.nan)))
                low, high = max(0, value - 0.02), min(1, value + 0.02)
                predicted = value / 2 if kind == "text" else np.nan
                rows.append((int(layer), head, kind, behaviour, value, low, high, *statistics, predicted, 100))
    return atlas.with_evidence({"attention": (pd.DataFrame(rows, columns=ATTENTION_COLUMNS), ATTENTION)})


def make_removal(
    atlas: Atlas, falls: dict[tuple[int, int], float], controls: dict[tuple[int, int], float] | None = None, **facts
) -> Atlas:
    """The atlas with the evidence `removal`.

    Args:
        falls: by how much copying falls without named heads; each interval is 0.02 on either side.
        controls: the same without other heads.
        facts: that differ.
    """
    known = RemovalFacts(
        prefix=28, sequences=8, random_tokens=24, tokens=184, accuracy=0.9, probability=0.8, together=(), tool="1",
        seconds=1, device="cpu", packages={},
    )  # fmt: skip
    known = replace(known, **facts)
    rows = [
        (*place, kind, *(number for base in (known.accuracy, known.probability)
                         for number in (base - fall, fall, fall - 0.02, fall + 0.02)))
        for kind, each in (("named", falls), ("control", controls or {}))
        for place, fall in each.items()
    ]  # fmt: skip
    names = ["layer", "head", "kind"]
    names += [f"{name}{part}" for name in ("accuracy", "probability") for part in ("", "_fall", "_low", "_high")]
    return atlas.with_evidence({"removal": (pd.DataFrame(rows, columns=names), known)})


def with_pairs(atlas: Atlas) -> Atlas:
    """The atlas with pairs and hits that agree with its scores: a head hits the first pairs of a relation."""
    words = [*HOSTILE, *(f" s{number}" for number in range(PAIRS))][:PAIRS]
    columns = ["relation", "source", "target", "source_id", "target_id"]
    pairs = [(name, word, f" t{at}", at, 100 + at) for name in atlas.relations for at, word in enumerate(words)]
    rows = [
        (*pairs[number * PAIRS + at], layer, head, side, at % 10)
        for side, variable in (("promoted", "hits"), ("suppressed", "suppression_hits"))
        for (number, layer, head), n in np.ndenumerate(atlas.data[variable].values)
        for at in range(int(n))
    ]
    hits = pd.DataFrame(rows, columns=[*columns, "layer", "head", "side", "rank"])
    return replace(atlas, pairs=pd.DataFrame(pairs, columns=columns), pair_hits=hits)


def with_counts_of_hits(atlas: Atlas) -> Atlas:
    """The atlas with the scores that its hits and pairs make, without the relations that have none."""
    assert atlas.pair_hits is not None and atlas.pairs is not None
    n_pairs = atlas.pairs["relation"].value_counts()
    names = [name for name in atlas.relations if name in n_pairs]
    items = {item.relation: item for item in atlas.manifest.relations.items}
    counts = {}
    for side, variable in (("promoted", "hits"), ("suppressed", "suppression_hits")):
        rows = atlas.pair_hits[atlas.pair_hits["side"] == side]
        counts[variable] = np.zeros((len(names), atlas.n_layers, atlas.n_heads), dtype="int32")
        np.add.at(counts[variable], ([names.index(name) for name in rows["relation"]], rows["layer"], rows["head"]), 1)
    labels = [(name, items[name].category, 10, int(n_pairs[name])) for name in names]
    kept = tuple(replace(items[name], pairs=int(n_pairs[name])) for name in names)
    relations = replace(atlas.manifest.relations, items=kept)
    return with_manifest(replace(atlas, data=build_dataset(labels, counts, atlas.validity)), relations=relations)


def replace_table(folder: Path, name: str, table: Any, **options: Any) -> None:
    """Replace a table of an atlas's folder, as somebody does who also writes the manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, manifest = folder / f"{name}.parquet", folder / "atlas.json"
    path.unlink()
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(table, path, **options) if isinstance(table, pa.Table) else path.write_bytes(table)
    content = json.loads(manifest.read_text("utf-8"))
    content["files"][path.name]["sha256"] = sha256(path.read_bytes()).hexdigest()
    manifest.unlink()
    manifest.write_text(json.dumps(content), "utf-8")
