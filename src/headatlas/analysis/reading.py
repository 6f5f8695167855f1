"""Where heads look, by name: the behaviours of reading that are large enough, and beyond chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headatlas.atlas import head_name
from headatlas.errors import AtlasError, find_name
from headatlas.settings import MAX_Q, MIN_EXCESS

if TYPE_CHECKING:
    import numpy as np

    from headatlas.atlas import Atlas
    from headatlas.atlas.columns import Columns


@dataclass(frozen=True)
class Behaviour:
    """A behaviour that heads can be named for.

    Args:
        name: as users write it, also in the table `attention`.
        title: as figures and reports show it.
        input: where it is measured, `random` tokens or `text`.
        limit: a head is named if the share of its attention is strictly above this.
        looks: what the head looks at, behind `Looks at`.
    """

    name: str
    title: str
    input: str
    limit: float
    looks: str


BEHAVIOURS = (
    Behaviour("previous", "Previous token", "random", 0.3, "the previous token"),
    Behaviour("induction", "Induction", "random", 0.3, "the token behind an earlier copy of the current one"),
    Behaviour("duplicate", "Duplicate", "random", 0.3, "an earlier copy of the current token"),
    Behaviour("self", "Self", "random", 0.3, "the current token"),
    Behaviour("sink", "Sink", "text", 0.5, "the first token"),
    Behaviour("local", "Local", "text", 0.5, "the few tokens before"),
    Behaviour("delimiter", "Delimiter", "text", 0.3, "punctuation and line breaks"),
)
"""In the order in which figures and reports show them; docs/evidence.md says how the limits were chosen."""


def find_behaviour(name: str) -> Behaviour:
    """The behaviour of this name, in any case, one of BEHAVIOURS."""
    known = find_name("reads", name, [each.name for each in BEHAVIOURS])
    return next(each for each in BEHAVIOURS if each.name == known)


SINK = "sink"

LIMITS = {each.name: each.limit for each in BEHAVIOURS}


@dataclass(frozen=True)
class Reading:
    """Where the heads of an atlas look; all arrays (behaviour, layer, head), NaN where nothing was measured.

    Args:
        value, chance, q: the share of attention, what shuffled attention would give, and the q-value.
        limits: of each behaviour.
        measured: heads whose attention was measured: Bool[ndarray, "layer head"].
    """

    value: np.ndarray
    chance: np.ndarray
    q: np.ndarray
    limits: Mapping[str, float]
    measured: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in BEHAVIOURS)

    @cached_property
    def has(self) -> np.ndarray:
        """The behaviours of each head: Bool[ndarray, "behaviour layer head"].

        A share is above its limit, significant (q < MAX_Q), and exceeds chance by more than MIN_EXCESS. A head of the
        previous token is local for that reason, so it is not named local too.
        """
        import numpy as np

        limits = np.array([self.limits[name] for name in self.names])[:, None, None]
        has = (self.value > limits) & (self.q < MAX_Q) & (self.value - self.chance > MIN_EXCESS)
        has[self.names.index("local")] &= ~has[self.names.index("previous")]
        has.flags.writeable = False
        return has

    @cached_property
    def count(self) -> np.ndarray:
        """The number of behaviours of each head: Int[ndarray, "layer head"]."""
        return self.has.sum(0)

    def of(self, name: str) -> np.ndarray:
        """The heads with this behaviour: Bool[ndarray, "layer head"]."""
        return self.has[self.names.index(name)]

    def only(self, name: str) -> np.ndarray:
        """The heads with this behaviour and no other: Bool[ndarray, "layer head"]."""
        return self.of(name) & (self.count == 1)

    @property
    def n_heads(self) -> int:
        """Number of heads whose attention was measured."""
        return int(self.measured.sum())

    @property
    def n_named(self) -> int:
        """Number of heads with a behaviour."""
        return int((self.count > 0).sum())

    def heads_of(self, name: str) -> list[tuple[int, int]]:
        """The heads with this behaviour, the strongest first: (layer, head)."""
        return [(layer, head) for layer, head, _ in self.strongest(name)]

    def strongest(self, name: str) -> list[tuple[int, int, float]]:
        """The heads with this behaviour, the strongest first: (layer, head, share)."""
        import numpy as np

        value = self.value[self.names.index(name)]
        places = [(int(layer), int(head)) for layer, head in np.argwhere(self.of(name))]
        return sorted(((*place, float(value[place])) for place in places), key=lambda each: (-each[2], each))

    def places(self, name: str) -> dict[str, float]:
        """The heads with a behaviour by their names, the strongest first, with their shares.

        Raises:
            SettingsError: there is no such behaviour.
        """
        found = self.strongest(find_name("reads", name, self.names))
        return {head_name(layer, head): share for layer, head, share in found}

    def looks(self, layer: int, head: int) -> str | None:
        """Where a head looks, as the beginning of a sentence; None if that was not measured."""
        if not self.measured[layer, head]:
            return None
        found = [
            (float(self.value[number, layer, head]), each)
            for number, each in enumerate(BEHAVIOURS)
            if self.has[number, layer, head]
        ]
        if not found:
            return "Looks at nothing that has a name"
        # The sink takes what a head does not use elsewhere.
        found.sort(key=lambda each: (each[1].name == SINK, -each[0]))
        parts = [
            f"at {each.looks} ({each.title.lower()}, {share:.2f} of its attention{' on text' * (each.input == 'text')})"
            for share, each in found
        ]
        if len(found) > 1 and found[-1][1].name == SINK:
            return f"Looks {' and '.join(parts[:-1])}, otherwise {parts[-1]}"
        return f"Looks {' and '.join(parts)}"


def measured_reading(atlas: Atlas) -> Reading:
    """As `find_reading`, where there has to be one.

    Raises:
        AtlasError: the attention of the heads was not measured.
    """
    reading = find_reading(atlas)
    if reading is None:
        raise AtlasError(
            f"{atlas.name}: expected where its heads look, found nothing. Measure it with `headatlas attention`."
        )
    return reading


def find_reading(atlas: Atlas, limits: Mapping[str, float] | None = None) -> Reading | None:
    """Where the heads of an atlas look; None if that was not measured.

    Args:
        limits: of some behaviours; default: those of the measurement.
    """
    import numpy as np

    table = atlas.evidence_columns("attention")
    facts = atlas.manifest.evidence.attention
    if table is None or facts is None:
        return None
    columns = ("value", "chance", "q_value")
    arrays = {name: np.full((len(BEHAVIOURS), atlas.n_layers, atlas.n_heads), np.nan) for name in columns}
    measured = np.zeros((atlas.n_layers, atlas.n_heads), dtype=bool)
    for number, behaviour in enumerate(BEHAVIOURS):
        rows = _rows_of(table, behaviour)
        layers, heads = rows.numbers("layer"), rows.numbers("head")
        measured[layers, heads] = True
        for name, array in arrays.items():
            array[number, layers, heads] = rows.numbers(name)
    if not measured.any():
        return None
    return Reading(*arrays.values(), limits=LIMITS | dict(facts.limits) | dict(limits or {}), measured=measured)


def _rows_of(table: Columns, behaviour: Behaviour) -> Columns:
    """The rows of a behaviour in the table `attention`."""
    return table.take(table.texts("input").equal(behaviour.input) & table.texts("behaviour").equal(behaviour.name))


def reading_heads(atlas: Atlas, name: str) -> list[dict[str, Any]]:
    """The heads with a behaviour, the strongest first: name, layer, head, behaviour, share, low, high, chance, q.

    A row per head in JSON types.

    Raises:
        AtlasError: the attention of the heads was not measured.
        SettingsError: there is no such behaviour.
    """
    found, behaviour = measured_reading(atlas).places(name), find_behaviour(name)
    table = atlas.evidence_columns("attention")
    assert table is not None
    rows = {head_name(row["layer"], row["head"]): row for row in _rows_of(table, behaviour).rows()}
    columns = {"share": "value", "q": "q_value"}
    shown = ("layer", "head", "behaviour", "share", "low", "high", "chance", "q")
    return [{"name": each} | {name: rows[each][columns.get(name, name)] for name in shown} for each in found]
