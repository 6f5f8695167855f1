"""Two atlases of the same measurement, head by head: what was gained and lost, and how far scores agree.

Meant for models whose heads correspond: a base model and its fine-tune, two checkpoints of one training run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.analysis.categories import classify
from headatlas.atlas import Atlas, head_name
from headatlas.errors import AtlasError

if TYPE_CHECKING:
    import numpy as np

CLASSIFYING = ("threshold", "profile")
"""Settings that sort the same scores into categories; two atlases may differ in them where the caller names one."""


@dataclass(frozen=True)
class CategoryChange:
    """The heads that have a category in either atlas.

    Args:
        kept, gained, lost: in both, in the second alone, in the first alone: Bool[ndarray, "layer head"].
    """

    category: str
    kept: np.ndarray
    gained: np.ndarray
    lost: np.ndarray

    @property
    def first(self) -> int:
        """Heads with the category in the first atlas."""
        return int(self.kept.sum() + self.lost.sum())

    @property
    def second(self) -> int:
        """Heads with the category in the second atlas."""
        return int(self.kept.sum() + self.gained.sum())


@dataclass(frozen=True)
class RelationChange:
    """One relation's shares in both atlases, over all heads.

    Args:
        pearson: correlation over heads, -1 to 1; None where either is the same for all heads.
        head: the (layer, head) whose share changed most; None where none changed.
        before, after: its shares in the first and in the second atlas.
    """

    relation: str
    category: str
    pearson: float | None
    head: tuple[int, int] | None
    before: float
    after: float


@dataclass(frozen=True)
class Comparison:
    """What `compare_atlases` found.

    Args:
        first, second: names of the models.
        kind, threshold, profile: how heads were classified, the same for both.
        n_heads: heads of each model.
        categories: of the relations, in the order of figures; the first, `Any`, is of heads with any category.
        relations: in the atlases' order.
        has_heads: the layers that have attention heads: Bool[ndarray, "layer"].
    """

    first: str
    second: str
    kind: str
    threshold: str
    profile: str
    n_heads: int
    categories: tuple[CategoryChange, ...]
    relations: tuple[RelationChange, ...]
    has_heads: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "first": self.first,
            "second": self.second,
            "kind": self.kind,
            "threshold": self.threshold,
            "profile": self.profile,
            "heads": self.n_heads,
            "categories": [
                {
                    "category": change.category,
                    "first": change.first,
                    "second": change.second,
                    **{name: head_names(getattr(change, name)) for name in ("kept", "gained", "lost")},
                }
                for change in self.categories
            ],
            "relations": [
                {
                    "relation": change.relation,
                    "category": change.category,
                    "pearson": change.pearson,
                    "changed_most": change.head and head_name(*change.head),
                    "first": change.before,
                    "second": change.after,
                }
                for change in self.relations
            ],
        }


def compare_atlases(
    first: Atlas,
    second: Atlas,
    *,
    kind: str = "score",
    threshold: str | float | None = None,
    profile: str | None = None,
) -> Comparison:
    """Heads gained and lost per category from the first atlas to the second, and the correlation of each relation.

    Args:
        kind: `score` or `suppression`.
        threshold: strict limit, 0 to 1; default: that of both atlases.
        profile: `maps` or `calibrated`; default: that of both atlases.

    Raises:
        AtlasError: the atlases differ in what was measured, in relations, settings or number of heads.
    """
    check_comparable(first, second, {"threshold": threshold, "profile": profile})
    before, after = (classify(atlas, threshold, kind, profile) for atlas in (first, second))
    has_heads = first.has_heads & second.has_heads
    named = [("Any", before.count > 0, after.count > 0)]
    named += [(category, before.of(category), after.of(category)) for category in before.categories]
    return Comparison(
        first=first.name,
        second=second.name,
        kind=kind,
        threshold=before.threshold,
        profile=before.profile,
        n_heads=before.n_heads,
        categories=tuple(CategoryChange(name, was & now, now & ~was, was & ~now) for name, was, now in named),
        relations=tuple(
            _relation_change(str(relation), str(category), was, now, has_heads)
            for relation, category, was, now in zip(
                first.relations, first.data["category"].values, first.kind(kind).values, second.kind(kind).values,
                strict=True,
            )
        ),
        has_heads=has_heads,
    )  # fmt: skip


def check_comparable(first: Atlas, second: Atlas, given: dict[str, Any] | None = None) -> None:
    """Raise `AtlasError` where a difference of the atlases would not be one of the models.

    Args:
        given: values of CLASSIFYING that replace the atlases' own.
    """
    skipped = {name for name, value in (given or {}).items() if value is not None and name in CLASSIFYING}
    rows: list[tuple[str, Any, Any]] = [
        ("the measure", first.measure, second.measure),
        ("layers x heads", f"{first.n_layers} x {first.n_heads}", f"{second.n_layers} x {second.n_heads}"),
        ("the list of layers without heads", _layers_without(first), _layers_without(second)),
    ]
    for name in sorted({*_settings(first), *_settings(second)} - skipped):
        rows.append((name, _settings(first).get(name), _settings(second).get(name)))
    for what, was, now in rows:
        if was != now:
            hint = " Give one for both." if what in CLASSIFYING else ""
            raise AtlasError(
                f"{first.name} and {second.name} cannot be compared: {what} is {was} in the first atlas and {now} in "
                f"the second; expected the same.{hint}"
            )
    if first.relations != second.relations:
        only = sorted(set(first.relations) ^ set(second.relations))
        where = f"{only[0]!r} is measured in one of them only" if only else "their order differs"
        raise AtlasError(
            f"{first.name} and {second.name} cannot be compared: expected the same relations, but {where}. Map both "
            f"with the same relations."
        )
    if _pairs(first) != _pairs(second):
        raise AtlasError(
            f"{first.name} and {second.name} cannot be compared: the relations have other pairs, or another tokenizer "
            f"keeps others of them. Map both with the same relations; models of different tokenizers share no pairs."
        )


def head_names(chosen: np.ndarray) -> list[str]:
    """Names of the chosen heads, layer by layer; `chosen` is Bool[ndarray, "layer head"]."""
    return [head_name(int(layer), int(head)) for layer, head in zip(*chosen.nonzero(), strict=True)]


def _settings(atlas: Atlas) -> dict[str, Any]:
    return atlas.manifest["settings"]


def _pairs(atlas: Atlas) -> object:
    """What identifies the pairs that were scored: a hash over relations and token ids, or their numbers."""
    return (atlas.manifest.get("identity") or {}).get("relations") or atlas.data["pairs"].values.tolist()


def _layers_without(atlas: Atlas) -> str:
    return ", ".join(str(layer) for layer in (~atlas.has_heads).nonzero()[0]) or "empty"


def _relation_change(
    relation: str, category: str, was: np.ndarray, now: np.ndarray, has_heads: np.ndarray
) -> RelationChange:
    import numpy as np

    before, after = was[has_heads], now[has_heads]
    varied = np.ptp(before) > 0 and np.ptp(after) > 0
    at = int(np.abs(after - before).argmax())
    place = np.unravel_index(at, before.shape)
    layer, head = int(np.flatnonzero(has_heads)[place[0]]), int(place[1])
    return RelationChange(
        relation=relation,
        category=category,
        pearson=float(np.corrcoef(before.ravel(), after.ravel())[0, 1]) if varied else None,
        head=(layer, head) if before[place] != after[place] else None,
        before=float(before[place]),
        after=float(after[place]),
    )
