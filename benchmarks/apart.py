"""Runs a function in a process of its own and samples the memory of that process."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_SAMPLES = 0.01


def run_apart(function: Callable[..., Any], *args: Any) -> tuple[Any, int | None]:
    """The result of a function in a process of its own, and the largest anonymous memory of the process.

    Raises:
        RuntimeError: the process ended without a result.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sending, function, args))
    process.start()
    sending.close()
    peak = 0
    try:
        while not receiving.poll(SECONDS_BETWEEN_SAMPLES):
            peak = max(peak, anonymous_bytes(process.pid) or 0)
        answer = receiving.recv()
    except EOFError as error:
        process.join()
        raise RuntimeError(f"{function.__name__}: its process ended with code {process.exitcode}.") from error
    finally:
        process.kill()
        process.join()
    return answer, peak or None


def anonymous_bytes(pid: int | None) -> int | None:
    """Memory of a process that is not backed by a file (RssAnon on Linux); None if the system does not report it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), None)


def _answer(sending: Any, function: Callable[..., Any], args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    sending.send(function(*args))
