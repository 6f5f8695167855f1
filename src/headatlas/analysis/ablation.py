"""What an ablation found for one relation, as the manifest and the table `ablation` keep it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

BY_SCORE = "score"
"""Column `order` of the table: the heads of the relation are removed, the strongest first."""


def random_order(draw: int) -> str:
    """Column `order` of the table: a random draw of other heads is removed; draws are counted from 1."""
    return f"random {draw}"


def is_random_order(order: str) -> bool:
    """Whether a value of the column `order` is that of a random draw.

    >>> is_random_order(random_order(3)), is_random_order(BY_SCORE)
    (True, False)
    """
    return order != BY_SCORE


class Status(StrEnum):
    """Whether a relation could be tested."""

    TESTED = "tested"
    NOT_TESTABLE = "not testable"
    """The whole model solves its task too rarely."""

    NO_HEADS = "no heads"
    """No head implements the relation."""


class RemovedBy(StrEnum):
    """What replaces the output of a removed head."""

    ZERO = "zero"
    MEAN = "mean"


@dataclass(frozen=True)
class Control:
    """Another task that loses the relation's heads.

    Args:
        task: name of its relation.
        base: share of its prompts that the whole model solves, 0 to 1.
        overlap: heads that implement both relations, as a share of those of the relation with fewer, 0 to 1.
    """

    task: str
    base: float
    overlap: float


@dataclass(frozen=True)
class Ablation:
    """One relation's ablation; its curves are in the table `ablation`.

    Args:
        relation: its name.
        status: whether it could be tested.
        base: share of its prompts that the whole model solves, 0 to 1.
        prompt, shots: text of the task, and examples in front of it.
        heads: names of the heads in the order of their removal.
        controls: other tasks that lose these heads.
        prompts, most_heads: limits on prompts and heads.
        removed_by: what replaces the output of a removed head.
        seed: of prompts, examples, random heads and controls.
        seconds: that it took.
        device: where the model ran.
    """

    relation: str
    prompt: str
    shots: int
    base: float
    heads: tuple[str, ...]
    controls: tuple[Control, ...]
    status: Status
    seconds: float
    prompts: int
    most_heads: int
    removed_by: RemovedBy
    seed: int
    device: str

    def as_dict(self) -> dict[str, Any]:
        """JSON types."""
        content = asdict(self) | {"heads": list(self.heads), "controls": [asdict(each) for each in self.controls]}
        return content | {"status": self.status.value, "removed_by": self.removed_by.value}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Ablation:
        """The inverse of `as_dict`."""
        return cls(
            **content
            | {
                "heads": tuple(content["heads"]),
                "controls": tuple(Control(**each) for each in content["controls"]),
                "status": Status(content["status"]),
                "removed_by": RemovedBy(content["removed_by"]),
            }
        )
