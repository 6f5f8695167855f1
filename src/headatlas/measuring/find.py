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
    from headatlas.relations import DroppedPair, EncodedRelation

REASONS = {
    "source": "{source!r} is not one token of this model",
    "target": "this model has no token for the beginning of {target!r}",
    "duplicate": "the same two tokens were named before",
}


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
    """

    name: str
    k: int
    pairs: tuple[tuple[str, str], ...]
    left_out: tuple[LeftOut, ...]
    table: pd.DataFrame
    first_tokens: tuple[tuple[str, str], ...] = ()

    def as_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON types; the `top` best heads, or all."""
        return {
            "model": self.name,
            "k": self.k,
            "pairs": [list(pair) for pair in self.pairs],
            "left_out": [asdict(each) for each in self.left_out],
            "first_tokens": [list(each) for each in self.first_tokens],
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
        pairs: such as `France->Paris`, or (source, target). The source has to be one token; of a target of several
            tokens, the first is ranked, which the result says.
        model: where the atlas's model is now; default: where your own map read it.
        adapter: LoRA adapter.
        k: how many highest logits count; default: the atlas's or the profile's.

    Raises:
        SettingsError: no pair, or none with words that this model knows.

    >>> find_heads("atlas", ["France->Paris", "Cuba->Havana"]).table["name"][0]
    'L1H2'
    """
    from headatlas.relations import Relation, encode_relations

    wanted = parse_pairs(pairs)
    session, settings, atlas = _open(source, model, adapter, progress)
    heads = session.heads
    if k is not None:
        settings = replace(settings, k=k)
    (encoded,) = encode_relations([Relation("asked", wanted)], session.tokenizer, heads.d_vocab, settings)
    asked, dropped = _with_first_tokens(encoded, session.tokenizer, heads.d_vocab)
    left_out = tuple(
        LeftOut(source, target, REASONS[why].format(source=source, target=target)) for source, target, why in dropped
    )
    if not asked.pairs:
        raise SettingsError(f"pair: expected at least one with single-token words, found none ({left_out[0].why}).")
    if atlas is not None:
        session.check_atlas(atlas)
    prefix = choose_prefix(session, asked.source_ids) if settings.prefix is None else None
    if prefix is not None:
        settings = replace(settings, prefix=prefix.token)
    table = _rank(session.fetched_heads, settings, asked.source_ids, asked.target_ids, progress)
    return Found(heads.name, settings.k, asked.pairs, left_out, table, asked.first_tokens)


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
    """The pairs that are ranked."""

    pairs: tuple[tuple[str, str], ...]
    source_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    first_tokens: tuple[tuple[str, str], ...]


def _with_first_tokens(
    encoded: EncodedRelation, tokenizer: PreTrainedTokenizerBase, d_vocab: int
) -> tuple[_Asked, list[DroppedPair]]:
    """The pairs of an encoded relation, and those of its targets of several tokens, which stand for the first.

    A text goes on with the first token of a target; of a source, the last token is read in the context of the others,
    which these scores leave out, so that sources of several tokens stay left out.
    """
    from headatlas.relations.encoding import first_token_ids, single_token_ids

    late = [pair for pair in encoded.dropped if pair.reason == "target"]
    sources = single_token_ids({pair.source for pair in late}, tokenizer)
    targets = first_token_ids({pair.target for pair in late}, tokenizer)
    pairs, ids = list(encoded.pairs), list(zip(encoded.source_ids, encoded.target_ids, strict=True))
    shortened, dropped = {}, []
    for pair in encoded.dropped:
        source, target = sources.get(pair.source), targets.get(pair.target)
        if pair.reason != "target" or source is None or target is None or target >= d_vocab:
            dropped.append(pair)
        elif (source, target) in ids:
            dropped.append(pair._replace(reason="duplicate"))
        else:
            pairs.append((pair.source, pair.target))
            ids.append((source, target))
            shortened[pair.target] = str(tokenizer.decode(target)).strip()
    source_ids, target_ids = zip(*ids, strict=True) if ids else ((), ())
    return _Asked(tuple(pairs), source_ids, target_ids, tuple(shortened.items())), dropped


def _rank(
    model: HeadModel,
    settings: Settings,
    source_ids: Sequence[int],
    target_ids: Sequence[int],
    progress: Progress | None,
) -> pd.DataFrame:
    import pandas as pd
    import torch

    from headatlas.architectures import head_inputs
    from headatlas.scoring import target_ranks

    inputs = head_inputs(model, torch.tensor(source_ids), range(model.n_layers), settings.prefix)
    W_U, targets = model.W_U(), torch.tensor(target_ids)
    rows = []
    for layer, x in inputs:
        if progress is not None:
            progress(Stage.LAYERS, layer, model.n_layers)
        W_V, W_O = model.values_and_outputs(layer)
        values = [x.double() @ W_V[kv_head].double() for kv_head in model.kv_head_of(layer)]
        outputs = torch.cat([v @ W_O[head].double() for head, v in enumerate(values)])
        ranks = target_ranks(outputs, W_U, targets.repeat(model.n_heads)).view(model.n_heads, -1)
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
