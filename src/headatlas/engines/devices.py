"""The device and the CPU threads of a run; the process has its former number of threads after a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headatlas.errors import SettingsError


def check_device(device: str) -> None:
    """Raise `SettingsError` if this machine has no such device."""
    import torch

    if device == "mps":
        raise SettingsError("device: mps cannot compute in float64, which decides close calls. Use --device cpu.")
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = None
    if kind not in ("cpu", "cuda"):
        raise SettingsError(f"device: expected cpu, cuda or cuda:N, found {device!r}.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise SettingsError(f"device: expected a CUDA device for {device!r}, found none. Use --device cpu.")


def count_threads(threads: int | None) -> int:
    """The CPU threads of a run, by default those of torch; raises `SettingsError` for less than one."""
    import torch

    if threads is not None and threads < 1:
        raise SettingsError(f"threads: expected a whole number of at least 1, found {threads}.")
    return threads or torch.get_num_threads()


@contextmanager
def use_threads(threads: int | None) -> Iterator[int]:
    """Let torch use this many CPU threads inside the block; the former number is restored, also after an error.

    Args:
        threads: default: as many as torch uses.

    Raises:
        SettingsError: less than one thread.

    >>> import torch
    >>> before = torch.get_num_threads()
    >>> with use_threads(1):
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """
    import torch

    before = torch.get_num_threads()
    n_threads = count_threads(threads)
    torch.set_num_threads(n_threads)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(before)
