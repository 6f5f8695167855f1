"""Files that may come from others are opened only if they are files: a device or a pipe can act, or never end."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

NOT_REGULAR = "it is no file, but a device, a pipe, a socket or a folder"
LINK_OUT = "it is a link that leads out of its folder"


def at_home(path: str | Path) -> Path:
    """A path whose `~` is the user's folder; that of an unknown user stays, where pathlib would raise an error."""
    return Path(os.path.expanduser(path))


def open_regular(path: Path, inside: Path | None = None) -> io.BufferedReader:
    """Open a file to read its bytes.

    Args:
        inside: a folder that the file must lie in once all links are followed; default: anywhere.

    Raises:
        OSError: there is none, it cannot be read, it is not a regular file, or a link leads out of the folder.
    """
    if inside is not None and not path.resolve().is_relative_to(inside.resolve()):
        raise OSError(errno.EPERM, LINK_OUT, str(path))
    check_regular(path.stat().st_mode, path)
    # It can have been replaced since: a pipe is opened without waiting for its other end, and looked at again.
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    try:
        check_regular(os.fstat(file.fileno()).st_mode, path)
    except OSError:
        file.close()
        raise
    return file


def check_regular(mode: int, path: Path) -> None:
    """Raise `OSError` unless `st_mode` is that of a regular file."""
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))


def read_regular(path: Path, most: int | None = None, inside: Path | None = None) -> bytes:
    """The bytes of a file, as `open_regular`.

    Args:
        most: bytes; of a larger file only one byte more is read.
    """
    with open_regular(path, inside) as file:
        return file.read(-1 if most is None else most + 1)


def read_regular_text(path: Path, encoding: str = "utf-8") -> str:
    r"""The text of a file, as `open_regular`; every end of a line is `\n`."""
    with io.TextIOWrapper(open_regular(path), encoding) as file:
        return file.read()
