"""Where the heads of the running model look, and where they would look by their weights alone.

Shares of attention by behaviour, on random tokens and on text; on text also the attention that is predicted from each
token by itself, and how far both agree.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas._version import __version__
from headatlas.analysis.reading import LIMITS, find_reading
from headatlas.analysis.reading_words import LEAST_SCORE
from headatlas.atlas.evidence import AttentionFacts, ReadingWordsFacts, ScoresCheck
from headatlas.atlas.statistics import benjamini_hochberg
from headatlas.errors import SettingsError
from headatlas.measuring.copying_without_heads import measure_removal
from headatlas.measuring.output import EVIDENCE_FORMATS, Evidence, add_evidence, save_pictures
from headatlas.measuring.prefix import default_prefix
from headatlas.measuring.progress import Progress, Stage, report_stage
from headatlas.measuring.reading_words import Named, WordScores, choose_words, table_of
from headatlas.measuring.run_folder import RunParts
from headatlas.measuring.running.attention import most_tokens, watch_attention
from headatlas.measuring.running.model import RunningModel, batches, running_packages
from headatlas.measuring.running.passages import kinds_of, load_text, repeated_tokens, text_pieces
from headatlas.measuring.running.predicted import (
    SAMPLE_TOKENS,
    PredictedInputs,
    kept_samples,
    predict_inputs,
    write_samples,
)
from headatlas.measuring.running.scores_check import check_scores
from headatlas.measuring.running.word_scores import distances_for
from headatlas.measuring.session import Session, relations_of
from headatlas.scoring.agreement import pooled_correlation, score_products
from headatlas.scoring.behaviours import (
    ON_RANDOM,
    ON_TEXT,
    find_matches,
    find_text_matches,
    mean_interval,
    measure_rows,
    p_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import pandas as pd
    from torch import Tensor

    from headatlas.atlas import Atlas

PREDICTED = ("share", "entropy", "distance")
"""What is also measured of predicted attention, fields of `Sums`."""

SEEDS, SEQUENCES = 8, 4
"""Seeds of random tokens, and sequences of each."""

AGREEMENTS = {"agreement": "products", "agreement_keys": "keys", "agreement_pairs": "pairs"}
"""Agreements in the table, and the sums that they are made of."""

PARTS = ".unfinished-attention"

VERSION = 3
"""Of how attention is counted: parts of an earlier version are not used."""


def measure_attention(
    atlas: Atlas,
    *,
    model: str | Path | None = None,
    adapter: str | Path | None = None,
    seeds: int = SEEDS,
    text: str | Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Atlas:
    """Measure where all heads of the running model look, and keep it in the atlas as its `attention`.

    On random tokens, each shown twice: the share of a head's attention on the previous token, on the token behind an
    earlier copy of the current one (induction), on an earlier copy (duplicate), on the first token (sink) and on the
    token itself. On text: also by distance, on delimiters and on the same word, and the entropy. Each share stands
    beside what the same rows would give if their attention were shuffled; see `headatlas.scoring.behaviours`.

    On text, the attention is also predicted from each token alone, see `headatlas.measuring.running.predicted`, and
    `agreement` is the correlation of predicted with real scores before the softmax, beside that of a prediction from
    the tokens in shuffled order. The same prediction scores pairs of words at fixed distances, see
    `headatlas.measuring.reading_words`: the words that a head looks for whoever asks, and those that look for something
    most, are the evidence `reading_words`; its agreement with the text, `agreement_keys` and `agreement_pairs`.

    Last, each head that is named previous, induction or duplicate, and as many others of the same layers, are removed:
    how much worse does the model predict repeated random tokens? See `headatlas.measuring.copying_without_heads`.

    Args:
        atlas: with a folder, the table, `reading.png` and `.svg` are written there, and a call that was interrupted
            continues where it stopped.
        model, adapter, device, threads: as for `validate_atlas`.
        seeds: of random tokens; each gives four sequences.
        text: a file of plain text instead of the package's own.

    Returns:
        The atlas with the evidence `attention`, a row per head, input and behaviour, `reading_words`, a row per head
        and word, and `removal`, a row per removed head.

    Raises:
        HeadatlasError: another model than the atlas's, a text that is too short, a model that does not hand out its
            attention, too little memory.

    >>> atlas = measure_attention(atlas, seeds=2, text="text.txt")
    >>> atlas.evidence("attention").columns[:5].tolist()
    ['layer', 'head', 'input', 'behaviour', 'value']
    """

    import numpy as np
    import torch

    from headatlas.engines.devices import check_device, use_threads

    check_device(device)
    if seeds < 1:
        raise SettingsError(f"seeds: expected a whole number of at least 1, found {seeds}.")
    shown, started = load_text(text), time.perf_counter()
    session = Session.of_atlas(atlas, model, adapter, progress)
    heads, vocabulary = session.heads, session.vocabulary
    most, ordinary = most_tokens(heads), vocabulary.ids(junk=False)
    prefix = atlas.manifest.prefix.token if atlas.manifest.prefix else default_prefix(session, ordinary).token
    random_tokens = [repeated_tokens(ordinary, prefix, most, SEQUENCES, seed) for seed in range(seeds)]
    where = "the package's text" if text is None else text
    pieces = text_pieces(shown, session.tokenizer, heads.d_vocab, prefix, most, where)
    runs = [(f"random-{seed:05}", ids) for seed, ids in enumerate(random_tokens)]
    runs += [(f"text-{number:05}", ids) for number, (_, ids) in enumerate(batches(pieces.tolist()))]
    kinds, total, done = kinds_of(vocabulary.texts), sum(len(ids) for _, ids in runs), 0
    identity = {
        "version": VERSION,
        "atlas": atlas.manifest.identity,
        "sequences": hashlib.sha256(str([ids.tolist() for _, ids in runs]).encode()).hexdigest(),
    }
    found: dict[str, list[dict[str, np.ndarray]]] = {"random": [], "text": []}
    running: RunningModel | None = None
    known: tuple[PredictedInputs, WordScores] | None = None
    words = _words(session, atlas, pieces)

    def run() -> RunningModel:
        nonlocal running
        running = running or RunningModel(heads, device, report_stage(progress, Stage.BYTES))
        return running

    def predicted() -> tuple[PredictedInputs, WordScores]:
        nonlocal known
        if known is None:
            tokens = torch.cat([pieces[:, 1:].flatten(), torch.tensor(words)])
            inputs = predict_inputs(run(), prefix, tokens, _samples(run, parts, prefix, most, heads.d_vocab))
            known = inputs, WordScores(run(), prefix, inputs, words, pieces[:, 1:], most)
            if parts.load("words") is None:
                parts.save("words", vars(known[1].named))
        return known

    with (
        use_threads(threads),
        RunParts(atlas.folder, PARTS, identity, "measuring the attention of this atlas") as parts,
    ):
        for name, ids in runs:
            if progress is not None:
                progress(Stage.PROMPTS, done, total)
            kind = name.split("-")[0]
            kept = parts.load(name)
            if kept is None:
                kept = _measure(
                    run(), ids, _matches(kind, ids, kinds), *(predicted() if kind == "text" else (None, None))
                )
                parts.save(name, kept)
            found[kind].append(kept)
            done += len(ids)
        if progress is not None:
            progress(Stage.PROMPTS, total, total)
        layers = [layer for layer in range(heads.n_layers) if heads.has_heads(layer)]
        samples = _samples(run, parts, prefix, most, heads.d_vocab)
        facts = AttentionFacts(
            prefix=prefix,
            seeds=seeds,
            sequences=seeds * SEQUENCES,
            random_tokens=(random_tokens[0].shape[1] - 1) // 2,
            text=None if text is None else Path(text).name,
            text_sha256=hashlib.sha256(shown.encode()).hexdigest(),
            text_tokens=len(pieces) * (pieces.shape[1] - 1),
            pieces=len(pieces),
            samples=len(samples),
            sample_tokens=samples.shape[1] - 1,
            samples_sha256=hashlib.sha256(str(samples.tolist()).encode()).hexdigest(),
            limits=LIMITS,
            scores_check=_scores_check(run, parts, random_tokens[0][0]),
            tool=__version__,
            seconds=round(time.perf_counter() - started, 1),
            device=device,
            packages=running_packages(),
        )
        tables: Evidence = {"attention": (_table(found, layers), facts)}
        reading = find_reading(atlas.with_evidence(tables))
        assert reading is not None
        tables["removal"] = measure_removal(run, reading, ordinary, prefix, most, parts, device, progress)
        kept_words = parts.load("words")
        named = predicted()[1].named if kept_words is None else Named(**kept_words)
        on_keys, on_pairs = (
            np.concatenate([part[f"named_{what}"] for part in found["text"]], 1).sum(1) for what in ("keys", "pairs")
        )
        of_words = ReadingWordsFacts(
            words=len(words),
            distances=distances_for(most),
            least=LEAST_SCORE,
            tool=__version__,
        )
        table = table_of(named, on_keys, on_pairs, layers, words, vocabulary.texts, LEAST_SCORE)
        tables["reading_words"] = table, of_words
        atlas = add_evidence(atlas, tables)
        if atlas.folder is not None:
            from headatlas.figures import draw_reading

            save_pictures(draw_reading(atlas), atlas.folder / "reading", EVIDENCE_FORMATS)
        parts.remove()
    return atlas


def _scores_check(run: Callable[[], RunningModel], parts: RunParts, ids: Tensor) -> tuple[ScoresCheck, ...]:
    """The self-check of queries and keys, by how layers know positions; those that are not read come last."""
    import numpy as np

    kept = parts.load("scores")
    if kept is None:
        found = check_scores(run(), ids)
        of = [(layer, each.positions if each.agrees else "", each.error) for layer, each in found.items()]
        kept = {
            name: np.array(column)
            for name, column in zip(("layer", "positions", "error"), zip(*of, strict=True), strict=True)
        }
        parts.save("scores", kept)
    checks = []
    for positions in sorted(dict.fromkeys(kept["positions"].tolist()), key=lambda each: (not each, each)):
        here = kept["positions"] == positions
        error = round(float(kept["error"][here].max()), 12) if positions else None
        checks.append(ScoresCheck(tuple(kept["layer"][here].tolist()), positions or None, error))
    return tuple(checks)


def _words(session: Session, atlas: Atlas, pieces: Tensor) -> list[int]:
    """The words whose pairs are scored; relations whose pairs are not built in give none."""
    vocabulary, tokenizer, d_vocab = session.vocabulary, session.tokenizer, session.heads.d_vocab
    try:
        relations, _ = relations_of(atlas, tokenizer, d_vocab)
    except SettingsError:
        relations = {}
    pairs = [list(zip(each.source_ids, each.target_ids, strict=True)) for each in relations.values()]
    return choose_words(pieces[:, 1:].flatten().tolist(), vocabulary.ids(junk=False), pairs, vocabulary.words())


def _matches(kind: str, ids: Tensor, kinds: Any) -> dict[str, Tensor]:
    if kind == "random":
        return find_matches(ids)
    return find_text_matches(ids, kinds.words[ids], kinds.delimiters[ids])


def _samples(run: Callable[[], RunningModel], parts: RunParts, prefix: int, most: int | None, d_vocab: int) -> Tensor:
    """Texts of the model itself: Int[Tensor, "n_samples n_tokens"]."""
    kept = parts.load("samples")
    if kept is None:
        kept = {"ids": write_samples(run(), prefix, min(SAMPLE_TOKENS, most or SAMPLE_TOKENS)).numpy()}
        parts.save("samples", kept)
    return kept_samples(kept["ids"], d_vocab)


def _measure(
    running: RunningModel,
    ids: Tensor,
    matches: dict[str, Tensor],
    inputs: PredictedInputs | None,
    scores: WordScores | None,
) -> dict[str, np.ndarray]:
    """What all layers do in some sequences: arrays with a dimension for the layer in front.

    Those of `Sums`, and, with predicted inputs, `predicted_` and the names of those that are predicted too, and
    `products` and `products_shuffled` of `score_products`, (layer, sequence, head, 3). With scores of words, also what
    `WordScores.compare` returns.
    """
    import numpy as np
    import torch

    of_layer: dict[int, dict[str, np.ndarray]] = {}

    def see(layer: int, attention: Tensor, visible: Tensor, *predicted: Tensor) -> None:
        of_layer[layer] = dict(vars(measure_rows(attention, visible, matches)))
        if predicted:
            sums = measure_rows(predicted[0], visible, matches)
            of_layer[layer] |= {f"predicted_{name}": getattr(sums, name) for name in PREDICTED}
            for name, other in zip(("products", "products_shuffled"), predicted, strict=True):
                products = score_products(attention, other, visible)
                of_layer[layer][name] = products.permute(1, 2, 0).cpu().numpy()
        if scores is not None:
            of_layer[layer] |= scores.compare(layer, attention, visible, ids)

    instead = []
    if inputs is not None:
        # The same tokens in another order: what positions alone, and being tokens of this text, would give.
        order = torch.randperm(ids.shape[1] - 1, generator=torch.Generator().manual_seed(0)) + 1
        shuffled = torch.cat([ids[:, :1], ids[:, order]], dim=1)
        instead = [inputs.of(ids), inputs.of(shuffled)]
    watch_attention(running, ids, see, instead)
    names = of_layer[running.layers[0]]
    return {name: np.stack([of_layer[layer][name] for layer in running.layers]) for name in names}


def _table(found: dict[str, list[dict[str, np.ndarray]]], layers: list[int]) -> pd.DataFrame:
    """The table `attention`, from the arrays of all parts, (layer, sequence, ...)."""
    import numpy as np
    import pandas as pd

    tables = []
    for kind, behaviours in (("random", ON_RANDOM), ("text", ON_TEXT)):
        # Sequences come first: (sequence, layer, head, behaviour).
        every = {
            name: np.concatenate([part[name] for part in found[kind]], 1).swapaxes(0, 1) for name in found[kind][0]
        }
        rows = every["rows"][:, :, None]
        n_sequences = (rows > 0).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(rows > 0, 1 / rows, 0).max(0) / n_sequences
            variance = np.where(rows > 0, every["variance"], 0).sum(0) / n_sequences**2
        mean, low, high = mean_interval(every["share"])
        chance = mean_interval(every["chance"])[0]
        p = np.where(n_sequences > 0, p_values(mean - chance, variance, weight), np.nan)
        counts = np.broadcast_to(rows.sum(0), mean.shape)
        predicted = {
            name: mean_interval(every[f"predicted_{name}"])[0] for name in PREDICTED if f"predicted_{name}" in every
        }
        shares = predicted.get("share", np.full(mean.shape, np.nan))
        for number, behaviour in enumerate(behaviours):
            columns = (mean, low.clip(0, 1), high.clip(0, 1), chance, p, shares, counts)
            tables.append(_rows(layers, kind, behaviour, [each[..., number] for each in columns]))
        if kind == "text":
            nothing = np.full(mean.shape[:2], np.nan)
            n_rows = np.broadcast_to(every["rows"].max((0, 2))[:, None] * len(every["rows"]), nothing.shape)
            for behaviour, expected in (("entropy", nothing), ("distance", mean_interval(every["distance_chance"])[0])):
                columns = [*mean_interval(every[behaviour]), expected, nothing, predicted[behaviour], n_rows]
                tables.append(_rows(layers, kind, behaviour, columns))
            for behaviour, name in AGREEMENTS.items():
                r, control = (
                    pooled_correlation(np.moveaxis(every[each], -1, 0)) for each in (name, f"{name}_shuffled")
                )
                tables.append(_rows(layers, kind, behaviour, [*r, control[0], nothing, nothing, n_rows]))
    table = pd.concat(tables, ignore_index=True)
    tested = table["p_value"].notna()
    q_values = np.full(len(table), np.nan)
    q_values[tested] = benjamini_hochberg(table.loc[tested, "p_value"].to_numpy())
    table.insert(list(table).index("p_value") + 1, "q_value", q_values)
    return table


def _rows(layers: list[int], kind: str, behaviour: str, columns: list[np.ndarray]) -> pd.DataFrame:
    """Rows of one behaviour for all heads, from arrays (layer, head)."""
    import numpy as np
    import pandas as pd

    n_heads = columns[0].shape[1]
    names = ("value", "low", "high", "chance", "p_value", "predicted", "rows")
    return pd.DataFrame(
        {
            "layer": np.repeat(layers, n_heads),
            "head": np.tile(np.arange(n_heads), len(layers)),
            "input": kind,
            "behaviour": behaviour,
            **{name: column.ravel() for name, column in zip(names, columns, strict=True)},
        }
    )
