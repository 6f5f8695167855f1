"""A server on loopback that counts what it sends, and misbehaves on demand."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

SHA = "a" * 40
"""The revision of everything on the hub."""


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    sent: int = 0
    """Bytes of the body."""


@dataclass
class Served:
    """A folder behind http, and how it is served; change the fields between requests."""

    folder: Path
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    ranges: bool = True
    tag: str | None = '"first"'
    modified: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    """Answers to the next requests, before the files are served."""
    breaks: list[int] = field(default_factory=list)
    """Bytes after which the next answers to ranges of more than one byte break off."""
    elsewhere: str | None = None
    """Target of redirects for safetensors files."""
    login: str | None = None
    content_range: str | None = None
    drip: float = 0.0
    """Seconds before each byte of a body; of each header too if `drips_headers`."""
    drips_headers: bool = False
    endless: bool = False
    """Whether bodies never end, and have no length."""

    def of(self, name: str) -> list[Asked]:
        return [each for each in self.asked if each.path.split("?")[0].endswith(f"/{name}")]

    def bytes_of(self, name: str) -> int:
        return sum(each.sent for each in self.of(name))


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the files of `served.folder`; subclasses imitate more of a server's interface."""

    protocol_version = "HTTP/1.1"
    served: Served
    lock: threading.Lock

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        with self.lock:
            self.now = Asked(self.command, self.path, self.headers["Range"], self.headers["Authorization"])
            self.served.asked.append(self.now)
            status = self.served.statuses.pop(0) if self.served.statuses else None
        if status:
            return self.send(status, b"busy", {"Retry-After": "0"})
        if self.served.login and self.headers["Authorization"] != self.served.login:
            return self.send(401, b"")
        self.route()

    def route(self):
        self.send_file(unquote(self.path.split("?")[0]).lstrip("/"), {})

    def send_file(self, name: str, headers: dict[str, str]):
        path = self.served.folder / name
        if not path.is_file():
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        if self.served.elsewhere and name.endswith(".safetensors"):
            return self.send(302, b"", headers | {"Location": f"{self.served.elsewhere}/{name}?signature=secret"})
        content = path.read_bytes()
        if self.served.tag:
            headers = {"ETag": self.served.tag} | headers
        if self.served.modified:
            headers = {"Last-Modified": self.served.modified} | headers
        known = self.headers["If-None-Match"] or self.headers["If-Modified-Since"]
        if known and known in (headers.get("ETag"), headers.get("Last-Modified")):
            return self.send(304, b"", headers)
        if self.headers["Range"] and self.served.ranges:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            if first >= len(content):
                return self.send(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
            part = content[first : last + 1]
            content_range = self.served.content_range or f"bytes {first}-{first + len(part) - 1}/{len(content)}"
            return self.send(206, part, headers | {"Content-Range": content_range} | self.served.extra)
        self.send(200, content, headers | self.served.extra)

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None):
        if self.served.drips_headers:
            self.trickle(b"HTTP/1.1 200 OK\r\nX: " + bytes(1_000))
        self.send_response(status)
        length = {} if self.served.endless else {"Content-Length": str(len(content))}
        for name, value in (length | (headers or {})).items():
            self.send_header(name, value)
        with self.lock:
            limit = self.served.breaks.pop(0) if self.served.breaks and status == 206 and len(content) > 1 else None
        silent = self.command == "HEAD" or status == 304
        self.now.sent += 0 if silent else len(content[:limit])  # before the client can receive them and look here
        self.end_headers()
        if silent:
            pass
        elif self.served.drip:
            self.trickle(content)
        else:
            self.wfile.write(content[:limit])
            while self.served.endless:
                self.wfile.write(bytes(2**16))
        if limit is not None:
            self.close_connection = True

    def trickle(self, content: bytes):
        for byte in content:
            time.sleep(self.served.drip)
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def log_message(self, *_):
        pass


class Hub(Handler):
    """The needed part of the hub's interface; `org/NAME` exists, `org/gated` requires a login."""

    name = "tiny"

    def route(self):
        if "gated" in self.path:
            return self.send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if f"/org/{self.name}" not in self.path:
            return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if self.path.startswith("/api/"):
            return self.describe()
        match = re.fullmatch(rf"/org/{self.name}/resolve/(?:{SHA}|main|v1)/(.+)", self.path.split("?")[0])
        if match is None:
            return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        name = match[1]
        headers = {"ETag": f'"{name}"', "X-Repo-Commit": SHA}
        if (self.served.folder / name).is_file() and name.endswith((".safetensors", ".bin", ".gguf")):
            headers["X-Linked-Etag"] = f'"{name}-linked"'
        return self.send_file(name, headers)

    def describe(self):
        folder = self.served.folder
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        if "/revision/" in self.path and not self.path.split("?")[0].endswith((SHA, "main", "v1")):
            return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": name} for name in files]
        name = f"org/{self.name}"
        content = {"id": name, "modelId": name, "sha": SHA, "siblings": siblings, "private": False, "gated": False,
                   "downloads": 0, "tags": []}  # fmt: skip
        if "/tree/" in self.path:
            content = [
                {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": name} for name in files
            ]
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that are killed, or refuse an answer


@contextmanager
def serve(folder: Path, handler: type[Handler] = Handler, **settings):
    """A server for a folder."""
    served = Served(folder, **settings)
    kind = type("Handler", (handler,), {"served": served, "lock": threading.Lock()})
    server = Server(("127.0.0.1", 0), kind)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
