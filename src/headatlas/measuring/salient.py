"""Salient operations: what every head of a model does most, and which heads are alike.

Tables of evidence: `salient` (the tokens that a head amplifies most, and the tokens with the highest and lowest
logits of each), `similar` (the heads whose outputs are most alike), and `descriptions` of both and the scores, by the
rules in `headatlas.analysis.descriptions`. Finished layers are kept in `ATLAS/.salient/` until all are in the atlas.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas._version import __version__
from headatlas.atlas.evidence import SalientFacts, SimilarFacts
from headatlas.atomic import temporary_folder
from headatlas.errors import SettingsError
from headatlas.measuring import speed
from headatlas.measuring.output import Evidence, add_evidence
from headatlas.measuring.progress import Progress, Stage
from headatlas.measuring.run_folder import SALIENT, RunParts, cannot_be_written, remove_parts
from headatlas.measuring.salient_tables import salient_table, similar_table
from headatlas.measuring.session import Session

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from headatlas.architectures import HeadModel
    from headatlas.atlas import Atlas
    from headatlas.atlas.manifest import ModelFacts
    from headatlas.measuring.vocabulary import Vocabulary
    from headatlas.settings import Settings

TOKENS, MAPPED, SIMILAR = 30, 5, 5
"""Salient tokens of a head; tokens that each is mapped to, promoted and suppressed; heads that are named as alike."""

N_PROBES, SEED = 256, 20
"""Tokens over which the outputs of heads are compared, and what they are drawn with."""

SMALL = 2e12
"""Multiplications up to which `headatlas map` measures salient operations by itself."""

OVERHEAD = 1.8
"""Time of salient operations over that of their products, as measured on the demo model."""

IN_MEMORY = 2**30
"""Bytes of input vectors that are kept in memory; more lie in a file that is read a block at a time."""

OUTPUTS_IN_MEMORY = 2**29
"""Bytes of all heads' outputs for the probes; where they would be more, they are projected to fewer numbers."""

BLOCK = 4096

MOST_ALONE = 4096
"""Tokens that are looked at where each has to pass through the model: words first, then by id, so that in byte-pair
vocabularies the most common words are looked at."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Args:
        tokens: salient tokens of a head, at least 1.
        mapped: tokens that each is mapped to, promoted and as many suppressed, at least 1.
        similar: heads most like each head, at least 1.
        junk: whether junk tokens count, see `headatlas.measuring.vocabulary`.
    """

    tokens: int = TOKENS
    mapped: int = MAPPED
    similar: int = SIMILAR
    junk: bool = False

    def __post_init__(self) -> None:
        for name in ("tokens", "mapped", "similar"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: expected a whole number of at least 1, found {getattr(self, name)}.")


def measure_salient(
    atlas: Atlas,
    model: str | Path | None = None,
    adapter: str | Path | None = None,
    *,
    tokens: int = TOKENS,
    mapped: int = MAPPED,
    similar: int = SIMILAR,
    junk: bool = False,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Atlas:
    """The atlas with the evidence `salient`, `similar` and `descriptions`, saved in its folder, if it has one.

    A token is amplified by `norm(x @ W_V @ W_O) / norm(x)`, with the input vector `x` and the terms of the atlas's
    scores; it is mapped to the tokens with the highest (promoted) and lowest (suppressed) logits
    `x @ W_V @ W_O @ W_U`. Two heads are as similar as the sum over N_PROBES tokens of the inner products of their
    outputs, divided by the root of the product of each with itself.

    Args:
        model, adapter: where the atlas's model is now; default: where your own map read it.
        tokens, mapped, similar, junk: see `Wanted`.
        device: `cpu` or `cuda`.
        threads: CPU threads; default: as many as torch uses.

    Raises:
        AtlasError: the model is not that of the atlas, or its folder cannot be written.

    >>> atlas = measure_salient(atlas, tokens=3)
    >>> atlas.evidence("salient").columns[:4].tolist()
    ['layer', 'head', 'rank', 'token_id']
    """
    wanted = Wanted(tokens, mapped, similar, junk)
    atlas = add_evidence(
        atlas, measure_evidence(atlas, Session.of_atlas(atlas, model, adapter, progress), wanted, device, threads)
    )
    if atlas.folder is not None:
        remove_parts(atlas.folder, SALIENT)
    return atlas


def measure_evidence(
    atlas: Atlas,
    session: Session,
    wanted: Wanted | None = None,
    device: str = "cpu",
    threads: int | None = None,
    folder: Path | None = None,
) -> Evidence:
    """The tables of evidence with their facts, of a model that is open; nothing is added to the atlas.

    Args:
        folder: where finished layers are kept; default: the atlas's folder, if it has one.
    """
    from headatlas.analysis.descriptions.describing import describe_heads, neighbourhood_of
    from headatlas.analysis.descriptions.words import is_content

    wanted = wanted or Wanted()
    vocabulary, heads = session.vocabulary, session.fetched_heads
    folder = atlas.folder if folder is None else folder
    found = measure_salient_operations(atlas, heads, vocabulary, wanted, device, threads, session.progress, folder)
    # A topic is compared with words that could have been salient: common ones lie closer together than all tokens, and
    # pieces of words, which have no topic, lie closest.
    could_be = _looked_at(vocabulary, wanted.junk, heads.contextualize == "alone")
    texts = [vocabulary.texts[token] for token in could_be]
    words = [token for token, text in zip(could_be, texts, strict=True) if is_content(text)]
    neighbourhood = neighbourhood_of(heads, found.salient, words if len(words) > 1 else could_be)
    descriptions, of_descriptions = describe_heads(atlas, found.salient, neighbourhood, texts)
    return {
        "salient": (found.salient, found.facts),
        "similar": (found.similar, found.similar_facts),
        "descriptions": (descriptions, of_descriptions),
    }


def is_salient_wanted(model: HeadModel, salient: bool | None) -> bool:
    """Whether a map measures salient operations too: as asked for, or, for None, if that is little work."""
    return estimated_work(model, model.contextualize == "alone") <= SMALL if salient is None else salient


def salient_seconds(atlas: Atlas, threads: int | None = None) -> float | None:
    """Time that `measure_salient` would take on this machine, an estimate; None if the atlas has its results."""
    from headatlas.engines.devices import count_threads

    if atlas.evidence("salient") is not None:
        return None
    manifest = atlas.manifest
    work = estimated_work(manifest.model, manifest.settings.settings.contextualize == "alone")
    return estimate_salient(work, count_threads(threads))


def estimate_salient(work: float, threads: int) -> float:
    """Seconds that `work` multiplications of salient operations take on this machine, an estimate."""
    return OVERHEAD * 2 * work / speed.products_per_second(threads)


def estimated_work(model: HeadModel | ModelFacts, alone: bool) -> float:
    """Multiplications of the default salient operations, about: each token's values and amplifications, the logits of
    each head's salient tokens, and the modules that each token passes through.

    Args:
        alone: tokens pass through all layers, each taken as a layer with an MLP four times as wide as the model;
            otherwise through the first MLP.
    """
    n_heads, d_model, d_vocab = model.n_heads, model.d_model, model.d_vocab
    assert d_model is not None and d_vocab is not None, "a model, not imported scores"
    d_head, n_kv_heads = model.d_head or d_model // n_heads, model.n_kv_heads or n_heads
    n_tokens = min(d_vocab, MOST_ALONE) if alone else d_vocab
    values = n_tokens * d_head * (n_kv_heads * d_model + n_heads * d_head)
    logits = n_heads * TOKENS * d_vocab * d_model
    # Modules compute in float64, which takes about twice as long.
    modules = 2 * n_tokens * (model.n_layers * 12 if alone else 8) * d_model**2
    return float(model.n_layers * (values + logits) + modules)


@dataclass
class SalientTables:
    """The two tables, with the columns that docs/folder.md names, and what is behind them."""

    salient: pd.DataFrame
    similar: pd.DataFrame
    facts: SalientFacts
    similar_facts: SimilarFacts


def measure_salient_operations(
    atlas: Atlas,
    model: HeadModel,
    vocabulary: Vocabulary,
    wanted: Wanted,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> SalientTables:
    """The salient operations of all heads of an opened model, and the heads that are alike.

    Args:
        folder: where finished layers are kept; default: nowhere.
    """
    started, used = time.perf_counter(), time.process_time()
    manifest = atlas.manifest
    with open_salient(
        model, vocabulary, manifest.settings.settings, manifest.identity, wanted, device, threads, folder
    ) as layers:
        return _tables(layers.work, layers.all(progress), started, used)


@contextmanager
def open_salient(
    model: HeadModel,
    vocabulary: Vocabulary,
    settings: Settings,
    identity: dict[str, Any],
    wanted: Wanted,
    device: str = "cpu",
    threads: int | None = None,
    folder: Path | None = None,
) -> Iterator[SalientLayers]:
    """The salient operations of a model's layers, while they are measured.

    Args:
        settings, identity: of the atlas that they are part of.
        folder: where finished layers are kept; default: nowhere.
    """
    from headatlas.engines.devices import check_device, use_threads

    check_device(device)
    with ExitStack() as stack:
        stack.enter_context(use_threads(threads))
        run = {"atlas": identity, "wanted": asdict(wanted), "format": 1}
        parts = stack.enter_context(RunParts(folder, SALIENT, run, "measuring salient operations"))
        room = stack.enter_context(temporary_folder(parts.path))
        yield SalientLayers(_Work(model, vocabulary, wanted, settings, device, room), parts)


class SalientLayers:
    """The salient operations of layers, each measured once.

    Attributes:
        ids: tokens that are looked at, Int64[Tensor, "n_ids"].
    """

    def __init__(self, work: _Work, parts: RunParts) -> None:
        self.work, self._parts = work, parts
        self.ids = work.ids

    def measure(self, layer: int, x: Tensor | None = None) -> dict[str, np.ndarray]:
        """The arrays of a layer, as kept or as `_Work.layer` makes them.

        Args:
            x: what its heads read for `ids`, if that is known.
        """
        arrays = self._parts.load_layer(layer)
        if arrays is None or not self.work.fits(layer, arrays):
            arrays = self.work.layer(layer, x)
            self._parts.save_layer(layer, arrays)
        return arrays

    def all(self, progress: Progress | None) -> list[dict[str, np.ndarray]]:
        """The arrays of all layers."""
        n_layers, done = self.work.model.n_layers, []
        for layer in range(n_layers):
            if progress is not None:
                progress(Stage.SALIENT, layer, n_layers)
            done.append(self.measure(layer))
        if progress is not None:
            progress(Stage.SALIENT, n_layers, n_layers)
        return done


def _reserve(path: Path, n_bytes: int) -> None:
    """Make a file of so many bytes, with room for all: where a mapped file has none, the system ends the process."""
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            else:
                file.truncate(n_bytes)
    except OSError as error:
        raise cannot_be_written(f"{path.parent}: {n_bytes / 2**30:.1f} GiB of input vectors", error) from error


def _looked_at(vocabulary: Vocabulary, junk: bool, alone: bool) -> list[int]:
    """The tokens among which the salient ones are, ascending; if they pass through the model alone, words first."""
    ids = vocabulary.ids(junk)
    if alone:
        # Pieces of words mean little where they follow the prefix.
        words = set(vocabulary.words())
        ids = sorted(sorted(ids, key=lambda token: (token not in words, token))[:MOST_ALONE])
    return ids


class _Work:
    """A model's vocabulary and input vectors, made once for all layers that read them."""

    def __init__(
        self, model: HeadModel, vocabulary: Vocabulary, wanted: Wanted, settings: Settings, device: str, room: Path
    ) -> None:
        import torch

        self.model, self.vocabulary, self.wanted, self.device, self.room = model, vocabulary, wanted, device, room
        self.settings = settings
        self.ids = torch.tensor(_looked_at(vocabulary, wanted.junk, settings.contextualize == "alone"))
        if not len(self.ids):
            raise SettingsError("junk: all tokens of this model are junk; expected others. Ask for them with --junk.")
        competing = torch.zeros(model.d_vocab, dtype=torch.bool)
        competing[vocabulary.ids(wanted.junk)] = True
        self.left_out = (~competing).nonzero()[:, 0].to(device)
        self.n_mapped = min(wanted.mapped, len(self.ids))
        draw = torch.randperm(len(self.ids), generator=torch.Generator().manual_seed(SEED))
        self.probes = draw[:N_PROBES].sort().values
        fit = OUTPUTS_IN_MEMORY // (4 * model.n_layers * model.n_heads * len(self.probes))
        self.width = min(model.d_model, max(1, fit))
        self._inputs: tuple[bool, Tensor, Tensor] | None = None
        self._alone: Generator[tuple[int, Tensor]] | None = None
        self._W_U: Tensor | None = None

    def inputs(self, layer: int) -> tuple[Tensor, Tensor]:
        """Input vectors of the tokens that are looked at, and their lengths; tokens whose vector is 0 are left out.

        Returns:
            Float[Tensor, "n_ids d_model"] and Float[Tensor, "n_ids"]; the length of a vector of zeros is infinite, so
            that no head amplifies it.
        """
        import numpy as np
        import torch

        if self.settings.contextualize == "alone":
            return self._inputs_alone(layer)
        later = bool(layer) and self.settings.contextualize == "first-mlp"
        if self._inputs is None or self._inputs[0] != later:
            self._inputs = None
            bias = int(self.model.terms.value_bias)
            shape = len(self.ids), self.model.d_model + bias
            if 4 * shape[0] * shape[1] <= IN_MEMORY:
                x = torch.empty(shape)
            else:
                # A file of this process alone: what is not at work can leave memory.
                path = self.room / f"inputs-{int(later)}"
                _reserve(path, 4 * shape[0] * shape[1])
                x = torch.from_numpy(np.memmap(path, dtype=np.float32, mode="r+", shape=shape))
            for start in range(0, len(self.ids), BLOCK):
                rows = self.model.W_E(self.ids[start : start + BLOCK])
                x[start : start + BLOCK, : self.model.d_model] = self.model.first_mlp(rows) if later else rows
            # The bias is a row of W_V that every token reads with the factor 1.
            x[:, self.model.d_model :] = 1
            self._inputs = later, x, self._lengths(x)
        return self._inputs[1:]

    def _inputs_alone(self, layer: int) -> tuple[Tensor, Tensor]:
        from headatlas.architectures import head_inputs

        if self._alone is None:
            self._alone = head_inputs(self.model, self.ids, range(layer, self.model.n_layers), self.settings.prefix)
        x = next(x for at, x in self._alone if at == layer)
        return x, self._lengths(x)

    def _lengths(self, x: Tensor) -> Tensor:
        import torch

        lengths = torch.cat([part[:, : self.model.d_model].double().norm(dim=-1) for part in x.split(BLOCK)])
        return torch.where(lengths == 0, torch.inf, lengths)

    @property
    def W_U(self) -> Tensor:
        if self._W_U is None:
            self._W_U = self.model.W_U().to(self.device)
        return self._W_U

    def fits(self, layer: int, arrays: dict[str, np.ndarray]) -> bool:
        """Whether kept arrays, which can be anybody's, are of the shapes and types that `layer` makes."""
        import numpy as np

        n_heads, n_tokens = self.model.n_heads, min(self.wanted.tokens, len(self.ids))
        shapes = {"token": (n_heads, n_tokens), "amplification": (n_heads, n_tokens)}
        shapes |= dict.fromkeys(("promoted", "suppressed"), (n_heads, n_tokens, self.n_mapped))
        shapes["outputs"] = (n_heads, len(self.probes) * self.width)
        if not self.model.has_heads(layer):
            shapes = {}
        kinds = dict.fromkeys(shapes, "i") | {"amplification": "f", "outputs": "f"}
        if {name: each.shape for name, each in arrays.items()} != shapes:
            return False
        ids = [each for name, each in arrays.items() if kinds[name] == "i"]
        return all(each.dtype.kind == kinds[name] for name, each in arrays.items()) and all(
            bool(np.all((each >= 0) & (each < self.model.d_vocab))) for each in ids
        )

    def layer(self, layer: int, x: Tensor | None = None) -> dict[str, np.ndarray]:
        """A layer's arrays, by head: `token`, `amplification`, `promoted`, `suppressed`, and `outputs` for probes.

        Args:
            x: what its heads read for `ids`; default: `inputs` computes it.
        """
        import numpy as np
        import torch

        from headatlas.scoring import extreme_logits, most_amplified
        from headatlas.scoring.scaling import Scaled

        if not self.model.has_heads(layer):
            return {}
        x, lengths = self.inputs(layer) if x is None else (x, self._lengths(x))
        W_V, W_O = (factor.to(self.device) for factor in self.model.values_and_outputs(layer))
        kv_head_of = self.model.kv_head_of(layer)
        rows, amplification, outputs = most_amplified(x, lengths, W_V, W_O, kv_head_of, self.wanted.tokens)
        highest, lowest = extreme_logits(outputs.flatten(0, 1), self.W_U, self.left_out, self.n_mapped)
        shape = (*rows.shape, self.n_mapped)
        probes = x[self.probes].to(self.device)
        # Only the angles between outputs are used: factors so small that their product underflows are scaled.
        of_V, of_O = Scaled.of(W_V).values, Scaled.of(W_O).values
        of_probes = torch.stack([probes @ of_V[kv] @ of_O[head] for head, kv in enumerate(kv_head_of)])
        return {
            "token": self.ids[rows].numpy(),
            "amplification": amplification.numpy(),
            "promoted": highest.view(shape).cpu().numpy(),
            "suppressed": lowest.view(shape).cpu().numpy(),
            "outputs": self._projected(of_probes).flatten(1).cpu().numpy().astype(np.float32),
        }

    def _projected(self, outputs: Tensor) -> Tensor:
        """Outputs in `width` numbers: as they are, or by random signs, each probe's its own, the same for all heads."""
        import torch

        if self.width == self.model.d_model:
            return outputs
        generator = torch.Generator().manual_seed(SEED)
        projected = torch.empty(*outputs.shape[:2], self.width, device=outputs.device)
        for probe in range(outputs.shape[1]):
            signs = torch.randint(2, (self.model.d_model, self.width), generator=generator, dtype=torch.int8)
            projected[:, probe] = outputs[:, probe] @ (2 * signs - 1).to(outputs)
        return projected


def _tables(work: _Work, layers: Sequence[dict[str, np.ndarray]], started: float, used: float) -> SalientTables:
    """The tables of all layers, with the time since the clock showed `started` and that of processors `used`."""
    table, without_output, left_out = salient_table(layers, work.vocabulary.texts)
    similar = similar_table([arrays.get("outputs") for arrays in layers], work.wanted.similar)
    projected = work.width < work.model.d_model
    similar_facts = SimilarFacts(
        heads=work.wanted.similar,
        probes=len(work.probes),
        seed=SEED,
        projected_to=work.width if projected else None,
        # Of a cosine near 0, where the probes count alike; one nearer to 1 has less.
        standard_error=round((work.width * len(work.probes)) ** -0.5, 4) if projected else 0.0,
        tool=__version__,
    )
    facts = SalientFacts(
        **asdict(work.wanted),
        vocabulary=work.model.d_vocab,
        looked_at=len(work.ids),
        junk_tokens=work.vocabulary.counts,
        heads_without_output=without_output,
        tokens_without_output=left_out,
        tool=__version__,
        seconds=round(time.perf_counter() - started, 3),
        processor_seconds=round(time.process_time() - used, 3),
        device=work.device,
    )
    return SalientTables(table, similar, facts, similar_facts)
