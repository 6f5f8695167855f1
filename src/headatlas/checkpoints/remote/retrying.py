"""Requests and transfers that fail are tried again after growing pauses, and given up with an error for users."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from headatlas.checkpoints.remote.file import Broken, Offline, RemoteFile
from headatlas.errors import CheckpointError

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try of a transfer that brought nothing."""

LONGEST_PAUSE = 120.0
"""Upper limit in seconds, also for the pause that a server requests."""

Answer = TypeVar("Answer")


class Unreachable(CheckpointError):
    """A file can be read neither from its server nor from the cache."""


def patiently(file: RemoteFile, ask: Callable[[], Answer], retries: int | None = None) -> Answer:
    """The answer to a short request, which is repeated if it fails.

    Args:
        retries: default: one for each of `PAUSES`.

    Raises:
        Unreachable: every try failed, or the user forbade network requests.
    """
    failures = 0
    while True:
        try:
            return ask()
        except Offline as error:
            raise offline(file) from error
        except Broken as error:
            failures += 1
            time.sleep(next_pause(file, failures, error, retries=retries))


def next_pause(file: RemoteFile, failures: int, error: Broken, at: int = 0, retries: int | None = None) -> float:
    """Seconds to wait before the next try.

    Args:
        failures: how often in a row it has failed, at least 1.
        at: the byte at which it failed, for messages.
        retries: default: one for each of `PAUSES`.

    Raises:
        Unreachable: there have been enough tries.
    """
    if failures > (len(PAUSES) if retries is None else retries):
        raise Unreachable(
            f"{file.shown}: the transfer failed {failures} times at byte {at:,} ({error}). "
            f"Run the same again; what was fetched is kept."
        ) from error
    # A random part keeps transfers that broke together from being repeated together.
    seconds = PAUSES[min(failures, len(PAUSES)) - 1] * random.uniform(0.8, 1.2)
    return min(max(seconds, error.pause), LONGEST_PAUSE)


def offline(file: RemoteFile) -> Unreachable:
    return Unreachable(
        f"{file.shown}: these bytes are not in the cache, and HF_HUB_OFFLINE forbids requesting them. "
        f"Run once with a connection."
    )
