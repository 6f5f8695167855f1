"""What a fine-tune or a compression did to a model, from both models' weights: functions of heads, and words.

The base is also compared with models that differ from it by as much in random directions. Each map is kept in a folder
of its own inside the output folder, and the layers of the words in `.audit/`, so that an interrupted audit goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.analysis.audit import Audit, MovedWord, RankedWords, audit_heads, rank_words
from headatlas.atlas import MANIFEST, head_name, load_atlas, save_atlas
from headatlas.atomic import write_atomically
from headatlas.errors import ArchitectureError, AtlasError, SettingsError
from headatlas.measuring.progress import Progress, Stage, report_stage
from headatlas.measuring.run_folder import RunParts
from headatlas.measuring.session import Session
from headatlas.settings import DEFAULT_PROFILE

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from headatlas.architectures import HeadModel
    from headatlas.architectures.perturbed import Difference
    from headatlas.atlas import Atlas
    from headatlas.engines import LocalEngine
    from headatlas.measuring.map import MapOptions

SEEDS, WORDS, SHOWN = 3, 2048, 20
"""Random directions; most words of the vocabulary besides those of the relations; words that are described."""

PROMOTED = 3
"""Tokens that are named with a word, those whose logits rose most."""

OF_HEAD = 5
"""Words of each head in the table."""

PARTS, RESULT, TABLE, PICTURE = ".audit", "audit.json", "words.csv", "audit.png"
BASE, TUNED, NOISE = "base", "tuned", "noise-{}"


def audit_models(
    base: str | Path,
    tuned: str | Path | None = None,
    output: str | Path | None = None,
    *,
    adapter: str | Path | None = None,
    relations: Any = None,
    add_relations: Any = None,
    threshold: str | float | None = None,
    rule: str = "plain",
    profile: str = DEFAULT_PROFILE,
    seeds: int = SEEDS,
    words: int = WORDS,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """What changed in the functions of heads, and the words whose mapping moved most, from two models' weights.

    The base is mapped, and the tuned model, and the base with each changed parameter moved by as much (the same
    Frobenius norm, and about the same rank) in `seeds` random directions: what the tuned model changes more than all of
    these is beyond the noise. Of single words, the logits of each head are compared between both models.

    Args:
        base: what `map_heads` accepts.
        tuned: the same, of the same architecture with the same tokenizer: a fine-tune, a merge, a quantisation.
        output: folder for the maps, `audit.json`, `words.csv` and `audit.png`; the same call continues there. Without
            one, nothing is written.
        adapter: folder of a LoRA adapter of the base, instead of `tuned`.
        relations, add_relations, threshold, rule, profile: of the maps, as for `map_heads`.
        seeds: random directions, at least 2.
        words: most words of the vocabulary that are compared, the most common first, in addition to the sources of
            the relations; at least 1.
        device: `cpu`, `cuda` or `cuda:N`; threads: CPU threads; default: as many as torch uses.
        overwrite: replace another audit in `output`.

    Raises:
        SettingsError: neither or both of `tuned` and `adapter`, or models that do not differ.
        ArchitectureError: the models are not of one architecture, or have other tokens.
        AtlasError: `output` cannot be written, or holds something else.

    >>> found = audit_models("path/to/model", "path/to/tuned", seeds=2)
    >>> found.changed, found.seeds, round(found.relative_change, 3)
    (1, 2, 0.1)
    """
    from headatlas.architectures.perturbed import differences
    from headatlas.engines import LocalEngine
    from headatlas.engines.devices import use_threads
    from headatlas.measuring.map import MapOptions, map_session

    if (tuned is None) == (adapter is None):
        found = "neither" if tuned is None else "both"
        raise SettingsError(f"tuned: expected a second model, or an adapter of the first, found {found}.")
    for name, value, least in (("seeds", seeds, 2), ("words", words, 1)):
        if value < least:
            raise SettingsError(f"{name}: expected a whole number of at least {least}, found {value}.")
    folder = None if output is None else Path(output)
    _check_folder(folder)
    engine = LocalEngine(device, threads)
    first = Session(base, profile=profile, progress=progress)
    second = Session(base if tuned is None else tuned, adapter, profile=profile, progress=progress)
    _check_alike(first, second)
    with use_threads(threads):
        changed = differences(first.fetched_heads, second.fetched_heads, report_stage(progress, Stage.PARAMETERS))
    if not changed:
        raise SettingsError(f"{second.checkpoint.source}: expected other weights than {first.checkpoint.source}'s.")
    noise = [_noise(first, changed, seed) for seed in range(1, seeds + 1)]
    options = {"relations": relations, "add_relations": add_relations, "threshold": threshold, "rule": rule}
    options["overwrite"] = overwrite
    own = MapOptions(**options)
    of_noise = MapOptions(**options, self_check=False, chance=rule == "calibrated")
    sessions = {BASE: first, TUNED: second} | {NOISE.format(at): each for at, each in enumerate(noise, start=1)}
    atlases = []
    for done, (name, session) in enumerate(sessions.items()):
        if progress is not None:
            progress(Stage.MODELS, done, len(sessions) + 1)
        where = None if folder is None else folder / name
        if session in noise:
            atlases.append(_map_noise(session, of_noise, engine, where, atlases[0]))
        else:
            atlases.append(map_session(session, own, engine, where))
    if progress is not None:
        progress(Stage.MODELS, len(sessions), len(sessions) + 1)
    heads = audit_heads(atlases[0], atlases[1], atlases[2:])
    ids = _looked_at(first, atlases[0], words)
    prefix = atlases[0].manifest.settings.settings.prefix
    moving = _Moving([each.heads for each in sessions.values()], ids, prefix, engine)
    with closing(moving.measure([each.fingerprint for each in sessions.values()], folder, progress)) as layers:
        ranked = rank_words(layers, OF_HEAD)
    texts = first.vocabulary.texts
    described = _described(moving, ranked, first, min(SHOWN, len(ids)))
    norm = math.sqrt(sum(each.norm**2 for each in changed.values()))
    size = math.sqrt(sum(each.size**2 for each in changed.values()))
    result = Audit(
        base=first.heads.name,
        tuned=second.heads.name,
        parameters=len({part.parameter for part in first.heads.parts()}),
        changed=len(changed),
        relative_change=norm / size if size else None,
        seeds=seeds,
        heads=heads,
        words_compared=len(ids),
        words_beyond=ranked.n_beyond,
        factors=tuple(tuple(float(each) if each == each else None for each in row) for row in ranked.factor),
        noise_factors=ranked.noise_factors,
        words=described,
    )
    if folder is not None:
        _write(result, ranked, _words_table(ranked, ids.tolist(), texts), folder)
    if progress is not None:
        progress(Stage.MODELS, len(sessions) + 1, len(sessions) + 1)
    return result


def _check_alike(first: Session, second: Session) -> None:
    """Refuse models of other sizes or with other tokens."""
    names = ("n_layers", "n_heads", "n_kv_heads", "d_model", "d_head", "d_vocab")
    where = f"{second.checkpoint.source}: expected a model like {first.checkpoint.source}"
    for name in names:
        was, now = getattr(first.heads, name), getattr(second.heads, name)
        if was != now:
            raise ArchitectureError(f"{where} with {name}={was}, found {name}={now}. Compare maps of them by function.")
    before, after = first.vocabulary, second.vocabulary
    for token, (was, now) in enumerate(zip(before.texts, after.texts, strict=True)):
        if was != now and before.junk[token] is None:
            raise ArchitectureError(
                f"{where} with the same tokenizer, found {now!r} where token {token} is {was!r}. Compare maps of them "
                f"by function."
            )


def _noise(base: Session, changed: Mapping[str, Difference], seed: int) -> Session:
    """A session of the base with each changed parameter moved in a random direction."""
    from headatlas.architectures.perturbed import perturbed_model

    session = Session(base.source, base.adapter, base.terms, base.profile, base.contextualize, base.progress)
    session.checkpoint, session.tokenizer = base.checkpoint, base.tokenizer
    session.heads = perturbed_model(base.heads, changed, seed)
    session.heads.name = f"{base.heads.name}, noise {seed}"
    return session


def _map_noise(session: Session, options: MapOptions, engine: LocalEngine, folder: Path | None, base: Atlas) -> Atlas:
    """The map of a noise model, without pictures or a page; the one in the folder if it is the same."""
    from headatlas.measuring.map import map_session

    if folder is not None and (folder / MANIFEST).is_file():
        with suppress(AtlasError):  # a damaged one is measured again
            kept = load_atlas(folder)
            wanted = {"model": session.fingerprint, "chance": options.chance}
            if kept.manifest.identity == base.manifest.identity | wanted:
                return kept
    atlas = map_session(session, options, engine)
    if folder is not None:
        save_atlas(atlas, folder)
    return atlas


def _check_folder(folder: Path | None) -> None:
    """Refuse a folder with something else before a model is read; the maps create it."""
    if folder is None or not folder.exists():
        return
    if not folder.is_dir():
        raise AtlasError(f"{folder}: expected a folder to write the audit into, found a file.")
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise AtlasError(f"{folder}: cannot be read ({error.strerror or error}). Choose another folder.") from error
    if there and BASE not in there:
        raise AtlasError(
            f"{folder}: expected an empty folder or an audit, found {min(there)!r}. Choose another folder."
        )


def _looked_at(session: Session, atlas: Atlas, words: int) -> Tensor:
    """The tokens that are compared: sources of the relations, and the first words of the vocabulary; ascending."""
    import torch

    sources = [] if atlas.pairs is None else atlas.pairs["source_id"].tolist()
    return torch.tensor(sorted({*sources, *session.vocabulary.words()[:words]}))


class _Moving:
    """The logits of words in each head, compared between the base and each other model.

    Args:
        models: the base, the tuned model, then the noise.
        ids: Int64[Tensor, "n_words"].
        prefix: for `alone`, the token before each word.
    """

    def __init__(self, models: Sequence[HeadModel], ids: Tensor, prefix: int | None, engine: LocalEngine) -> None:
        self.models, self.ids, self.prefix, self.engine = models, ids, prefix, engine

    def measure(self, fingerprints: list[str], folder: Path | None, progress: Progress | None) -> Generator[np.ndarray]:
        """How far each word's logits move in each head, layer by layer: Float32[ndarray, "n_models-1 n_heads n_words"].

        Args:
            fingerprints: of the models.
            folder: where finished layers are kept; default: nowhere.
        """
        import numpy as np

        from headatlas.engines.devices import use_threads

        base = self.models[0]
        digest = hashlib.sha256(self.ids.numpy().tobytes()).hexdigest()
        run = {"models": fingerprints, "words": digest, "prefix": self.prefix, "format": 1}
        with ExitStack() as stack:
            stack.enter_context(use_threads(self.engine.threads))
            parts = stack.enter_context(RunParts(folder, PARTS, run, "comparing the words of these models"))
            with_heads = [layer for layer in range(base.n_layers) if base.has_heads(layer)]
            shape = (len(self.models) - 1, base.n_heads, len(self.ids))

            def load(layer: int) -> np.ndarray | None:
                kept = (parts.load_layer(layer) or {}).get("moved")
                return kept if kept is not None and (kept.shape, kept.dtype) == (shape, np.float32) else None

            missing = [layer for layer in with_heads if load(layer) is None]
            measured = stack.enter_context(closing(self._layers(missing))) if missing else None
            for layer in range(base.n_layers):
                moved = load(layer)
                if moved is None and measured is not None and layer in missing:
                    at, of_layer = next(measured)
                    assert at == layer, f"the words of layer {at} instead of {layer}"
                    moved = of_layer.cpu().numpy().astype(np.float32)
                    parts.save_layer(layer, {"moved": moved})
                if progress is not None:
                    progress(Stage.WORDS, layer + 1, base.n_layers)
                yield np.zeros(shape, np.float32) if moved is None else moved

    def _products(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of the unembeddings, for `movement` from the base to each other model; most share theirs."""
        import torch

        from headatlas.scoring.moved import vocabulary_products

        W_U = self.models[0].W_U().to(self.engine.device)
        own, found = vocabulary_products(W_U, W_U), []
        for model in self.models[1:]:
            other = model.W_U().to(self.engine.device)
            if torch.equal(W_U, other):
                found.append((own, own, own))
            else:
                found.append((own, vocabulary_products(W_U, other), vocabulary_products(other, other)))
        return found

    def _layers(self, layers: list[int]) -> Generator[tuple[int, Tensor]]:
        import torch

        from headatlas.scoring.moved import movement

        base, device, products = self.models[0], self.engine.device, self._products()
        with ExitStack() as stack:
            inputs = [stack.enter_context(closing(self._inputs(model, self.ids, layers))) for model in self.models]
            for layer in layers:
                values, outputs = [], []
                for model, of_model in zip(self.models, inputs, strict=True):
                    at, x = next(of_model)
                    assert at == layer, f"the input of layer {at} instead of {layer}"
                    W_V, W_O = (each.to(device) for each in model.values_and_outputs(layer))
                    values.append(x.to(device) @ W_V)
                    outputs.append(W_O)
                pairs = zip(values[1:], outputs[1:], products, strict=True)
                kv_head_of = base.kv_head_of(layer)
                yield (
                    layer,
                    torch.stack([movement((values[0], v), (outputs[0], o), each, kv_head_of) for v, o, each in pairs]),
                )

    def _inputs(self, model: HeadModel, ids: Tensor, layers: list[int]) -> Generator[tuple[int, Tensor]]:
        from headatlas.architectures import head_inputs

        return head_inputs(model, ids, layers, self.prefix)

    def raised(self, chosen: Sequence[tuple[int, int, int]], allowed: Sequence[int]) -> list[tuple[int, ...]]:
        """The tokens whose logits rose most from the base to the tuned model, of a word in a head.

        Args:
            chosen: (layer, head, token) of each.
            allowed: tokens that are named.
        """
        import torch

        from headatlas.engines.devices import use_threads

        if not chosen:
            return []
        ids = torch.tensor(sorted({token for _, _, token in chosen}))
        row = {int(token): at for at, token in enumerate(ids)}
        layers = sorted({layer for layer, _, _ in chosen})
        added: dict[int, Tensor] = {}
        with use_threads(self.engine.threads):
            for sign, model in zip((-1, 1), self.models[:2], strict=True):
                outputs = {}
                for layer, x in self._inputs(model, ids, layers):
                    W_V, W_O = model.values_and_outputs(layer)
                    for at, (of_layer, head, token) in enumerate(chosen):
                        if of_layer == layer:
                            outputs[at] = x[row[token]] @ W_V[model.kv_head_of(layer)[head]] @ W_O[head]
                W_U = model.W_U()
                for at, output in outputs.items():
                    added[at] = added.get(at, torch.zeros(len(W_U))) + sign * (W_U @ output)
        candidates = torch.tensor(allowed)
        n = min(PROMOTED, len(candidates))
        return [tuple(candidates[added[at][candidates].topk(n).indices].tolist()) for at in range(len(chosen))]


def _described(moving: _Moving, ranked: RankedWords, session: Session, n: int) -> tuple[MovedWord, ...]:
    """The first `n` words, with the tokens that they are mapped to now."""
    vocabulary = session.vocabulary
    writers = zip(ranked.writer_layer[:n], ranked.writer_head[:n], ranked.word[:n], strict=True)
    chosen = [(int(layer), int(head), int(moving.ids[word])) for layer, head, word in writers]
    raised = moving.raised(chosen, vocabulary.words() or vocabulary.ids(junk=False))
    return tuple(
        MovedWord(
            word=vocabulary.texts[token],
            token_id=token,
            head=head_name(int(ranked.layer[at]), int(ranked.head[at])),
            movement=float(ranked.movement[at]),
            raised_by=head_name(layer, head),
            raised=tuple(vocabulary.texts[each] for each in tokens),
        )
        for at, ((layer, head, token), tokens) in enumerate(zip(chosen, raised, strict=True))
    )


def _words_table(ranked: RankedWords, ids: list[int], texts: Sequence[str]) -> pd.DataFrame:
    """The words of each head that moved most, first those of the head with the largest shift in a layer."""
    import numpy as np
    import pandas as pd

    rows = []
    for layer, head in np.argwhere(np.isfinite(ranked.factor)):
        words = zip(ranked.of_head[layer, head], ranked.shifts[layer, head], strict=True)
        for rank, (word, shift) in enumerate(words, start=1):
            beyond = bool(shift > ranked.limit)
            rows.append((layer, head, rank, ids[word], texts[ids[word]], round(float(shift), 3), beyond))
    return pd.DataFrame(rows, columns=["layer", "head", "rank", "token_id", "token", "shift", "beyond_noise"])


def _write(result: Audit, ranked: RankedWords, table: pd.DataFrame, folder: Path) -> None:
    from headatlas.figures import draw_audit, save_figure

    text = json.dumps(result.as_dict(), indent=1)
    try:
        write_atomically(folder / TABLE, lambda path: path.write_text(table.to_csv(index=False), "utf-8"))
        write_atomically(folder / RESULT, lambda path: path.write_text(text, "utf-8"))
    except OSError as error:
        raise AtlasError(f"{folder}: the audit cannot be written ({error.strerror or error}).") from error
    save_figure(draw_audit(result), folder / PICTURE)
