"""Memory that was freed goes back to the system.

glibc keeps freed memory for each thread, in pieces that fit the next tensors less and less: on the demo model, a map
then holds twice what it needs. Other C libraries are left alone.
"""

from __future__ import annotations

import ctypes
import sys
import time

EVERY = 16.0
"""Seconds of processor time between two times: memory that was given back has to be asked for again."""


class FreedMemory:
    """Gives freed memory back from time to time."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        self._last = time.process_time()

    def give_back(self) -> None:
        """Give back what is free, unless that was done a moment ago."""
        if self._trim is not None and time.process_time() - self._last >= EVERY:
            self._trim(0)
            self._last = time.process_time()
