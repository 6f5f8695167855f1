"""Every command of all pages but README and commands.md, which have files of their own, runs as printed."""

import pytest

from documented import COMMANDS, PAGES, README, commands

pytestmark = pytest.mark.system

OTHERS = [page for page in PAGES if page not in (README, COMMANDS) and commands(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.name)
def test_commands_run_as_printed(page, place, demo):
    for command in commands(page.read_text("utf-8")):
        place.run_once(command)
