"""One running model and the tasks of an ablation, each answered by the whole model once; knows no atlas."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.atlas.evidence import RemovedBy
from headatlas.measuring.running.model import Continuations, RunningModel, batches
from headatlas.measuring.running.questions import Answers, PromptText, Questions, make_questions

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.relations import EncodedRelation

Head = tuple[int, int]

MEAN_PROMPTS = 10
"""Prompts of each other relation over which the mean of a head's output is taken."""

MOST_MEAN_RELATIONS = 20


@dataclass(frozen=True)
class AblationSettings:
    prompts: int
    most_heads: int
    removed_by: RemovedBy
    seed: int


@dataclass
class _Task:
    questions: Questions
    continuations: Continuations
    base: Answers


class Bench:
    """One running model and its tasks, each made and answered by the whole model once."""

    def __init__(
        self,
        running: RunningModel,
        relations: dict[str, EncodedRelation],
        texts: dict[str, PromptText],
        tokenizer: Any,
        settings: AblationSettings,
    ) -> None:
        self.running, self.relations, self.settings = running, relations, settings
        self._texts, self._tokenizer = texts, tokenizer
        self._tasks: dict[str, _Task] = {}
        self._bases: dict[str, float] = {}
        self._sums: dict[str, tuple[dict[int, Tensor], int]] = {}

    def task(self, name: str) -> _Task:
        if name not in self._tasks:
            questions = self.questions(name)
            continuations = Continuations(self.running, questions.prompts)
            self._tasks[name] = _Task(questions, continuations, questions.answers(continuations.logits()))
        return self._tasks[name]

    def accuracy(self, name: str) -> float:
        """Accuracy of the whole model; kept when the task is dropped."""
        if name not in self._bases:
            task = self.task(name)
            self._bases[name] = task.base.correct / len(task.questions.prompts)
        return self._bases[name]

    def answers(self, name: str, removed: list[Head], instead: dict[int, Tensor] | None) -> Answers:
        """What the model answers to a task without some heads."""
        by_layer: dict[int, list[int]] = {}
        for layer, head in removed:
            by_layer.setdefault(layer, []).append(head)
        task = self.task(name)
        with self.running.without(by_layer, instead):
            return task.questions.answers(task.continuations.logits())

    def drop(self, keep: set[str]) -> None:
        """Free the keys and values of all tasks except these."""
        for name in set(self._tasks) - keep:
            del self._tasks[name]

    def means(self, without: str) -> dict[int, Tensor]:
        """Mean output of each head at the last token over prompts of other relations: layer -> (n_heads, d_head)."""
        import torch

        names = [name for name in self.relations if name != without]
        random.Random(f"{self.settings.seed} mean {without}").shuffle(names)
        sums: dict[int, Tensor] = {}
        count = 0
        for name in names[:MOST_MEAN_RELATIONS]:
            if name not in self._sums:
                prompts = self.questions(name, MEAN_PROMPTS).prompts
                total: dict[int, Tensor] = {}
                for _, ids in batches(prompts):
                    watched = self.running.watch(ids, torch.zeros(len(ids), dtype=torch.long))
                    for layer, output in watched.outputs.items():
                        total[layer] = total.get(layer, 0) + output.sum(0)
                self._sums[name] = total, len(prompts)
            total, n_prompts = self._sums[name]
            count += n_prompts
            for layer, each in total.items():
                sums[layer] = sums.get(layer, 0) + each
        return {layer: total / count for layer, total in sums.items()}

    def questions(self, name: str, most: int | None = None) -> Questions:
        """The prompts of a task; default: as many as the settings say."""
        most = self.settings.prompts if most is None else most
        return make_questions(self.relations[name], self._texts[name], self._tokenizer, most, self.settings.seed)
