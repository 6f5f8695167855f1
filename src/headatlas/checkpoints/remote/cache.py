"""Byte ranges of remote files, kept on disk with checksums, so that each is transferred once.

Each range is a file of its own, `FROM-TO`, followed by the SHA-256 of its bytes, in a folder named after the remote
file's address, version tag and length. Files are written under another name and renamed, so that processes can share
the cache and a killed one leaves what it has fetched.
"""

from __future__ import annotations

import bisect
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from headatlas.atomic import write_atomically
from headatlas.bounded_json import parse_bounded, read_bounded
from headatlas.checkpoints.remote.file import Broken, Offline, RemoteFile, Version, fingerprint
from headatlas.checkpoints.remote.retrying import Unreachable, next_pause, offline, patiently
from headatlas.checkpoints.tensor_store import BytesProgress
from headatlas.errors import CheckpointError
from headatlas.regular_files import open_regular

N_TRANSFERS = 8
"""Transfers at the same time."""

PIECE = 16 * 2**20
"""Most bytes of one request and one file: a killed run loses at most this much of each transfer."""

MOST_BYTES, MOST_VALUES = 2**16, 1_000
"""Of what is noted about a version."""

LEAST = 2**16
"""A try that brings fewer bytes than this counts as one that brought nothing, so that a transfer ends."""

MAX_READS = 3
"""How often a damaged range is fetched again before the disk is assumed to be faulty."""

ABANDONED = 7 * 24 * 3600
"""Age in seconds at which an unfinished file is removed."""

CHECKSUM_BYTES = 32
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_STEP = 2**18


def cache_folder() -> Path:
    """The cache's folder: `HEADATLAS_CACHE`, or `headatlas` in the system's folder for caches."""
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
    """A remote file and its cached ranges.

    Args:
        file: where its bytes come from.
        root: the cache's folder; default: `cache_folder()`.

    Raises:
        CheckpointError: the file does not exist, or cannot be reached and is not in the cache.
    """

    def __init__(self, file: RemoteFile, root: Path | None = None) -> None:
        self.file = file
        self._root = root or cache_folder()
        self.version = self._find_version()
        self._verified: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        if self.version.tag is None:
            # A later version of the file could not be recognised, so these ranges are kept for this run only.
            with disk(self._root):
                self._root.mkdir(parents=True, exist_ok=True)
                self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=self._root))
            weakref.finalize(self, shutil.rmtree, self._folder, True)
        else:
            key = json.dumps([file.identity, self.version.tag, self.version.length])
            self._folder = self._root / "ranges" / fingerprint(key)
            with disk(self._root):
                self._folder.mkdir(parents=True, exist_ok=True)
        _sweep(self._folder.glob(".*.partial"))
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
                keep(record, json.dumps([found.tag, found.length]).encode())
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
        """The bytes from `start` to before `stop`; what is not on disk is fetched."""
        content = bytearray(stop - start)
        view = memoryview(content)
        for _ in range(MAX_READS):
            fetch([(self, start, stop)])
            if self._fill(start, stop, view):
                return content
        raise CheckpointError(
            f"{self._root}: expected to read from this cache what was written to it, found it damaged. "
            f"Set HEADATLAS_CACHE to a folder on another disk."
        )

    def _fill(self, start: int, stop: int, view: memoryview) -> bool:
        """Whether all parts are on disk and undamaged; a damaged part is removed."""
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
            with open_regular(path) as content:
                if (first, last) not in self._verified:
                    if not _sound(content, last - first):
                        path.unlink(missing_ok=True)
                        return False
                    self._verified.add((first, last))
                content.seek(at - first)
                return content.readinto(into) == len(into)
        except OSError:
            return False

    def fetch(self, start: int, stop: int, count: _Count) -> None:
        """Fetch one piece into the cache; a broken transfer continues where it broke."""
        with disk(self._root):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                write_atomically(self._folder / f"{start}-{stop}", lambda path: self._write(path, start, stop, count))
            except _Stopped:
                return
        with self._lock:
            if (start, stop) not in self._kept:
                bisect.insort(self._kept, (start, stop))

    def _write(self, path: Path, start: int, stop: int, count: _Count) -> None:
        """Write the bytes of a range, followed by their checksum."""
        digest = hashlib.sha256()
        with path.open("wb") as part:
            for chunk in self._persistently(start, stop, count):
                part.write(chunk)
                digest.update(chunk)
            part.write(digest.digest())

    def _persistently(self, start: int, stop: int, count: _Count) -> Iterator[bytes]:
        """The bytes of a range, continued where a transfer broke; raises `_Stopped` if another transfer has failed."""
        failures = 0
        while start < stop:
            before = start
            try:
                for chunk in self.file.stream(start, stop, self.version):
                    if count.stopped.is_set():
                        raise _Stopped
                    start += len(chunk)
                    count.add(len(chunk))
                    yield chunk
            except Broken as error:
                failures = 1 if start - before >= LEAST else failures + 1
                if count.stopped.wait(next_pause(self.file, failures, error, start)):
                    raise _Stopped from error
            except Offline as error:
                raise offline(self.file) from error


def fetch(wanted: Iterable[tuple[CachedFile, int, int]], progress: BytesProgress | None = None) -> None:
    """Fetch those of the wanted ranges that are not on disk, several at a time.

    Args:
        progress: called in this thread with the number of wanted bytes on disk, and the number of all wanted bytes.

    Raises:
        CheckpointError: a transfer failed repeatedly, or the disk is full. What was fetched is kept.
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
        pending = {pool.submit(cached.fetch, start, stop, count) for cached, start, stop in pieces}
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


def keep(path: Path, content: bytes | bytearray) -> None:
    """Write a file of the cache, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda partial: partial.write_bytes(content))


@contextmanager
def disk(root: Path):
    """Turn errors of the disk into errors for users."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise CheckpointError(
                f"{root}: the disk is full. Make room, or set HEADATLAS_CACHE to a folder on another disk, and run the "
                f"same again; what was fetched is kept."
            ) from error
        raise CheckpointError(
            f"{root}: expected a cache folder that can be written to, found none ({error.strerror}). "
            f"Set HEADATLAS_CACHE to one."
        ) from error


class _Stopped(Exception):
    """Another transfer has failed, and this one ends early."""


class _Count:
    """The number of bytes on disk, counted by several threads."""

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
    """Whether an open file of the cache has the expected length and checksum."""
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
    """Remove unfinished files of killed processes."""
    for path in left:
        try:
            if time.time() - path.lstat().st_mtime > ABANDONED:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError:
            continue  # another process was faster


def _read_version(record: Path) -> Version | None:
    try:
        tag, length = parse_bounded(read_bounded(record, MOST_BYTES), MOST_VALUES)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return Version(tag, length) if isinstance(tag, str) and type(length) is int and length >= 0 else None
