"""A head's card: everything that an atlas contains about one head, as plain data; None for what was not measured."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from headatlas.analysis.categories import Classification, classify
from headatlas.analysis.composition import find_composition
from headatlas.analysis.descriptions.describing import operations_of
from headatlas.analysis.reading import BEHAVIOURS, find_reading
from headatlas.analysis.reading_words import words_of
from headatlas.analysis.sentences import Sentences
from headatlas.atlas import HITS_SIDES, HITS_VARIABLES, SIDES, Atlas, head_name
from headatlas.errors import AtlasError, SettingsError

if TYPE_CHECKING:
    import numpy as np

MOST_EXAMPLES = 6

UNDERFLOWS = "its output is below what float32, bfloat16 and float16 hold: a running model computes zeros there"

UNCOPIED = (
    "copying",
    "uncopied",
    "uncopied_hits",
    "uncopied_pairs",
    "uncopied_interval",
    "uncopied_chance",
    "uncopied_q",
)
"""What copying says about a score, one of `BY_COPYING`, and the score among the pairs that copying misses."""


def parse_head(atlas: Atlas, name: str) -> tuple[int, int]:
    """Layer and head of a name such as `L23H4`.

    Raises:
        SettingsError: not such a name, or the model has no such head.
    """
    return parse_place(name, atlas.name, atlas.n_heads, atlas.has_heads)


def parse_place(name: str, model: str, n_heads: int, has_heads: Sequence[bool] | np.ndarray) -> tuple[int, int]:
    """The same for a model that was not mapped yet.

    Args:
        model: its name, for messages.
        has_heads: which layers have attention heads: Bool[ndarray, "layer"].
    """
    found = refuse_bad_name(name)
    layer, head = int(found[1]), int(found[2])
    if layer >= len(has_heads) or head >= n_heads:
        last = head_name(len(has_heads) - 1, n_heads - 1)
        raise SettingsError(f"head: expected L0H0 to {last} in {model}, found {name!r}.")
    if not has_heads[layer]:
        raise AtlasError(f"{model}: layer {layer} has no attention heads, so there is no head {name!r}.")
    return layer, head


def refuse_bad_name(name: str) -> re.Match[str]:
    """The two numbers of a head's name; raises `SettingsError` if it cannot be one in any model."""
    found = re.fullmatch(r"L(\d{1,6})H(\d{1,6})", name.strip(), re.IGNORECASE | re.ASCII)
    if found is None:
        raise SettingsError(f"head: expected a name such as L23H4, found {name!r}.")
    return found


@dataclass(frozen=True)
class Card:
    """Everything that an atlas contains about one head.

    Args:
        atlas: the atlas of the head.
        layer, head: its place, counted from 0.
        rule: `plain` or `calibrated`; decides which relations the head implements.
    """

    atlas: Atlas
    layer: int
    head: int
    rule: str

    @property
    def name(self) -> str:
        return head_name(self.layer, self.head)

    def as_dict(self) -> dict[str, Any]:
        """The card in JSON types; None for what was not measured."""
        model = self.atlas.manifest.model
        return {
            "name": self.name,
            "layer": self.layer,
            "head": self.head,
            "model": {name: getattr(model, name) for name in ("name", "source", "fingerprint", "note")},
            "measure": self.atlas.measure,
            "label": self.atlas.label,
            "rule": self.rule,
            "threshold": self.atlas.threshold,
            "validity": self.validity,
            "categories": list(self.categories),
            "suppressed_categories": list(self.suppressed_categories),
            "sentence": self.sentence,
            "missing": self._sentences.missing,
            "shown": list(self._sentences.shown(self.layer, self.head)),
            "description": self.description,
            "written": self.written,
            "reading": self.reading,
            "composition": self.composition,
            "reading_words": self.reading_words,
            "relations": self.relations,
            "validation": self.validation,
            "ablation": self.ablation,
            "removal": self.removal,
            "headvis": self.headvis,
            "salient": self.salient,
            "similar": self.similar,
            "key_value_group": self.key_value_group,
            "layer_context": self.layer_context,
        }

    @cached_property
    def _classification(self) -> Classification:
        return classify(self.atlas, rule=self.rule)

    @property
    def categories(self) -> tuple[str, ...]:
        return self._categories_of(self.layer, self.head)

    @property
    def suppressed_categories(self) -> tuple[str, ...]:
        """The categories of the relations that it suppresses; none if suppression is not known."""
        if not self.atlas.has_suppression:
            return ()
        found = classify(self.atlas, side="suppression", rule=self.rule)
        return tuple(name for name in found.categories if found.of(name)[self.layer, self.head])

    @cached_property
    def validity(self) -> dict[str, str]:
        """How exact the head's circuit is, and why."""
        kind = self.atlas.validity[self.layer]
        why = next((each.why for each in self.atlas.manifest.model.validity if self.layer in each.layers), "")
        if head_name(self.layer, self.head) in self.atlas.manifest.model.underflow:
            why = f"{why}; {UNDERFLOWS}" if why else UNDERFLOWS
        return {"kind": kind, "why": why}

    @cached_property
    def sentence(self) -> str:
        """Where the head looks, what it writes, and what is lost without it; and what measures what is not known."""
        sentence = self._sentences.of(self.layer, self.head)
        assert sentence is not None
        return f"{sentence} {self._sentences.missing}" if self._sentences.missing else sentence

    @cached_property
    def _sentences(self) -> Sentences:
        return Sentences(self.atlas, self._classification)

    @cached_property
    def description(self) -> dict[str, Any] | None:
        rows = self._rows("descriptions")
        return None if not rows else {name: rows[0][name] for name in ("description", "rule", "confidence")}

    @cached_property
    def written(self) -> dict[str, Any] | None:
        """The sentence that a language model wrote, with its score; None if there is none."""
        from headatlas.analysis.written import read_written

        rows, facts = read_written(self.atlas), self.atlas.manifest.evidence.written
        row = None if rows is None else rows.get((self.layer, self.head))
        return None if row is None or facts is None else {"model": facts.model} | row.as_dict()

    @cached_property
    def reading(self) -> dict[str, Any] | None:
        """Where the head looks: in words, and all shares of its attention with what is named."""
        found, rows = find_reading(self.atlas), self._rows("attention")
        looks = None if found is None else found.looks(self.layer, self.head)
        if found is None or rows is None or looks is None:
            return None
        named = {(each.input, each.name) for each in BEHAVIOURS if found.of(each.name)[self.layer, self.head]}
        return {
            "looks": looks,
            "behaviours": [row | {"named": (row["input"], row["behaviour"]) in named} for row in rows],
        }

    @cached_property
    def composition(self) -> dict[str, Any] | None:
        """Which heads feed this one and which it feeds: a sentence, and the edges that are named."""
        found = find_composition(self.atlas)
        if found is None or not self.atlas.has_heads[self.layer]:
            return None
        return {
            "sentence": found.sentence(self.layer, self.head),
            "fed_by": [each.as_dict() for each in found.into(self.layer, self.head)],
            "feeds": [each.as_dict() for each in found.out_of(self.layer, self.head)],
        }

    @cached_property
    def reading_words(self) -> dict[str, Any] | None:
        """The words that the head looks for, from its weights, and how far that agrees with attention on text."""
        found = words_of(self.atlas, self.layer, self.head)
        return None if found is None else found.as_dict()

    @cached_property
    def relations(self) -> list[dict[str, Any]]:
        """All measured relations, strongest first: share, counts, interval, chance and q-value for both sides."""
        atlas, place = self.atlas, (self.layer, self.head)
        found = []
        for at, name in enumerate(atlas.relations):
            known: dict[str, Any] = {"relation": name, "category": atlas.grid.categories[at]}
            known |= {"k": int(atlas.grid.k[at]) or None, "pairs": int(atlas.grid.pairs[at]) or None}
            known["implements"] = bool(self._classification.implements[(at, *place)])
            for side, counts in HITS_VARIABLES.items():
                known[side] = _number(atlas.grid.arrays.get(side), at, *place)
                count = _number(atlas.grid.arrays.get(counts), at, *place)
                known[counts] = None if count is None else int(count)
                known |= {f"{side}_{what}": value for what, value in self._statistics(side, at).items()}
            known["examples"] = self._examples(name)
            found.append(known)
        return sorted(found, key=lambda each: (-each["score"], each["relation"]))

    def _statistics(self, side: str, at: int) -> dict[str, Any]:
        if side not in self.atlas.grid:
            return dict.fromkeys(("interval", "chance", "chance_exact", "p", "q", *UNCOPIED))
        arrays = self._of_all[side]

        def number(name: str) -> float | None:
            return _number(arrays[name], at, self.layer, self.head)

        def interval(name: str) -> list[float | None] | None:
            ends = [number(f"{name}low"), number(f"{name}high")]
            return None if ends[0] is None else ends

        exact = number("chance_exact")
        found = {
            "interval": interval(""),
            "chance": number("chance"),
            "chance_exact": None if exact is None else bool(exact),
            "p": number("p"),
            "q": number("q"),
        }
        copying, hits, pairs = arrays["copying"], number("uncopied_hits"), number("uncopied_pairs")
        if copying is None or hits is None or pairs is None:
            return found | dict.fromkeys(UNCOPIED)
        # The shares are None if copying misses too few pairs.
        return found | {
            "copying": str(copying[at, self.layer, self.head]),
            "uncopied": number("uncopied"),
            "uncopied_hits": int(hits),
            "uncopied_pairs": int(pairs),
            "uncopied_interval": interval("uncopied_"),
            "uncopied_chance": number("uncopied_chance"),
            "uncopied_q": number("uncopied_q"),
        }

    @cached_property
    def _of_all(self) -> dict[str, dict[str, np.ndarray | None]]:
        """Statistics of all heads, because q-values depend on all of them."""
        return {side: self.atlas.statistics(side) for side in SIDES if side in self.atlas.grid}

    def _examples(self, relation: str) -> dict[str, Any] | None:
        """Pairs that the head promotes, that it suppresses, and that other heads promote but this one does not.

        An atlas stores hits only, so pairs that no head hits are not among the missed ones.
        """
        if self.atlas.hits_columns is None:
            return None
        own = {side: self._own_pairs.get((relation, side), []) for side in HITS_SIDES.values()}
        hit = set(own["promoted"])
        missed = (pair for pair in self._pairs.get(relation, ()) if pair not in hit)
        lists = {"hit": own["promoted"], "missed": missed, "suppressed": own["suppressed"]}
        return {name: [list(pair) for pair in islice(each, MOST_EXAMPLES)] for name, each in lists.items()}

    @cached_property
    def _own_pairs(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """The pairs that the head hits, by relation and side."""
        assert self.atlas.hits_columns is not None
        found: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
        for row in self.atlas.hits_columns.of_head(self.layer, self.head).rows():
            found.setdefault((row["relation"], row["side"]), {})[row["source"], row["target"]] = None
        return {place: list(pairs) for place, pairs in found.items()}

    @cached_property
    def _pairs(self) -> dict[str, list[tuple[str, str]]]:
        """The pairs of each relation that any head hits."""
        import numpy as np

        hits = self.atlas.hits_columns
        assert hits is not None
        place = np.zeros(len(hits), dtype=np.int64)
        for name in ("relation", "source", "target"):
            numbers, texts = hits.texts(name).factorised
            place = place * len(texts) + numbers
        first = np.sort(np.unique(place, return_index=True)[1])
        found: dict[str, list[tuple[str, str]]] = {}
        for row in hits.take(first).rows():
            found.setdefault(row["relation"], []).append((row["source"], row["target"]))
        return found

    @cached_property
    def salient(self) -> list[dict[str, Any]] | None:
        rows = self._rows("salient")
        if rows is None:
            return None
        strength: dict[int, float] = {}
        for row in rows:
            strength.setdefault(row["rank"], row["amplification"])
        return [
            {
                "token_id": each.token_id,
                "token": each.token,
                "amplification": strength[rank],
                "promoted": [word for _, word in each.promoted],
                "suppressed": [word for _, word in each.suppressed],
            }
            for rank, each in zip(sorted(strength), operations_of(rows), strict=True)
        ]

    @cached_property
    def similar(self) -> list[dict[str, Any]] | None:
        """The heads with the most similar outputs, with their categories."""
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
        """The effects of removing the heads of each relation that this head implements, which are removed together."""
        table = self.atlas.evidence_columns("ablation")
        if table is None:
            return None
        implemented = {each["relation"] for each in self.relations if each["implements"]}
        return table.take(table.texts("relation").among(implemented)).rows()

    @cached_property
    def removal(self) -> dict[str, Any] | None:
        """What copying from context loses without this head; None if it was not removed."""
        rows = self._rows("removal")
        return rows[0] if rows else None

    @cached_property
    def headvis(self) -> dict[str, Any] | None:
        """HeadVis' metrics of this head, which are not the shares of `reading`; None if there are none."""
        rows = self._rows("headvis")
        return rows[0] if rows else None

    @cached_property
    def key_value_group(self) -> dict[str, Any] | None:
        """The heads that read the same key-value head; None if that is not known."""
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

    def _rows(self, evidence: str) -> list[dict[str, Any]] | None:
        """The head's own rows of a table of evidence."""
        table = self.atlas.evidence_columns(evidence)
        if table is None:
            return None
        rows = table.of_head(self.layer, self.head).rows()
        return [{name: value for name, value in row.items() if name not in ("layer", "head")} for row in rows]


def head_card(atlas: Atlas, name: str, rule: str | None = None) -> Card:
    """The card of one head.

    Args:
        name: such as `L23H4`.
        rule: `plain` or `calibrated`; default: the atlas's own.

    Raises:
        SettingsError: there is no such head.
    """
    rule = atlas.rule if rule is None else rule
    classify(atlas, rule=rule)  # fails early if the atlas lacks what the rule needs
    return Card(atlas, *parse_head(atlas, name), rule)


def _number(array: np.ndarray | None, *place: int) -> float | None:
    value = math.nan if array is None else float(array[place])
    return None if math.isnan(value) else value
