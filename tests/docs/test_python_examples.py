"""Every Python example of README and documentation runs as printed."""

import pytest

from documented import PAGES, blocks

pytestmark = pytest.mark.system

PAGES_WITH_PYTHON = [page for page in PAGES if blocks(page.read_text("utf-8"), "python")]


@pytest.mark.parametrize("page", PAGES_WITH_PYTHON, ids=lambda page: page.name)
def test_python_runs_as_printed(page, place, demo):
    place.run_once("headatlas export demo-atlas --format heads -o heads.json")
    place.run_python("\n".join(blocks(page.read_text("utf-8"), "python")))
