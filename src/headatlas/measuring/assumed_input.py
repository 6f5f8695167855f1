"""How far the input that a map assumes is from what the model's own layers hand to the heads.

A sample of sources passes through the model as with the profile `alone`, in sequences of prefix and source. Why cosines
of the differences from the mean source are measured, and where the limit comes from: docs/evidence.md.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING

from headatlas.atlas.manifest import InputFacts
from headatlas.errors import ArchitectureError, CheckpointError
from headatlas.measuring.kept_residuals import KeptResiduals
from headatlas.measuring.prefix import default_prefix
from headatlas.measuring.progress import Progress, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.architectures import HeadModel
    from headatlas.checkpoints.checkpoint import Checkpoint
    from headatlas.measuring.run_folder import RunParts
    from headatlas.measuring.session import Session

N_TOKENS = 256
"""Sources in the sample: the mean cosine then varies by less than 0.01 with their choice."""

PART = "assumed-input"


def compare_input(session: Session, sources: Collection[int], asked: bool, parts: RunParts | None) -> InputFacts | None:
    """Compare the input of a map with that of the model's own layers; None if the map reads the latter.

    Args:
        sources: the tokens that the map scores.
        asked: whether to compare; otherwise, and where it is not possible, the result says why not.
        parts: of the run, where the layers that are done are kept for a run that continues it.
    """
    heads = session.heads
    if heads.contextualize == "alone":
        return None
    if not asked:
        return InputFacts(why_not="it was not asked for")
    if (why := why_not_compared(session.checkpoint)) is not None:
        return InputFacts(why_not=why)
    ids = choose_sample(sources)
    try:
        prefix = default_prefix(session, sources).token
        cosines = _read_cosines(heads, ids, prefix, parts, session.progress)
        return InputFacts(len(ids), cosines, heads.left_out())
    except (ArchitectureError, CheckpointError) as error:  # the map itself does not need what could not be read
        return InputFacts(why_not=str(error).rstrip("."))


def why_not_compared(checkpoint: Checkpoint) -> str | None:
    """Why the input of a map cannot be compared; None if the weights are here and the model can be run."""
    if not checkpoint.is_local:
        return "the whole model would have to be transferred"
    return None if checkpoint.why_not_run is None else f"the model cannot be run: {checkpoint.why_not_run}"


def choose_sample(sources: Collection[int]) -> Tensor:
    """At most N_TOKENS of the distinct sources, evenly spaced by id: Int64[Tensor, "n_tokens"]."""
    import torch

    distinct = torch.tensor(sorted(set(sources)))
    return distinct[torch.linspace(0, len(distinct) - 1, min(len(distinct), N_TOKENS)).long()]


def mean_cosine(assumed: Tensor, real: Tensor) -> float:
    """Mean over tokens of the cosine between two vectors for each, both as differences from their mean token.

    Args:
        assumed, real: Float[Tensor, "n_tokens d_model"].
    """
    import torch

    assumed, real = (each.double() - each.double().mean(0) for each in (assumed, real))
    return round(float(torch.nn.functional.cosine_similarity(assumed, real, dim=-1).mean()), 4)


def _read_cosines(
    heads: HeadModel, ids: Tensor, prefix: int, parts: RunParts | None, progress: Progress | None
) -> tuple[float | None, ...]:
    """The cosine of each layer; None for layers without heads. Layers that an interrupted run has read are kept."""
    import numpy as np
    import torch

    from headatlas.architectures import head_inputs
    from headatlas.architectures.streamed import run_streamed

    kept = None if parts is None else parts.load(PART)
    cosines: dict[int, float] = {} if kept is None else dict(json.loads(str(kept["cosines"])))
    assumed = dict(head_inputs(heads, ids, range(heads.n_layers)))
    missing = [layer for layer in assumed if layer not in cosines]

    def see(layer: int, real: Tensor) -> None:
        cosines[layer] = mean_cosine(assumed[layer][:, : real.shape[1]], real)
        if progress is not None:
            progress(Stage.INPUT, len(cosines), len(assumed))

    def keep() -> None:
        if parts is not None:
            parts.save(PART, {"cosines": np.array(json.dumps(list(cosines.items())))})

    if missing:
        sequences = torch.stack([torch.full_like(ids, prefix), ids], dim=1)
        kept_residuals = KeptResiduals(parts, sequences.numpy(), keep)
        run_streamed(heads, sequences, see, first=missing[0], earlier=kept_residuals)
        keep()
    return tuple(cosines.get(layer) for layer in range(heads.n_layers))
