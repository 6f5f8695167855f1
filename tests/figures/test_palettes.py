"""Colours are distinguishable, also for colour-blind people."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from headatlas.figures import PALETTES

# Severity 1.0 for linear RGB: Machado, Oliveira & Fernandes, "A Physiologically-based Model for Simulation of Color
# Vision Deficiency", IEEE TVCG 15(6), 2009, table 1.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = TO_XYZ.sum(1)


def lab(colour: str, sight: str) -> np.ndarray:
    """CIELAB (D65) of a `#rrggbb` colour as it is seen."""
    encoded = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ np.clip(SIGHTS[sight] @ linear, 0, 1) / WHITE, 1e-9))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def least_distance(colours, sight: str) -> float:
    """Least CIE76 distance between any two of the colours."""
    seen = [lab(colour, sight) for colour in colours]
    return min(float(np.linalg.norm(one - two)) for one, two in itertools.combinations(seen, 2))


def usual(name: str) -> list[str]:
    palette = PALETTES[name]
    return [palette.unclassified, *palette.categories.values(), *palette.counts[:3]]


def everything(name: str) -> list[str]:
    palette = PALETTES[name]
    return [palette.unclassified, *palette.categories.values(), *palette.counts, *palette.further]


@pytest.mark.parametrize("sight", SIGHTS)
def test_everyone_can_distinguish_the_colour_blind_palette(sight):
    assert least_distance(usual("colour-blind"), sight) > 30
    assert least_distance(everything("colour-blind"), sight) > 15


def test_only_normal_sight_distinguishes_the_paper_palette():
    assert least_distance(usual("paper"), "normal") > 25
    assert least_distance(everything("paper"), "normal") > 20
    assert least_distance(usual("paper"), "protanopia") < 10  # why the other palette exists


@pytest.mark.parametrize("name", PALETTES)
def test_any_number_of_categories_gets_different_colours(name):
    palette = PALETTES[name]
    names = (*(f"own {number}" for number in range(40)), "Knowledge")
    colours = palette.of_categories(names)
    assert colours["Knowledge"] == palette.categories["Knowledge"]
    shown = [*colours.values(), *(palette.of_count(count) for count in range(2, 20)), palette.unclassified]
    assert len(set(shown)) == len(shown)


def test_paper_colours_are_the_names_of_tab10():
    from matplotlib.colors import to_hex

    palette = PALETTES["paper"]
    names = dict(Algorithmic="blue", Knowledge="orange", Linguistic="green", Translation="red")
    assert palette.categories == {category: to_hex(f"tab:{name}") for category, name in names.items()}
    assert [palette.of_count(n) for n in (2, 3, 4)] == [to_hex(f"tab:{name}") for name in ("purple", "brown", "pink")]
