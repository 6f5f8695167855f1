"""The hub, imitated on loopback: what is fetched, what is refused, and that local paths never ask it."""

import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import headatlas
from headatlas.architectures import open_model
from headatlas.checkpoints import open_checkpoint
from models import make_model, save_model

SHA = "a" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as a download needs; `org/tiny` is there, `org/gated` asks for a login."""

    folder: Path
    asked: list[str]

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        self.asked.append(self.path)
        if "gated" in self.path:
            return self.send(403, b"{}", body, {"X-Error-Code": "GatedRepo"})
        if "/org/tiny" not in self.path:
            return self.send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})
        if self.path.startswith("/api/"):
            files = sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
            siblings = [{"rfilename": name} for name in files]
            content = {"id": "org/tiny", "modelId": "org/tiny", "sha": SHA, "siblings": siblings, "private": False,
                       "gated": False, "downloads": 0, "tags": []}  # fmt: skip
            if "/tree/" in self.path:
                content = [
                    {"type": "file", "path": name, "size": (self.folder / name).stat().st_size, "oid": name}
                    for name in files
                ]
            return self.send(200, json.dumps(content).encode(), body, {"Content-Type": "application/json"})
        path = self.folder / self.path.split("?")[0].partition(f"/resolve/{SHA}/")[2]
        if not path.is_file():
            return self.send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        return self.send(200, path.read_bytes(), body, {"ETag": f'"{path.name}"', "X-Repo-Commit": SHA})

    def send(self, status, content, body, headers):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path):
    folder = save_model(make_model("llama"), tmp_path / "served")
    (folder / "modeling_evil.py").write_text("raise SystemExit('ran')")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "consolidated.safetensors").write_bytes(b"the same again")
    (folder / "original").mkdir()
    (folder / "original" / "model.safetensors").write_bytes(b"another format")
    handler = type("Handler", (Hub,), {"folder": folder, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.folder, server.asked = folder, handler.asked
    yield server
    server.shutdown()


CODE = """
import sys
from headatlas.checkpoints import open_checkpoint
from headatlas.architectures import open_model
from headatlas.errors import HeadatlasError
try:
    print(open_model(open_checkpoint(sys.argv[1])).fingerprint())
except HeadatlasError as error:
    print(error)
"""


def ask(name, hub, cache, **environment):
    """Open a model in a process of its own: the hub's settings are read at import."""
    settings = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": str(cache),
        "PYTHONPATH": str(Path(headatlas.__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, name], env=settings | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_model_is_fetched_once_without_code_and_pickles(hub, tmp_path):
    expected = open_model(open_checkpoint(hub.folder)).fingerprint()
    assert ask("org/tiny", hub, tmp_path / "cache") == expected
    snapshot = tmp_path / "cache" / "hub" / "models--org--tiny" / "snapshots" / SHA
    fetched = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*")}
    assert fetched == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    del hub.asked[:]
    assert ask("org/tiny", hub, tmp_path / "cache", HF_HUB_OFFLINE="1") == expected
    assert hub.asked == []


def test_refusals_are_one_sentence(hub, tmp_path):
    cache = tmp_path / "cache"
    assert ask("org/none", hub, cache) == (
        "org/none: expected a folder, a .gguf file or a model on the hub, found none of this name. "
        "For a private model, log in with `hf auth login`."
    )
    assert ask("org/gated", hub, cache) == (
        "org/gated: this model asks for its licence to be accepted. Accept it on the hub, then log in with "
        "`hf auth login`."
    )
    assert ask("org/tiny", hub, cache, HF_HUB_OFFLINE="1") == (
        "org/tiny: this model is not in the hub's cache, and the hub cannot be reached (no network, or "
        "HF_HUB_OFFLINE is set). Fetch it once with a connection, or give a local folder."
    )
    assert ask("a b", hub, cache) == "a b: expected a folder, a .gguf file or a name on the hub such as org/model."


def test_local_paths_never_ask_the_hub(hub, tmp_path):
    for name in ("./org/tiny", "/org/tiny", "tiny.gguf", "~/tiny", "a/b/c"):
        assert "found nothing there" in ask(name, hub, tmp_path / "cache")
    assert hub.asked == []
