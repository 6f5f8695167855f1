"""The page's own core, run by node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from headatlas.atlas import Atlas
from headatlas.explorer.payload import build_payload
from needs import ROOT, need_node


def ask(atlases: Atlas | list[Atlas], views: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """What `explorer/tests/core.mjs` answers."""
    need_node()
    (folder / "payload").write_bytes(build_payload(atlases if isinstance(atlases, list) else [atlases]))
    command = ["node", "explorer/tests/core.mjs", str(folder / "payload")]
    done = subprocess.run(
        command, cwd=ROOT, input=json.dumps(views), capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
