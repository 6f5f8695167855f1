"""How long work reports its progress: a stage, how much of it is done, and how much there is."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Stage(StrEnum):
    """What a measurement is doing, and what it counts."""

    BYTES = "bytes"
    """Bytes of weights that are transferred."""

    FINGERPRINT = "fingerprint"
    """Tensors whose digest is computed."""

    INPUT = "input"
    """Layers whose input is compared with what the model's own layers hand to them."""

    LAYERS = "layers"
    """Layers that are scored."""

    SALIENT = "salient operations"
    """Layers whose salient operations are measured."""

    PROMPTS = "prompts"
    """Prompts that the running model has processed."""

    REMOVALS = "heads removed"
    """Runs without one head, or without some."""

    ANSWERS = "answers"
    """Thousandths of a relation's removal curves."""

    SENDERS = "senders"
    """Layers whose heads are tried as senders."""

    PATHS = "paths"
    """Edges between heads that are removed from the running model."""

    PARAMETERS = "parameters"
    """Parameters of two models that are compared."""

    WORDS = "words"
    """Layers in which the logits of words are compared between models."""

    DESCRIBED = "heads described"
    """Heads that a language model has described, and whose sentences are scored."""

    MODELS = "models"
    """Models of a survey or an audit."""


Progress = Callable[[Stage, int, int], None]
"""Called with the stage, how much of it is done, and how much there is in all."""


def report_stage(progress: Progress | None, stage: Stage) -> Callable[[int, int], None] | None:
    """The callback for one stage, or None without a callback."""
    return None if progress is None else lambda done, total: progress(stage, done, total)
