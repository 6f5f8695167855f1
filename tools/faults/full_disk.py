"""Nothing fits on the disk from some step of writing on."""

from __future__ import annotations

import errno
import functools
import itertools
import os
from collections.abc import Callable
from typing import Any

from case import Case


class Full:
    """From the `n`-th step of writing on, nothing fits on the disk; of all files, by the limit of the kernel."""

    def __init__(self, n: int) -> None:
        self.left = n

    def install(self) -> None:
        make, flush, steps = os.open, os.fsync, ("replace", "rename", "mkdir")

        def made(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if not flags & os.O_CREAT or os.path.lexists(path):
                return make(path, flags, *args, **options)
            self.step(path)
            file = make(path, flags, *args, **options)
            self.step(None)  # its content
            return file

        def flushed(file: int) -> None:
            self.step(None)
            flush(file)
            if self.left <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def counted(act: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(act)
            def acts(path: Any, *args: Any, **options: Any) -> Any:
                self.step(path)
                return act(path, *args, **options)

            return acts

        os.open, os.fsync = made, flushed
        for name in steps:
            setattr(os, name, counted(getattr(os, name)))

    def step(self, path: Any) -> None:
        import resource

        self.left -= 1
        if self.left <= 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            if path is not None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))


def full(case: Case, every: int, **_: Any) -> None:
    for n in itertools.count(every, every):
        out, when = case.folder(), f"disk full from step {n} on"
        disk = Full(n)
        run = case.start(out, disk.install)
        code = run.wait()
        if code == 0:
            case.compare(out, when)
            return
        case.found.faults += 1
        case.refused(run, when)
        case.readable(out, when)
        case.finish(out, when)
