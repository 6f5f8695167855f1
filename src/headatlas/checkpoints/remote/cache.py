"""Byte ranges of remote files, kept on disk with checksums, so that each travels once.

Each range that came is a file of its own, `FROM-TO`, followed by the SHA-256 of its bytes, in a folder named after the
file's address, version tag and length. Files appear whole (they are renamed), so that processes can share the cache and
a killed one leaves what it has fetched.
"""

from __future__ import annotations

import bisect
import errno
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from headatlas.checkpoints.remote.file import Broken, Offline, RemoteFile, Version, fingerprint
from headatlas.checkpoints.tensor_store import BytesProgress
from headatlas.errors import CheckpointError

N_TRANSFERS = 8
"""At a time."""

PIECE = 16 * 2**20
"""Largest range in one request and one file: a killed run loses at most this much of each transfer."""

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try of a transfer from which nothing came."""

LONGEST_PAUSE = 120.0
"""Seconds, whatever a server asks for."""

MAX_READS = 3
"""Times that a damaged range is fetched anew before the disk is blamed."""

ABANDONED = 7 * 24 * 3600
"""Seconds after which an unfinished file is nobody's."""

CHECKSUM_BYTES = 32
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_STEP = 2**18

Answer = TypeVar("Answer")


def cache_folder() -> Path:
    """Where ranges are kept: `HEADATLAS_CACHE`, or `headatlas` in the system's folder for caches."""
    if chosen := os.environ.get("HEADATLAS_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    elif os.name == "nt":
        caches = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "headatlas"


class CachedFile:
    """A remote file of which the ranges that came are kept.

    Args:
        file: where its bytes come from.
        root: the cache's folder; default: `cache_folder()`.

    Raises:
        CheckpointError: the file is not there, or cannot be asked for and was never seen.
    """

    def __init__(self, file: RemoteFile, root: Path | None = None) -> None:
        self.file = file
        self._root = root or cache_folder()
        self.version = self._find_version()
        self._verified: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        if self.version.tag is None:
            # Nothing would tell these bytes from those of tomorrow's file, so they are kept for this run only.
            with disk(self._root):
                self._root.mkdir(parents=True, exist_ok=True)
                self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=self._root))
            weakref.finalize(self, shutil.rmtree, self._folder, True)
        else:
            key = json.dumps([file.identity, self.version.tag, self.version.length])
            self._folder = self._root / "ranges" / fingerprint(key)
            with disk(self._root):
                self._folder.mkdir(parents=True, exist_ok=True)
        _sweep(self._folder.glob("part-*"))
        _sweep(self._root.glob("run-*"))
        self._kept = sorted(self._on_disk())

    @property
    def length(self) -> int:
        return self.version.length

    def _find_version(self) -> Version:
        record = self._root / "versions" / f"{fingerprint(self.file.address)}.json"
        known = _read_version(record)
        if known and self.file.pinned:
            return known
        try:
            found = patiently(self.file, self.file.version, 2 if known else None)
        except Unreachable:
            if known is None:
                raise
            return known
        if found.tag is not None:
            with disk(self._root):
                write_whole(record, json.dumps([found.tag, found.length]).encode())
        return found

    def _on_disk(self) -> Iterator[tuple[int, int]]:
        for entry in os.scandir(self._folder):
            start, _, stop = entry.name.partition("-")
            if start.isdecimal() and stop.isdecimal():
                yield int(start), int(stop)

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of a range that are not on disk, in order."""
        gaps = []
        with self._lock:
            for first, last in self._kept:
                if first >= stop or start >= stop:
                    break
                if last <= start:
                    continue
                if first > start:
                    gaps.append((start, first))
                start = last
        if start < stop:
            gaps.append((start, stop))
        return gaps

    def read(self, start: int, stop: int) -> bytearray:
        """The bytes from `start` to before `stop`, fetched if they are not on disk."""
        content = bytearray(stop - start)
        view = memoryview(content)
        for _ in range(MAX_READS):
            fetch([(self, start, stop)])
            if self._fill(start, stop, view):
                return content
        raise CheckpointError(
            f"{self._root}: what is written to this cache comes back damaged. "
            f"Set HEADATLAS_CACHE to a folder on another disk."
        )

    def _fill(self, start: int, stop: int, view: memoryview) -> bool:
        """Whether every part was on disk and sound; a damaged one is dropped."""
        at = start
        with self._lock:
            kept = [part for part in self._kept if part[0] < stop and part[1] > start]
        for first, last in kept:
            if at >= stop:
                break
            if first > at or last <= at:
                continue
            end = min(last, stop)
            if not self._copy(first, last, at, view[at - start : end - start]):
                with self._lock:
                    self._kept = [part for part in self._kept if part != (first, last)]
                    self._verified.discard((first, last))
                return False
            at = end
        return at >= stop

    def _copy(self, first: int, last: int, at: int, into: memoryview) -> bool:
        path = self._folder / f"{first}-{last}"
        try:
            with path.open("rb") as content:
                if (first, last) not in self._verified:
                    if not _sound(content, last - first):
                        path.unlink(missing_ok=True)
                        return False
                    self._verified.add((first, last))
                content.seek(at - first)
                return content.readinto(into) == len(into)
        except OSError:
            return False

    def bring(self, start: int, stop: int, count: _Count) -> None:
        """Fetch one piece into the cache; a broken transfer goes on where it broke."""
        with disk(self._root):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix="part-", dir=self._folder)
            try:
                with os.fdopen(handle, "wb") as part:
                    digest = hashlib.sha256()
                    for chunk in self._persistently(start, stop, count):
                        part.write(chunk)
                        digest.update(chunk)
                    if count.stopped.is_set():
                        return
                    part.write(digest.digest())
                os.replace(name, self._folder / f"{start}-{stop}")
            finally:
                Path(name).unlink(missing_ok=True)
        with self._lock:
            if (start, stop) not in self._kept:
                bisect.insort(self._kept, (start, stop))

    def _persistently(self, start: int, stop: int, count: _Count) -> Iterator[bytes]:
        """The bytes of a range, tried again from where it broke; ends early when others have failed."""
        failures = 0
        while start < stop:
            before = start
            try:
                for chunk in self.file.stream(start, stop, self.version):
                    if count.stopped.is_set():
                        return
                    start += len(chunk)
                    count.add(len(chunk))
                    yield chunk
            except Broken as error:
                failures = 1 if start > before else failures + 1
                if failures > len(PAUSES):
                    raise _gave_up(self.file, failures, start, error) from error
                if count.stopped.wait(_pause(failures - 1, error)):
                    return
            except Offline as error:
                raise _offline(self.file) from error


def fetch(wanted: Iterable[tuple[CachedFile, int, int]], progress: BytesProgress | None = None) -> None:
    """Bring ranges of files onto this disk, several at a time; those that are there stay as they are.

    Args:
        progress: called in this thread with the wanted bytes that are there, and their number.

    Raises:
        CheckpointError: a transfer failed for good, or the disk is full. What came is kept.
    """
    pieces: list[tuple[CachedFile, int, int]] = []
    total = 0
    for cached, ranges in _by_file(wanted):
        for start, stop in _merged(ranges):
            total += stop - start
            for first, last in cached.missing(start, stop):
                pieces += [(cached, at, min(at + PIECE, last)) for at in range(first, last, PIECE)]
    count = _Count(total - sum(stop - start for _, start, stop in pieces))
    if progress:
        progress(count.done, total)
    if not pieces:
        return
    pool = ThreadPoolExecutor(N_TRANSFERS, thread_name_prefix="headatlas-transfer")
    try:
        pending = {pool.submit(cached.bring, start, stop, count) for cached, start, stop in pieces}
        shown = count.done
        while pending:
            finished, pending = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            if progress and count.done != shown:
                shown = count.done
                progress(shown, total)
    finally:
        count.stopped.set()
        pool.shutdown(cancel_futures=True)


class Unreachable(CheckpointError):
    """Neither the server nor anything of it in the cache can be read."""


def patiently(file: RemoteFile, ask: Callable[[], Answer], again: int | None = None) -> Answer:
    """The answer of a short request, tried again after growing pauses; `again` limits how often."""
    again = len(PAUSES) if again is None else again
    for failures in range(again + 1):
        try:
            return ask()
        except Offline as error:
            raise _offline(file) from error
        except Broken as error:
            if failures == again:
                raise _gave_up(file, failures + 1, 0, error) from error
            threading.Event().wait(_pause(failures, error))
    raise AssertionError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that other processes see either as it was or as it will be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix="part-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as part:
            part.write(content)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def disk(root: Path):
    """Says in one sentence what is wrong with the cache's disk."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise CheckpointError(
                f"{root}: the disk is full. Make room, or set HEADATLAS_CACHE to a folder on another disk, and run the "
                f"same again; what has come is kept."
            ) from error
        raise CheckpointError(
            f"{root}: expected a cache folder that can be written to, found none ({error.strerror}). "
            f"Set HEADATLAS_CACHE to one."
        ) from error


class _Count:
    """Bytes that are there, counted by several threads."""

    def __init__(self, done: int) -> None:
        self.done = done
        self.stopped = threading.Event()
        self._lock = threading.Lock()

    def add(self, n_bytes: int) -> None:
        with self._lock:
            self.done += n_bytes


def _by_file(wanted: Iterable[tuple[CachedFile, int, int]]) -> list[tuple[CachedFile, list[tuple[int, int]]]]:
    ranges: dict[int, tuple[CachedFile, list[tuple[int, int]]]] = {}
    for cached, start, stop in wanted:
        ranges.setdefault(id(cached), (cached, []))[1].append((start, stop))
    return list(ranges.values())


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes in as few ranges as possible."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if start >= stop:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def _sound(content, length: int) -> bool:
    """Whether an open file of the cache is as long as it should be, and what was written."""
    if os.fstat(content.fileno()).st_size != length + CHECKSUM_BYTES:
        return False
    digest = hashlib.sha256()
    while length:
        step = content.read(min(length, _STEP))
        if not step:
            return False
        digest.update(step)
        length -= len(step)
    return content.read() == digest.digest()


def _sweep(left: Iterable[Path]) -> None:
    """Remove what killed processes left behind."""
    for path in left:
        try:
            if time.time() - path.stat().st_mtime > ABANDONED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # another process was quicker


def _read_version(record: Path) -> Version | None:
    try:
        tag, length = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return None
    return Version(tag, length) if isinstance(tag, str) and type(length) is int and length >= 0 else None


def _pause(failures: int, error: Broken) -> float:
    # A random part keeps transfers that broke together from coming back together.
    pause = PAUSES[min(failures, len(PAUSES) - 1)] * random.uniform(0.8, 1.2)
    return min(max(pause, error.pause), LONGEST_PAUSE)


def _gave_up(file: RemoteFile, tries: int, at: int, error: Broken) -> Unreachable:
    return Unreachable(
        f"{file.shown}: the transfer failed {tries} times at byte {at:,} ({error}). "
        f"Run the same again; what has come is kept."
    )


def _offline(file: RemoteFile) -> Unreachable:
    return Unreachable(
        f"{file.shown}: these bytes are not in the cache, and HF_HUB_OFFLINE forbids asking for them. "
        f"Run once with a connection."
    )
