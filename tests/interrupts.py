"""Interrupted runs: in this process, or in one that hears Ctrl-C although the tests may run in the background."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

from headatlas.architectures import HeadModel


def start_hearing(command: list[Any], **options: Any) -> subprocess.Popen:
    """A process that SIGINT interrupts."""
    return subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)


def interrupt_at_layer(patch: Any, layer: int) -> None:
    """Make reading the circuits of a layer an interruption, until pytest's `patch` ends."""
    read = HeadModel.values_and_outputs

    def stop(self: HeadModel, at: int) -> Any:
        if at == layer:
            raise KeyboardInterrupt
        return read(self, at)

    patch.setattr(HeadModel, "values_and_outputs", stop)
