"""Files appear whole or not at all, whatever interrupts the writing and whoever else writes them."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from headatlas.errors import AtlasError

ABANDONED = 24 * 3600
"""Age in seconds at which the unfinished file of a killed process is removed."""

PARTIAL = re.compile(r"\..+\.(?:[0-9a-f]{16}|\d+-\d+)\.partial", re.DOTALL)
"""Names of unfinished files."""

LONGEST = 120
"""Characters of a file's own name in that of its unfinished file, which the file system must allow."""


def write_atomically(path: Path, write: Callable[[Path], object], mode: int = 0o666) -> None:
    """Call `write` with a temporary path in the same folder, flush that file to disk, then rename it to `path`.

    When this returns, the file is on the disk under its name, even if the power fails next. An error leaves `path` as
    it was. Several processes may write the same file: one of them wins. The temporary file is new and has a name that
    nobody can guess: no link can wait there. A link at `path` is replaced, not followed.

    Args:
        mode: permissions of the file, of which the user's umask is taken away.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "a.txt", lambda path: path.write_text("whole", "utf-8"))
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    partial = partial_path(path)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), mode))
    try:
        write(partial)
        flush_file(partial)
        os.replace(partial, path)
        flush_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def temporary_folder(inside: Path | None = None) -> Iterator[Path]:
    """A folder of this process alone, which is removed in the end.

    Args:
        inside: a folder; default: the system's folder for temporary files.

    Raises:
        AtlasError: it cannot be made.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="headatlas-", dir=inside))
        except OSError as error:
            raise AtlasError(
                f"{inside or 'temporary files'}: cannot be written ({error.strerror or error}). Make room, and run the "
                f"same command again."
            ) from error
        yield Path(folder)


def partial_path(path: Path) -> Path:
    """An unfinished file or folder next to a path, with a name that nobody can guess."""
    return path.with_name(f".{path.name[:LONGEST]}.{secrets.token_hex(8)}.partial")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing, safely on the disk."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        flush_folder(each.parent)


def flush_file(path: Path) -> None:
    """Flush what was written into a file to disk."""
    with path.open("rb+") as file:  # Windows flushes only files that are open for writing
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to disk: if the power fails before that, what was renamed, made or removed in it can
    be as it was before, while later changes of other folders are kept."""
    if os.name != "posix":
        return  # Windows opens no folders
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # of file systems that flush no folders
            raise
    finally:
        os.close(file)


def sweep(folder: Path, of: str = "") -> None:
    """Remove what killed processes have left unfinished in a folder long ago; links are removed, never followed.

    Args:
        of: a name, of which unfinished folders are removed too; default: only files are removed.
    """
    try:
        names = [name for name in os.listdir(folder) if PARTIAL.fullmatch(name)]
    except OSError:
        return
    for name in names:
        try:
            found = os.lstat(folder / name)
            if time.time() - found.st_mtime <= ABANDONED:
                continue
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(folder / name)
            elif of and name.startswith(f".{of[:LONGEST]}.") and name.count(".") == of[:LONGEST].count(".") + 3:
                shutil.rmtree(folder / name, ignore_errors=True)
        except OSError:
            continue  # another process was faster


def refuse_link(path: Path) -> None:
    """Raise `OSError` if a path is a link: what is written through it would land elsewhere."""
    is_junction = getattr(path, "is_junction", bool)  # of Python 3.12 and newer, on Windows
    if path.is_symlink() or is_junction():
        raise OSError(errno.ELOOP, "it is a link to another place, which is not followed", str(path))
