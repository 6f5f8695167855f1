"""The speed of this machine in matrix products, from which times are estimated."""

from __future__ import annotations

import time


def products_per_second(threads: int) -> float:
    """Floating-point operations per second in float32 products on `threads` threads, measured for a moment."""
    import torch

    from headatlas.engines.devices import use_threads

    with use_threads(threads):
        a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
        torch.mm(a, b)
        started, rounds = time.perf_counter(), 0
        while time.perf_counter() - started < 0.15:
            torch.mm(a, b)
            rounds += 1
        return rounds * 2 * 1024**3 / (time.perf_counter() - started)
