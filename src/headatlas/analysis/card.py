"""A head's card: everything that an atlas knows of one head, as plain data. What was not measured is None."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headatlas.analysis.categories import Classification, classify
from headatlas.analysis.descriptions.describing import operations_of
from headatlas.atlas import Atlas, head_name, records
from headatlas.errors import AtlasError, SettingsError

if TYPE_CHECKING:
    import pandas as pd

MOST_EXAMPLES = 6


def parse_head(atlas: Atlas, name: str) -> tuple[int, int]:
    """Layer and head of a name such as `L23H4`.

    Raises:
        SettingsError: not such a name, or the model has no such head.
    """
    found = refuse_bad_name(name)
    layer, head = int(found[1]), int(found[2])
    if layer >= atlas.n_layers or head >= atlas.n_heads:
        last = head_name(atlas.n_layers - 1, atlas.n_heads - 1)
        raise SettingsError(f"head: expected L0H0 to {last} in {atlas.name}, found {name!r}.")
    if not atlas.has_heads[layer]:
        raise AtlasError(f"{atlas.name}: layer {layer} has no attention heads, so that there is no {name!r}.")
    return layer, head


def refuse_bad_name(name: str) -> re.Match[str]:
    """Raise `SettingsError` for what is no head's name, whatever the model; else its two numbers."""
    found = re.fullmatch(r"L(\d{1,6})H(\d{1,6})", name.strip(), re.IGNORECASE | re.ASCII)
    if found is None:
        raise SettingsError(f"head: expected a name such as L23H4, found {name!r}.")
    return found


@dataclass(frozen=True)
class Card:
    """What an atlas knows of one head.

    Args:
        atlas: that it is in.
        layer, head: counted from 0.
        profile: that says which relations it implements: `maps` or `calibrated`.
    """

    atlas: Atlas
    layer: int
    head: int
    profile: str

    @property
    def name(self) -> str:
        return head_name(self.layer, self.head)

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON types; None is what was not measured."""
        model = self.atlas.manifest.model
        return {
            "name": self.name,
            "layer": self.layer,
            "head": self.head,
            "model": {name: getattr(model, name) for name in ("name", "source", "fingerprint", "note")},
            "measure": self.atlas.measure,
            "label": self.atlas.label,
            "profile": self.profile,
            "threshold": self.atlas.threshold,
            "validity": self.validity,
            "categories": list(self.categories),
            "description": self.description,
            "relations": self.relations,
            "validation": self.validation,
            "ablation": self.ablation,
            "salient": self.salient,
            "similar": self.similar,
            "key_value_group": self.key_value_group,
            "layer_context": self.layer_context,
        }

    @cached_property
    def _classification(self) -> Classification:
        return classify(self.atlas, profile=self.profile)

    @property
    def categories(self) -> tuple[str, ...]:
        return self._categories_of(self.layer, self.head)

    @cached_property
    def validity(self) -> dict[str, str]:
        """How far the head's circuit is exact, and why."""
        kind = self.atlas.validity[self.layer]
        why = next((each.why for each in self.atlas.manifest.model.validity if self.layer in each.layers), "")
        return {"kind": kind, "why": why}

    @cached_property
    def description(self) -> dict[str, Any] | None:
        rows = self._rows("descriptions")
        return None if not rows else {name: rows[0][name] for name in ("description", "rule", "confidence")}

    @cached_property
    def relations(self) -> list[dict[str, Any]]:
        """All measured relations, the strongest first: share, counts, interval, chance and q-value of both sides."""
        atlas, place = self.atlas, (self.layer, self.head)
        found = []
        for at, name in enumerate(atlas.relations):
            known: dict[str, Any] = {"relation": name, "category": str(atlas.data["category"].values[at])}
            for what in ("k", "pairs"):
                known[what] = int(atlas.data[what].values[at]) or None
            known["implements"] = bool(self._classification.implements[(at, *place)])
            for side, counts in (("score", "hits"), ("suppression", "suppression_hits")):
                known[side] = _number(atlas.data.get(side), at, *place)
                count = _number(atlas.data.get(counts), at, *place)
                known[counts] = None if count is None else int(count)
                known |= {f"{side}_{what}": value for what, value in self._statistics(side, at).items()}
            known["examples"] = self._examples(name, known["pairs"])
            found.append(known)
        return sorted(found, key=lambda each: (-each["score"], each["relation"]))

    def _statistics(self, side: str, at: int) -> dict[str, Any]:
        if side not in self.atlas.data:
            return dict.fromkeys(("interval", "chance", "chance_exact", "p", "q"))
        place = (at, self.layer, self.head)
        told = self._of_all[side]
        interval = told["interval"]
        exact = _number(told["chance_exact"], *place)
        return {
            "interval": None if interval is None else [_number(end, *place) for end in interval],
            "chance": _number(told["chance"], *place),
            "chance_exact": None if exact is None else bool(exact),
            "p": _number(told["p"], *place),
            "q": _number(told["q"], *place),
        }

    @cached_property
    def _of_all(self) -> dict[str, dict[str, Any]]:
        """Statistics of all heads: q-values depend on all of them."""
        atlas = self.atlas
        return {
            side: {
                "interval": atlas.interval(side),
                "chance": atlas.chance(side),
                "chance_exact": atlas.chance_exact(side),
                "p": atlas.p_values(side),
                "q": atlas.q_values(side),
            }
            for side in ("score", "suppression")
            if side in atlas.data
        }

    def _examples(self, relation: str, pairs: int | None) -> dict[str, Any] | None:
        """Pairs that the head promotes, that it suppresses, and that it does not promote but some other head does.

        The atlas keeps hits alone: of a pair that no head hits it does not tell whether it was measured.
        """
        hits = self._hits_of(relation)
        if hits is None:
            return None
        own = (hits["layer"] == self.layer) & (hits["head"] == self.head)
        told = {side: _pairs(hits.loc[own & (hits["side"] == side)]) for side in ("promoted", "suppressed")}
        hit = set(told["promoted"])
        missed = [pair for pair in _pairs(hits) if pair not in hit]
        lists = {"hit": told["promoted"], "missed": missed, "suppressed": told["suppressed"]}
        return {name: [list(pair) for pair in each[:MOST_EXAMPLES]] for name, each in lists.items()}

    def _hits_of(self, relation: str) -> pd.DataFrame | None:
        return None if self.atlas.pair_hits is None else self._hits_by_relation.get(relation, _no_hits(self.atlas))

    @cached_property
    def _hits_by_relation(self) -> dict[str, pd.DataFrame]:
        assert self.atlas.pair_hits is not None
        return {str(name): hits for name, hits in self.atlas.pair_hits.groupby("relation", sort=False)}

    @cached_property
    def salient(self) -> list[dict[str, Any]] | None:
        table = self.atlas.evidence("salient")
        if table is None:
            return None
        own = self._own(table)
        strength = own.groupby("rank")["amplification"].first().tolist()
        return [
            {
                "token_id": each.token_id,
                "token": each.token,
                "amplification": amplification,
                "promoted": [word for _, word in each.promoted],
                "suppressed": [word for _, word in each.suppressed],
            }
            for each, amplification in zip(operations_of(own), strength, strict=True)
        ]

    @cached_property
    def similar(self) -> list[dict[str, Any]] | None:
        """The heads whose outputs are most like this one's, with their categories."""
        rows = self._rows("similar")
        if rows is None:
            return None
        return [
            {
                "name": head_name(row["other_layer"], row["other_head"]),
                "similarity": row["similarity"],
                "categories": list(self._categories_of(row["other_layer"], row["other_head"])),
            }
            for row in sorted(rows, key=lambda row: row["rank"])
        ]

    @cached_property
    def validation(self) -> list[dict[str, Any]] | None:
        return self._rows("validation")

    @cached_property
    def ablation(self) -> list[dict[str, Any]] | None:
        """What removing the heads of the relations that this head implements did; they were removed together."""
        table = self.atlas.evidence("ablation")
        if table is None:
            return None
        implemented = {each["relation"] for each in self.relations if each["implements"]}
        return records(table.loc[table["relation"].isin(list(implemented))])

    @cached_property
    def key_value_group(self) -> dict[str, Any] | None:
        """The heads that read the same key-value head; None where it is not known."""
        group = self.atlas.group_of(self.head)
        if group is None:
            return None
        kv_head, heads = group
        return {"kv_head": kv_head, "heads": self._named([(self.layer, head) for head in heads])}

    @cached_property
    def layer_context(self) -> dict[str, Any]:
        """The heads of the same layer, and how many of them have each category."""
        classification = self._classification
        return {
            "n_heads": self.atlas.n_heads,
            "classified": int((classification.count[self.layer] > 0).sum()),
            "categories": {name: int(classification.of(name)[self.layer].sum()) for name in classification.categories},
            "heads": self._named([(self.layer, head) for head in range(self.atlas.n_heads)]),
        }

    def _named(self, places: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        return [{"name": head_name(*place), "categories": list(self._categories_of(*place))} for place in places]

    def _categories_of(self, layer: int, head: int) -> tuple[str, ...]:
        classification = self._classification
        return tuple(name for name in classification.categories if classification.of(name)[layer, head])

    def _own(self, table: pd.DataFrame) -> pd.DataFrame:
        """The head's own rows of a table of evidence."""
        return table.loc[(table["layer"] == self.layer) & (table["head"] == self.head)]

    def _rows(self, evidence: str) -> list[dict[str, Any]] | None:
        table = self.atlas.evidence(evidence)
        if table is None:
            return None
        own = self._own(table)
        return records(own.drop(columns=["layer", "head"]))


def head_card(atlas: Atlas, name: str, profile: str | None = None) -> Card:
    """The card of the head `name`, such as `L23H4`.

    Args:
        profile: `maps` or `calibrated`; default: the atlas's own.

    Raises:
        SettingsError: there is no such head.
    """
    profile = atlas.profile if profile is None else profile
    classify(atlas, profile=profile)  # an atlas without chance levels has no such profile: say so at once
    return Card(atlas, *parse_head(atlas, name), profile)


def _number(array: Any, *place: int) -> float | None:
    import math

    if array is None:
        return None
    value = float(array.values[place])
    return None if math.isnan(value) else value


def _pairs(hits: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(hits["source"], hits["target"], strict=True)))


def _no_hits(atlas: Atlas) -> pd.DataFrame:
    assert atlas.pair_hits is not None
    return atlas.pair_hits.iloc[:0]
