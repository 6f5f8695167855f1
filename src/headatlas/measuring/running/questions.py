"""Tasks for the running model: prompts of a relation whose next token should be the target.

Knows words and tokens, no model.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.errors import SettingsError
from headatlas.measuring.running.contexts import MARK, leading_ids, load_toml

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from headatlas.relations import EncodedRelation

PROMPTS = Path(__file__).parent / "data" / "prompts.toml"
SHOTS, MOST_SHOTS = 4, 20


@dataclass(frozen=True)
class PromptText:
    """How a relation is asked for.

    Args:
        prompt: ends in front of the target; `{source}` marks the place of the source.
        shots: examples before it.
    """

    prompt: str
    shots: int


@dataclass(frozen=True)
class Answers:
    """What a model answers to all prompts of a task.

    Args:
        correct: number of prompts whose most probable next token is a target.
        log_probability: natural logarithm of the probability of all targets of a source, mean over prompts.
    """

    correct: int
    log_probability: float


@dataclass(frozen=True)
class Questions:
    """A relation's prompts as token ids, and of each the tokens that are right: all its source's targets."""

    relation: str
    text: PromptText
    prompts: list[list[int]]
    right: list[frozenset[int]]

    def correct(self, said: Sequence[int]) -> int:
        """How many answers are right."""
        return sum(token in right for token, right in zip(said, self.right, strict=True))

    def answers(self, batches: Iterable[tuple[list[int], Tensor]]) -> Answers:
        """What logits answer.

        Args:
            batches: (places of prompts, their logits) as from `Continuations.logits`.
        """
        import torch

        said, total = [0] * len(self.prompts), 0.0
        for places, logits in batches:
            for place, token, row in zip(places, logits.argmax(-1).tolist(), logits, strict=True):
                right = row[torch.tensor(sorted(self.right[place]), device=row.device)].double()
                total += float(right.logsumexp(0) - row.double().logsumexp(0))
                said[place] = token
        return Answers(self.correct(said), total / max(1, len(self.prompts)))


def load_prompts(path: str | Path | None = None) -> dict[str, PromptText]:
    """Prompts by relation.

    Raises:
        SettingsError: the file cannot be read, or holds something else.
    """
    path = PROMPTS if path is None else Path(path)
    prompts = {}
    for name, entry in load_toml(path).items():
        where = f"{path}: [{name}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str) or set(entry) - {"prompt", "shots"}:
            raise SettingsError(f"{where}: expected `prompt`, a text, and perhaps `shots`, found {entry!r}.")
        text, shots = entry["prompt"], entry.get("shots", SHOTS)
        if text.count(MARK) != 1 or text != text.strip() or "\n" in text:
            raise SettingsError(f"{where}: expected one line with {MARK} once, no space at its ends, found {text!r}.")
        if isinstance(shots, bool) or not isinstance(shots, int) or not 0 <= shots <= MOST_SHOTS:
            raise SettingsError(f"{where}: expected shots, a whole number up to {MOST_SHOTS}, found {shots!r}.")
        prompts[name] = PromptText(text, shots)
    return prompts


def make_questions(
    relation: EncodedRelation, text: PromptText, tokenizer: PreTrainedTokenizerBase, most: int, seed: int
) -> Questions:
    """At most `most` prompts, one per source, the sources and their examples chosen by the seed.

    The examples are pairs of other sources, and of other targets as long as there are enough.
    """
    targets: dict[str, dict[str, int]] = defaultdict(dict)
    for (source, target), token in zip(relation.pairs, relation.target_ids, strict=True):
        targets[source][target] = token
    generator = random.Random(f"{seed} {relation.name}")
    sources = sorted(targets)
    generator.shuffle(sources)
    texts, right = [], []
    for source in sources[:most]:
        others = [other for other in sources if other != source]
        generator.shuffle(others)
        # The answer itself among the examples would be copied, not found.
        others.sort(key=lambda other: bool(targets[other].keys() & targets[source].keys()))
        lines = [f"{text.prompt.replace(MARK, other)} {next(iter(targets[other]))}." for other in others[: text.shots]]
        generator.shuffle(lines)
        texts.append("\n".join([*lines, text.prompt.replace(MARK, source)]))
        right.append(frozenset(targets[source].values()))
    leading = leading_ids(tokenizer)
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return Questions(relation.name, text, [leading + list(ids) for ids in encoded], right)
