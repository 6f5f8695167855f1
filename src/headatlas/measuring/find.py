"""Which heads map given words to given words: a query without a relation file and without scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from headatlas.atlas import Atlas, head_name, load_atlas, records
from headatlas.errors import SettingsError
from headatlas.measuring.prefix import choose_prefix
from headatlas.measuring.progress import Progress, Stage
from headatlas.measuring.session import Session, is_atlas_folder
from headatlas.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from headatlas.architectures import HeadModel

REASONS = {
    "source": "this model has no tokens for {source!r}",
    "context": "{source!r} is several tokens, of which the last needs the others; with these settings (contextualize: "
    "{contextualize}), heads read single tokens, without context",
    "target": "this model has no token for the beginning of {target!r}",
    "duplicate": "the same tokens were named before",
}
"""Why a pair is left out."""


@dataclass(frozen=True)
class LeftOut:
    """A pair that cannot be ranked, and why."""

    source: str
    target: str
    why: str


@dataclass(frozen=True)
class Found:
    """The heads of a model, the best first.

    Args:
        name: the model's.
        k: a target that is among as many highest logits is a hit.
        pairs: the pairs that were ranked.
        left_out: the other pairs.
        table: a row per head: name, layer, head, hits, median_rank, and `ranks`, of each pair's target among all
            logits, from 1.
        first_tokens: targets of several tokens, each with the token that was ranked in its place, its first.
        last_tokens: sources of several tokens, each with the token at which the heads read it, its last, behind the
            others.
    """

    name: str
    k: int
    pairs: tuple[tuple[str, str], ...]
    left_out: tuple[LeftOut, ...]
    table: pd.DataFrame
    first_tokens: tuple[tuple[str, str], ...] = ()
    last_tokens: tuple[tuple[str, str], ...] = ()

    def as_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON types; the `top` best heads, or all."""
        return {
            "model": self.name,
            "k": self.k,
            "pairs": [list(pair) for pair in self.pairs],
            "left_out": [asdict(each) for each in self.left_out],
            "first_tokens": [list(each) for each in self.first_tokens],
            "last_tokens": [list(each) for each in self.last_tokens],
            "heads": [row | {"ranks": list(row["ranks"])} for row in _rows(self.table.head(top or len(self.table)))],
        }


def parse_pairs(texts: Sequence[str | tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Pairs of words from texts such as `France->Paris`; raises `SettingsError` for any other text."""
    pairs = []
    for text in texts:
        words = re.split(r"->|→", text) if isinstance(text, str) else list(text)
        words = [word.strip() for word in words]
        if len(words) != 2 or not all(words):
            raise SettingsError(f"pair: expected two words such as France->Paris, found {text!r}.")
        pairs.append((words[0], words[1]))
    if not pairs:
        raise SettingsError("pair: expected at least one such as France->Paris, found none.")
    return tuple(pairs)


def find_heads(
    source: Atlas | str | Path | None,
    pairs: Sequence[str | tuple[str, str]],
    *,
    model: str | Path | None = None,
    adapter: str | Path | None = None,
    k: int | None = None,
    progress: Progress | None = None,
) -> Found:
    """Rank the heads of a model by how many of the pairs they map, then by the median rank of the targets.

    Logits, input vectors and terms are those of the scores: `x @ W_V @ W_O @ W_U`, all rows of W_U competing.

    Args:
        source: an atlas or its folder, whose settings are then used; or a model, mapped or not, which is then read
            with the default profile; None is the demo model.
        pairs: such as `France->Paris`, or (source, target). A source of several tokens is read at its last, behind
            the others, which needs heads that read words as the model's layers hand them on (profile `alone`); of a
            target of several tokens, the first is ranked. The result says which they are.
        model: where the atlas's model is now; default: where your own map read it.
        adapter: LoRA adapter.
        k: how many highest logits count; default: the atlas's or the profile's.

    Raises:
        SettingsError: no pair, or none with words that this model knows.

    >>> find_heads("atlas", ["France->Paris", "Cuba->Havana"]).table["name"][0]
    'L1H2'
    """
    wanted = parse_pairs(pairs)
    session, settings, atlas = _open(source, model, adapter, progress)
    heads = session.heads
    if k is not None:
        settings = replace(settings, k=k)
    asked, left_out = _encode(wanted, session.tokenizer, heads.d_vocab, settings)
    if not asked.pairs:
        raise SettingsError(
            f"pair: expected at least one with words that can be ranked, found none ({left_out[0].why})."
        )
    if atlas is not None:
        session.check_atlas(atlas)
    prefix = choose_prefix(session, {ids[-1] for ids in asked.sources}) if settings.prefix is None else None
    if prefix is not None:
        settings = replace(settings, prefix=prefix.token)
    table = _rank(session.fetched_heads, settings, asked.sources, asked.target_ids, progress)
    return Found(heads.name, settings.k, asked.pairs, left_out, table, asked.first_tokens, asked.last_tokens)


def _open(
    source: Atlas | str | Path | None,
    model: str | Path | None,
    adapter: str | Path | None,
    progress: Progress | None,
) -> tuple[Session, Settings, Atlas | None]:
    """A session, the settings of its atlas or of the profile, and the atlas, whose model is still to be compared."""
    if isinstance(source, str | Path) and is_atlas_folder(source):
        source = load_atlas(Path(source))
    if isinstance(source, Atlas):
        session = Session.of_atlas(source, model, adapter, progress, check=False)
        return session, source.manifest.settings.settings, source
    if model is not None:
        raise SettingsError("model: this option belongs to an atlas; expected an atlas's folder as the first argument.")
    session = Session(source, adapter, progress=progress)
    return session, Settings.of_profile(session.heads.d_vocab, session.profile), None


class _Asked(NamedTuple):
    """The pairs that are ranked: the tokens of each source, and the token of each target."""

    pairs: tuple[tuple[str, str], ...]
    sources: tuple[tuple[int, ...], ...]
    target_ids: tuple[int, ...]
    first_tokens: tuple[tuple[str, str], ...]
    last_tokens: tuple[tuple[str, str], ...]


def _encode(
    wanted: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, d_vocab: int, settings: Settings
) -> tuple[_Asked, tuple[LeftOut, ...]]:
    """The pairs with their tokens: a text goes on with the first token of a target, and of a source its last is read.

    Raises:
        CheckpointError: the tokenizer has more tokens than the model.
        SettingsError: k is not less than the number of tokens.
    """
    from headatlas.relations.encoding import check_ids, check_k, shows_something, token_ids

    ids = token_ids({word for pair in wanted for word in pair}, tokenizer)
    check_ids((token for found in ids.values() for token in found or ()), d_vocab)
    check_k(settings.k, d_vocab)
    kept: dict[tuple[tuple[int, ...], int], tuple[str, str]] = {}
    left_out = []
    for source, target in wanted:
        tokens, first = ids[source], (ids[target] or (None,))[0]
        if tokens is None:
            why = "source"
        elif len(tokens) > 1 and settings.contextualize != "alone":
            why = "context"
        elif first is None or not shows_something(first, tokenizer):
            why = "target"
        elif (tokens, first) in kept:
            why = "duplicate"
        else:
            kept[tokens, first] = (source, target)
            continue
        reason = REASONS[why].format(source=source, target=target, contextualize=settings.contextualize)
        left_out.append(LeftOut(source, target, reason))
    asked = _Asked(
        tuple(kept.values()),
        tuple(tokens for tokens, _ in kept),
        tuple(first for _, first in kept),
        _shown({target: first for (_, first), (_, target) in kept.items() if len(ids[target] or ()) > 1}, tokenizer),
        _shown({source: tokens[-1] for (tokens, _), (source, _) in kept.items() if len(tokens) > 1}, tokenizer),
    )
    return asked, tuple(left_out)


def _shown(tokens: dict[str, int], tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[str, str], ...]:
    """Words, each with the text of one of its tokens."""
    return tuple((word, str(tokenizer.decode([token])).strip()) for word, token in tokens.items())


def _rank(
    model: HeadModel,
    settings: Settings,
    sources: Sequence[tuple[int, ...]],
    target_ids: Sequence[int],
    progress: Progress | None,
) -> pd.DataFrame:
    import pandas as pd
    import torch

    from headatlas.architectures import word_inputs
    from headatlas.scoring import TargetRanks

    inputs = word_inputs(model, sources, settings.prefix)
    target_ranks, targets = TargetRanks(model.W_U()), torch.tensor(target_ids).repeat(model.n_heads)
    rows = []
    for layer, x in inputs:
        if progress is not None:
            progress(Stage.LAYERS, layer, model.n_layers)
        W_V, W_O = model.values_and_outputs(layer)
        values = [x.double() @ W_V[kv_head].double() for kv_head in model.kv_head_of(layer)]
        outputs = torch.cat([v @ W_O[head].double() for head, v in enumerate(values)])
        ranks = target_ranks.of(outputs, targets).view(model.n_heads, -1)
        for head, of_pairs in enumerate(ranks.tolist()):
            hits = sum(rank <= settings.k for rank in of_pairs)
            rows.append((head_name(layer, head), layer, head, hits, _median(of_pairs), tuple(of_pairs)))
    if progress is not None:
        progress(Stage.LAYERS, model.n_layers, model.n_layers)
    table = pd.DataFrame(rows, columns=["name", "layer", "head", "hits", "median_rank", "ranks"])
    order = ["hits", "median_rank", "layer", "head"]
    return table.sort_values(order, ascending=[False, True, True, True], ignore_index=True)


def _median(ranks: Sequence[int]) -> float:
    from statistics import median

    return float(median(ranks))


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    plain = records(table.drop(columns="ranks"))
    return [row | {"ranks": ranks} for row, ranks in zip(plain, table["ranks"], strict=True)]
