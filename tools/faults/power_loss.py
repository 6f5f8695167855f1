"""The power fails after a step of writing: what can be on the disk then, and whether it is whole."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from case import Case
from fork import NOTES
from outcome import unreadable

from headatlas.measuring import run_folder


@dataclass(frozen=True)
class Event:
    """A step of writing.

    Args:
        act: `flush` (a file), `rename`, `remove`, `make` (a folder), `flush folder`, or `finish` (a part of a run).
        path: of the file or folder.
        target: of a renaming.
        content: of a file that is flushed, or renamed.
    """

    act: str
    path: str
    target: str = ""
    content: bytes = b""


class Recorder:
    """Notes in which order a command writes, flushes and renames, with what the files hold."""

    def __init__(self, log: Path) -> None:
        self.log, self.events = log, []

    def install(self) -> None:
        flush, save = os.fsync, run_folder.RunParts.save

        def flushed(file: int) -> None:
            flush(file)
            path = os.readlink(f"/proc/self/fd/{file}")
            if os.path.isdir(path):
                self.events.append(Event("flush folder", path))
            else:
                self.events.append(Event("flush", path, content=Path(path).read_bytes()))

        def renamed(act: Callable[..., Any]) -> Callable[..., Any]:
            def acts(path: Any, target: Any) -> None:
                content = Path(path).read_bytes() if os.path.isfile(path) else b""
                act(path, target)
                self.events.append(Event("rename", os.path.abspath(path), os.path.abspath(target), content))

            return acts

        def noted(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
            def acts(path: Any, *args: Any, **options: Any) -> None:
                act(path, *args, **options)
                parent = options.get("dir_fd")
                folder = os.getcwd() if parent is None else os.readlink(f"/proc/self/fd/{parent}")
                self.events.append(Event(name, os.path.join(folder, os.fspath(path))))

            return acts

        def saved(parts: run_folder.RunParts, part: str, arrays: dict[str, np.ndarray]) -> None:
            save(parts, part, arrays)
            if parts.path is not None:
                self.events.append(Event("finish", str((parts.path / f"{part}.npz").absolute())))

        os.fsync, run_folder.RunParts.save = flushed, saved
        os.replace, os.rename = renamed(os.replace), renamed(os.rename)
        os.unlink = os.remove = noted("remove", os.unlink)
        os.rmdir, os.mkdir = noted("remove", os.rmdir), noted("make", os.mkdir)

    def write(self) -> None:
        self.log.write_bytes(pickle.dumps(self.events))

    def read(self) -> list[Event]:
        return pickle.loads(self.log.read_bytes())


class Disk:
    """What is on the disk after each step, if the power fails then; only below one folder.

    A file's content is on the disk once it was flushed; a change of a folder, once that folder was flushed after it.
    Changes that were not flushed can be there or not, each of them.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root.resolve())
        self.names: dict[str, bytes | None] = {}
        """What is safe: path -> content, None of a folder."""
        for path in root.rglob("*"):
            self.names[str(path.resolve())] = None if path.is_dir() else path.read_bytes()
        self.flushed: dict[str, bytes] = {path: content for path, content in self.names.items() if content is not None}
        self.waiting: list[Event] = []

    def follow(self, event: Event) -> str | None:
        """What a step is, if it is wrong in itself."""
        wrong = None
        if event.act == "flush":
            self.flushed[event.path] = event.content
        elif event.act == "flush folder":
            safe = [each for each in self.waiting if self._folder(each) == event.path]
            self.waiting = [each for each in self.waiting if each not in safe]
            for each in safe:
                change(self.names, each)
        elif event.act != "finish" and (event.path.startswith(self.root) or event.target.startswith(self.root)):
            if event.act == "rename" and not os.path.isdir(event.target) and event.target.startswith(self.root):
                known = self.flushed.get(event.path, b"")
                # What lies in an unfinished folder is looked at when that folder gets its name.
                if known != event.content and f".partial{os.sep}" not in event.target:
                    wrong = f"{event.target} is renamed before all of it is flushed"
                event = replace(event, content=known)
                self.flushed[event.target] = known
            self.waiting.append(event)
        return wrong

    @staticmethod
    def _folder(event: Event) -> str:
        return os.path.dirname(event.target or event.path)

    def states(self, chance: random.Random) -> Iterator[dict[str, bytes | None]]:
        """What can be on the disk: no waiting change, all, each alone, all but each, and some at random."""
        n = len(self.waiting)
        chosen = {0, 2**n - 1, *(1 << at for at in range(n)), *(2**n - 1 - (1 << at) for at in range(n))}
        chosen |= {chance.getrandbits(n) for _ in range(3)} if n else set()
        for subset in sorted(chosen):
            names = dict(self.names)
            for at, event in enumerate(self.waiting):
                if subset >> at & 1:
                    change(names, event)
            yield names

    def write(self, names: dict[str, bytes | None], folder: Path) -> None:
        """Make a folder as it is on the disk; what lies in a folder that is not there is not there either."""
        folder.mkdir(parents=True)
        for path, content in sorted(names.items()):
            target = folder / os.path.relpath(path, self.root)
            if target.parent.is_dir():
                target.mkdir(exist_ok=True) if content is None else target.write_bytes(content)


def change(names: dict[str, bytes | None], event: Event) -> None:
    """Do a change of a folder."""
    if event.act == "make":
        names[event.path] = None
    elif event.act == "remove":
        names.pop(event.path, None)
    elif event.act == "rename":
        moved = {path: names.pop(path) for path in list(names) if f"{path}/".startswith(f"{event.path}/")}
        for path, content in moved.items():
            names[event.target + path.removeprefix(event.path)] = content
        if event.path not in moved:
            names[event.target] = event.content


def power(case: Case, chance: random.Random, every: int, **_: Any) -> None:
    if case.name == "publish":
        return  # it writes nothing that stays
    out = case.folder()
    disk, recorder = Disk(out.parent), Recorder(case.world.place / "events")
    run = case.start(out, recorder.install, after=recorder.write)
    if run.wait() != 0:
        case.found.wrong.append(f"{case.name}: {run.text[-2000:]}")
        return
    seen: set[int] = set()
    safe_parts: set[str] = set()
    for number, event in enumerate(recorder.read()):
        if wrong := disk.follow(event):
            case.found.wrong.append(f"{case.name}: step {number}: {wrong}")
        if event.act == "finish":
            safe_parts.add(event.path)
            if event.path not in disk.names:
                case.found.wrong.append(f"{case.name}: step {number}: {event.path} is said to be safe, and is not")
        for names in disk.states(chance):
            mark = hash(tuple(sorted((path, hash(content)) for path, content in names.items())))
            if mark in seen:
                continue
            seen.add(mark)
            case.found.faults += 1
            there = out.parent.parent / "after"
            disk.write(names, there)
            when = f"power failed after step {number} ({event.act} {os.path.relpath(event.path, disk.root)})"
            case.found.wrong += [f"{case.name}: {when}: {each}" for each in unreadable(there / "out")]
            if chance.random() < every / 50:
                again = out.parent.parent / f"{next(case.world.counter)}"
                shutil.move(there, again)
                (again / NOTES).unlink(missing_ok=True)
                case.finish(again / "out", when)
            shutil.rmtree(there, ignore_errors=True)
    made = [event.target or event.path for event in disk.waiting if event.act != "remove"]
    for path in [path for path in made if os.path.exists(path)][:1]:
        case.found.wrong.append(f"{case.name}: not safe on the disk when it ends: {path}")
    shutil.rmtree(out.parent)
