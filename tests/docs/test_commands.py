"""The commands of the first half of commands.md run as printed, in this order."""

import pytest

from documented import halves_of_commands

pytestmark = pytest.mark.system

FIRST, _ = halves_of_commands()


@pytest.mark.parametrize("section", FIRST)
def test_commands_run_as_printed(section, place, demo):
    for command in FIRST[section]:
        place.run_once(command)
