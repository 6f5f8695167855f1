"""A file in a store that fsspec supports (s3, gs, az, memory), read by byte ranges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headatlas.checkpoints.remote.file import Broken, Missing, Refused, Version, WholeFile, changed
from headatlas.errors import CheckpointError

TAGS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "LastModified", "last_modified", "mtime", "created")
"""Names that stores give to what changes with the file, best first."""


class StoreFile:
    """See `RemoteFile`.

    Args:
        store: the file system, as fsspec opens it.
        path: inside the store.
        shown: for messages.
        address: names the file; only a hash of it is stored.
    """

    pinned = False

    def __init__(self, store: Any, path: str, shown: str, address: str) -> None:
        self._store = store
        self._path = path
        self.shown = shown
        self.address = self.identity = address

    def version(self) -> Version:
        # A cached listing would not show that the file has changed.
        self._store.invalidate_cache(self._path)
        found = self._ask(self._store.info, self._path)
        size = found.get("size")
        if found.get("type") == "directory":
            raise Missing(f"{self.shown}: expected a file, found a folder.")
        if type(size) is not int or size < 0:
            raise CheckpointError(f"{self.shown}: expected a file with a length, found none.")
        tag = next((str(found[name]) for name in TAGS if found.get(name)), None)
        return Version(tag, size)

    def stream(self, start: int, stop: int, version: Version) -> Iterator[bytes]:
        content = self._ask(self._store.cat_file, self._path, start=start, end=stop)
        if self.version() != version:
            raise changed(self.shown)
        if len(content) != stop - start:
            raise Broken(f"the store sent {len(content):,} bytes instead of {stop - start:,}")
        yield content

    def whole(self, known: str | None, limit: int) -> WholeFile | None:
        version = self.version()
        if known is not None and version.tag == known:
            return None
        if version.length > limit:
            raise CheckpointError(f"{self.shown}: expected at most {limit:,} bytes, found {version.length:,}.")
        content = b"".join(self.stream(0, version.length, version)) if version.length else b""
        return WholeFile(version.tag, content)

    def _ask(self, method: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise Missing(f"{self.shown}: expected a file, found none.") from error
        except PermissionError as error:
            raise Refused(
                f"{self.shown}: the store refuses access. Log in with the tools of the store, and run it again."
            ) from error
        except Exception as error:  # each store has its own kinds; their messages may hold signatures
            raise Broken(f"the store raised {type(error).__name__}") from error
