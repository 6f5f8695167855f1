"""Which heads feed which: induction without a forward pass, edges between heads, and what their removal does.

Predicted previous-token heads write about the token before; heads whose keys read that look at induction places, and
write about what stands there; heads whose queries read that look there too.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas._version import __version__
from headatlas.analysis.composition import KINDS, LEAST_SHARE, LEAST_STRENGTH, named_edges
from headatlas.analysis.reading import LIMITS
from headatlas.atlas.columns import columns_of_frame
from headatlas.atlas.evidence import CompositionFacts, EdgesFacts, PathsFacts
from headatlas.atlas.statistics import benjamini_hochberg
from headatlas.errors import SettingsError
from headatlas.measuring.output import EVIDENCE_FORMATS, Evidence, add_evidence, save_pictures
from headatlas.measuring.prefix import default_prefix
from headatlas.measuring.progress import Progress, Stage, report_stage
from headatlas.measuring.run_folder import RunParts
from headatlas.measuring.running.attention import most_tokens, watch_attention
from headatlas.measuring.running.composed import INDUCTION, PREVIOUS, Composer, Sender, random_senders
from headatlas.measuring.running.model import RunningModel, running_packages
from headatlas.measuring.running.passages import repeated_tokens
from headatlas.measuring.running.paths import Path as HeadPath
from headatlas.measuring.running.paths import run_without
from headatlas.measuring.running.places import at_places, find_places
from headatlas.measuring.running.predicted import (
    SAMPLE_TOKENS,
    PredictedInputs,
    kept_samples,
    predict_inputs,
    write_samples,
)
from headatlas.measuring.running.writes import Writes, watch_norms
from headatlas.measuring.session import Session
from headatlas.scoring.behaviours import find_matches, mean_interval, measure_rows
from headatlas.scoring.composition import induction_contrast, induction_share, p_of_random

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from headatlas.atlas import Atlas

SEEDS, SEQUENCES = 2, 4
"""Seeds of random tokens, and sequences of each."""

DRAWS, LEAST_RANDOM = 24, 1000
"""Random senders of each layer: so many, and in a small model more, until there are so many random pairs in all."""

REMOVED, RANDOM_PATHS = 3, 5
"""Strongest edges of each kind that are removed, and random edges of the same layers that each is compared with."""

PARTS = ".unfinished-composition"
VERSION = 1
"""Of how composition is counted: parts of an earlier version are not used."""

Arrays = dict[str, "np.ndarray"]


def measure_composition(
    atlas: Atlas,
    *,
    model: str | Path | None = None,
    adapter: str | Path | None = None,
    seeds: int = SEEDS,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Atlas:
    """Predict induction heads from weights, find which heads feed them, and keep both in the atlas.

    Attention on repeated random tokens is predicted from each token alone, as `measure_attention` does. Heads whose
    predicted share on the previous token is above its limit are the first senders: what they would write about it is
    added to what the keys of later layers read. Heads that then look at induction places are the second senders: what
    they would write about the token there is added to what the queries of later layers read. The running model's own
    shares stand beside the predicted ones. See docs/method.md.

    Args:
        atlas: with a folder, the tables are written there, and a call that was interrupted continues where it stopped.
        model, adapter, device, threads: as for `validate_atlas`.
        seeds: of random tokens; each gives four sequences.

    Returns:
        The atlas with the evidence `composition`, a row per head; `edges`, a row per sender, later head and kind; and
        `paths`, what the running model does without the strongest edges, and without random ones of the same layers.

    Raises:
        HeadatlasError: another model than the atlas's, a model that does not hand out its attention, too little memory.

    >>> atlas = measure_composition(atlas, seeds=1)
    >>> atlas.evidence("composition").columns[:4].tolist()
    ['layer', 'head', 'previous', 'share']
    """
    from headatlas.engines.devices import check_device, use_threads

    check_device(device)
    if seeds < 1:
        raise SettingsError(f"seeds: expected a whole number of at least 1, found {seeds}.")
    started = time.perf_counter()
    session = Session.of_atlas(atlas, model, adapter, progress)
    ordinary = session.vocabulary.ids(junk=False)
    prefix = atlas.manifest.prefix.token if atlas.manifest.prefix else default_prefix(session, ordinary).token
    most = most_tokens(session.heads)
    sequences = [repeated_tokens(ordinary, prefix, most, SEQUENCES, seed) for seed in range(seeds)]
    identity = {
        "version": VERSION,
        "atlas": atlas.manifest.identity,
        "sequences": hashlib.sha256(str([ids.tolist() for ids in sequences]).encode()).hexdigest(),
    }
    with (
        use_threads(threads),
        RunParts(atlas.folder, PARTS, identity, "measuring the composition of this atlas") as parts,
    ):
        run = _Run(session, prefix, sequences, parts, device, progress)
        heads, senders, draws = _predict(run)
        edges, n_random = _edges(run, senders)
        removed = _remove(run, edges)
        composition = CompositionFacts(
            prefix=prefix,
            seeds=seeds,
            sequences=seeds * SEQUENCES,
            random_tokens=(sequences[0].shape[1] - 1) // 2,
            samples=len(run.samples),
            sample_tokens=run.samples.shape[1] - 1,
            limit=LIMITS["previous"],
            least_share=LEAST_SHARE,
            draws=draws,
            tool=__version__,
            seconds=round(time.perf_counter() - started, 1),
            device=device,
            packages=running_packages(),
        )
        tables: Evidence = {
            "composition": (heads, composition),
            "edges": (edges, EdgesFacts(n_random, LEAST_STRENGTH, __version__)),
            "paths": removed,
        }
        atlas = add_evidence(atlas, tables)
        if atlas.folder is not None:
            from headatlas.figures import draw_composition

            save_pictures(draw_composition(atlas), atlas.folder / "composition", EVIDENCE_FORMATS)
        parts.remove()
    return atlas


@dataclass
class _Run:
    """The model and its sequences; what is costly is made when it is first needed."""

    session: Session
    prefix: int
    sequences: Sequence[Tensor]
    parts: RunParts
    device: str
    progress: Progress | None

    def __post_init__(self) -> None:
        heads = self.session.heads
        self.layers = [layer for layer in range(heads.n_layers) if heads.has_heads(layer)]
        self.n_heads = heads.n_heads

    @cached_property
    def running(self) -> RunningModel:
        return RunningModel(self.session.heads, self.device, report_stage(self.progress, Stage.BYTES))

    @cached_property
    def samples(self) -> Tensor:
        """Texts of the model itself: Int[Tensor, "n_samples n_tokens"]."""

        def write() -> Arrays:
            most = min(SAMPLE_TOKENS, most_tokens(self.session.heads) or SAMPLE_TOKENS)
            return {"ids": write_samples(self.running, self.prefix, most).numpy()}

        return kept_samples(self.kept("samples", write)["ids"], self.session.heads.d_vocab)

    @cached_property
    def _predicted(self) -> tuple[PredictedInputs, dict[int, Tensor]]:
        """By token, and by place."""
        import torch

        shown = torch.cat([each[:, 1:].flatten() for each in (*self.sequences, self.samples)])
        inputs = predict_inputs(self.running, self.prefix, shown, self.samples)
        return inputs, find_places(self.running, inputs, self.samples)

    def inputs(self, number: int) -> dict[int, Tensor]:
        """What each layer would read for the sequences of one seed."""
        inputs, places = self._predicted
        return at_places(inputs.of(self.sequences[number]), places)

    @cached_property
    def writes(self) -> Writes:
        return watch_norms(self.running, self.samples)

    def composer(self, number: int) -> Composer:
        """Of the sequences of one seed."""
        return Composer(self.writes, self.sequences[number], self.inputs(number))

    def kept(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """A part, made if it is not there."""
        found = self.parts.load(name)
        if found is None:
            found = make()
            self.parts.save(name, found)
        return found

    def of_all(self, name: str, make: Callable[[int], Arrays], axis: int) -> Arrays:
        """The arrays of all seeds, joined along an axis."""
        import numpy as np

        found = []
        for number in range(len(self.sequences)):
            found.append(self.kept(f"{name}-{number:05}", lambda n=number: make(n)))
        return {key: np.concatenate([each[key] for each in found], axis) for key in found[0]}

    def report(self, stage: Stage, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)

    def names(self, chosen: np.ndarray, about: str) -> list[Sender]:
        """The senders among all heads: Bool[ndarray, "n_layers n_heads"]."""
        import numpy as np

        return [Sender(about, self.layers[at], int(head)) for at, head in np.argwhere(chosen)]


def _draws(n_pairs: int) -> int:
    """Random senders of each layer, if each of them makes so many pairs, over all layers."""
    return max(DRAWS, -(-LEAST_RANDOM // max(1, n_pairs)))


def _predict(run: _Run) -> tuple[pd.DataFrame, list[Sender], int]:
    """The table `composition`, the senders of both kinds, and the random sets. Arrays are (layer, sequence, head)."""
    import numpy as np
    import pandas as pd

    alone = run.of_all("alone", lambda number: _alone(run, number), 1)
    run.report(Stage.PROMPTS, 1, 3)
    previous = alone["previous"].mean(1)
    first = run.names(previous > LIMITS["previous"], PREVIOUS)
    key = f"keys-{_digest(first)}"
    by_keys = run.of_all(key, lambda number: _composed(run, number, first), 1)
    run.report(Stage.PROMPTS, 2, 3)
    second = run.names(by_keys["share"].mean(1) > LEAST_SHARE, INDUCTION)
    senders = first + second
    key = f"both-{_digest(senders)}"
    draws = _draws(len(run.layers) * run.n_heads)
    both = run.of_all(key, lambda number: _composed(run, number, senders, draws if senders else 0), 1)
    run.report(Stage.PROMPTS, 3, 3)
    share, low, high = mean_interval(both["share"].swapaxes(0, 1))
    score = both["contrast"].mean(1) - alone["contrast"].mean(1)
    p, chance = np.ones(score.shape), share
    if senders:
        # One row per layer, of all its heads and draws.
        random = (both["random"] - alone["contrast"][..., None]).mean(1).reshape(len(run.layers), -1)
        groups = np.repeat(np.arange(len(run.layers)), run.n_heads)
        p = p_of_random(score.ravel(), random, groups).reshape(score.shape)
        chance = both["random_share"].mean((1, 3))
    columns = {
        "previous": previous,
        "share": share,
        "low": low.clip(0, 1),
        "high": high.clip(0, 1),
        "alone": alone["share"].mean(1),
        "by_keys": by_keys["share"].mean(1),
        "score": score,
        "chance": chance,
        "p_value": p,
        "q_value": benjamini_hochberg(p),
        "measured": alone["measured"].mean(1),
    }
    places = {"layer": np.repeat(run.layers, run.n_heads), "head": np.tile(np.arange(run.n_heads), len(run.layers))}
    return pd.DataFrame(places | {name: each.ravel() for name, each in columns.items()}), senders, draws


def _alone(run: _Run, number: int) -> Arrays:
    """What the running model does, and what is predicted from each token alone."""
    import numpy as np

    ids, found = run.sequences[number], {name: [] for name in ("measured", "previous", "contrast", "share")}
    matches = {name: match for name, match in find_matches(ids).items() if name in ("previous", "induction")}
    n = (ids.shape[1] - 1) // 2

    def see(_: int, attention: Tensor, visible: Tensor, predicted: Tensor) -> None:
        at = list(matches).index
        found["measured"].append(measure_rows(attention, visible, matches).share[..., at("induction")])
        found["previous"].append(measure_rows(predicted, visible, matches).share[..., at("previous")])
        found["contrast"].append(induction_contrast(predicted, n))
        found["share"].append(induction_share(predicted, n))

    watch_attention(run.running, ids, see, [run.inputs(number)])
    return {name: np.stack(each) for name, each in found.items()}


def _composed(run: _Run, number: int, senders: list[Sender], draws: int = 0) -> Arrays:
    """What heads do if all senders write; with `draws`, also if random ones of the same layers do so in their place.

    Those are `random` and `random_share`, (layer, sequence, head, draw).
    """
    import numpy as np

    composer = run.composer(number)
    instead = [composer.composed((sender, None) for sender in senders)]
    sizes = run.session.heads.attention.sizes
    if draws:
        turned: list[list[Any]] = [[] for _ in range(draws)]
        for about, layer, count in _counts(senders):
            drawn = random_senders(layer, about, run.n_heads, sizes(layer).d_head, draws * count)
            for at, each in enumerate(drawn):
                turned[at % draws].append(each)
        instead += [composer.composed(each) for each in turned]
    real, *random = composer.watch(instead)
    found = {"contrast": real.contrast, "share": real.share}
    if draws:
        found["random"] = np.stack([each.contrast for each in random], -1)
        found["random_share"] = np.stack([each.share for each in random], -1)
    return found


def _counts(senders: Sequence[Sender]) -> list[tuple[str, int, int]]:
    """What senders write about, their layer, and how many there are of both."""
    found: dict[tuple[str, int], int] = {}
    for each in senders:
        found[each.about, each.layer] = found.get((each.about, each.layer), 0) + 1
    return [(*key, count) for key, count in sorted(found.items())]


def _digest(senders: Sequence[Any]) -> str:
    """A part belongs to its heads: another machine may choose others at a limit."""
    return hashlib.sha256(str(sorted(senders)).encode()).hexdigest()[:12]


def _edges(run: _Run, senders: list[Sender]) -> tuple[pd.DataFrame, dict[str, int]]:
    """The table `edges`, and how many random pairs each kind was compared with."""
    import pandas as pd

    found: dict[str, list[tuple[Sender, np.ndarray, np.ndarray]]] = {kind: [] for kind in KINDS}
    # A head of the last layer has no later head to feed.
    groups = [each for each in _counts(senders) if each[1] < run.layers[-1]]
    draws = _draws(sum(run.n_heads for _, layer, _ in groups for later in run.layers if later > layer))
    for number, (about, layer, _) in enumerate(groups):
        run.report(Stage.SENDERS, number, len(groups))
        own = [each for each in senders if each[:2] == (about, layer)]
        arrays = run.of_all(f"edges-{about}-{layer:05}-{_digest(own)}", lambda n, o=own: _edges_of(run, n, o, draws), 0)
        for kind, name in (("key" if about == PREVIOUS else "query", "scores"), ("value", "values")):
            strengths = arrays[name].mean(0)
            found[kind] += [(each, strengths[at], strengths[len(own) :]) for at, each in enumerate(own)]
    run.report(Stage.SENDERS, len(groups), len(groups))
    tables, n_random = [], {}
    for kind, each in found.items():
        table, n_random[kind] = _table_of(run, kind, each)
        tables.append(table)
    return pd.concat(tables, ignore_index=True), n_random


def _edges_of(run: _Run, number: int, own: list[Sender], draws: int) -> Arrays:
    """How much each sender of a layer, and then each random one, does to later heads: (seed, sender, layer, head).

    `scores`: change of the contrast; `values`: share of the values.
    """
    import numpy as np

    composer = run.composer(number)
    about, layer, _ = own[0]
    d_head = run.session.heads.attention.sizes(layer).d_head
    every = [(each, None) for each in own] + random_senders(layer, about, run.n_heads, d_head, draws)
    seen = composer.watch([composer.composed([each], changed_only=True) for each in every])
    alone = run.kept(f"alone-{number:05}", lambda: _alone(run, number))["contrast"].mean(1)
    return {
        "scores": np.stack([each.contrast.mean(1) - alone for each in seen])[None],
        "values": composer.value_strengths(every)[None],
    }


def _table_of(run: _Run, kind: str, found: Sequence[tuple[Sender, np.ndarray, np.ndarray]]) -> tuple[pd.DataFrame, int]:
    """Rows of one kind, for every sender and later head; and the number of random pairs.

    Args:
        found: sender, its strengths (layer, head), and those of the random senders of its layer (draw, layer, head).
    """
    import numpy as np
    import pandas as pd

    rows, groups, random = [], [], {}
    for sender, strengths, drawn in found:
        for at, layer in enumerate(run.layers):
            if layer <= sender.layer or not np.isfinite(strengths[at]).all():
                continue
            pair = (sender.about, sender.layer, layer)
            random.setdefault(pair, drawn[:, at].ravel())
            chance = float(random[pair].mean())
            for head in range(run.n_heads):
                rows.append((*sender, layer, head, kind, float(strengths[at, head]), chance))
                groups.append(list(random).index(pair))
    names = ["about", "sender_layer", "sender_head", "layer", "head", "kind", "strength", "chance"]
    table: Any = pd.DataFrame(rows, columns=names)
    p = np.ones(0)
    if rows:
        p = p_of_random(table["strength"].to_numpy(), np.stack(list(random.values())), np.array(groups))
    table["p_value"] = p
    table["q_value"] = benjamini_hochberg(p) if rows else p
    whole = ("sender_layer", "sender_head", "layer", "head")
    kinds = {"about": "str", "kind": "str", "strength": "float64", "chance": "float64"}
    table = table.astype({name: "int64" for name in whole} | kinds)
    return table, sum(len(each) for each in random.values())


def _remove(run: _Run, edges: pd.DataFrame) -> tuple[pd.DataFrame, PathsFacts]:
    """The table `paths` of the first seed's sequences, and its facts."""
    import numpy as np
    import pandas as pd

    found = named_edges(columns_of_frame(edges), LEAST_STRENGTH)
    named = [HeadPath(each.sender, each.receiver, each.kind) for each in found]
    chosen = [path for kind in KINDS for path in [each for each in named if each.kind == kind][:REMOVED]]
    draws = [[path, *_random_paths(path, {*named}, run.n_heads)] for path in chosen]
    whole = _without(run, [], [])
    rows = []
    for number, paths in enumerate(draws):
        run.report(Stage.PATHS, number, len(draws))
        for draw, path in enumerate(paths):
            base, found = _without(run, [], [path.receiver]), _without(run, [path], [])
            share = mean_interval(found["share-0"] - base["share-0"])
            copying = mean_interval(found["copying"] - whole["copying"])
            places = (*path.sender, *path.receiver, path.kind, number, draw)
            rows.append((*places, float(base["share-0"].mean()), *map(float, share), *map(float, copying)))
    run.report(Stage.PATHS, len(draws), len(draws))
    at_once = [[paths[draw] for paths in draws if draw < len(paths)] for draw in range(1 + RANDOM_PATHS)]
    without = [float(_without(run, each, [])["copying"].mean()) for each in at_once]
    names = ["sender_layer", "sender_head", "layer", "head", "kind", "edge", "draw", "share"]
    changes = [f"{what}{end}" for what in ("share_change", "copying_change") for end in ("", "_low", "_high")]
    table: Any = pd.DataFrame(rows, columns=names + changes)
    whole_numbers = ("sender_layer", "sender_head", "layer", "head", "edge", "draw")
    kinds = {"kind": "str"} | dict.fromkeys(["share", *changes], "float64")
    table = table.astype({name: "int64" for name in whole_numbers} | kinds)
    facts = PathsFacts(
        sequences=len(run.sequences[0]),
        copying=float(np.mean(whole["copying"])),
        without=without[0],
        without_random=tuple(without[1:]),
        tool=__version__,
    )
    return table, facts


def _random_paths(path: HeadPath, named: set[HeadPath], n_heads: int) -> list[HeadPath]:
    """Random edges of the same layers and kind that are not named, all different."""
    numbers = random.Random(f"random paths {path}")
    pairs = [(one, other) for one in range(n_heads) for other in range(n_heads)]
    every = [HeadPath((path.sender[0], one), (path.receiver[0], other), path.kind) for one, other in pairs]
    rest = [each for each in every if each not in named]
    return numbers.sample(rest, min(RANDOM_PATHS, len(rest)))


def _without(run: _Run, paths: Sequence[HeadPath], watched: Sequence[tuple[int, int]]) -> Arrays:
    """What the model does without some paths, by sequence: `copying`, and `share-N` of the N-th head in order."""

    def measure() -> Arrays:
        effects = run_without(run.writes, run.sequences[0], paths, watched)
        shares = {f"share-{number}": effects.shares[head] for number, head in enumerate(sorted(effects.shares))}
        return {"copying": effects.copying, **shares}

    return run.kept(f"without-{_digest([*paths, *watched])}", measure)
