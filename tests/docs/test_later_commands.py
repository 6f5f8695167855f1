"""The commands of the second half of commands.md run as printed, in this order, on what its first section makes."""

import pytest

from documented import halves_of_commands

pytestmark = pytest.mark.system

FIRST, SECOND = halves_of_commands()


@pytest.fixture(scope="module")
def mapped(place, demo_with_attention):
    for command in FIRST["headatlas map"]:
        place.run_once(command)


@pytest.mark.parametrize("section", SECOND)
def test_commands_run_as_printed(section, place, mapped):
    for command in SECOND[section]:
        place.run_once(command)
