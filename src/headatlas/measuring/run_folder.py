"""An output folder while a map is being made: who may write into it, and the layers that are already safe.

Finished layers lie in `DIR/.unfinished/`; the folder becomes an atlas only when the last file, its manifest, is in
place. A run is identified by the model's fingerprint, the encoded relations and the settings: the same command goes
on where it stopped, any other is refused.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas import EVIDENCE, HITS, MANIFEST, SCORES, Atlas, load_manifest, write_atomically
from headatlas.errors import AtlasError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

UNFINISHED = ".unfinished"
RUN = "run.json"
LOCK = "lock"
FIGURE_FORMATS = ("png", "svg", "pdf")
FIGURES = {"score": "figure", "suppression": "suppression"}
SENSITIVITY = "sensitivity"
REPORT = "report.md"
PAGE = "explorer.html"
GO_ON = "Finished layers are safe; make room and run the same command again."
OUTPUTS = (
    MANIFEST,
    SCORES,
    HITS,
    REPORT,
    PAGE,
    *(f"{stem}.{fmt}" for stem in (*FIGURES.values(), SENSITIVITY) for fmt in FIGURE_FORMATS),
    *(f"{name}.parquet" for name in EVIDENCE),
)


class RunFolder:
    """Hold an output folder for one run; use as a context manager.

    Args:
        folder: made if it is not there.
        identity: what is measured; JSON types only.
        overwrite: replace an atlas or an unfinished run of something else. Files of other kinds are never touched.

    Raises:
        AtlasError: the folder cannot be written, holds something else, or another run is writing into it.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any], overwrite: bool = False) -> None:
        from filelock import FileLock

        self.folder = Path(folder)
        self.identity = identity
        self.overwrite = overwrite
        self._parts = self.folder / UNFINISHED
        self._lock = FileLock(self._parts / LOCK, blocking=False)

    def __enter__(self) -> RunFolder:
        if self.folder.exists() and not self.folder.is_dir():
            raise AtlasError(f"{self.folder}: expected a folder to write the atlas into, found a file.")
        self._refuse_foreign_folder()
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
            self._acquire()
            try:
                self._check_identity()
            except BaseException:
                self.__exit__()
                raise
        except OSError as error:
            raise AtlasError(
                f"{self.folder}: cannot be written ({error.strerror or error}). Choose another folder."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if self.finished:
            shutil.rmtree(self._parts, ignore_errors=True)

    @property
    def finished(self) -> bool:
        """Whether the folder already holds the atlas that this run would make."""
        return (self.folder / MANIFEST).is_file()

    def load_layer(self, layer: int) -> dict[str, np.ndarray] | None:
        """A layer's arrays as they were saved, or None; what cannot be read is measured again."""
        import numpy as np

        try:
            # Opened here: of a damaged file, np.load leaves its own open.
            with self._layer(layer).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None

    def save_layer(self, layer: int, arrays: dict[str, np.ndarray]) -> None:
        """Bring a layer's arrays safely to disk."""
        import numpy as np

        def write(path: Path) -> None:
            with open(path, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)

        try:
            write_atomically(self._layer(layer), write)
        except OSError as error:
            raise AtlasError(
                f"{self.folder}: layer {layer} cannot be written ({error.strerror or error}). {GO_ON}"
            ) from error

    def finish(self, atlas: Atlas) -> None:
        """Write everything, the manifest last, then drop the parts."""
        try:
            write_folder(atlas, self.folder)
        except AtlasError as error:
            raise AtlasError(f"{error} {GO_ON}") from error

    def _layer(self, layer: int) -> Path:
        return self._parts / f"layer-{layer:04d}.npz"

    def _refuse_foreign_folder(self) -> None:
        try:
            there = sorted(entry.name for entry in self.folder.iterdir()) if self.folder.exists() else []
        except OSError as error:
            raise AtlasError(f"{self.folder}: cannot be read ({error.strerror}). Choose another folder.") from error
        ours = MANIFEST in there or UNFINISHED in there
        if there and not ours and not self.overwrite:
            raise AtlasError(
                f"{self.folder}: expected an empty folder or an atlas, found {there[0]!r}. "
                f"Choose another folder, or write into this one with --overwrite."
            )

    def _acquire(self) -> None:
        from filelock import Timeout

        try:
            self._lock.acquire()
        except Timeout as error:
            raise AtlasError(
                f"{self.folder}: another run is writing into this folder. Wait for it, or choose another."
            ) from error

    def _check_identity(self) -> None:
        run = self._parts / RUN
        finished = load_manifest(self.folder).get("identity") if self.finished and not self.overwrite else None
        try:
            unfinished = json.loads(run.read_text("utf-8"))
        except (OSError, ValueError):
            unfinished = None
        for found, what in ((finished, "an atlas"), (unfinished, "an unfinished run")):
            if found is not None and found != self.identity:
                if self.overwrite:
                    continue
                raise AtlasError(
                    f"{self.folder}: holds {what} with {_difference(found, self.identity)}. "
                    f"Choose another folder, or replace it with --overwrite."
                )
        if self.overwrite:
            for name in OUTPUTS:
                (self.folder / name).unlink(missing_ok=True)
        if unfinished != self.identity:
            for part in self._parts.glob("layer-*.npz"):
                part.unlink()
            text = json.dumps(self.identity, indent=2)
            write_atomically(run, lambda path: path.write_text(text, "utf-8"))


def write_folder(atlas: Atlas, folder: str | Path) -> None:
    """Write figures, report and data of an atlas; the manifest comes last, so that a broken run leaves no atlas.

    Raises:
        AtlasError: the folder cannot be written.
    """
    from headatlas.explorer import write_page
    from headatlas.figures import draw_map, draw_sensitivity, save_figure
    from headatlas.reports import write_report

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, stem in FIGURES.items():
            if kind == "score" or atlas.has_suppression:
                figure = draw_map(atlas, kind=kind)
                for fmt in FIGURE_FORMATS:
                    save_figure(figure, folder / f"{stem}.{fmt}")
        ranked = atlas.pair_hits is not None and "rank" in atlas.pair_hits
        if ranked:
            figure = draw_sensitivity(atlas)
            for fmt in FIGURE_FORMATS:
                save_figure(figure, folder / f"{SENSITIVITY}.{fmt}")
        text = write_report(
            atlas,
            figure="figure.png",
            suppression_figure="suppression.png" if atlas.has_suppression else None,
            sensitivity_figure=f"{SENSITIVITY}.png" if ranked else None,
        )
        write_atomically(folder / REPORT, lambda path: path.write_text(text, "utf-8"))
        write_page(folder / PAGE, atlas)
    except OSError as error:
        raise AtlasError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    atlas.save(folder)


def add_evidence(atlas: Atlas, tables: dict[str, tuple[pd.DataFrame, dict[str, Any]]]) -> None:
    """Add tables of evidence with their facts to an atlas, and show them on the page of its folder, if there is one."""
    from headatlas.explorer import write_page

    for name, (table, facts) in tables.items():
        atlas.add_evidence(name, table, facts)
    if atlas.folder is not None and (atlas.folder / PAGE).is_file():
        write_page(atlas.folder / PAGE, atlas)


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What differs, in words: `another model`, `k=5 instead of 10`."""
    if not isinstance(found, dict) or found.get("model") != wanted["model"]:
        return "another model"
    if found.get("relations") != wanted["relations"]:
        return "other relations"
    pairs = [
        f"{name}={found.get('settings', {}).get(name)} where this run has {value}"
        for name, value in wanted["settings"].items()
        if found.get("settings", {}).get(name) != value
    ]
    return ", ".join(pairs) or "other settings"
