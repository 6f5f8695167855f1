"""What changed from a base model to a tuned one, beyond what random changes of the same size do.

Knows atlases and arrays; knows nothing about models or files. Each measure of the tuned model has a null: the same
measure of models whose parameters differ from the base by as much, in random directions ("noise").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headatlas.analysis.categories import classify
from headatlas.analysis.compare import check_comparable, head_names
from headatlas.atlas import Atlas, head_name

if TYPE_CHECKING:
    import numpy as np

FLOOR = -1.0
"""Logarithm of a movement over the noise below which a word counts as not moved."""

SHRINK = 0.4
"""How much of a word's expected noise is that of the head's typical word."""

LEVEL = 0.01
"""How often a random change would move any word beyond the noise."""

TAIL = 100
"""Words of each noise model, those that moved most, that tell how far the tail of the noise reaches."""


@dataclass(frozen=True)
class CategoryAudit:
    """Heads with a category, in the base and the tuned model.

    Args:
        base, tuned: numbers of heads; kept: of both.
        gained, lost: numbers of heads that only the tuned, or only the base has.
        noise_gained, noise_lost: the largest such numbers of the noise.
        gained_heads, lost_heads: those of the gained and lost that changed beyond the noise, by name.
    """

    category: str
    base: int
    tuned: int
    kept: int
    gained: int
    lost: int
    noise_gained: int
    noise_lost: int
    gained_heads: tuple[str, ...]
    lost_heads: tuple[str, ...]


@dataclass(frozen=True)
class RelationAudit:
    """Heads that implement a relation, and the head whose score changed most.

    Args:
        base, tuned: numbers of heads that implement it.
        noise: the smallest and the largest number in the noise.
        gained_heads, lost_heads: those that changed beyond the noise, by name.
        head: its score changed most; None if none changed.
        before, after: its score in the base and the tuned model.
        noise_change: the largest change of any head's score for this relation in the noise.
        is_beyond: whether the head's change is larger than any change of the noise, of all relations.
    """

    relation: str
    category: str
    base: int
    tuned: int
    noise: tuple[int, int]
    gained_heads: tuple[str, ...]
    lost_heads: tuple[str, ...]
    head: str | None
    before: float
    after: float
    noise_change: float
    is_beyond: bool


@dataclass(frozen=True)
class HeadsAudit:
    """What became of the functions of heads.

    Args:
        side, threshold, rule: how heads were classified.
        n_heads: heads of each model.
        noise_change: the largest change of any score in the noise; a change beyond the noise is larger.
        categories: `Any` first, then in the order of figures.
        relations: in the atlases' order.
    """

    side: str
    threshold: str
    rule: str
    n_heads: int
    noise_change: float
    categories: tuple[CategoryAudit, ...]
    relations: tuple[RelationAudit, ...]


def audit_heads(
    base: Atlas,
    tuned: Atlas,
    noise: Sequence[Atlas],
    *,
    side: str = "score",
    threshold: str | float | None = None,
    rule: str | None = None,
) -> HeadsAudit:
    """Heads gained and lost by category and relation, beyond what noise does.

    A head is gained (lost) beyond the noise if its score crosses the threshold, and changes by more than any score of
    any head changes in the noise.

    Args:
        noise: maps of models that differ from the base by as much as the tuned one, in random directions; at least 1.
        side, threshold, rule: as for `compare_atlases`.

    Raises:
        AtlasError: the atlases cannot be compared head by head.
    """
    import numpy as np

    for each in (tuned, *noise):
        check_comparable(base, each, {"threshold": threshold, "rule": rule})
    before, after = (classify(each, threshold, side, rule) for each in (base, tuned))
    of_noise = [classify(each, threshold, side, rule) for each in noise]
    change = tuned.share(side).values - base.share(side).values
    noisy = np.stack([np.abs(each.share(side).values - base.share(side).values) for each in noise])
    limit = float(noisy.max(initial=0))
    beyond = np.abs(change) > limit
    gained, lost = (after.implements & ~before.implements & beyond), (before.implements & ~after.implements & beyond)
    of_relation = base.data["category"].values
    categories = []
    for name in ("Any", *before.categories):
        rows = np.ones(len(of_relation), bool) if name == "Any" else of_relation == name
        was, now, *null = (
            each.count > 0 if name == "Any" else each.of(name) for each in (before, after, *of_noise)
        )  # fmt: skip
        categories.append(
            CategoryAudit(
                category=name,
                base=int(was.sum()),
                tuned=int(now.sum()),
                kept=int((was & now).sum()),
                gained=int((now & ~was).sum()),
                lost=int((was & ~now).sum()),
                noise_gained=max(int((each & ~was).sum()) for each in null),
                noise_lost=max(int((was & ~each).sum()) for each in null),
                gained_heads=tuple(head_names(now & ~was & gained[rows].any(0))),
                lost_heads=tuple(head_names(was & ~now & lost[rows].any(0))),
            )
        )
    relations = []
    for at, relation in enumerate(base.relations):
        place = np.unravel_index(int(np.abs(change[at]).argmax()), change[at].shape)
        counts = [int(each.implements[at].sum()) for each in of_noise]
        relations.append(
            RelationAudit(
                relation=str(relation),
                category=str(of_relation[at]),
                base=int(before.implements[at].sum()),
                tuned=int(after.implements[at].sum()),
                noise=(min(counts), max(counts)),
                gained_heads=tuple(head_names(gained[at])),
                lost_heads=tuple(head_names(lost[at])),
                head=head_name(int(place[0]), int(place[1])) if change[at][place] else None,
                before=float(base.share(side).values[at][place]),
                after=float(tuned.share(side).values[at][place]),
                noise_change=float(noisy[:, at].max()),
                is_beyond=bool(beyond[at].any()),
            )
        )
    return HeadsAudit(
        side=side,
        threshold=before.threshold,
        rule=before.rule,
        n_heads=before.n_heads,
        noise_change=limit,
        categories=tuple(categories),
        relations=tuple(relations),
    )


@dataclass(frozen=True)
class RankedWords:
    """Words, those whose mapping moved most first.

    Args:
        word: positions of the words, most moved first: Int[ndarray, "n_words"].
        layer, head: where each has its largest shift, in the same order.
        movement: of each, in the same order, over the limit of the noise: Float[ndarray, "n_words"].
        writer_layer, writer_head: the head that moves the logits of each word most, by more than those of its typical
            word; in the same order.
        of_head: positions of the words with the largest shifts in each head, largest first: Int[ndarray, "layer head
            place"]; shifts: their shifts, the same shape.
        limit: of shifts, that of the noise.
        factor: by how much the typical word of a head moves, over the noise: Float[ndarray, "layer head"]; NaN for
            heads that do not move.
        noise_factors: the smallest and the largest such factor in the noise.
    """

    word: np.ndarray
    layer: np.ndarray
    head: np.ndarray
    movement: np.ndarray
    writer_layer: np.ndarray
    writer_head: np.ndarray
    of_head: np.ndarray
    shifts: np.ndarray
    limit: float
    factor: np.ndarray
    noise_factors: tuple[float, float]

    @property
    def n_beyond(self) -> int:
        """Words that moved beyond the noise."""
        return int((self.movement > 1).sum())


@dataclass(frozen=True)
class MovedWord:
    """A word whose mapping moved in a head.

    Args:
        word: its text; token_id: its token.
        head: where it moved most, compared with the head's other words.
        movement: how far it moved; above 1, further than noise moves any word in 99 of 100 cases.
        raised_by: the head that moves its logits most, by more than those of its typical word.
        raised: the words whose logits rose most there.
    """

    word: str
    token_id: int
    head: str
    movement: float
    raised_by: str
    raised: tuple[str, ...]

    @property
    def is_beyond(self) -> bool:
        """Whether it moved beyond the noise."""
        return self.movement > 1


@dataclass(frozen=True)
class Audit:
    """What a tuned model does otherwise than its base.

    Args:
        base, tuned: names of the models.
        parameters, changed: how many a map reads, and how many of these differ.
        relative_change: norm of the differences over that of the changed parameters; None if these are 0 in the base.
        seeds: random directions of the noise.
        heads: functions of heads.
        words_compared, words_beyond: words, and how many moved beyond the noise.
        factors: by how much the typical word of each head moved, over the noise (1: as much), by layer and head; None
            for heads whose words do not move.
        noise_factors: the smallest and the largest such factor in the noise.
        words: those that moved most.
    """

    base: str
    tuned: str
    parameters: int
    changed: int
    relative_change: float | None
    seeds: int
    heads: HeadsAudit
    words_compared: int
    words_beyond: int
    factors: tuple[tuple[float | None, ...], ...]
    noise_factors: tuple[float, float]
    words: tuple[MovedWord, ...]

    def as_dict(self) -> dict[str, Any]:
        """The audit in JSON types."""
        return asdict(self)


def rank_words(layers: Iterable[np.ndarray], n_of_head: int = 5) -> RankedWords:
    """Rank words by how much more they moved than other words, beyond what noise does.

    In a head, a word's shift is `log(moved / noise) - median over words`, over the standard deviation of the same in
    the noise, where each model is compared with the others. A word's movement is the mean of its shifts over heads, or
    its largest shift if that is more, each over its limit, which a random change passes with any word in LEVEL / 2 of
    all cases. A few noise models do not show it; it follows from their tail, which is taken to be exponential.

    Args:
        layers: at least one; how far each word's logits moved, in the tuned model, then in at least 2 noise models:
            Float[ndarray, "model head word"].
        n_of_head: words that are kept of each head, those with the largest shifts.
    """
    import numpy as np

    total, largest = np.zeros((1, 1)), np.full((1, 1), -np.inf)
    n_alive, found, most, written = 0, [], _Largest(), _Largest()
    for layer, moved in enumerate(layers):
        moved = moved.astype(np.float64)
        shifts, typical, alive = _shifts(moved)
        total = total + shifts.sum(1)
        largest = np.maximum(largest, shifts.max(1))
        n_alive += int(alive.sum())
        most.add(layer, shifts[0])
        written.add(layer, moved[0] - np.median(moved[0], -1, keepdims=True))
        of_head = np.argsort(-shifts[0], axis=-1, kind="stable")[:, :n_of_head]
        found.append((of_head, np.take_along_axis(shifts[0], of_head, -1), typical, alive))
    of_head, shifts, typical, alive = (np.stack(each) for each in zip(*found, strict=True))
    means = total / max(1, n_alive)
    limits = [max(_limit(each[1:], LEVEL / 2), np.finfo(np.float64).tiny) for each in (means, largest)]
    movement = np.maximum(means[0] / limits[0], largest[0] / limits[1])
    order = np.lexsort((np.arange(len(movement)), -movement))
    of_noise = np.exp(typical[:, 1:].swapaxes(1, 2)[alive])
    return RankedWords(
        word=order,
        layer=most.layer[order],
        head=most.head[order],
        movement=movement[order],
        writer_layer=written.layer[order],
        writer_head=written.head[order],
        of_head=of_head,
        shifts=shifts,
        limit=limits[1],
        factor=np.where(alive, np.exp(typical[:, 0]), np.nan),
        noise_factors=(float(of_noise.min(initial=1)), float(of_noise.max(initial=1))),
    )


def _limit(noise: np.ndarray, level: float) -> float:
    """What the largest value of another noise model exceeds with a probability of `level`.

    Exceedances over a high threshold are taken to be exponential, so that the largest of them has Gumbel's
    distribution; never less than the largest value of the noise.

    Args:
        noise: Float64[ndarray, "n_noise n_words"].
    """
    import numpy as np

    n = min(TAIL, noise.shape[1] // 10)
    if n == 0:
        return float(noise.max(initial=0))
    top = -np.partition(-noise, n, axis=1)[:, : n + 1]
    threshold = top.min(1, keepdims=True)
    scale = float((top - threshold).sum() / (len(noise) * n))
    return max(float(noise.max()), float(threshold.mean()) + scale * (np.log(n) - np.log(-np.log1p(-level))))


def _shifts(moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each word's shift in the heads of a layer; the logarithm of what the typical word moves; which heads move.

    Args:
        moved: Float64[ndarray, "model head word"].

    Returns:
        Float64[ndarray, "model head word"], Float64[ndarray, "model head"] and Bool[ndarray, "head"].
    """
    import numpy as np

    squares, n = np.square(moved), len(moved) - 1
    total = squares[1:].sum(0)
    alive = total.max(-1) > 0
    logs = [_log_ratio(squares[0], total / n)]
    logs += [_log_ratio(each, (total - each) / (n - 1)) for each in squares[1:]]
    typical = np.median(logs, -1)
    centred = np.stack(logs) - typical[..., None]
    spread = np.sqrt(np.square(centred[1:]).mean(axis=(0, 2)))
    return centred / np.where(alive & (spread > 0), spread, np.inf)[:, None], typical, alive


class _Largest:
    """The largest value of each word over heads, and where it is: Int[ndarray, "n_words"] each."""

    value: np.ndarray
    layer: np.ndarray
    head: np.ndarray

    def __init__(self) -> None:
        self.is_empty = True

    def add(self, layer: int, values: np.ndarray) -> None:
        """Look at another layer: Float[ndarray, "head word"]."""
        import numpy as np

        head, value = values.argmax(0), values.max(0)
        if self.is_empty:
            self.value, self.layer, self.head, self.is_empty = value, np.full(len(value), layer), head, False
        else:
            larger = value > self.value
            self.value = np.where(larger, value, self.value)
            self.layer, self.head = np.where(larger, layer, self.layer), np.where(larger, head, self.head)


def _log_ratio(squares: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """How far words moved over the noise, as logarithms; what moved much less counts as FLOOR.

    The noise of few models is uncertain: it is drawn towards that of the head's typical word.
    """
    import numpy as np

    expected = SHRINK * np.median(noise, -1, keepdims=True) + (1 - SHRINK) * noise
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.maximum(0.5 * np.log(squares / expected), FLOOR), nan=FLOOR, posinf=-FLOOR)
