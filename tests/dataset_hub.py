"""The needed part of the hub for data sets: creating, committing (large files as LFS objects), listing, downloading."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import yaml

from served import Handler, serve

TOKEN = "hf_secret"
ERRORS = {404: "RepoNotFound"}


@dataclass
class Repository:
    """A data set: its commits, oldest first, each with all files."""

    private: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"*.parquet filter=lfs"}])

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        shas = [f"{number:040x}" for number in range(len(self.commits))]
        if revision == "main":
            return shas[-1], self.files
        return (revision, self.commits[shas.index(revision)]) if revision in shas else None


class DataSets(Handler):
    """Data sets of `org`, to which TOKEN may write."""

    repositories: dict[str, Repository]
    objects: dict[str, bytes]
    sizes: dict[str, int]
    """What the listing claims of some files instead of their sizes."""
    lies: dict[str, object]
    """End of a path -> what is answered there: bytes, or what is written as JSON."""

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.headers["Transfer-Encoding"] == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.answer()

    def do_PUT(self):
        self.do_POST()

    def reply(self, content: object, status: int = 200, **headers: str):
        content = next((lie for end, lie in self.lies.items() if self.path.split("?")[0].endswith(end)), content)
        if isinstance(content, bytes):
            return self.send(status, content, {"Content-Type": "application/json"} | headers)
        self.send(status, json.dumps(content).encode(), {"Content-Type": "application/json"} | headers)

    def missing(self, what: str = "Repo"):
        self.reply({}, 404, **{"X-Error-Code": f"{what}NotFound"})

    def route(self):
        path = unquote(self.path.split("?")[0])
        if self.command == "PUT":
            name = path.rsplit("/", 1)[1]
            if hashlib.sha256(self.body).hexdigest() != name:
                return self.reply({}, 400)
            self.objects[name] = self.body
            return self.reply({})
        allowed = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if self.command == "POST":
            if not allowed:
                return self.reply({"error": "Unauthorized"}, 401)
            if path == "/api/repos/create":
                return self.create(json.loads(self.body))
            if path == "/api/validate-yaml":
                return self.validate(json.loads(self.body)["content"])
        match = re.fullmatch(r"(?:/api)?/datasets/([^/]+/[^/.]+(?:\.(?!git/)[^/.]+)*)(?:\.git)?(?:/(.*))?", path)
        if match is None or match[1] not in self.repositories:
            return self.missing()
        name, rest = match.groups()
        repository = self.repositories[name]
        if repository.private and not allowed:
            return self.reply({}, 401, **{"X-Error-Code": "RepoNotFound"})
        if self.command == "POST":
            return self.change(repository, name, rest)
        if rest is None or rest.startswith("revision/"):
            return self.describe(repository, name, (rest or "revision/main").removeprefix("revision/"))
        revision, _, file = rest.removeprefix("resolve/").partition("/")
        found = repository.at(revision)
        if found is None:
            return self.missing("Revision")
        sha, files = found
        if file not in files:
            return self.missing("Entry")
        tag = hashlib.sha256(files[file]).hexdigest()
        self.send(200, files[file], {"ETag": f'"{tag}"', "X-Repo-Commit": sha})

    def create(self, asked: dict):
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "org":
            return self.reply({"error": "no right"}, 403)
        if name in self.repositories:
            return self.reply({"error": "exists"}, 409)
        private = asked.get("private", asked.get("visibility") == "private")
        self.repositories[name] = Repository(bool(private))
        return self.reply({"url": f"{self.served.url}/datasets/{name}", "id": name})

    def validate(self, content: str):
        front = yaml.safe_load(content.split("---\n")[1])
        fine = isinstance(front, dict) and front.get("license") != "forbidden"
        errors = [] if fine else [{"message": '"license" must be one of the known ones'}]
        return self.reply({"errors": errors, "warnings": []}, 200 if fine else 400)

    def change(self, repository: Repository, name: str, rest: str):
        if rest == "preupload/main":
            files = json.loads(self.body)["files"]
            modes = [
                {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(".parquet") else "regular",
                 "shouldIgnore": False}
                for each in files
            ]  # fmt: skip
            return self.reply({"files": modes})
        if rest == "info/lfs/objects/batch":
            objects = [
                each | {"actions": {"upload": {"href": f"{self.served.url}/lfs/{each['oid']}", "header": {}}}}
                for each in json.loads(self.body)["objects"]
            ]
            return self.reply({"transfer": "basic", "objects": objects})
        assert rest == "commit/main", rest
        files = dict(repository.files)
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                parent = value.get("parentCommit")
                if parent is not None and parent != f"{len(repository.commits) - 1:040x}":
                    return self.reply({"error": "changed"}, 412)
            elif operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        repository.commits.append(files)
        sha = f"{len(repository.commits) - 1:040x}"
        return self.reply({"commitUrl": f"{self.served.url}/datasets/{name}/commit/{sha}", "commitOid": sha})

    def describe(self, repository: Repository, name: str, revision: str):
        found = repository.at(revision)
        if found is None:
            return self.missing("Revision")
        sha, files = found
        siblings = [
            {"rfilename": file, "size": self.sizes.get(file, len(content))} for file, content in sorted(files.items())
        ]
        return self.reply({"id": name, "sha": sha, "private": repository.private, "gated": False, "downloads": 0,
                           "tags": [], "siblings": siblings})  # fmt: skip


@contextmanager
def serve_data_sets(folder: Path, monkeypatch):
    """The imitation, which this process takes for the hub; yields (served, the handler's class with the data sets)."""
    from huggingface_hub import constants

    kind = type("DataSets", (DataSets,), {"repositories": {}, "objects": {}, "sizes": {}, "lies": {}})
    with serve(folder, kind) as served:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, served.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield served, kind
