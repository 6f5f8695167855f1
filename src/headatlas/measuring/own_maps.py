"""Which model each of the user's own maps was made of.

An atlas names its model, and an atlas can come from anybody: what it names is never opened. The models of the user's
own maps are noted outside their atlases, in the cache's folder, and are opened again unasked.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from headatlas.atomic import write_atomically
from headatlas.checkpoints.open import DEMO, DEMO_FILE, looks_like_a_path
from headatlas.checkpoints.remote.cache import cache_folder
from headatlas.checkpoints.remote.names import is_remote
from headatlas.errors import AtlasError
from headatlas.printable import printable
from headatlas.regular_files import at_home, read_regular

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

MOST_BYTES = 2**16
LONGEST = 300
"""Characters of a source that a message repeats."""

_of_this_process: dict[str, str] = {}
"""Run -> model, of maps that were made since Python started, whether or not they were written into a folder."""


def note_model(atlas: Atlas, folder: str | Path | None, named: str | Path, source: str) -> None:
    """Note that the user has made this map of a model.

    Args:
        folder: where the atlas is written; None if it is not.
        named: the model as the user named it.
        source: the model as the manifest names it.
    """
    if named != DEMO:
        here = at_home(named)
        source = str(here.absolute()) if not is_remote(named) and os.path.exists(here) else source
    else:
        source = DEMO
    run = _run(atlas)
    _of_this_process[run] = source
    if folder is None:
        return
    path = _record(Path(folder))
    text = json.dumps({"folder": str(Path(folder).resolve()), "run": run, "model": source})
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write_text(text, "utf-8"), mode=0o600)
    except OSError:
        pass  # The map is safe; a later command asks for the model.


def model_of(atlas: Atlas) -> str:
    """The model that the user's own map of this atlas read, or the demo model.

    Raises:
        AtlasError: the user has not made this map, or its model is gone.
    """
    where, known = atlas.folder or atlas.name, atlas.manifest.model.source
    own = _own_model(atlas)
    if own is not None:
        if own == DEMO or is_remote(own) or not looks_like_a_path(own) or os.path.exists(own):
            return own
        raise AtlasError(f"{where}: its model was at {own}, where nothing is now. Say where it is with --model.")
    if known == DEMO or DEMO_FILE in (PurePosixPath(known).name, PureWindowsPath(known).name):
        return DEMO
    shown = printable(known)
    named = shlex.quote(shown) if len(shown) <= LONGEST and shown == known else "MODEL"
    raise AtlasError(
        f"{where}: the atlas names {shown[:LONGEST]} as its model. headatlas opens no model that only an atlas names: "
        f"if you trust it, repeat with --model {named} (in Python, model=)."
    )


def _own_model(atlas: Atlas) -> str | None:
    run = _run(atlas)
    if run in _of_this_process:
        return _of_this_process[run]
    if atlas.folder is None:
        return None
    try:
        noted: Any = json.loads(read_regular(_record(atlas.folder), MOST_BYTES))
        if noted["run"] == run and noted["folder"] == str(atlas.folder.resolve()) and isinstance(noted["model"], str):
            return noted["model"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return None


def _record(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
    return cache_folder() / "maps" / f"{name}.json"


def _run(atlas: Atlas) -> str:
    """Equal for atlases of the same model, relations and settings."""
    identity = json.dumps(atlas.manifest.identity, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(f"{atlas.manifest.model.fingerprint}\n{identity}".encode()).hexdigest()
