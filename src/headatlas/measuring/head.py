"""The card of one head, from an atlas or from a model that is measured for it and kept in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.measuring.progress import Progress
from headatlas.measuring.session import Session, is_atlas_folder

if TYPE_CHECKING:
    from headatlas.atlas import Atlas


def atlas_for_head(source: str | Path, name: str, progress: Progress | None = None) -> Atlas:
    """The atlas in a folder, or one of a model that is measured now and written nowhere.

    Args:
        source: an atlas's folder, or a model.
        name: of the head that is asked for; if the model lacks it, its salient operations are not measured.

    Raises:
        HeadatlasError: the name is not that of a head, or the model cannot be mapped.
    """
    from headatlas.analysis.card import parse_place, refuse_bad_name
    from headatlas.atlas import load_atlas

    refuse_bad_name(name)
    if is_atlas_folder(source):
        return load_atlas(Path(source))
    from headatlas.measuring.map import map_session
    from headatlas.measuring.output import add_evidence
    from headatlas.measuring.salient import is_salient_wanted, measure_evidence

    session = Session(source, progress=progress)
    heads = session.heads
    # Before any weights are read.
    parse_place(name, heads.name, heads.n_heads, [heads.has_heads(layer) for layer in range(heads.n_layers)])
    atlas = map_session(session)
    if is_salient_wanted(session.heads, None):
        atlas = add_evidence(atlas, measure_evidence(atlas, session))
    return atlas
