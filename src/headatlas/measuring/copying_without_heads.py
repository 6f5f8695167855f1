"""What heads that are named for a way of reading do for in-context copying: it is measured without each of them.

On random tokens that are shown twice, a model that copies predicts the tokens of the second half. A removed head's
output is replaced by its mean over tokens, behind the first token, so that only what it tells about tokens is lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas._version import __version__
from headatlas.atlas.evidence import RemovalFacts, RemovedTogether
from headatlas.measuring.progress import Progress, Stage
from headatlas.measuring.running.model import Replay, RunningModel, running_packages
from headatlas.measuring.running.passages import repeated_tokens
from headatlas.scoring.behaviours import mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from torch import Tensor

    from headatlas.analysis.reading import Reading
    from headatlas.measuring.run_folder import RunParts

Head = tuple[int, int]

COPYING = ("previous", "induction", "duplicate")
"""Behaviours whose heads are removed: those that copying from context may need."""

SEQUENCES, RANDOM_TOKENS = 8, 24

NAMED, CONTROL = "named", "control"

BEHIND_FIRST = slice(1, None)


@dataclass(frozen=True)
class Chosen:
    """Heads to remove.

    Args:
        named: behaviour of COPYING -> its heads.
        controls: as many other heads of the same layers, drawn at random, as far as there are any.
    """

    named: Mapping[str, list[Head]]
    controls: Mapping[int, list[Head]]

    @property
    def kinds(self) -> dict[Head, str]:
        """Each head once, by layer, with NAMED or CONTROL."""
        kinds = {head: NAMED for heads in self.named.values() for head in heads}
        kinds |= {head: CONTROL for heads in self.controls.values() for head in heads}
        return dict(sorted(kinds.items()))

    def controls_of(self, heads: Iterable[Head]) -> list[Head]:
        """As many controls of the same layers as there are heads, as far as there are any."""
        left = {layer: list(controls) for layer, controls in self.controls.items()}
        return [left[layer].pop(0) for layer, _ in heads if left.get(layer)]


def choose_heads(reading: Reading) -> Chosen:
    """The heads of each behaviour of COPYING, and the controls; the same for the same atlas."""
    named = {name: reading.heads_of(name) for name in COPYING}
    every = {head for heads in named.values() for head in heads}
    generator, controls = random.Random("other heads"), {}
    n_heads = reading.measured.shape[1]
    for layer in sorted({layer for layer, _ in every}):
        others = [(layer, head) for head in range(n_heads) if (layer, head) not in every]
        wanted = n_heads - len(others)
        controls[layer] = generator.sample(others, min(wanted, len(others)))
    return Chosen(named, controls)


class Copying:
    """In-context copying by one running model: how well it predicts each sequence, whole and without some heads."""

    def __init__(self, running: RunningModel, ids: Tensor, layers: Sequence[int]) -> None:
        n_random = (ids.shape[1] - 1) // 2
        self.running, self.ids = running, ids
        # The first token of the second half follows from nothing; behind the last one, nothing is known.
        self.n_predicted = n_random - 1
        self._wanted = ids[:, -self.n_predicted :].to(running.device)
        self._replay = Replay(running, ids, layers, n_random)
        self._means = running.mean_outputs(ids, layers)
        self.whole = self._predicted(self._replay.base)
        del self._replay.base  # as large as the vocabulary

    def without(self, heads: Iterable[Head]) -> np.ndarray:
        """Accuracy and mean probability of the right token in each sequence: Float64[ndarray, "sequence 2"]."""
        by_layer: dict[int, list[int]] = {}
        for layer, head in heads:
            by_layer.setdefault(layer, []).append(head)
        with self.running.without(by_layer, self._means, BEHIND_FIRST):
            return self._predicted(self._replay.logits(min(by_layer)))

    def _predicted(self, logits: Tensor) -> np.ndarray:
        import numpy as np
        import torch

        logits = logits[:, :-1].float()
        right = logits.argmax(-1) == self._wanted
        own = logits.gather(-1, self._wanted[..., None])[..., 0]
        probability = (own - torch.logsumexp(logits, -1)).exp()
        return np.stack([each.double().mean(1).cpu().numpy() for each in (right, probability)], 1)


def measure_removal(
    run: Callable[[], RunningModel],
    reading: Reading,
    ordinary: Sequence[int],
    prefix: int,
    most: int | None,
    parts: RunParts,
    device: str,
    progress: Progress | None,
) -> tuple[pd.DataFrame, RemovalFacts]:
    """The table `removal`, a row for each removed head, and its facts.

    Args:
        run: gives the running model.
        reading: where the heads look.
        ordinary, prefix, most: of sequences, as for `repeated_tokens`.
        parts: where finished parts are kept.
    """
    import numpy as np
    import pandas as pd

    started, chosen = time.perf_counter(), choose_heads(reading)
    ids = repeated_tokens(ordinary, prefix, most, SEQUENCES, 0, RANDOM_TOKENS)
    n_random = (ids.shape[1] - 1) // 2
    groups: dict[str, list[list[Head]]] = {"whole": [[]]}
    for head in chosen.kinds:
        groups.setdefault(f"removal-{head[0]:04}", []).append([head])
    together = {name: [heads, chosen.controls_of(heads)] for name, heads in chosen.named.items() if heads}
    groups |= {f"removal-{name}": sets for name, sets in together.items()}
    layers, copying = sorted({layer for layer, _ in chosen.kinds}), None
    found: dict[str, np.ndarray] = {}
    done, total = 0, sum(map(len, groups.values()))
    for name, sets in groups.items():
        if progress is not None:
            progress(Stage.REMOVALS, done, total)
        key = np.array(str(sets))
        kept = parts.load(name)
        if kept is None or kept["heads"] != key:
            copying = copying or Copying(run(), ids, layers)
            values = [copying.without(heads) if heads else copying.whole for heads in sets]
            kept = {"heads": key, "values": np.stack(values)}
            parts.save(name, kept)
        found[name] = kept["values"]
        done += len(sets)
    if progress is not None:
        progress(Stage.REMOVALS, total, total)
    (whole,) = found["whole"]
    rows = []
    for (head, kind), without in zip(
        chosen.kinds.items(), (each for name in groups if name[-1].isdigit() for each in found[name]), strict=True
    ):
        row: list[object] = [*head, kind]
        for number in range(2):
            row += [without[:, number].mean(), *_fall(whole[:, number], without[:, number])]
        rows.append(row)
    names = ("accuracy", "probability")
    columns = ["layer", "head", "kind", *(f"{name}{part}" for name in names for part in ("", "_fall", "_low", "_high"))]
    facts = RemovalFacts(
        prefix=prefix,
        sequences=len(ids),
        random_tokens=n_random,
        tokens=len(ids) * (n_random - 1),
        accuracy=float(whole[:, 0].mean()),
        probability=float(whole[:, 1].mean()),
        together=tuple(_together(name, sets, whole, *found[f"removal-{name}"]) for name, sets in together.items()),
        tool=__version__,
        seconds=round(time.perf_counter() - started, 1),
        device=device,
        packages=running_packages(),
    )
    types = dict.fromkeys(columns, "float64") | {"layer": "int64", "head": "int64", "kind": "str"}
    return pd.DataFrame(rows, columns=columns).astype(types), facts


def _together(
    name: str, sets: list[list[Head]], whole: np.ndarray, without: np.ndarray, control: np.ndarray
) -> RemovedTogether:
    fall, low, high = _fall(whole[:, 1], without[:, 1])
    left, of_controls = without.mean(0), control.mean(0)
    return RemovedTogether(
        behaviour=name,
        heads=len(sets[0]),
        controls=len(sets[1]),
        accuracy=float(left[0]),
        probability=float(left[1]),
        control_accuracy=float(of_controls[0]),
        control_probability=float(of_controls[1]),
        fall=fall,
        low=low,
        high=high,
    )


def _fall(whole: np.ndarray, without: np.ndarray) -> tuple[float, float, float]:
    """By how much a share falls, and the 95 % interval over sequences."""
    fall, low, high = map(float, mean_interval(whole - without))
    return fall, max(-1.0, low), min(1.0, high)
