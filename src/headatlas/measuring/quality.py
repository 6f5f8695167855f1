"""How well a running model answers the tasks of relations, and predicts text: whole, or without heads."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.measuring.prefix import default_prefix
from headatlas.measuring.running.attention import most_tokens
from headatlas.measuring.running.bench import Head
from headatlas.measuring.running.model import RunningModel, batches
from headatlas.measuring.running.passages import load_text, text_pieces
from headatlas.measuring.running.questions import Questions, load_prompts, make_questions
from headatlas.measuring.session import Session, relations_of

if TYPE_CHECKING:
    import torch

    from headatlas.atlas import Atlas

PROMPTS = 40
"""Most prompts of a relation."""

TEXT_PIECES = 8
"""Pieces of a text, of at most 256 tokens each, whose perplexity is measured; evenly spread over the text."""


@dataclass(frozen=True)
class Quality:
    """What a whole model can do.

    Args:
        perplexity: of the next token of a text, from 1.
        accuracy: relation -> share of its prompts that are answered correctly, 0 to 1.
    """

    perplexity: float
    accuracy: dict[str, float]

    @property
    def mean_accuracy(self) -> float | None:
        """Mean over relations; None without one."""
        return sum(self.accuracy.values()) / len(self.accuracy) if self.accuracy else None


def measure_quality(
    atlas: Atlas,
    session: Session,
    *,
    add_relations: Any = None,
    prompts: str | Path | None = None,
    text: str | Path | None = None,
) -> Quality:
    """Run a model on prompts of the relations whose pairs are available, and on text.

    Args:
        atlas: a map of the model.
        session: the model.
        add_relations: the relations that are not built in, or the files and folders that hold them.
        prompts, text: files instead of the package's own.
    """
    texts = load_prompts(prompts)
    known, _ = relations_of(atlas, session.tokenizer, session.heads.d_vocab, None, add_relations)
    running = RunningModel(session.fetched_heads)
    found = {
        name: accuracy(running, make_questions(relation, texts[name], session.tokenizer, PROMPTS, seed=0))
        for name, relation in known.items()
        if name in texts
    }
    return Quality(perplexity(running, shown_text(atlas, session, text)), found)


def accuracy(running: RunningModel, questions: Questions, removed: Iterable[Head] = ()) -> float:
    """The share of prompts that a model answers correctly without some heads, at all tokens."""
    with running.without(_by_layer(removed), tokens=slice(None)):
        answers = questions.answers((places, running.last_logits(ids)) for places, ids in batches(questions.prompts))
    return answers.correct / len(questions.prompts)


def shown_text(atlas: Atlas, session: Session, text: str | Path | None = None) -> torch.Tensor:
    """A text in pieces behind the atlas's prefix: Int[Tensor, "n_pieces n_tokens"]."""
    kept, heads = atlas.manifest.prefix, session.heads
    prefix = kept.token if kept else default_prefix(session, session.vocabulary.ids(junk=False)).token
    where = "the package's text" if text is None else text
    pieces = text_pieces(load_text(text), session.tokenizer, heads.d_vocab, prefix, most_tokens(heads), where)
    return pieces[:: -(-len(pieces) // TEXT_PIECES)]


def perplexity(running: RunningModel, pieces: torch.Tensor, removed: Iterable[Head] = ()) -> float:
    """Of the next token, without some heads; one piece at a time, so that memory stays small.

    Args:
        pieces: as from `shown_text`.
    """
    import torch

    total = 0.0
    with running.without(_by_layer(removed), tokens=slice(None)):
        for piece in pieces:
            logits = running.logits(piece[None], len(piece))[0, :-1].float()
            right = logits.gather(1, piece[1:, None].to(logits.device))[:, 0]
            total += float((torch.logsumexp(logits, -1) - right).double().sum())
    return math.exp(total / (pieces.numel() - len(pieces)))


def _by_layer(removed: Iterable[Head]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for layer, head in removed:
        found[layer].append(head)
    return dict(found)
