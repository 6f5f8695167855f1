"""How well a running model answers the tasks of relations, and predicts text: whole, or without heads."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.errors import SettingsError
from headatlas.measuring.prefix import default_prefix
from headatlas.measuring.progress import Progress, Stage, report_stage
from headatlas.measuring.running.attention import most_tokens
from headatlas.measuring.running.model import RunningModel, batches
from headatlas.measuring.running.passages import load_text, text_pieces
from headatlas.measuring.running.questions import Questions, load_prompts, make_questions
from headatlas.measuring.session import Session, relations_of

if TYPE_CHECKING:
    import torch

    from headatlas.atlas import Atlas

Head = tuple[int, int]

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
    tasks: Iterable[str] | None = None,
    add_relations: Any = None,
    prompts: str | Path | None = None,
    text: str | Path | None = None,
    n_prompts: int = 40,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Quality:
    """Run a model on prompts of relations and on text.

    Args:
        atlas: a map of the model.
        session: the model.
        tasks: relations of the atlas with prompts; default: all whose pairs are available.
        add_relations: the relations that are not built in, or the files and folders that hold them.
        prompts, text: files instead of the package's own.
        n_prompts: most prompts of a relation.

    Raises:
        SettingsError: a relation of `tasks` has no prompts, or its pairs are not available.
    """
    texts = load_prompts(prompts)
    known, _ = relations_of(atlas, session.tokenizer, session.heads.d_vocab, None, add_relations)
    asked = [name for name in known if name in texts] if tasks is None else list(tasks)
    if unknown := [name for name in asked if name not in texts or name not in known]:
        raise SettingsError(f"tasks: expected relations of the atlas that have prompts, found {unknown[0]!r}.")
    running = RunningModel(session.fetched_heads, device, report_stage(progress, Stage.BYTES))
    found: dict[str, float] = {}
    for done, name in enumerate(asked):
        if progress is not None:
            progress(Stage.ANSWERS, done, len(asked) + 1)
        found[name] = accuracy(running, make_questions(known[name], texts[name], session.tokenizer, n_prompts, seed))
    if progress is not None:
        progress(Stage.ANSWERS, len(asked), len(asked) + 1)
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
