"""An atlas from the hub. Who published it is not trusted: only its tables are read, and all else is written anew."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.atlas import MANIFEST, Atlas, load_atlas, load_manifest
from headatlas.atlas.files import MOST_BYTES, MOST_OF_A_TABLE
from headatlas.atlas.manifest import TABLES
from headatlas.atomic import flush_folder, make_folder, partial_path, sweep
from headatlas.checkpoints.remote.names import dataset_name
from headatlas.errors import AtlasError, HeadatlasError, SettingsError
from headatlas.sharing.hub import open_hub, readable_errors
from headatlas.sharing.local_paths import without_local_paths

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WANTED = (MANIFEST, *TABLES)
"""What is read of a published atlas; its report, pictures and pages are not."""

COMMIT = re.compile("[0-9a-f]{40}")

MOST_IN_ALL = 2**31
"""Bytes of all files, before anything is downloaded."""


def pull_atlas(name: str, output: str | Path | None = None, *, revision: str | None = None) -> Atlas:
    """Download an atlas that was published on the Hugging Face hub, and check it before it is put in place.

    Of the data set only the manifest and the tables are read. Figures, report and explorer are written anew from them
    by this version, as `map_heads` does.

    Args:
        name: of the data set, such as `org/name` or `org/name@revision`.
        output: folder for the atlas, which must not exist; default: the data set's name, here.
        revision: a branch, a tag or a commit; default: the newest.

    Raises:
        SettingsError: this is no name of a data set.
        AtlasError: the folder exists, no network, no such data set, it is no atlas, it is damaged, or too large.
    """
    name, named = dataset_name(name)
    if named is not None and revision is not None:
        raise SettingsError(f"revision: expected one, found {named!r} in the name and {revision!r}.")
    revision = named or revision
    folder = Path(name.split("/")[1] if output is None else output)
    if folder.exists() or folder.is_symlink():
        raise AtlasError(f"{folder}: expected no file or folder of this name, found one. Name another by -o.")
    hub = open_hub()
    commit, sizes = _list_files(hub, name, revision)
    try:
        make_folder(folder.parent)
        sweep(folder.parent, folder.name)
        # Next to the target, so that it can be moved there whole.
        temporary = partial_path(folder)
        temporary.mkdir(mode=0o700)
    except OSError as error:
        raise AtlasError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    try:
        download = temporary / "download"
        download.mkdir()
        _fetch(hub, name, commit, sizes, download)
        made = temporary / "atlas"
        _write_anew(name, download, made)
        if folder.exists():
            raise AtlasError(f"{folder}: expected no file or folder of this name, found one. Name another by -o.")
        made.rename(folder)
        flush_folder(folder.parent)
    except OSError as error:
        raise AtlasError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return load_atlas(folder)


def _list_files(hub: HfApi, name: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """The commit, and the wanted files that it has with their sizes."""
    with readable_errors(name, revision):
        info = hub.dataset_info(name, revision=revision, files_metadata=True)
    sizes = {each.rfilename: each.size for each in info.siblings or [] if each.rfilename in WANTED}
    if MANIFEST not in sizes or not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha):
        raise AtlasError(f"{name}: expected an atlas (a data set with {MANIFEST}), found none.")
    known: dict[str, int] = {}
    for file, size in sizes.items():
        most = MOST_BYTES if file == MANIFEST else MOST_OF_A_TABLE
        if type(size) is not int or not 0 <= size <= most:
            found = f"{size:,}" if type(size) is int else "an unknown number"
            raise AtlasError(f"{name}: {file}: expected at most {most:,} bytes, found {found}; nothing was downloaded.")
        known[file] = size
    if (total := sum(known.values())) > MOST_IN_ALL:
        raise AtlasError(f"{name}: expected at most {MOST_IN_ALL:,} bytes, found {total:,}; nothing was downloaded.")
    return info.sha, known


def _fetch(hub: HfApi, name: str, commit: str, sizes: Mapping[str, int], folder: Path) -> None:
    """Download the manifest, then the tables that it names."""

    def fetch(file: str) -> None:
        with readable_errors(name, commit):
            hub.hf_hub_download(name, file, repo_type="dataset", revision=commit, local_dir=folder)
        path = folder / file
        if path.is_symlink() or not path.is_file() or path.stat().st_size != sizes[file]:
            raise AtlasError(f"{name}: {file}: expected {sizes[file]:,} bytes, found another file. Run the same again.")

    fetch(MANIFEST)
    with _damaged(name, folder):
        manifest = load_manifest(folder)
    for file in manifest.files:
        if file not in sizes:
            raise AtlasError(f"{name}: its manifest names {file}, which is not there. Is the data set complete?")
        fetch(file)


def _write_anew(name: str, download: Path, folder: Path) -> None:
    """Check an atlas, and write it as this version writes atlases."""
    from headatlas.measuring.output import EVIDENCE_FORMATS, save_pictures, write_results

    with _damaged(name, download):
        found = load_atlas(download)
        for table in found.manifest.evidence.names:
            found.evidence(table)
        manifest, _ = without_local_paths(found.manifest)
        found = replace(found, manifest=manifest)
        write_results(found, folder)
        from headatlas.figures import draw_ablation, draw_composition, draw_reading, draw_validation, draw_written
        from headatlas.measuring.output import ablation_picture

        evidence = found.manifest.evidence
        for facts, stem, draw in (
            (evidence.attention, "reading", draw_reading),
            (evidence.composition, "composition", draw_composition),
            (evidence.written, "written", draw_written),
            (evidence.validation, "validation", draw_validation),
        ):
            if facts is not None:
                save_pictures(draw(found), folder / stem, EVIDENCE_FORMATS)
        for relation, facts in (evidence.ablation.relations if evidence.ablation else {}).items():
            if facts.status == "tested":
                save_pictures(draw_ablation(found, relation), folder / ablation_picture(relation), EVIDENCE_FORMATS)
        load_atlas(folder)


class _damaged:
    """Whatever goes wrong with files of others is one sentence: they can break any assumption."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or not isinstance(error, Exception) or (isinstance(error, OSError) and error.errno):
            return
        why = type(error).__name__
        if isinstance(error, HeadatlasError):
            # Of files that are gone when this is read; the published atlas is not the reader's to mend.
            why = re.sub(r" Run (the map|`[^`]*`) again\.$", "", str(error).replace(f"{self.folder}/", "")).rstrip(".")
        raise AtlasError(f"{self.name}: what is there is damaged or no atlas ({why}); nothing was kept.") from error
