"""Files appear whole or not at all, whatever interrupts the writing and whoever else writes them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path in the same folder, flush that file to disk, then rename it to `path`.

    An error leaves `path` as it was. Several processes may write the same file: one of them wins.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "a.txt", lambda path: path.write_text("whole", "utf-8"))
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        write(partial)
        with partial.open("rb+") as file:  # Windows flushes only files that are open for writing
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
