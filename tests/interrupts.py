"""Processes that hear Ctrl-C, also where the tests run in the background, whose processes a shell makes deaf to it."""

from __future__ import annotations

import signal
import subprocess
from typing import Any


def start_hearing(command: list[Any], **options: Any) -> subprocess.Popen:
    """A process that SIGINT interrupts."""
    return subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)
