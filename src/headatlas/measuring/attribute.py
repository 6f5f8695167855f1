"""What the heads do at one prompt: the running model's next token, split over its parts, against the atlas's cards."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.analysis.attribution import (
    LEAST_SHARE,
    Check,
    HeadAttribution,
    LogitAttribution,
    NextToken,
    RelationAtWork,
)
from headatlas.analysis.categories import Classification, classify
from headatlas.analysis.reading import BEHAVIOURS, Reading, find_reading
from headatlas.atlas import head_name
from headatlas.atomic import write_atomically
from headatlas.errors import AtlasError, SettingsError
from headatlas.measuring.output import EVIDENCE_FORMATS, save_pictures
from headatlas.measuring.progress import Progress, Stage, report_stage
from headatlas.measuring.running.attention import most_tokens, watch_attention
from headatlas.measuring.running.contexts import leading_ids
from headatlas.measuring.running.direct import DirectParts, split_logit
from headatlas.measuring.running.model import TOKENS_AT_ONCE, Continuations, RunningModel
from headatlas.measuring.running.passages import kinds_of
from headatlas.measuring.session import Session, relations_of
from headatlas.scoring.behaviours import find_matches, find_text_matches

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from headatlas.atlas import Atlas
    from headatlas.relations import EncodedRelation

CONTROLS = 20
MOST_TOKENS = 1024
"""Longest prompt; the attention of a layer takes memory by its square."""

NEXT, WRITTEN = 8, 8
"""Next tokens, and tokens that a head writes, that are named."""

Head = tuple[int, int]


def attribute_logit(
    atlas: Atlas,
    prompt: str,
    *,
    token: str | None = None,
    against: str | None = None,
    controls: int = CONTROLS,
    ablate: int = 0,
    rule: str | None = None,
    model: str | Path | None = None,
    adapter: str | Path | None = None,
    add_relations: Any = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> LogitAttribution:
    """Split the logit of a prompt's next token over all heads, and compare what each head does with its card.

    Direct logit attribution: the contribution of head `h`, whose output at the last token is `z_h`, is what
    `z_h @ W_O_h` adds to the logit of the token, minus a baseline, on the way along the residual, each norm being the
    linear map that it is at this prompt. Heads, MLPs, biases and the embedding add up to the model's logit; if they do
    not, the model is refused. What later layers make of a head's output is not in its contribution: see `ablate`.

    A contribution stands beside those of the same head, to the same token, on prompts in which all tokens but special
    ones and the last are random. The card agrees if the head looks at a source of a relation that it implements (at
    least 0.1 of its attention) and a target is among the relation's `k` highest logits of what it writes; or if the
    share of its attention on the tokens of its way of reading is above the limit of that.

    Args:
        atlas: whose model is run, on the prompt with the special tokens that its tokenizer puts before a text.
        prompt: the text.
        token: a next token, as a word behind a space or, if there is none, as written; of a word of several tokens, the
            first. Default: the most probable one.
        against: the token whose logit is the baseline; default: the mean of all tokens' logits.
        controls: prompts of random tokens; 0: none.
        ablate: so many heads, those that stand out most, and as many random ones are each removed at the last
            token (their output replaced by zeros), to measure the fall of the token's log-probability.
        rule: which relations a head implements, `plain` or `calibrated`; default: the atlas's own.
        model, adapter, add_relations, device, threads: as for `validate_atlas`.
        seed: of random tokens and heads.

    Returns:
        Plain data: `table` is a row per head, `as_dict()` has JSON types; see `headatlas.analysis.attribution`.

    Raises:
        HeadatlasError: another model than the atlas's, a prompt of no or too many tokens, a word that is no token, too
            little memory, or a model that hands more from layer to layer than a residual.

    >>> found = attribute_logit(atlas, " Cuba France", token="Paris", controls=0)
    >>> found.tokens, found.token.text, abs(sum(found.of_parts.values()) - found.value) < 1e-4
    ((' Cuba', ' France'), ' Paris', True)
    """
    import torch

    from headatlas.engines.devices import check_device, use_threads

    check_device(device)
    for name, value in (("controls", controls), ("ablate", ablate)):
        if value < 0:
            raise SettingsError(f"{name}: expected a whole number of at least 0, found {value}.")
    classification = classify(atlas, rule=rule)
    for name, text in (("prompt", prompt), ("token", token), ("against", against)):
        _check_text(name, text)
    session = Session.of_atlas(atlas, model, adapter, progress)
    heads, tokenizer, texts = session.heads, session.tokenizer, session.vocabulary.texts
    leading = leading_ids(tokenizer)
    ids = _encode(prompt, tokenizer, leading, heads.d_vocab, most_tokens(heads))
    asked = None if token is None else _token_of("token", token, tokenizer, heads.d_vocab)
    baseline = None if against is None else _token_of("against", against, tokenizer, heads.d_vocab)[0]
    known, left_out = _relations(atlas, tokenizer, heads.d_vocab, add_relations)
    with use_threads(threads):
        running = RunningModel(heads, device, report_stage(progress, Stage.BYTES))
        logits = running.last_logits(ids)[0, : heads.d_vocab].double().cpu()
        chosen = int(logits.argmax()) if asked is None else asked[0]
        others = _controls(ids, len(leading), session.vocabulary.ids(junk=False), controls, seed)

        def report(done: int) -> None:
            if progress is not None:
                progress(Stage.PROMPTS, done, 1 + len(others))

        report(0)
        parts = split_logit(running, ids, chosen, baseline)
        report(1)
        of_controls = []
        for part in others.split(max(1, TOKENS_AT_ONCE // ids.shape[1])) if len(others) else ():
            of_controls += list(split_logit(running, part, chosen, baseline).heads)
            report(1 + len(of_controls))
        seen = _look(running, ids)
        pairs = _pairs(known, ids[0, len(leading) :].tolist(), len(leading))
        targets = sorted({chosen, *(target for each in pairs for target in each.target_ids)})
        written = _write(session, running, parts, targets)
        facts = _Facts(
            running.layers, heads.n_heads, parts, torch.stack(of_controls) if of_controls else None, seen,
            {token: at for at, token in enumerate(targets)}, written, texts, chosen,
        )  # fmt: skip
        suppression = classify(atlas, side="suppression", rule=rule) if atlas.has_suppression else None
        card = _Cards(atlas, classification, suppression, find_reading(atlas), _reading_places(ids, texts), pairs)
        found = [facts.head(layer, head, card) for layer in running.layers for head in range(heads.n_heads)]
        result = LogitAttribution(
            model=atlas.name,
            fingerprint=atlas.manifest.model.fingerprint,
            note=atlas.manifest.model.note,
            prompt=prompt,
            tokens=tuple(texts[each] for each in ids[0].tolist()),
            next=tuple(_next(logits, each, texts) for each in logits.topk(min(NEXT, len(logits))).indices.tolist()),
            token=_next(logits, chosen, texts),
            d_vocab=heads.d_vocab,
            of_several=asked is not None and asked[1],
            against=None if baseline is None else texts[baseline],
            value=float(parts.value[0]),
            capped=parts.capped,
            heads=tuple(found),
            mlps=tuple(parts.mlps[0].tolist()),
            biases=tuple(parts.biases[0].tolist()),
            embedding=float(parts.embedding[0]),
            last=float(parts.last[0]),
            n_controls=len(others),
            random_removals=(),
            relations=tuple(_at_work(found, card, facts)),
            left_out=tuple(left_out),
            rule=classification.rule,
        )
        return _ablate(result, running, ids, chosen, ablate, seed, progress) if ablate else result


def save_attribution(
    found: LogitAttribution, folder: str | Path, *, n_heads: int = 12, palette: str = "paper"
) -> list[Path]:
    """Write an attribution as a picture (.png, .svg) and as JSON into a folder, under a name made of the prompt.

    Args:
        n_heads: of the picture; JSON has all.

    Returns:
        The files.

    Raises:
        AtlasError: the folder cannot be written.
    """
    from headatlas.figures import draw_attribution

    folder = Path(folder)
    stem = folder / attribution_file(found)
    content = json.dumps(found.as_dict(), indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_pictures(draw_attribution(found, n_heads=n_heads, palette=palette), stem, EVIDENCE_FORMATS)
        path = stem.with_name(f"{stem.name}.json")
        write_atomically(path, lambda file: file.write_text(content, "utf-8"))
    except OSError as error:
        raise AtlasError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    return [*(stem.with_name(f"{stem.name}.{fmt}") for fmt in EVIDENCE_FORMATS), path]


def attribution_file(found: LogitAttribution) -> str:
    """A safe file name for a prompt, its token and its baseline, without suffix.

    A prompt is any text, so the name has letters and digits of it, and a digest.
    """
    whole = json.dumps([found.prompt, found.token.token_id, found.against])
    words = re.sub(r"[^A-Za-z0-9]+", "-", found.prompt).strip("-")[:40].strip("-")
    return "-".join(filter(None, ("prompt", words, hashlib.sha256(whole.encode()).hexdigest()[:8])))


def _check_text(name: str, text: str | None) -> None:
    """Refuse an empty text, and bytes of a command line that are no UTF-8."""
    if text is not None and (not text.strip() or text != text.encode("utf-8", "ignore").decode()):
        raise SettingsError(f"{name}: expected a text in UTF-8, found {text!r}.")


def _encode(
    prompt: str, tokenizer: PreTrainedTokenizerBase, leading: list[int], d_vocab: int, most: int | None
) -> Tensor:
    """The prompt as the model reads it: Int[Tensor, "1 n_tokens"]."""
    import torch

    own = tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
    most = min(MOST_TOKENS, most or MOST_TOKENS)
    if not own or len(leading) + len(own) > most:
        raise SettingsError(
            f"prompt: expected a text of 1 to {most - len(leading):,} tokens, found {len(own):,}. Shorten it."
        )
    if max(own) >= d_vocab:
        raise SettingsError(
            f"prompt: expected token ids below {d_vocab}, the model's number of tokens, found {max(own)}. Is the "
            f"tokenizer from the same model?"
        )
    return torch.tensor([[*leading, *own]])


def _token_of(what: str, word: str, tokenizer: PreTrainedTokenizerBase, d_vocab: int) -> tuple[int, bool]:
    """The token of a word, behind a space or else as written, and whether it is only the first of several."""
    from headatlas.relations.encoding import adds_prefix_space

    space = "" if adds_prefix_space(tokenizer) or word[:1].isspace() else " "
    spaced, bare = (tokenizer(each, add_special_tokens=False)["input_ids"] for each in (space + word, word))
    found = bare if len(bare) == 1 < len(spaced) else spaced
    known = [token for token in found if token != tokenizer.unk_token_id]
    if not word or not found or not known or found[0] >= d_vocab:
        raise SettingsError(f"{what}: expected a word that this model has a token for, found {word!r}.")
    return found[0], len(found) > 1


def _relations(
    atlas: Atlas, tokenizer: PreTrainedTokenizerBase, d_vocab: int, add_relations: Any
) -> tuple[dict[str, EncodedRelation], list[str]]:
    """The relations whose pairs are available, and the names of the others."""
    try:
        return relations_of(atlas, tokenizer, d_vocab, None, add_relations)
    except SettingsError:
        if add_relations is not None:
            raise
        return {}, list(atlas.relations)


def _controls(ids: Tensor, n_leading: int, ordinary: Sequence[int], controls: int, seed: int) -> Tensor:
    """The prompt with random tokens but for special ones and the last: Int[Tensor, "n_controls n_tokens"]."""
    n_changed = ids.shape[1] - n_leading - 1
    if n_changed < 1:
        controls = 0
    found, drawn = ids.repeat(controls, 1), random.Random(f"{seed} control prompts")
    for row in found:
        for at in range(n_leading, n_leading + n_changed):
            row[at] = drawn.choice(ordinary)
    return found


def _look(running: RunningModel, ids: Tensor) -> dict[int, np.ndarray]:
    """Layer -> attention of the last token, Float[ndarray, "n_heads n_tokens"]."""
    found = {}

    def see(layer: int, attention: Tensor, visible: Tensor) -> None:
        found[layer] = attention[0, :, -1].double().cpu().numpy()

    watch_attention(running, ids, see)
    return found


@dataclass(frozen=True)
class _Written:
    """What the heads of a layer write: ranks of some tokens from either end, and the tokens at both ends."""

    ranks: np.ndarray
    ranks_from_below: np.ndarray
    highest: list[list[int]]
    lowest: list[list[int]]


def _write(session: Session, running: RunningModel, parts: DirectParts, targets: Sequence[int]) -> dict[int, _Written]:
    """What each head writes, with all linear terms between it and the logits, as the profile `alone` counts them."""
    import torch

    from headatlas.architectures import open_model

    heads = session.heads
    counted = heads if session.profile == "alone" else open_model(session.checkpoint, None, "alone")
    W_U, wanted = counted.W_U().to(running.device), torch.tensor(targets, device=running.device)
    found = {}
    for layer, z in parts.outputs.items():
        W_O = counted.values_and_outputs(layer)[1]
        logits = torch.einsum("hd,hdm->hm", z[0], W_O).to(running.device) @ W_U.T
        ordered, order = logits.sort(-1)
        # As many tokens have a logit that is at least as high, itself included: ties count against it.
        own = logits[:, wanted].contiguous()
        ranks = logits.shape[-1] - torch.searchsorted(ordered, own)
        found[layer] = _Written(
            ranks=ranks.cpu().numpy(),
            ranks_from_below=torch.searchsorted(ordered, own, right=True).cpu().numpy(),
            highest=order.flip(-1)[:, :WRITTEN].tolist(),
            lowest=order[:, :WRITTEN].tolist(),
        )
    return found


@dataclass(frozen=True)
class _Pair:
    """A source in the prompt, wherever it occurs there, and its targets by a relation."""

    relation: str
    k: int
    positions: tuple[int, ...]
    source: str
    target_ids: tuple[int, ...]
    targets: tuple[str, ...]


def _pairs(known: dict[str, EncodedRelation], ids: Sequence[int], first: int) -> list[_Pair]:
    """All sources of relations among the prompt's tokens, of which `ids` are those from position `first` on."""
    found = []
    for name, each in known.items():
        targets: dict[int, list[tuple[int, str]]] = {}
        sources = {}
        for (source, target), source_id, target_id in zip(each.pairs, each.source_ids, each.target_ids, strict=True):
            targets.setdefault(source_id, []).append((target_id, target))
            sources[source_id] = source
        for token in dict.fromkeys(ids):
            if token in targets:
                at = tuple(first + place for place, each_id in enumerate(ids) if each_id == token)
                target_ids = tuple(target_id for target_id, _ in targets[token])
                words = tuple(word for _, word in targets[token])
                found.append(_Pair(name, each.k, at, sources[token], target_ids, words))
    return found


def _reading_places(ids: Tensor, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Behaviour -> the tokens that it names for the last token, Bool[ndarray, "n_tokens"]."""
    kinds = kinds_of(texts)
    matches = find_text_matches(ids, kinds.words[ids], kinds.delimiters[ids]) | find_matches(ids)
    return {each.name: matches[each.name][0, -1].numpy() for each in BEHAVIOURS}


@dataclass(frozen=True)
class _Cards:
    """What the cards say: relations, categories and behaviours of each head."""

    atlas: Atlas
    classification: Classification
    suppression: Classification | None
    reading: Reading | None
    places: dict[str, np.ndarray]
    pairs: Sequence[_Pair]

    def relations(self, layer: int, head: int) -> list[str]:
        """The relations that a head implements, the strongest first."""
        return self._strongest(self.classification, layer, head)

    def suppressed(self, layer: int, head: int) -> list[str]:
        """The relations that a head suppresses, the strongest first."""
        return [] if self.suppression is None else self._strongest(self.suppression, layer, head)

    def _strongest(self, classification: Classification, layer: int, head: int) -> list[str]:
        import numpy as np

        at = np.flatnonzero(classification.implements[:, layer, head]).tolist()
        share = self.atlas.share(classification.side).values[:, layer, head]
        return [self.atlas.relations[each] for each in sorted(at, key=lambda each: (-share[each], each))]

    def categories(self, layer: int, head: int) -> list[str]:
        return [name for name in self.classification.categories if self.classification.of(name)[layer, head]]

    def behaviours(self, layer: int, head: int) -> list[str] | None:
        reading = self.reading
        if reading is None or not reading.measured[layer, head]:
            return None
        found = [each.name for each in BEHAVIOURS if reading.of(each.name)[layer, head]]
        value = reading.value[:, layer, head]
        # The sink takes what a head does not use elsewhere.
        return sorted(found, key=lambda name: (name == "sink", -value[reading.names.index(name)]))


@dataclass(frozen=True)
class _Facts:
    """What was measured of all heads."""

    layers: Sequence[int]
    n_heads: int
    parts: DirectParts
    controls: Tensor | None
    seen: dict[int, np.ndarray]
    place: dict[int, int]
    written: dict[int, _Written]
    texts: Sequence[str]
    token: int

    def head(self, layer: int, head: int, cards: _Cards) -> HeadAttribution:
        written, attention = self.written[layer], self.seen[layer][head]
        relations, behaviours = cards.relations(layer, head), cards.behaviours(layer, head)
        checks = [self._check_pairs(layer, head, "relation", name, cards) for name in relations]
        suppressed = cards.suppressed(layer, head)
        checks += [self._check_pairs(layer, head, "suppression", name, cards) for name in suppressed]
        checks += [_check_reading(name, attention, cards) for name in behaviours or ()]
        control = None
        if self.controls is not None:
            own = self.controls[:, layer, head]
            control = float(own.min()), float(own.mean()), float(own.max())
        return HeadAttribution(
            layer=layer,
            head=head,
            contribution=float(self.parts.heads[0, layer, head]),
            controls=control,
            rank=int(written.ranks[head, self.place[self.token]]),
            attention=tuple(attention.tolist()),
            writes=tuple(self.texts[token] for token in written.highest[head]),
            suppresses=tuple(self.texts[token] for token in written.lowest[head]),
            relations=tuple(relations),
            categories=tuple(cards.categories(layer, head)),
            behaviours=None if behaviours is None else tuple(behaviours),
            checks=tuple(checks),
        )

    def best(self, layer: int, head: int, pair: _Pair, kind: str = "relation") -> tuple[int, str]:
        """Rank and word of the target that a head writes most; of the answer, if it is one of the targets.

        With the kind `suppression`, that it lowers most, and its rank from the lowest logit.
        """
        written = self.written[layer]
        of_head = (written.ranks if kind == "relation" else written.ranks_from_below)[head]
        ranks = [int(of_head[self.place[token]]) for token in pair.target_ids]
        if self.token in pair.target_ids:
            at = pair.target_ids.index(self.token)
            return ranks[at], pair.targets[at]
        return min(zip(ranks, pair.targets, strict=True))

    def _check_pairs(self, layer: int, head: int, kind: str, name: str, cards: _Cards) -> Check:
        """Whether a head writes the targets of a relation, or lowers them, where it looks at their source."""
        found = []
        for pair in cards.pairs:
            share = float(self.seen[layer][head][list(pair.positions)].sum())
            if pair.relation == name and share >= LEAST_SHARE:
                rank, target = self.best(layer, head, pair, kind)
                answers = kind == "relation" and self.token in pair.target_ids
                found.append(Check(kind, name, rank <= pair.k, pair.source, target, share, rank, pair.k, answers))
        return max(found, key=lambda each: (bool(each.agrees), each.share or 0.0), default=Check(kind, name, None))


def _check_reading(name: str, attention: np.ndarray, cards: _Cards) -> Check:
    assert cards.reading is not None
    at = cards.places[name]
    if not at.any():
        return Check("reading", name, None)
    share = float(attention[at].sum())
    return Check("reading", name, share > cards.reading.limits[name], share=share)


def _at_work(found: Sequence[HeadAttribution], cards: _Cards, facts: _Facts) -> list[RelationAtWork]:
    """The relations that the prompt shows to a head that implements them; the most heads first."""
    result = []
    for pair in cards.pairs:
        looking = [each for each in found if sum(each.attention[at] for at in pair.positions) >= LEAST_SHARE]
        own = [each for each in looking if pair.relation in each.relations]
        hit = [each for each in looking if facts.best(each.layer, each.head, pair)[0] <= pair.k]
        if own:
            result.append(
                RelationAtWork(
                    pair.relation, pair.source, pair.targets,
                    tuple(each.name for each in own), tuple(each.name for each in own if each in hit),
                    len(looking) - len(own), sum(each not in own for each in hit),
                )
            )  # fmt: skip
    return sorted(result, key=lambda each: (-len(each.hits), -len(each.heads), each.relation))


def _next(logits: Tensor, token: int, texts: Sequence[str]) -> NextToken:
    probability = float(logits.softmax(-1)[token])
    rank = 1 + int((logits > logits[token]).sum())
    return NextToken(token, texts[token], probability, rank, float(logits[token]))


def _ablate(
    found: LogitAttribution,
    running: RunningModel,
    ids: Tensor,
    token: int,
    n: int,
    seed: int,
    progress: Progress | None,
) -> LogitAttribution:
    """The attribution with the falls of the log-probability without its strongest heads, and without random ones."""
    strongest = [(each.layer, each.head) for each in found.strongest(n)]
    rest = [(each.layer, each.head) for each in found.heads if (each.layer, each.head) not in strongest]
    drawn = random.Random(f"{seed} removed heads").sample(rest, min(n, len(rest)))
    continuations = Continuations(running, [ids[0].tolist()])

    def log_probability() -> float:
        ((_, logits),) = continuations.logits()
        return float(logits[0, : running.heads.d_vocab].double().log_softmax(-1)[token])

    base, falls = log_probability(), {}
    for done, (layer, head) in enumerate([*strongest, *drawn]):
        if progress is not None:
            progress(Stage.REMOVALS, done, len(strongest) + len(drawn))
        with running.without({layer: [head]}):
            falls[layer, head] = base - log_probability()
    return replace(
        found,
        heads=tuple(
            replace(each, removal=falls[each.layer, each.head]) if (each.layer, each.head) in strongest else each
            for each in found.heads
        ),
        random_removals=tuple((head_name(*each), falls[each]) for each in drawn),
    )
