"""The browser that tests of the explorer use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def find_browser() -> str:
    """Path of Chromium or Chrome. Where there is none the test is skipped, and in CI it fails."""
    names = (os.environ.get("HEADATLAS_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        told = "The explorer's tests need a browser: apt-get install chromium, or name one in HEADATLAS_CHROMIUM."
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    return found
