"""An atlas as a data set on the hub: an explicit list of files, all written anew for it, in one commit."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas import MANIFEST, Atlas, Manifest, save_atlas
from headatlas.atlas.manifest import TABLES
from headatlas.atomic import temporary_folder
from headatlas.checkpoints.remote.names import dataset_name, dataset_page
from headatlas.errors import AtlasError, SettingsError
from headatlas.sharing.data_card import default_licence, write_data_card
from headatlas.sharing.hub import LOG_IN, one_line, open_hub, readable_errors
from headatlas.sharing.local_paths import Replaced, without_local_paths

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import DatasetInfo

CARD, REPORT = "README.md", "report.md"
MAP, SUPPRESSION, SENSITIVITY, READING = "figure.png", "suppression.png", "sensitivity.png", "reading.png"
PUBLISHED = (CARD, MANIFEST, *TABLES, REPORT, MAP, SUPPRESSION, SENSITIVITY, READING)
"""All files that a published atlas can have. The explorer is not among them: who pulls the atlas writes it anew."""

OF_THE_HUB = {".gitattributes", CARD}
"""Files of a data set that is new."""


@dataclass(frozen=True)
class Publication:
    """An atlas on the hub, or, of a dry run, what would be there.

    Args:
        name, url: of the data set.
        commit: address of the commit; None of a dry run.
        created: whether the data set is new; None of a dry run.
        private: whether it is; None if that is left to the hub's default.
        licence: that its card states.
        files: name -> bytes.
        removed: files of an earlier version of the atlas that are no longer part of it.
        replaced: local paths in the manifest that were left out.
    """

    name: str
    url: str
    commit: str | None
    created: bool | None
    private: bool | None
    licence: str
    files: dict[str, int]
    removed: tuple[str, ...]
    replaced: tuple[Replaced, ...]

    def as_dict(self) -> dict[str, Any]:
        """The publication in JSON types."""
        return asdict(self)


def publish_atlas(
    atlas: Atlas,
    name: str,
    *,
    private: bool | None = None,
    licence: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Publication:
    """Publish an atlas as a data set on the Hugging Face hub, with a card, in one commit.

    Only the atlas itself goes there: its tables, its manifest without local paths, and card, report and pictures that
    are made for it. The token is that of the environment (`HF_TOKEN`) or of `hf auth login`.

    Args:
        name: of the data set, such as `org/name`.
        private: whether a new data set is private; default: the hub's default, which is public for most accounts.
        licence: as the hub names it; default: `cc0-1.0`, that of the built-in relations, if no others were measured,
            otherwise `other`.
        overwrite: replace another atlas that is there.
        dry_run: make the files and say what they are, without a network.

    Raises:
        SettingsError: this is no name of a data set, or no licence.
        AtlasError: no token, no access, no network, or the data set holds something else.

    >>> found = publish_atlas(atlas, "org/tiny-atlas", dry_run=True)
    >>> found.commit is None, [file for file in found.files if file.endswith((".md", ".json"))]
    (True, ['README.md', 'atlas.json', 'report.md'])
    """
    name, revision = dataset_name(name)
    if revision is not None:
        raise SettingsError(f"{name}@{revision}: an atlas is published on the main branch. Leave the revision out.")
    licence = default_licence(atlas) if licence is None else licence
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,63}", licence):
        raise SettingsError(f"licence: expected a name as the hub has it, such as cc-by-4.0, found {licence!r}.")
    manifest, replaced = without_local_paths(atlas.manifest)
    before = None
    if not dry_run:
        hub = _with_token(name)
        # Before the pictures are drawn: what can be refused is refused at once.
        before = _look(hub, name, manifest, private, overwrite)
    with temporary_folder() as folder:
        write_files(replace(atlas, manifest=manifest), folder, name, licence)
        files = {file: (folder / file).stat().st_size for file in sorted(PUBLISHED) if (folder / file).is_file()}
        there = set() if before is None else {each.rfilename for each in before.siblings or []}
        removed = tuple(sorted((there & set(PUBLISHED)) - set(files)))
        result = Publication(
            name, dataset_page(name), None, None, private, licence, files, removed, tuple(replaced)
        )  # fmt: skip
        if dry_run:
            return result
        commit = _commit(hub, name, private, before, folder, list(files), removed)
    known = private if before is None else before.private
    return replace(result, commit=commit, created=before is None, private=known)


def write_files(atlas: Atlas, folder: Path, name: str, licence: str) -> None:
    """Write the files of a data set; its manifest names no local paths."""
    from headatlas.figures import draw_map, draw_reading, draw_sensitivity, save_figure
    from headatlas.reports.markdown import to_markdown
    from headatlas.reports.report import build_report

    for table in atlas.manifest.evidence.names:
        atlas.evidence(table)  # read here, from the folder of the atlas
    has_ranks = atlas.pair_hits is not None and "rank" in atlas.pair_hits
    pictures = {MAP: "Map of the heads by category"}
    save_figure(draw_map(atlas), folder / MAP)
    if atlas.has_suppression:
        save_figure(draw_map(atlas, side="suppression"), folder / SUPPRESSION)
    if has_ranks:
        save_figure(draw_sensitivity(atlas), folder / SENSITIVITY)
    if atlas.manifest.evidence.attention is not None:
        save_figure(draw_reading(atlas), folder / READING)
        pictures[READING] = "Where the heads look"
    report = build_report(
        atlas,
        figure=MAP,
        suppression_figure=SUPPRESSION if atlas.has_suppression else None,
        sensitivity_figure=SENSITIVITY if has_ranks else None,
    )
    (folder / REPORT).write_text(to_markdown(report), "utf-8")
    save_atlas(atlas, folder)
    tables = [file for file in TABLES if (folder / file).is_file()]
    (folder / CARD).write_text(write_data_card(atlas, name, licence, pictures, tables), "utf-8")


def _with_token(name: str) -> HfApi:
    from huggingface_hub import get_token

    if get_token() is None:
        raise AtlasError(f"{name}: publishing needs a token of the hub that may write, found none. {LOG_IN}.")
    return open_hub()


def _look(hub: HfApi, name: str, manifest: Manifest, private: bool | None, overwrite: bool) -> DatasetInfo | None:
    """What is there; None if nothing is. Raises `AtlasError` if that is not to be changed."""
    from huggingface_hub.errors import RepositoryNotFoundError

    with readable_errors(name, writes=True):
        try:
            info = hub.dataset_info(name)
        except RepositoryNotFoundError:
            return None
        if private is not None and info.private != private:
            found, wanted = ("private", "public") if info.private else ("public", "private")
            raise AtlasError(
                f"{name}: expected a {wanted} data set, found a {found} one. Change that in its settings on the hub."
            )
        files = {each.rfilename for each in info.siblings or []}
        if MANIFEST not in files:
            if files <= OF_THE_HUB:
                return info
            raise AtlasError(f"{name}: expected an atlas or nothing there, found other files. Choose another name.")
        if overwrite:
            return info
        with temporary_folder() as folder:
            path = hub.hf_hub_download(name, MANIFEST, repo_type="dataset", revision=info.sha, local_dir=folder)
            try:
                same = Manifest.from_json(Path(path).read_text("utf-8"), MANIFEST).identity == manifest.identity
            except (AtlasError, UnicodeDecodeError):
                same = False
    if not same:
        raise AtlasError(
            f"{name}: holds an atlas of another model, or with other relations or settings. --overwrite replaces it; "
            f"or choose another name."
        )
    return info


def _commit(
    hub: HfApi,
    name: str,
    private: bool | None,
    before: DatasetInfo | None,
    folder: Path,
    files: list[str],
    removed: tuple[str, ...],
) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    if before is None:
        with readable_errors(name, writes=True):
            hub.create_repo(name, repo_type="dataset", private=private)
    try:
        with readable_errors(name, writes=True):
            try:
                done = hub.create_commit(
                    name,
                    [
                        *(CommitOperationAdd(file, folder / file) for file in files),
                        *(CommitOperationDelete(file) for file in removed),
                    ],
                    commit_message="Atlas by headatlas",
                    repo_type="dataset",
                    # Nobody else's change is overwritten.
                    parent_commit=None if before is None else before.sha,
                )
            except ValueError as error:
                if type(error) is not ValueError:
                    raise
                # The hub's answer to a card that it cannot read.
                raise AtlasError(f"{name}: the hub does not accept it ({one_line(error)}).") from error
    except AtlasError as error:
        empty = " The data set is new and still empty; the same command fills it." if before is None else ""
        raise AtlasError(f"{error}{empty}") from error
    return str(done.commit_url)
