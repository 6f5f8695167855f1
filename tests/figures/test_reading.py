"""The map of where heads look: the same grammar as the map of categories, with its own colours."""

from __future__ import annotations

import numpy as np
import pytest

from atlases import make_atlas, make_attention, with_manifest
from figures.test_map import colours, legend, overlaps, panels, texts
from figures.test_palettes import SIGHTS, least_distance
from headatlas.analysis.reading import BEHAVIOURS, find_reading
from headatlas.atlas.manifest import InputFacts
from headatlas.errors import AtlasError, SettingsError
from headatlas.figures import PALETTES, draw_map, draw_reading
from headatlas.figures.palettes import READING_PALETTES

TITLES = ["All", *(each.title for each in BEHAVIOURS)]
SHARES = {
    "previous": {(0, 1): 0.9},
    "induction": {(4, 3): 0.83, (5, 0): 0.4},
    "sink": {(4, 3): 0.6, (6, 2): 0.7},
    "delimiter": {(1, 0): 0.31},
}


def test_each_cell_is_at_its_layer_and_head():
    atlas = make_attention(make_atlas(7, 5), SHARES)
    figure, palette = draw_reading(atlas), READING_PALETTES["paper"]
    # Ways without heads have no panel.
    shown = ["All", *(each.title for each in BEHAVIOURS if each.name in SHARES)]
    assert [axes.get_title() for axes in panels(figure)] == shown
    assert "no head: duplicate, self, local" in " ".join(each.get_text() for each in texts(figure))
    found = {title: np.array(colours(axes)).reshape(5, 7) for title, axes in zip(shown, panels(figure), strict=True)}
    for each in BEHAVIOURS:
        if each.name not in SHARES:
            continue
        own = {(layer, head) for head, layer in np.argwhere(found[each.title] == palette.categories[each.title])}
        assert own == {place for place, share in SHARES.get(each.name, {}).items() if share > each.limit}
    everything = found["All"]
    assert everything[3, 4] == palette.of_count(2) and everything[0, 5] == palette.categories["Induction"]
    assert (everything != palette.unclassified).sum() == 5
    assert dict(legend(figure))["2 ways"] == palette.of_count(2)


def test_a_warning_about_what_the_map_of_writing_assumes_is_not_one_about_reading():
    atlas = with_manifest(make_attention(make_atlas(7, 5), SHARES), input=InputFacts(40, (0.01,) * 7))
    of_map, of_reading = (" ".join(each.get_text() for each in texts(draw(atlas))) for draw in (draw_map, draw_reading))
    assert "does not see its model" in of_map and "does not see its model" not in of_reading


def test_the_caption_and_the_metadata_say_what_was_measured():
    figure = draw_reading(make_attention(make_atlas(7, 5, note="stored as Q4_1"), SHARES))
    text = " ".join(each.get_text() for each in texts(figure))
    for part in ("where the heads of the running model look", "sink, local above 0.5", "5 of 35 heads, 1 of them only",
                 "8 sequences of random tokens, 4,131 tokens of the package's text", "stored as Q4_1"):  # fmt: skip
        assert part in text
    assert figure.metadata["Title"] == "demo-135M: where attention heads look"


@pytest.mark.parametrize("shape", [(30, 9), (32, 32), (18, 4), (6, 71)])
@pytest.mark.parametrize("width", ["screen", "page", "column"])
def test_nothing_overlaps_or_is_cut(shape, width):
    atlas = make_attention(make_atlas(*shape, note="weights stored as Q4_1"))
    assert overlaps(draw_reading(atlas, width=width)) == []


def test_layers_without_heads_are_drawn_apart():
    atlas = make_attention(make_atlas(7, 5, without_heads=(2,)), SHARES)
    figure, palette = draw_reading(atlas), READING_PALETTES["paper"]
    assert set(np.array(colours(panels(figure)[0])).reshape(5, 7)[:, 2]) == {palette.not_applicable}
    assert ("No heads", palette.not_applicable) in legend(figure)


def test_an_atlas_without_attention_is_refused():
    with pytest.raises(AtlasError, match=r"expected where its heads look, found nothing\. .* `headatlas attention`"):
        draw_reading(make_atlas(3, 4))
    with pytest.raises(SettingsError, match="palette: expected one of paper, colour-blind"):
        draw_reading(make_attention(make_atlas(3, 4)), palette="rainbow")


@pytest.mark.parametrize("sight", SIGHTS)
def test_everyone_can_distinguish_the_colour_blind_palette(sight):
    palette = READING_PALETTES["colour-blind"]
    assert least_distance([palette.unclassified, *palette.categories.values(), *palette.counts[:2]], sight) > 30


def test_colours_are_those_of_no_category():
    for name, palette in READING_PALETTES.items():
        assert tuple(palette.categories) == tuple(TITLES[1:])
        used = [palette.unclassified, *palette.categories.values(), *palette.counts]
        assert least_distance(used, "normal") > 20
        assert not set(palette.categories.values()) & set(PALETTES[name].categories.values())


def test_all_names_come_from_one_place():
    reading = find_reading(make_attention(make_atlas(3, 4)))
    assert reading.names == tuple(each.name for each in BEHAVIOURS)
