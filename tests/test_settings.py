"""Profiles, their labels, and thresholds."""

from fractions import Fraction

import pytest

from headatlas.errors import SettingsError
from headatlas.settings import Settings, parse_threshold


@pytest.mark.parametrize(
    ("profile", "d_vocab", "k", "k_copying"),
    [("maps", 100_000, 10, 1), ("maps", 100_001, 25, 3), ("alone", 100_000, 10, 1), ("alone", 100_001, 10, 1)],
)
def test_k_of_the_profile(profile, d_vocab, k, k_copying):
    settings = Settings.of_profile(d_vocab, profile)
    assert (settings.k, settings.k_copying, settings.threshold) == (k, k_copying, "0.15")
    assert settings.label(d_vocab) == profile


def test_labels_name_every_change():
    settings = Settings.of_profile(50_000, "maps", k=5, threshold=0.2, contextualize="embedding")
    assert settings.label(50_000) == "maps, modified: k=5, threshold=0.2, contextualize=embedding"
    assert Settings.of_profile(200_000, "maps", k=25).label(200_000) == "maps"
    assert Settings.of_profile(50_000, "maps", k=25).label(50_000) == "maps, modified: k=25"
    assert Settings.of_profile(50_000, "maps", rule="calibrated").label(50_000) == "maps, calibrated"
    assert (
        Settings.of_profile(50_000, "maps", k=5, rule="calibrated").label(50_000) == "maps, calibrated, modified: k=5"
    )
    assert Settings.of_profile(50_000, "maps", threshold="0.150").label(50_000) == "maps"


@pytest.mark.parametrize(
    ("text", "value"), [("0.15", Fraction(3, 20)), (0.15, Fraction(3, 20)), ("0", 0), ("1/3", Fraction(1, 3))]
)
def test_thresholds_are_exact(text, value):
    assert parse_threshold(text) == value


@pytest.mark.parametrize("bad", ["1", "-0.1", "nan", "inf", "much", "", "1/0"])
def test_bad_thresholds(bad):
    with pytest.raises(SettingsError) as caught:
        parse_threshold(bad)
    assert str(caught.value) == f"threshold: expected a number from 0 to below 1 such as 0.15, found {bad!r}."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k: expected a whole number of at least 1, found 0."),
        ({"contextualize": "no"}, "contextualize: expected one of first-mlp, embedding, alone, found 'no'."),
        ({"profile": "no"}, "profile: expected one of maps, alone, found 'no'."),
        ({"rule": "no"}, "rule: expected one of plain, calibrated, found 'no'."),
    ],
)
def test_bad_choices(changes, message):
    with pytest.raises(SettingsError) as caught:
        Settings.of_profile(50_000, **changes)
    assert str(caught.value) == message
