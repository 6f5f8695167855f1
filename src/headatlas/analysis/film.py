"""Models in an order, such as the checkpoints of a training run: when each function appears, where, and if it stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from headatlas.analysis.functions_of_models import READING, ModelFunction, functions_of
from headatlas.atlas import Atlas
from headatlas.errors import SettingsError


@dataclass(frozen=True)
class Scene:
    """One model of the series.

    Args:
        name: of the model in the series; `step`: its place in it.
        atlas: of the model.
    """

    name: str
    step: int
    atlas: Atlas


@dataclass(frozen=True)
class FilmFunction:
    """A relation or a way of reading in all scenes.

    Args:
        function, category: as `ModelFunction`.
        steps: of the scenes.
        moments: the function in each scene; None where it was not measured.
    """

    function: str
    category: str
    steps: tuple[int, ...]
    moments: tuple[ModelFunction | None, ...]

    @property
    def present(self) -> tuple[bool | None, ...]:
        """Whether any head has the function in each scene, beyond chance where that is known; None: not measured."""
        return tuple(None if each is None else bool(each.has) for each in self.moments)

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The scenes in which it is there, as (first, last); scenes in which it was not measured do not interrupt."""
        found: list[list[int]] = []
        open_ = False
        for at, there in enumerate(self.present):
            if there and open_:
                found[-1][1] = at
            elif there:
                found.append([at, at])
            open_ = open_ if there is None else there
        return tuple((first, last) for first, last in found)

    @property
    def appears(self) -> int | None:
        """The first scene in which it is there."""
        return self.spans[0][0] if self.spans else None

    @property
    def stays(self) -> bool:
        """Whether it is there in every measured scene since it appeared."""
        return len(self.spans) == 1 and not any(there is False for there in self.present[self.spans[0][1] :])

    @property
    def lost(self) -> int | None:
        """The first scene without it after the last one with it; None if it stays, or never was there."""
        if not self.spans:
            return None
        last = self.spans[-1][1]
        return next((at for at, there in enumerate(self.present) if at > last and there is False), None)

    def layers(self, scene: int) -> tuple[int, ...]:
        """The layers of the heads that have it in a scene."""
        moment = self.moments[scene]
        return () if moment is None else tuple(sorted({layer for layer, _ in moment.has}))

    def strongest(self, scene: int) -> str | None:
        """The strongest of the heads that have it in a scene."""
        moment = self.moments[scene]
        return moment.name if moment is not None and moment.has else None

    @property
    def sentence(self) -> str:
        """When it appears, in which layers, and whether it stays."""
        if all(there is None for there in self.present):
            return "Not measured."
        first = self.appears
        if first is None:
            return "Does not appear."
        step = self._step(first)
        begin = f"Is there from the first step on ({step})" if first == 0 else f"Appears at step {step}"
        text = f"{begin}, in {_in_layers(self.layers(first))} ({self.strongest(first)})"
        last = self.spans[-1][1]
        if first == len(self.moments) - 1:
            return f"{text}, the last one."
        if self.stays:
            return f"{text}, and stays, {self._at_the_end(first, last)}."
        if len(self.spans) == 1:
            return f"{text}; is gone at step {self._step(self.lost)}."
        gone = next(at for at in range(self.spans[0][1] + 1, len(self.moments)) if self.present[at] is False)
        end = (
            f"{self._step(self.spans[-1][0])}, {self._at_the_end(first, last)}"
            if self.lost is None
            else f"{self._step(self.spans[-1][0])}, and is gone at step {self._step(self.lost)}"
        )
        return f"{text}; is gone at step {self._step(gone)}, and last comes back at step {end}."

    def _at_the_end(self, first: int, last: int) -> str:
        head = self.strongest(last)
        if head == self.strongest(first):
            return "with the same strongest head"
        return f"at the end in {_in_layers(self.layers(last))} ({head})"

    def _step(self, scene: int | None) -> str:
        assert scene is not None
        return f"{self.steps[scene]:,}"


@dataclass(frozen=True)
class Film:
    """A series of models.

    Args:
        scenes: in the order of their steps.
        functions: relations in the order of the first atlas that measured them, then ways of reading.
    """

    scenes: tuple[Scene, ...]
    functions: tuple[FilmFunction, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(scene.step for scene in self.scenes)


def make_film(scenes: Sequence[Scene]) -> Film:
    """Put atlases into an order.

    Args:
        scenes: at least two, in any order; models may differ in size, whose heads are then not the same ones.

    Raises:
        SettingsError: less than two scenes, or two with the same step.

    >>> film = make_film([Scene("late", 10, atlas), Scene("early", 0, atlas)])
    >>> film.steps, film.functions[1].function
    ((0, 10), 'country_to_capital')
    >>> film.functions[1].sentence
    'Is there from the first step on (0), in layer 1 (L1H2), and stays, with the same strongest head.'
    """
    ordered = sorted(scenes, key=lambda scene: scene.step)
    steps = [scene.step for scene in ordered]
    if len(ordered) < 2:
        raise SettingsError(f"film: expected at least two models with a step, found {len(ordered)}.")
    if len(set(steps)) < len(steps):
        twice = next(step for at, step in enumerate(steps) if step in steps[:at])
        raise SettingsError(f"film: expected one model for each step, found two for step {twice}.")
    found = [{(each.category, each.function): each for each in functions_of(scene.atlas)} for scene in ordered]
    # Ways of reading come last in each atlas, also where a later one has relations of its own.
    keys = dict.fromkeys(key for of_scene in found for key in of_scene)
    ordered_keys = sorted(keys, key=lambda key: key[0] == READING)
    functions = tuple(
        FilmFunction(name, category, tuple(steps), tuple(of_scene.get((category, name)) for of_scene in found))
        for category, name in ordered_keys
    )
    return Film(tuple(ordered), functions)


def _in_layers(layers: tuple[int, ...]) -> str:
    names = [str(layer) for layer in layers]
    if len(names) == 1:
        return f"layer {names[0]}"
    if len(names) > 4:
        return f"{len(names)} layers, {names[0]} to {names[-1]}"
    return f"layers {', '.join(names[:-1])} and {names[-1]}"
