"""Kills, readers and writers at the same time, folders that are moved or cannot be written, a clock set back."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from case import Case
from fork import NOTES
from outcome import differences, result, unreadable

YEARS = 10 * 365 * 24 * 3600
"""By how much the clock is set back."""


def kill(case: Case, moments: int, chance: random.Random, **_: Any) -> None:
    while case.found.faults < moments:
        out, when, run = case.folder(), "never killed", None
        while case.found.faults < moments and (case.command.goes_on or not out.exists()):
            seconds = chance.uniform(0, case.seconds)
            run = case.start(out)
            if run.wait(seconds) is not None or not run.kill():
                case.found.missed += 1
                break
            case.found.faults += 1
            when = f"killed (number {case.found.faults}) after {seconds:.3f} s"
            case.readable(out, when)
        case.finish(out, when, run)


def watch(case: Case, **_: Any) -> None:
    out = case.folder()
    run = case.start(out)
    while run.wait(0) is None:
        case.found.faults += 1
        case.found.wrong += [f"{case.name}: read while it runs: {each}" for each in unreadable(out, tables=False)]
    case.finish(out, "watched", run)


def read_only(case: Case, **_: Any) -> None:
    """Without rights of the administrator, who may write everywhere."""
    if case.name == "publish":
        return
    out = case.folder()
    before = result(out.parent)
    inside = [path for path in out.parent.rglob("*") if path.is_dir()]
    for folder in (out.parent, *inside):
        folder.chmod(0o555)
    run = case.start(out, leave_rights)
    run.wait()
    case.found.faults += 1
    case.refused(run, "read-only")
    for folder in (out.parent, *inside):
        folder.chmod(0o755)
    for each in differences(result(out.parent), before):
        case.found.wrong.append(f"{case.name}: read-only: {each}")
    case.finish(out, "was read-only")


def leave_rights() -> None:
    """Become a user who may write nowhere but where everybody may."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


def killed_runs(case: Case, moments: int, chance: random.Random) -> Iterator[Path]:
    """The folders of runs that were killed at random moments."""
    while case.found.faults < moments:
        out = case.folder()
        run = case.start(out)
        if run.wait(chance.uniform(0, case.seconds)) is None and run.kill():
            case.found.faults += 1
            yield out
        else:
            case.found.missed += 1
            shutil.rmtree(out.parent)


def moved(case: Case, moments: int, chance: random.Random, **_: Any) -> None:
    for old in killed_runs(case, moments, chance):
        elsewhere = old.parent.parent / f"{next(case.world.counter)} moved"
        old.parent.rename(elsewhere)
        out, notes = elsewhere / "out", elsewhere / NOTES
        if notes.exists():
            notes.write_text(notes.read_text("utf-8").replace(str(old), str(out)), "utf-8")
        case.finish(out, "moved")


def two(case: Case, moments: int, chance: random.Random, **_: Any) -> None:
    while case.found.faults < moments:
        out = case.folder()
        first = case.start(out)
        first.wait(chance.uniform(0, case.seconds))
        second = case.start(out)
        for run in (first, second):
            run.wait()
        case.found.faults += 1
        if case.name == "publish" or first.code == 0 == second.code:
            pass
        elif {first.code, second.code} == {0, 2}:
            case.refused(
                first if first.code else second,
                "at the same time",
                "found one" if case.name == "pull" else "another ",
            )
        else:
            case.found.wrong += [f"{case.name}: two at once: {run.code}: {run.text[-1000:]}" for run in (first, second)]
        case.readable(out, "two at once")
        case.found.wrong += [f"{case.name}: two at once: {each}" for each in differences(case.result(out), case.whole)]
        shutil.rmtree(out.parent)


def clock(case: Case, moments: int, chance: random.Random, **_: Any) -> None:
    def set_back() -> None:
        now = time.time
        time.time = lambda: now() - YEARS

    for out in killed_runs(case, moments, chance):
        for path in out.rglob("*"):  # as if half of it had been written tomorrow
            if chance.random() < 0.5:
                os.utime(path, (time.time() + 86_400, time.time() + 86_400), follow_symlinks=False)
        run = None
        if case.command.goes_on or not out.exists():
            run = case.start(out, set_back)
            run.wait()
        case.finish(out, "the clock was set back", run)
