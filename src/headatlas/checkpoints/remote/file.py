"""A remote file: its address, its version, and its bytes by range."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from headatlas.errors import CheckpointError


class Broken(Exception):
    """A transfer failed and may succeed when it is tried again; the message says what happened, without addresses.

    Args:
        pause: seconds to wait, as the server asked.
    """

    def __init__(self, what: str, pause: float = 0.0) -> None:
        super().__init__(what)
        self.pause = pause


class Offline(Exception):
    """The user forbade network requests."""


class Missing(CheckpointError):
    """The file does not exist."""


class Refused(CheckpointError):
    """The server refuses access to the file."""


@dataclass(frozen=True)
class Version:
    """What distinguishes one state of a remote file from another.

    Args:
        tag: its ETag, or else the time of its last change; None if the server gives neither.
        length: in bytes.
    """

    tag: str | None
    length: int


@dataclass(frozen=True)
class WholeFile:
    """All bytes of a small file, and the tag of its version."""

    tag: str | None
    content: bytes | bytearray


class RemoteFile(Protocol):
    """A file that is read over a network; `HttpFile` and `StoreFile` are such files. All methods are thread-safe."""

    shown: str
    """The address without passwords and signatures, for messages."""

    identity: str
    """Names the file independently of its revision; together with the version, the key of its cached ranges."""

    address: str
    """Where the file is; only a hash of it is stored."""

    pinned: bool
    """Whether the content at the address never changes, so that the version is requested only once."""

    def version(self) -> Version:
        """Request the version; raises `Broken`, `Offline`, `Missing` or another `CheckpointError`."""
        ...

    def stream(self, start: int, stop: int, version: Version) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, in pieces as they arrive.

        Raises:
            Broken: the transfer stopped before its end, or the server asks to wait.
            Offline: the user forbade network requests.
            CheckpointError: access is refused, or the file has changed.
        """
        ...

    def whole(self, known: str | None, limit: int) -> WholeFile | None:
        """A small file of at most `limit` bytes; None if its tag is still `known`. Raises like `stream`."""
        ...


def changed(shown: str) -> CheckpointError:
    """The error for a file that changed between two requests."""
    return CheckpointError(
        f"{shown}: expected the file of the beginning of this run, found a changed one. "
        f"Run the same again to read the new one."
    )


def fingerprint(text: str) -> str:
    """A name for a folder of the cache that reveals nothing of the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:40]
