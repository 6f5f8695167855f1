"""What holds for all tests and doctests: the same environment on any machine, and no test that changes it for the next.

Tests that need more of a machine than Python and the packages of `.[dev]` say so themselves (`tests/needs.py`).
"""

from __future__ import annotations

import locale
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FOREIGN = (
    *("HF_", "HUGGING", "TRANSFORMERS_", "RAY_", "XDG_", "SOURCE_DATE_EPOCH"),
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "CLICOLOR", "TTY_", "GITHUB_ACTIONS"),
)
"""Beginnings of names of variables that change what is read, or how it is shown."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY")

BLANK = {
    "png": b"\x89PNG\r\n\x1a\n",
    "svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>\n',
    "pdf": b"%PDF-1.4\n%%EOF\n",
}


OF_LIBRARIES = ("PYTEST", "TORCH", "RAY_CLIENT_MODE", "PYTHONBREAKPOINT")
"""Variables that pytest, torch and Ray set for themselves when they are first used."""


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported that reads them: no settings, cache or token of the user, in children neither."""
    room = tempfile.TemporaryDirectory(prefix="headatlas-tests-")
    config.add_cleanup(room.cleanup)
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name.upper() in PROXIES:
            del os.environ[name]
    # Tiny models gain nothing from more threads, and wait for them long when the machine has other work.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    style = Path(room.name) / "matplotlibrc"
    style.touch()
    os.environ |= {
        "HF_HOME": f"{room.name}/huggingface",
        "HEADATLAS_CACHE": f"{room.name}/ranges",
        "MATPLOTLIBRC": str(style),
        "MPLBACKEND": "Agg",
        "NO_PROXY": "*",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Tests read what their child processes write as UTF-8, in any locale.
        "PYTHONIOENCODING": "utf-8",
    }


def state() -> dict[str, dict[str, object]]:
    """What a test could leave changed for the next, of the modules that are imported."""
    found: dict[str, dict[str, object]] = {
        "environment": {name: value for name, value in os.environ.items() if not name.startswith(OF_LIBRARIES)},
        "process": {
            "folder": os.getcwd(),
            "locale": locale.setlocale(locale.LC_ALL),
            "import path": [path for path in sys.path if not path.endswith("thirdparty_files")],  # Ray's own
        },
    }
    if torch := sys.modules.get("torch"):
        found["torch"] = {
            "default dtype": torch.get_default_dtype(),
            "gradients": torch.is_grad_enabled(),
            "threads": torch.get_num_threads(),
            "seed": torch.initial_seed(),
        }
    if matplotlib := sys.modules.get("matplotlib"):
        found["matplotlib"] = dict(dict.items(matplotlib.rcParams))  # reading each by name is slow
    return found


@pytest.fixture(autouse=True)
def leaves_no_trace() -> Iterator[None]:
    """A test that leaves something changed for the next one fails."""
    before = state()
    yield
    after = state()
    changed = [
        f"{where} {name}: {was.get(name)!r}, then {after[where].get(name)!r}"
        for where, was in before.items()
        for name in was.keys() | after[where].keys()
        if was.get(name) != after[where].get(name)
    ]
    assert not changed, f"this test left changed: {'; '.join(changed)}"


@pytest.fixture(scope="session", autouse=True)
def blank_pictures() -> Iterator[Callable]:
    """Files of figures are blank: every figure is drawn, but not rendered as three files, which takes most of a map.

    Tests that look at pictures ask for `rendered`.
    """
    from headatlas.figures import saving

    render = saving.render
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "render", lambda figure, format: BLANK[format])
        yield render


@pytest.fixture
def rendered(blank_pictures: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of figures show them."""
    monkeypatch.setattr("headatlas.figures.saving.render", blank_pictures)
