"""Files appear whole or not at all, whatever interrupts the writing and whoever else writes them."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

ABANDONED = 24 * 3600
"""Age in seconds at which the unfinished file of a killed process is removed."""

PARTIAL = re.compile(r"\..+\.(?:[0-9a-f]{16}|\d+-\d+)\.partial", re.DOTALL)
"""Names of unfinished files."""

LONGEST = 120
"""Characters of a file's own name in that of its unfinished file, which the file system must allow."""


def write_atomically(path: Path, write: Callable[[Path], object], mode: int = 0o666) -> None:
    """Call `write` with a temporary path in the same folder, flush that file to disk, then rename it to `path`.

    An error leaves `path` as it was. Several processes may write the same file: one of them wins. The temporary file is
    new and has a name that nobody can guess: no link can wait there. A link at `path` is replaced, not followed.

    Args:
        mode: permissions of the file, of which the user's umask is taken away.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "a.txt", lambda path: path.write_text("whole", "utf-8"))
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    partial = path.with_name(f".{path.name[:LONGEST]}.{secrets.token_hex(8)}.partial")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), mode))
    try:
        write(partial)
        with partial.open("rb+") as file:  # Windows flushes only files that are open for writing
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes have left unfinished in a folder long ago; links are removed, never followed."""
    try:
        names = [name for name in os.listdir(folder) if PARTIAL.fullmatch(name)]
    except OSError:
        return
    for name in names:
        try:
            found = os.lstat(folder / name)
            if not stat.S_ISDIR(found.st_mode) and time.time() - found.st_mtime > ABANDONED:
                os.unlink(folder / name)
        except OSError:
            continue  # another process was faster


def refuse_link(path: Path) -> None:
    """Raise `OSError` if a path is a link: what is written through it would land elsewhere."""
    is_junction = getattr(path, "is_junction", bool)  # of Python 3.12 and newer, on Windows
    if path.is_symlink() or is_junction():
        raise OSError(errno.ELOOP, "it is a link to another place, which is not followed", str(path))
