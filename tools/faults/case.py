"""One command with all that is needed to break it, and what was found."""

from __future__ import annotations

import importlib
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fork import NOTES, Notes, Run, start
from outcome import differences, result, unreadable
from world import COMMANDS, World


@dataclass
class Found:
    """What a fault did to a command.

    Args:
        faults: how many there were.
        missed: further kills that came too late.
        lost: finished parts that were measured again.
        wrong: what should not have been, in words.
    """

    faults: int = 0
    missed: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)


class Case:
    """One command with all that is needed to break it."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.command = world, name, COMMANDS[name]
        self.found = Found()
        modules = world.place / "modules.txt"
        for after in (lambda: modules.write_text("\n".join(sys.modules), "utf-8"), None):
            out = self.folder()
            started = time.monotonic()
            run = self.start(out, after=after)
            assert run.wait() == 0, f"{name}: {run.text}"
            self.seconds = time.monotonic() - started
            self.whole = self.result(out)
            shutil.rmtree(out.parent)
            # What the command imports is imported once, here, for all forks that follow.
            for module in {*modules.read_text("utf-8").split("\n")} - {*sys.modules}:
                with suppress(Exception):
                    importlib.import_module(module)

    def folder(self) -> Path:
        """A new folder for a run, with what it begins with; and the hub as it is before one."""
        if self.name in ("publish", "pull"):
            self.world.empty_hub(published=self.name == "pull")
        return self.world.folder(self.command)

    def start(self, out: Path, *before: Callable[[], object], after: Callable[[], object] | None = None) -> Run:
        notes = Notes(out.parent / NOTES)

        def prepare() -> None:
            for each in (notes.install, *before):
                each()

        return start(self.command.line(self.world.place, out), prepare, after)

    def readable(self, out: Path, when: str) -> None:
        self.found.wrong += [f"{self.name}: {when}: {each}" for each in unreadable(self.there(out))]

    def there(self, out: Path) -> Path:
        """Where the result is: what is on the hub is copied."""
        if self.name != "publish":
            return out
        assert self.world.hub is not None
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        repository = self.world.hub.repositories.get("org/tiny")
        for name, content in (repository.files if repository else {}).items():
            (out / name).write_bytes(content)
        return out

    def result(self, out: Path) -> dict[str, Any]:
        return result(self.there(out))

    def finish(self, out: Path, when: str, run: Run | None = None) -> None:
        """Run the command again, unless the last run came to its end, and compare."""
        if (run is None or run.code == -signal.SIGKILL) and (self.command.goes_on or not out.exists()):
            run = self.start(out)
            run.wait()
        if run is not None and run.code not in (0, -signal.SIGKILL):
            self.found.wrong.append(f"{self.name}: {when}: the next run gives {run.code}: {run.text[-2000:]}")
        else:
            self.compare(out, when)

    def compare(self, out: Path, when: str) -> None:
        self.readable(out, f"{when}, at the end")
        different = differences(self.result(out), self.whole)
        self.found.wrong += [f"{self.name}: {when}: {each}" for each in different]
        left = [each.name for each in out.parent.iterdir() if each.name not in ("out", NOTES)]
        if left and self.name != "pull":
            self.found.wrong.append(f"{self.name}: {when}: left {left}")
        lost = Notes(out.parent / NOTES).lost()
        self.found.lost += len(lost)
        self.found.wrong += [f"{self.name}: {when}: {each} was measured again" for each in lost]
        shutil.rmtree(out.parent)

    def refused(self, run: Run, when: str, why: str = "cannot be written") -> None:
        """A run that cannot go on says why in one sentence."""
        errors = [line for line in run.text.splitlines() if line.startswith("Error: ")]
        if run.code != 2 or len(errors) != 1 or "Traceback" in run.text or why not in errors[0]:
            self.found.wrong.append(f"{self.name}: {when}: exit code {run.code}: {run.text[-2000:]}")
