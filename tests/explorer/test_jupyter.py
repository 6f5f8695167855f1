"""The explorer in JupyterLab, in a real browser: a head is clicked and read in Python, and one is set from there."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from needs import ROOT, find_browser, need_node, need_package

CELLS = (
    f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
    "from atlases import make_atlas, make_evidence\n"
    "from headatlas import explore\n"
    "widget = explore(make_evidence(make_atlas(7, 5, chance=True)))\n"
    "widget",
    "print(widget.selection)",
    "widget.selection = 'L6H4'",
)


@pytest.fixture
def lab(tmp_path):
    """The address of a notebook with CELLS in a JupyterLab of its own."""
    need_node()
    need_package("jupyterlab", "dev")
    need_package("anywidget", "notebook")
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"c{number}",
            "metadata": {},
            "outputs": [],
            "source": text,
        }
        for number, text in enumerate(CELLS)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "explore.ipynb").write_text(json.dumps(notebook), "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    server = subprocess.Popen(
        [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
            "--ServerApp.token=secret", "--ServerApp.port_retries=0", "--LabApp.news_url=",
            "--LabApp.extension_manager=readonly",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ],
        cwd=tmp_path / "work", env=os.environ | own, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(720):
            try:
                urllib.request.urlopen(f"{address}/api/status?token=secret", timeout=5).read()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, "JupyterLab stopped"
                time.sleep(0.25)
        yield f"{address}/lab/tree/explore.ipynb?token=secret&reset"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.system
def test_a_head_is_picked_in_the_browser_and_from_python(lab):
    script = Path(ROOT) / "explorer" / "tests" / "lab.mjs"
    done = subprocess.run(
        ["node", str(script), find_browser(), lab], capture_output=True, encoding="utf-8", timeout=600
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "failed" not in seen, seen
    assert seen["clicked"].startswith("L") and seen["read"] == seen["clicked"]
    assert seen["set"] == "L6H4" and seen["byKeyboard"].startswith("L") and seen["byKeyboard"] != "L6H4"
    assert not seen["elsewhere"] and not seen["errors"]
