"""Run a command line in a fork of this process, and note which parts it finishes."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headatlas.cli import main as run_command_line
from headatlas.measuring import run_folder

LONGEST = 300.0
"""Seconds after which a command hangs."""

NOTES = "parts.txt"
"""File next to a run's folder in which its forks note finished parts."""


@dataclass
class Run:
    """A command in a fork of this process."""

    pid: int
    pipe: int
    text: str = ""
    code: int | None = None

    def wait(self, seconds: float = LONGEST) -> int | None:
        """Its exit code once it has ended; None after so many seconds."""
        until = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._read()
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                os.close(self.pipe)
            elif time.monotonic() >= until:
                return None
            else:
                time.sleep(0.002)
        return self.code

    def _read(self) -> None:
        """Take what it has printed, so that it never waits for that."""
        with suppress(BlockingIOError):
            while content := os.read(self.pipe, 1 << 16):
                self.text += content.decode("utf-8", "replace")

    def kill(self) -> bool:
        """End it as a power cut does; whether it was still running."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        return self.code == -signal.SIGKILL


def start(
    line: list[str], before: Callable[[], object] | None = None, after: Callable[[], object] | None = None
) -> Run:
    """Fork, and run a command line there.

    Args:
        before: called in the fork first.
        after: called in the fork when the command has ended.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        os.set_blocking(read, False)
        return Run(pid, read)
    code = 70
    try:
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.stdout, sys.stderr = (os.fdopen(each, "w", encoding="utf-8", closefd=False) for each in (1, 2))
        sys.argv = ["headatlas", *line]
        if before is not None:
            before()
        run_command_line()
        code = 0
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        if after is not None:
            after()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Notes:
    """Which parts a command and its earlier runs have finished: a file that the forks append to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self) -> None:
        save, remove = run_folder.RunParts.save, shutil.rmtree

        def noted_save(parts: run_folder.RunParts, part: str, arrays: dict[str, np.ndarray]) -> None:
            save(parts, part, arrays)
            self._append(f"{parts.path} {part}")

        def noted_remove(path: Any, *args: Any, **options: Any) -> None:
            self._append(f"{path} removed")
            remove(path, *args, **options)

        run_folder.RunParts.save, shutil.rmtree = noted_save, noted_remove

    def _append(self, line: str) -> None:
        if line.startswith("None "):
            return
        # A disk that is full for the command has room for its notes.
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def lost(self) -> list[str]:
        """Parts that were finished twice before the run's result was there."""
        finished: set[str] = set()
        twice = []
        for line in self.path.read_text("utf-8").splitlines() if self.path.exists() else ():
            folder, part = line.rsplit(" ", 1)
            if part == "removed":
                finished = {each for each in finished if not each.startswith(f"{folder} ")}
            elif line in finished:
                twice.append(part)
            finished.add(line)
        return twice
