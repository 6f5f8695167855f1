"""Two atlases of the same measurement, head by head: categories gained and lost, and the agreement of scores.

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

CLASSIFYING = ("threshold", "rule")
"""Settings that sort scores into categories; two atlases may differ in them if the caller gives a value for both."""


@dataclass(frozen=True)
class CategoryChange:
    """The heads with a category in at least one of the two atlases.

    Args:
        kept, gained, lost: in both, only in the second, only in the first: Bool[ndarray, "layer head"].
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
        pearson: correlation over heads, -1 to 1; None if the shares of an atlas are the same for all heads.
        head: the (layer, head) with the largest change; None if no share changed.
        before, after: its shares in the first and the second atlas.
    """

    relation: str
    category: str
    pearson: float | None
    head: tuple[int, int] | None
    before: float
    after: float


@dataclass(frozen=True)
class Comparison:
    """The differences between two atlases.

    Args:
        first, second: names of the models.
        side, threshold, rule: how heads were classified, the same for both.
        n_heads: heads of each model.
        categories: changes by category, in the order of figures; the first, `Any`, is for heads with any category.
        relations: changes by relation, in the atlases' order.
        has_heads: the layers that have attention heads: Bool[ndarray, "layer"].
    """

    first: str
    second: str
    side: str
    threshold: str
    rule: str
    n_heads: int
    categories: tuple[CategoryChange, ...]
    relations: tuple[RelationChange, ...]
    has_heads: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """The comparison in JSON types."""
        return {
            "first": self.first,
            "second": self.second,
            "side": self.side,
            "threshold": self.threshold,
            "rule": self.rule,
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
    side: str = "score",
    threshold: str | float | None = None,
    rule: str | None = None,
) -> Comparison:
    """Compare two atlases: heads gained and lost in each category, and the correlation of scores for each relation.

    Args:
        side: `score` or `suppression`.
        threshold: strict limit, 0 to 1; default: the atlases' own, which must agree.
        rule: `plain` or `calibrated`; default: the atlases' own, which must agree.

    Raises:
        AtlasError: the atlases differ in what was measured, in relations, settings or number of heads.
    """
    check_comparable(first, second, {"threshold": threshold, "rule": rule})
    before, after = (classify(atlas, threshold, side, rule) for atlas in (first, second))
    has_heads = first.has_heads & second.has_heads
    named = [("Any", before.count > 0, after.count > 0)]
    named += [(category, before.of(category), after.of(category)) for category in before.categories]
    return Comparison(
        first=first.name,
        second=second.name,
        side=side,
        threshold=before.threshold,
        rule=before.rule,
        n_heads=before.n_heads,
        categories=tuple(CategoryChange(name, was & now, now & ~was, was & ~now) for name, was, now in named),
        relations=tuple(
            _relation_change(str(relation), str(category), was, now, has_heads)
            for relation, category, was, now in zip(
                first.relations, first.data["category"].values, first.share(side).values, second.share(side).values,
                strict=True,
            )
        ),
        has_heads=has_heads,
    )  # fmt: skip


def check_comparable(first: Atlas, second: Atlas, given: dict[str, Any] | None = None) -> None:
    """Raise `AtlasError` if the atlases differ in anything but the model.

    Args:
        given: values for CLASSIFYING that replace the atlases' own.
    """
    _check_same(
        first,
        second,
        [
            ("measure", first.measure, second.measure),
            ("layers x heads", f"{first.n_layers} x {first.n_heads}", f"{second.n_layers} x {second.n_heads}"),
            ("layers without heads", _layers_without(first), _layers_without(second)),
        ],
    )
    check_same_choice(first, second, given)
    others = sorted({*_settings(first), *_settings(second)} - set(CLASSIFYING))
    _check_same(first, second, [(name, _settings(first).get(name), _settings(second).get(name)) for name in others])
    if first.relations != second.relations:
        only = sorted(set(first.relations) ^ set(second.relations))
        difference = f"{only[0]!r} only in one of them" if only else "another order"
        raise AtlasError(
            f"{first.name} and {second.name} cannot be compared: expected the same relations, found {difference}. "
            f"Map both with the same relations."
        )
    if _pairs(first) != _pairs(second):
        raise AtlasError(
            f"{first.name} and {second.name} cannot be compared: expected the same pairs of tokens, found others. Map "
            f"both with the same relations; models with different tokenizers share no pairs."
        )


def heads_correspond(first: Atlas, second: Atlas, given: dict[str, Any] | None = None) -> bool:
    """Whether two atlases can be compared head by head; `given` as for `check_comparable`."""
    try:
        check_comparable(first, second, given)
    except AtlasError:
        return False
    return True


def check_same_choice(first: Atlas, second: Atlas, given: dict[str, Any] | None = None) -> None:
    """Raise `AtlasError` if the atlases differ in a value of CLASSIFYING for which none is given."""
    given = given or {}
    was, now = _settings(first), _settings(second)
    names = [name for name in CLASSIFYING if given.get(name) is None]
    _check_same(first, second, [(name, was.get(name), now.get(name)) for name in names])


def _check_same(first: Atlas, second: Atlas, rows: list[tuple[str, Any, Any]]) -> None:
    """Raise `AtlasError` at the first of `rows`, (what, in the first atlas, in the second), that differs."""
    for what, was, now in rows:
        if was != now:
            hint = " Give one value for both." if what in CLASSIFYING else ""
            raise AtlasError(
                f"{first.name} and {second.name} cannot be compared: expected the same {what}, found {was} in the "
                f"first atlas and {now} in the second.{hint}"
            )


def head_names(chosen: np.ndarray) -> list[str]:
    """Names of the heads in `chosen`, Bool[ndarray, "layer head"], layer by layer."""
    return [head_name(int(layer), int(head)) for layer, head in zip(*chosen.nonzero(), strict=True)]


def _settings(atlas: Atlas) -> dict[str, Any]:
    return vars(atlas.manifest.settings)


def _pairs(atlas: Atlas) -> object:
    """Identifies the scored pairs: a hash of relations and token ids, or the numbers of pairs."""
    identity = atlas.manifest.identity
    relations = identity.get("relations") if isinstance(identity, dict) else None
    return relations or atlas.data["pairs"].values.tolist()


def _layers_without(atlas: Atlas) -> str:
    return ", ".join(str(layer) for layer in (~atlas.has_heads).nonzero()[0]) or "none"


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
