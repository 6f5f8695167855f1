"""The map of where heads look, layer by head, in the grammar of the map of categories."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from headatlas.analysis.categories import Classification
from headatlas.analysis.reading import BEHAVIOURS, Reading, measured_reading
from headatlas.atlas import Atlas
from headatlas.figures.layout import choose_look
from headatlas.figures.map import MapPicture, MapWords, occurring
from headatlas.figures.palettes import checked_palette
from headatlas.figures.style import plain_style
from headatlas.figures.wording import MAX_NOTE, one_line
from headatlas.settings import MAX_Q, MIN_EXCESS


def draw_reading(
    atlas: Atlas,
    *,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
    caption: bool = True,
) -> Figure:
    """Draw where all heads look, layer by head: the evidence of `measure_attention`.

    Args:
        palette, width, font, caption: as for `draw_map`.

    Raises:
        SettingsError: an argument is outside its range.
        AtlasError: the attention of the heads was not measured.
    """
    colours, look, reading = checked_palette(palette, reading=True), choose_look(width), measured_reading(atlas)
    titles = tuple(each.title for each in BEHAVIOURS)
    classification = Classification(
        categories=titles,
        unmeasured=(),
        has=reading.has,
        implements=reading.has,
        side="reading",
        threshold="",
        rule="plain",
        has_heads=np.asarray(reading.measured.any(axis=1)),
    )
    found, absent = occurring(classification)
    parts = _caption(atlas, reading, absent)
    words = MapWords(parts if caption else [], _metadata(atlas, parts), "All", "ways")
    with plain_style(font):
        return MapPicture(atlas, found, colours, look, words, everything=titles).draw()


def _caption(atlas: Atlas, reading: Reading, absent: tuple[str, ...]) -> list[str]:
    facts = atlas.manifest.evidence.attention
    assert facts is not None
    limits: dict[float, list[str]] = {}
    for each in BEHAVIOURS:
        limits.setdefault(reading.limits[each.name], []).append(each.title.lower())
    above = "; ".join(f"{', '.join(names)} above {limit:g}" for limit, names in limits.items())
    text = "the package's text" if facts.text is None else one_line(facts.text)
    parts = [
        one_line(atlas.name),
        "where the heads of the running model look",
        f"share of attention: {above}; beyond chance (q < {MAX_Q:g}, excess > {MIN_EXCESS:g})",
        f"{reading.n_named:,} of {reading.n_heads:,} heads, {int(reading.only('sink').sum()):,} of them only as a sink",
        f"{facts.sequences:,} sequences of random tokens, {facts.text_tokens:,} tokens of {text}",
    ]
    if absent:
        parts.append(f"no head: {', '.join(name.lower() for name in absent)}")
    if note := atlas.manifest.model.note:
        parts.append(one_line(note, MAX_NOTE))
    return parts


def _metadata(atlas: Atlas, parts: list[str]) -> dict[str, str]:
    facts = atlas.manifest.evidence.attention
    assert facts is not None
    return {
        "Title": f"{one_line(atlas.name)}: where attention heads look",
        "Description": " · ".join(parts),
        "Model": one_line(atlas.name, MAX_NOTE),
        "Measure": "attention",
        "Fingerprint": one_line(atlas.manifest.model.fingerprint or "unknown", MAX_NOTE),
        "Text-SHA256": facts.text_sha256,
    }
