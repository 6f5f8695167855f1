"""One file that is not on this machine: what it is called, which version of it is there, and its bytes by range."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from headatlas.errors import CheckpointError


class Broken(Exception):
    """A transfer that may succeed when it is tried again; the message says what happened, without addresses.

    Args:
        pause: seconds that the server asked to wait.
    """

    def __init__(self, what: str, pause: float = 0.0) -> None:
        super().__init__(what)
        self.pause = pause


class Offline(Exception):
    """The user forbade network requests."""


class Missing(CheckpointError):
    """There is no such file."""


class Refused(CheckpointError):
    """The server gives no access to it."""


@dataclass(frozen=True)
class Version:
    """What tells one state of a remote file from another.

    Args:
        tag: its ETag, or else when it was changed; None where the server says neither.
        length: in bytes.
    """

    tag: str | None
    length: int


class RemoteFile(Protocol):
    """A file behind a protocol. All methods may be called from several threads."""

    shown: str
    """Its address without passwords and signatures, for messages."""

    identity: str
    """What it is, whatever its revision: with the version the key of what is cached."""

    address: str
    """Where it is looked for; kept only as a hash."""

    pinned: bool
    """The address never holds anything else, so that its version need not be asked for twice."""

    def version(self) -> Version:
        """Ask for the version; raises `Broken`, `Offline`, `Missing` or another `CheckpointError`."""
        ...

    def stream(self, start: int, stop: int, version: Version) -> Iterator[bytes]:
        """The bytes from `start` to before `stop` in pieces as they come.

        Raises:
            Broken: it stopped before its end, or the server asks to wait.
            Offline: the user forbade network requests.
            CheckpointError: refused, or another version is there now.
        """
        ...


def changed(shown: str) -> CheckpointError:
    """What to say when a file became another one between two requests."""
    return CheckpointError(
        f"{shown}: expected the file that was there when this run began, found another one in its place. "
        f"Run the same again to read the new one."
    )


def fingerprint(text: str) -> str:
    """A name for a folder of the cache that gives nothing of the text away."""
    return hashlib.sha256(text.encode()).hexdigest()[:40]
