"""README: its commands run as printed, and what it says of the demo model is so."""

import pytest

import headatlas
from documented import README, check_heads_of, commands

pytestmark = pytest.mark.system


def test_what_the_readme_tells_of_the_demo_model_is_so(demo_with_attention):
    atlas = headatlas.load_atlas(demo_with_attention)
    readme = README.read_text("utf-8")
    found = headatlas.classify(atlas)
    assert f"{found.n_classified} of {found.n_heads} heads" in readme
    assert f"{len(atlas.relations)} relations" in readme
    strict = headatlas.classify(atlas, rule="calibrated").count
    assert f"{int((strict > 0).sum())} of them beyond chance" in readme
    assert f"{int((strict[-10:] > 0).sum())} of these in the last ten layers" in readme
    check_heads_of(
        atlas,
        ("country_to_demonym", "L23H4"),
        ("country_to_capital", "L23H4"),
        ("name_copying", "L23H2"),
        ("noun_to_pronoun", "L26H2"),
    )


def test_commands_run_as_printed(place, demo_with_attention):
    for command in commands(README.read_text("utf-8")):
        place.run_once(command)
