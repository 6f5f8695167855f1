"""A film as one HTML page: a slider over models in their order, the heads of each, and when each function appears."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.analysis.film import Film, FilmFunction
from headatlas.analysis.functions_of_models import READING, ModelFunction
from headatlas.analysis.reading import BEHAVIOURS, find_behaviour, find_reading
from headatlas.explorer import film_message as message
from headatlas.explorer.page import page, write_html
from headatlas.figures.palettes import PALETTES, READING_PALETTES
from headatlas.printable import printable
from headatlas.relations import category_order
from headatlas.settings import MAX_Q, MIN_EXCESS

if TYPE_CHECKING:
    import numpy as np

    from headatlas.atlas import Atlas

ONE, UNKNOWN = 250, 255
"""In bytes of scores: 1, and what is not known."""

SCALE = 32
"""Colours of the scale of scores."""


def write_film(path: str | Path, film: Film) -> Path:
    """Write the page of a film.

    Raises:
        AtlasError: the file cannot be written.
    """
    return write_html(path, build_film(film))


def build_film(film: Film) -> str:
    """The page of a film, as HTML: it asks nothing of any network."""
    data = json.dumps(film_data(film), ensure_ascii=False, allow_nan=False)
    return page("film", _title(film), base64.b64encode(data.encode("utf-8", "replace")).decode())


def film_data(film: Film) -> message.FilmData:
    """What the page is given."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    palette, reading = PALETTES["paper"], READING_PALETTES["paper"]
    names = {each.category for each in film.functions if each.category != READING}
    categories = tuple(sorted(names, key=category_order))
    colours = palette.of_categories(categories)
    has_reading = any(each.category == READING for each in film.functions)
    scale = colormaps[palette.scale]
    return message.FilmData(
        title=_title(film),
        note=_note(film),
        categories=[(printable(name), colours[name]) for name in categories],
        counts=[palette.of_count(count) for count in range(2, len(categories) + 1)],
        ways=[(each.title, reading.categories[each.title]) for each in BEHAVIOURS] if has_reading else [],
        wayCounts=list(reading.counts),
        scale=[to_hex(scale(number / (SCALE - 1))) for number in range(SCALE)],
        scenes=[
            message.Scene(
                name=printable(scene.name),
                step=scene.step,
                layers=scene.atlas.n_layers,
                heads=scene.atlas.n_heads,
                hasHeads=scene.atlas.has_heads.tolist(),
                scores=base64.b64encode(_scores(scene.atlas, film.functions).tobytes()).decode(),
            )
            for scene in film.scenes
        ],
        functions=[_function(each, film, colours) for each in film.functions],
    )


def _title(film: Film) -> str:
    first, last = film.scenes[0].name, film.scenes[-1].name
    return printable(f"{len(film.scenes)} models, {first} to {last}")


def _note(film: Film) -> str:
    atlas = film.scenes[0].atlas
    sizes = {(scene.atlas.n_layers, scene.atlas.n_heads) for scene in film.scenes}
    layers, heads = atlas.n_layers, atlas.n_heads
    shape = f"{layers} layers × {heads} heads" if len(sizes) == 1 else "models of different sizes"
    known = all(each.beyond is not None for of in film.functions for each in of.moments if each is not None)
    beyond = f", beyond chance (q < {MAX_Q:g}, excess > {MIN_EXCESS:g}) and beyond copying"
    return printable(
        f"{shape}. A head has a relation if its score is above {atlas.threshold}{beyond if known else ''}; profile "
        f"{atlas.label}."
    )


def _function(each: FilmFunction, film: Film, colours: dict[str, str]) -> message.FilmFunction:
    is_reading = each.category == READING
    title = find_behaviour(each.function).title if is_reading else each.function
    return message.FilmFunction(
        name=printable(each.function),
        title=printable(title),
        category=printable(each.category),
        colour=READING_PALETTES["paper"].categories[title] if is_reading else colours[each.category],
        reading=is_reading,
        sentence=each.sentence,
        moments=[
            None if moment is None else _moment(moment, scene.atlas.n_heads)
            for moment, scene in zip(each.moments, film.scenes, strict=True)
        ],
    )


def _moment(moment: ModelFunction, n_heads: int) -> message.Moment:
    return message.Moment(
        strongest=moment.name or "",
        layer=moment.layer,
        score=round(moment.score, 4),
        chance=None if moment.chance is None else round(moment.chance, 4),
        level=None if moment.highest_chance is None else round(moment.highest_chance, 4),
        heads=[layer * n_heads + head for layer, head in moment.has],
    )


def _scores(atlas: Atlas, functions: tuple[FilmFunction, ...]) -> np.ndarray:
    """UInt8[ndarray, "function layer head"], see `film_message.Scene`."""
    import numpy as np

    reading, number = find_reading(atlas), {name: at for at, name in enumerate(atlas.relations)}
    found = np.full((len(functions), atlas.n_layers, atlas.n_heads), np.nan)
    for at, each in enumerate(functions):
        if each.category == READING:
            if reading is not None:
                found[at] = reading.value[reading.names.index(each.function)]
        elif each.function in number:
            found[at] = atlas.scores.values[number[each.function]]
    return np.where(np.isnan(found), UNKNOWN, np.round(np.nan_to_num(found) * ONE)).astype("uint8")
