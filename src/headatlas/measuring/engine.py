"""The engine of a run, from what a user asks for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING

from headatlas.errors import SettingsError

if TYPE_CHECKING:
    from headatlas.engines import Engine


class EngineName(StrEnum):
    """Where layers are scored."""

    local = "local"
    ray = "ray"


def open_engine(
    name: EngineName,
    device: str = "cpu",
    threads: int | None = None,
    address: str | None = None,
    gpus_per_task: float = 0,
) -> AbstractContextManager[Engine]:
    """The engine with its options; use as a context manager, which leaves a cluster at the end.

    Args:
        device, threads: of this process; with Ray, `threads` are the CPUs of one task.
        address, gpus_per_task: of Ray, see `headatlas.engines.RayEngine`.

    Raises:
        SettingsError: an option belongs to the other engine.
        EngineError: the cluster cannot be used.
    """
    # Here: the command line imports this file for its help.
    from headatlas.engines import LocalEngine, RayEngine

    if name is EngineName.local:
        if address is not None or gpus_per_task:
            raise SettingsError("address, gpus-per-task: these options belong to --engine ray, which is missing.")
        return nullcontext(LocalEngine(device, threads))
    if device != "cpu":
        raise SettingsError(f"device: with --engine ray expected --gpus-per-task for GPUs, found --device {device}.")
    return RayEngine(address or "auto", threads, gpus_per_task)
