"""Where a run keeps what it has finished: who may write there, what belongs to which run, and what is already safe.

Map, salient operations, validation and ablation each keep their parts in a hidden folder inside the atlas's folder.
A run is identified by what it measures: the same command continues where it stopped. The folder of a map becomes an
atlas only when the last file, its manifest, is written.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from headatlas.atlas import MANIFEST, load_manifest
from headatlas.atomic import make_folder, refuse_link, sweep, write_atomically
from headatlas.bounded_json import parse_bounded
from headatlas.errors import AtlasError
from headatlas.measuring.output import OUTPUTS, evidence_pictures, write_results
from headatlas.regular_files import open_regular, read_regular

if TYPE_CHECKING:
    import numpy as np

    from headatlas.atlas import Atlas

UNFINISHED = ".unfinished"

SALIENT = ".salient"
"""Of salient operations, which a map can have measured before any score."""

RUN = "run.json"
LOCK = "lock"
MOST_BYTES, MOST_VALUES = 64 << 20, 1_000_000
"""Of what a run notes about itself."""

KINDS = "biufU"
"""Of the arrays of parts: truth values, numbers and texts."""

MOST_HEADER = 2**14
"""Bytes in front of an array's numbers."""

UNFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError, RecursionError)
"""What code raises that is given other arrays than it has saved; or has a fault of its own."""

CONTINUE = "Finished parts are safe; make room and run the same command again."


class RunParts:
    """The finished parts of one run, each a file of arrays; use as a context manager.

    Parts of a run with another identity are dropped. A run that ends without a part, because it was refused for
    example, leaves nothing.

    Args:
        folder: the atlas's folder, which has to exist; None keeps nothing.
        name: of the hidden folder inside it.
        identity: what is measured; JSON types only.
        doing: what the run does, for messages, such as `validating this atlas`.

    Raises:
        AtlasError: another run holds the parts, or the folder cannot be written.
    """

    def __init__(self, folder: Path | None, name: str, identity: dict[str, Any], doing: str) -> None:
        from filelock import FileLock

        self.folder, self.identity, self.doing = folder, identity, doing
        self.path = None if folder is None else folder / name
        self._lock = None if self.path is None else FileLock(self.path / LOCK, blocking=False)
        self._made: set[str] = set()
        """Parts that were saved here."""
        self._goes_on = False
        """Whether parts of an earlier run were loaded, which can be anybody's."""

    def __enter__(self) -> RunParts:
        if self.path is not None:
            try:
                refuse_link(self.path)
                make_folder(self.path)
                refuse_link(self.path / LOCK)
                self._acquire()
                try:
                    sweep(self.path)
                    self._begin()
                except BaseException:
                    self.__exit__()
                    raise
            except OSError as error:
                with suppress(OSError):
                    self.path.rmdir()  # if it is empty
                raise AtlasError(
                    f"{self.path}: cannot be written ({error.strerror or error}). Make room, or let this user write "
                    f"there, and run the same command again."
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None, _: object = None
    ) -> None:
        if self._lock is not None:
            # Before the lock is released: what is removed later can be the next run's.
            if self._is_done():
                self.remove()
            self._lock.release()
        if self._goes_on and isinstance(error, UNFIT):
            raise AtlasError(
                f"{self.path}: expected finished parts of this run, and failed with those that are there "
                f"({type(error).__name__}; --debug shows where). Remove this folder, and the same command starts anew."
            ) from error

    def load(self, part: str) -> dict[str, np.ndarray] | None:
        """A part's arrays as they were saved, or None; a damaged part is measured again."""
        if self.path is None:
            return None
        try:
            with open_regular(self._file(part), self.path) as file:
                found = _read_arrays(file)
        except MemoryError:
            raise
        except Exception:  # what zipfile and numpy raise for damaged files has many types
            return None
        self._goes_on |= part not in self._made
        return found

    def save(self, part: str, arrays: dict[str, np.ndarray]) -> None:
        """Write a part's arrays safely to disk.

        Raises:
            AtlasError: they cannot be written.
        """
        import numpy as np

        if self.path is None:
            return
        self._made.add(part)

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)

        try:
            write_atomically(self._file(part), write)
        except OSError as error:
            raise cannot_be_written(f"{self.folder}: {part}", error) from error

    def names(self, beginning: str) -> list[str]:
        """The saved parts whose names begin so."""
        return [part.stem for part in self._saved() if part.stem.startswith(beginning)]

    def drop(self, part: str) -> None:
        """Remove a part that is no longer needed."""
        with suppress(OSError):
            self._file(part).unlink()

    def load_layer(self, layer: int) -> dict[str, np.ndarray] | None:
        """The part of a layer, as `load`."""
        return self.load(f"layer-{layer:04d}")

    def save_layer(self, layer: int, arrays: dict[str, np.ndarray]) -> None:
        """The part of a layer, as `save`."""
        self.save(f"layer-{layer:04d}", arrays)

    def remove(self) -> None:
        """Remove all parts, once their result is safe elsewhere."""
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)

    def _is_done(self) -> bool:
        """Whether the parts that are there are of no use."""
        return not self._saved()

    def _file(self, part: str) -> Path:
        assert self.path is not None
        return self.path / f"{part}.npz"

    def _saved(self) -> list[Path]:
        return [] if self.path is None else list(self.path.glob("*.npz"))

    def _acquire(self) -> None:
        from filelock import Timeout

        assert self._lock is not None
        try:
            self._lock.acquire()
        except Timeout as error:
            raise AtlasError(f"{self.folder}: another run is {self.doing}. Wait for it.") from error

    def _begin(self) -> None:
        """Drop parts of another run, and note which run this is."""
        if self._known_run() != self.identity:
            for part in self._saved():
                part.unlink()
            assert self.path is not None
            text = json.dumps(self.identity, indent=2)
            write_atomically(self.path / RUN, lambda path: path.write_text(text, "utf-8"))

    def _known_run(self) -> Any:
        assert self.path is not None
        try:
            content = read_regular(self.path / RUN, MOST_BYTES, self.path)
            return parse_bounded(content, MOST_VALUES) if len(content) <= MOST_BYTES else None
        except (OSError, ValueError, RecursionError):
            return None


def _read_arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of a file as `np.savez` writes it, which take as much memory as the file; others are refused.

    Raises:
        Exception: of many types.
    """
    import numpy as np

    arrays = {}
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        left = file.seek(0, io.SEEK_END)
        for entry in entries:
            left -= entry.file_size
            if entry.compress_type != zipfile.ZIP_STORED or left < 0:
                raise ValueError("more bytes than the file has")
            with archive.open(entry) as member:
                header = io.BytesIO(member.read(MOST_HEADER))
                version = np.lib.format.read_magic(header)
                shape, _, dtype = np.lib.format.read_array_header_1_0(header)
                n_bytes = math.prod(shape) * dtype.itemsize
                if version != (1, 0) or n_bytes != entry.file_size - header.tell():
                    raise ValueError("an array of another size")
                if dtype.kind not in KINDS or not dtype.itemsize:
                    raise ValueError("an array of another type")
                member.seek(0)
                arrays[entry.filename.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays


def cannot_be_written(what: str, error: OSError) -> AtlasError:
    """The error that says so of a file or folder of a run."""
    return AtlasError(f"{what} cannot be written ({error.strerror or error}). {CONTINUE}")


def remove_parts(folder: Path, name: str) -> None:
    """Remove the parts of a run whose result is safe, unless another run holds them.

    Args:
        folder: the atlas's folder.
        name: of the hidden folder inside it.
    """
    from filelock import FileLock, Timeout

    path = folder / name
    try:
        refuse_link(path)
        refuse_link(path / LOCK)
        if path.is_dir():
            with FileLock(path / LOCK, blocking=False):
                shutil.rmtree(path, ignore_errors=True)
    except (OSError, Timeout):
        pass  # they are of no use, and do no harm


class RunFolder(RunParts):
    """The output folder of a map, held for one run; its parts lie in `.unfinished/`.

    Args:
        folder: created if it does not exist.
        identity: what is measured; JSON types only.
        overwrite: replace an atlas or an unfinished run of something else. Files of other kinds are never touched.

    Raises:
        AtlasError: the folder cannot be written, holds something else, or another run is writing into it.
    """

    folder: Path
    path: Path

    def __init__(self, folder: str | Path, identity: dict[str, Any], overwrite: bool = False) -> None:
        super().__init__(Path(folder), UNFINISHED, identity, "writing into this folder")
        self.overwrite = overwrite

    def __enter__(self) -> RunFolder:
        if self.folder.exists() and not self.folder.is_dir():
            raise AtlasError(f"{self.folder}: expected a folder to write the atlas into, found a file.")
        self._refuse_foreign_folder()
        try:
            make_folder(self.folder)
        except OSError as error:
            raise AtlasError(
                f"{self.folder}: cannot be written ({error.strerror or error}). Choose another folder."
            ) from error
        super().__enter__()
        return self

    @property
    def finished(self) -> bool:
        """Whether the folder already holds the atlas that this run would make."""
        return (self.folder / MANIFEST).is_file()

    def finish(self, atlas: Atlas) -> None:
        """Write all results, the manifest last.

        Raises:
            AtlasError: they cannot be written.
        """
        try:
            write_results(atlas, self.folder)
        except AtlasError as error:
            raise AtlasError(f"{error} {CONTINUE}") from error

    def _is_done(self) -> bool:
        return self.finished or super()._is_done()

    def _refuse_foreign_folder(self) -> None:
        try:
            there = sorted(entry.name for entry in self.folder.iterdir()) if self.folder.exists() else []
        except OSError as error:
            raise AtlasError(f"{self.folder}: cannot be read ({error.strerror}). Choose another folder.") from error
        ours = not {MANIFEST, UNFINISHED, SALIENT}.isdisjoint(there)
        if there and not ours and not self.overwrite:
            raise AtlasError(
                f"{self.folder}: expected an empty folder or an atlas, found {there[0]!r}. "
                f"Choose another folder, or write into this one with --overwrite."
            )

    def _begin(self) -> None:
        """Refuse or replace what another run has written, and note which run this is."""
        finished = load_manifest(self.folder).identity if self.finished and not self.overwrite else None
        for found, what in ((finished, "an atlas"), (self._known_run(), "an unfinished run")):
            if found is not None and found != self.identity and not self.overwrite:
                raise AtlasError(
                    f"{self.folder}: holds {what} with {_difference(found, self.identity)}. "
                    f"Choose another folder, or replace it with --overwrite."
                )
        if self.overwrite:
            for name in (*self._pictures_there(), *OUTPUTS):
                (self.folder / name).unlink(missing_ok=True)
        super()._begin()

    def _pictures_there(self) -> list[str]:
        """Pictures of the evidence that is replaced."""
        try:
            return evidence_pictures(load_manifest(self.folder))
        except AtlasError:
            return []


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    """What differs, in words: `another model`, `k=5 where this run has 10`."""
    if not isinstance(found, dict) or found.get("model") != wanted["model"]:
        return "another model"
    if found.get("scoring", 1) != wanted.get("scoring", 1):
        return (
            f"scores of another version of the scoring ({found.get('scoring', 1)}; this headatlas has "
            f"{wanted.get('scoring', 1)}), which are never mixed"
        )
    if found.get("relations") != wanted["relations"]:
        return "other relations"
    settings = found.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    pairs = [
        f"{name}={settings.get(name)} where this run has {value}"
        for name, value in wanted["settings"].items()
        if settings.get(name) != value
    ]
    return ", ".join(pairs) or "other settings"
