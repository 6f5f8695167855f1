"""What each layer's heads read for a token that passes through the model's own layers alone, behind a prefix.

The prefix is one token, which becomes the attention sink; without it, the token itself would be at the first position,
where residuals are unlike all others. A first pass over the layers runs a few sequences of prefix and token and keeps
the keys and values of the prefix; a second pass runs every token behind them. Both must agree on the few tokens.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.architectures.kept_states import KeptRun, first_token_of
from headatlas.architectures.streamed import run_streamed
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.architectures.heads import HeadModel

N_CHECKED = 3
"""Tokens that are also run as plain sequences of two tokens."""

N_COMPARED = 8
"""Tokens whose vectors behind the prefix are compared with those behind ordinary tokens."""

TOLERANCE = 1e-6
"""Largest relative difference of a token's vector between both passes; rounding causes about 1e-12."""


@dataclass(frozen=True)
class FirstPass:
    """What the first pass found out.

    Args:
        pairs: prefix and token, Int[Tensor, "n_checked 2"].
        inputs: what each layer's heads read at the token of each pair, Float64[Tensor, "n_checked d_model"].
        agreement: how much alike tokens differ behind the prefix and behind ordinary tokens: mean over layers and
            tokens of the cosine of the differences from the mean token, -1 to 1; None if nothing was compared.
    """

    pairs: Tensor
    inputs: dict[int, Tensor]
    agreement: float | None


def read_alone(
    heads: HeadModel,
    ids: Tensor,
    prefix: int,
    first: int = 0,
    earlier: KeptRun | None = None,
    ordinary: Sequence[int] = (),
    examine: Callable[[FirstPass], None] | None = None,
    n_examined: int | None = None,
) -> Generator[tuple[int, Tensor]]:
    """Yield each layer that has heads, in order, with their input for each token: Float32[Tensor, "n_tokens d_model"].

    A layer runs only when it is requested. The input is computed in float64 and rounded once, so that threads and
    batches do not change it.

    Args:
        ids: Int[Tensor, "n_tokens"].
        prefix: the token before each of them.
        first: the first layer that is needed; earlier ones are left out as far as `earlier` allows.
        earlier: what an interrupted run has kept of its residuals, and where this one keeps its own.
        ordinary: prefixes to compare this one with.
        examine: called after the first pass.
        n_examined: the tokens of the first pass are some of the first of `ids`, so many; default: all.

    Raises:
        ArchitectureError: the model cannot run, a value is not finite, or both passes disagree.
    """
    import torch

    source = heads.checkpoint.source
    _check_runs(heads)
    at, compared = (_evenly(n_examined or len(ids), n) for n in (N_CHECKED, N_COMPARED))
    behind = torch.full_like(ids, prefix)
    inputs: dict[int, Tensor] = {}
    pairs = torch.stack([behind[at], ids[at]], dim=1)
    prefixes = torch.tensor([prefix, *ordinary])
    compares = bool(ordinary) and len(compared) > 1
    all_pairs = torch.cat([pairs, torch.cartesian_prod(prefixes, ids[compared])]) if compares else pairs
    kept = first_token_of(run_streamed(heads, all_pairs, inputs.__setitem__, keep=True))
    expected = {layer: x[: len(pairs)] for layer, x in inputs.items()}
    if examine is not None:
        rest = {layer: x[len(pairs) :].view(len(prefixes), -1, x.shape[-1]) for layer, x in inputs.items() if compares}
        examine(FirstPass(pairs, expected, _agreement(rest) if compares else None))
    sequences = torch.stack([behind, ids], dim=1) if kept is None else ids[:, None]
    for layer, x in _one_by_one(lambda see: run_streamed(heads, sequences, see, kept, first=first, earlier=earlier)):
        _check_finite(heads, layer, x)
        difference = torch.linalg.vector_norm(x[at] - expected[layer], dim=-1)
        size = torch.linalg.vector_norm(expected[layer], dim=-1)
        if not (difference <= TOLERANCE * size).all():
            raise ArchitectureError(
                f"{source}: layer {layer}: the heads' input for a token behind the cached prefix differs from that for "
                f"both tokens in one sequence; expected a relative difference below {TOLERANCE:g}, found "
                f"{float((difference / size).max()):.2g}. headatlas makes no map from inputs that may be wrong."
            )
        yield layer, x.float()


def read_in_context(heads: HeadModel, ids: Tensor) -> dict[int, Tensor]:
    """What the heads of each layer read at the last token of sequences, Float32[Tensor, "n_sequences d_model"].

    The sequences pass through the model's own layers in float64, like the tokens of `read_alone`.

    Args:
        ids: Int[Tensor, "n_sequences n_tokens"], the prefix first.

    Raises:
        ArchitectureError: the model cannot run, or a value is not finite.
    """
    _check_runs(heads)
    inputs: dict[int, Tensor] = {}
    run_streamed(heads, ids, inputs.__setitem__)
    for layer, x in inputs.items():
        _check_finite(heads, layer, x)
    return {layer: x.float() for layer, x in inputs.items()}


def _check_runs(heads: HeadModel) -> None:
    if (why := heads.checkpoint.why_not_run) is not None:
        raise ArchitectureError(
            f"{heads.checkpoint.source}: words cannot pass through the model: {why}. Use its safetensors checkpoint, "
            f"or --profile maps."
        )


def _check_finite(heads: HeadModel, layer: int, x: Tensor) -> None:
    if not x.isfinite().all():
        raise ArchitectureError(
            f"{heads.checkpoint.source}: layer {layer}: the heads read values that are NaN or infinite. Are the "
            f"weights damaged?"
        )


def _evenly(n: int, most: int) -> Tensor:
    import torch

    return torch.linspace(0, n - 1, min(most, n)).long()


def _agreement(inputs: dict[int, Tensor]) -> float | None:
    """Of `FirstPass`; for each layer, Float64[Tensor, "n_prefixes n_tokens d_model"], the ordinary prefixes last."""
    import torch

    found = []
    for layer, x in inputs.items():
        if layer:  # the first layer reads no prefix
            differences = x - x.mean(1, keepdim=True)
            found.append(torch.nn.functional.cosine_similarity(differences[0], differences[1:].mean(0), dim=-1).mean())
    return float(torch.stack(found).mean()) if found else None


def _one_by_one(run: Callable[[Callable[[int, Tensor], None]], Any]) -> Generator[tuple[int, Tensor]]:
    """Turn the calls that `run` makes to its argument into an iterator; `run` continues when the next is requested."""
    wanted: queue.Queue[bool] = queue.Queue()
    results: queue.Queue[Any] = queue.Queue()

    class Stopped(BaseException):
        pass

    def wait() -> None:
        if not wanted.get():
            raise Stopped

    def see(layer: int, x: Tensor) -> None:
        results.put((layer, x))
        wait()

    def work() -> None:
        try:
            wait()
            run(see)
            results.put(None)
        except Stopped:
            pass
        except BaseException as error:  # raised in the thread that iterates
            results.put(error)

    thread = threading.Thread(target=work, name="headatlas-alone", daemon=True)
    thread.start()
    try:
        while True:
            wanted.put(True)
            found = results.get()
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        wanted.put(False)
        thread.join()
