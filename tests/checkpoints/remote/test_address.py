"""Models at addresses: https imitated on loopback, other stores by fsspec's memory."""

import json
import shutil
import sys

import fsspec
import pytest
import torch

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.checkpoints.remote import cache as range_cache
from headatlas.checkpoints.remote.address import without_login
from headatlas.errors import CheckpointError
from models import make_model, save_model
from served import serve

pytestmark = pytest.mark.usefixtures("fresh_cache")

WEIGHTS = "model.safetensors"
SMALL = ("config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_model(make_model("llama"), tmp_path_factory.mktemp("saved"))


@pytest.fixture
def server(tmp_path, saved):
    (tmp_path / "served").mkdir()
    shutil.copytree(saved, tmp_path / "served" / "a b")
    with serve(tmp_path / "served") as served:
        served.model = served.url + "/a%20b"
        yield served


def refusal(source):
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(source)
    return str(refused.value)


@pytest.mark.parametrize("end", ["", "/", "/model.safetensors", "/config.json", "/model.safetensors.index.json", "#x"])
def test_the_model_equals_the_local_one(server, saved, end):
    local, remote = open_model(open_checkpoint(saved)), open_model(open_checkpoint(server.model + end))
    assert remote.fingerprint() == local.fingerprint()
    source = server.model + ("/model.safetensors" if end == "/model.safetensors" else "")
    assert remote.checkpoint.source == source
    assert remote.checkpoint.load_tokenizer()(" ba")["input_ids"] == [1]
    assert 0 < server.bytes_of(WEIGHTS) < (saved / WEIGHTS).stat().st_size


@pytest.mark.parametrize("date", [False, True])
def test_a_second_run_fetches_nothing(server, date):
    if date:
        server.tag, server.modified = None, "Mon, 23 Nov 2026 03:45:49 GMT"
    expected = open_model(open_checkpoint(server.model)).fingerprint()
    del server.asked[:]
    assert open_model(open_checkpoint(server.model)).fingerprint() == expected
    assert server.bytes_of(WEIGHTS) == 1  # the first byte, for the version
    assert [server.bytes_of(name) for name in SMALL] == [0, 0, 0]


def test_without_a_connection_the_cache_is_used(server, monkeypatch):
    expected = open_model(open_checkpoint(server.model)).fingerprint()
    del server.asked[:]
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    assert open_model(open_checkpoint(server.model)).fingerprint() == expected
    assert server.asked == []
    monkeypatch.setenv("HEADATLAS_CACHE", str(range_cache.cache_folder()) + "2")
    assert refusal(server.model) == (
        f"{server.model}/config.json: these bytes are not in the cache, and HF_HUB_OFFLINE forbids requesting them. "
        f"Run once with a connection."
    )


def test_small_files_that_change_vanish_or_are_damaged(server):
    checkpoint = open_checkpoint(server.model)
    config = server.folder / "a b" / "config.json"
    config.write_text(
        config.read_text("utf-8").replace('"rope_theta": 10000.0', '"rope_theta": 20000.0') + " ", "utf-8"
    )
    server.tag = '"second"'
    (server.folder / "a b" / "tokenizer.json").unlink()
    again = open_checkpoint(server.model)
    assert (again.folder / "config.json").read_text("utf-8") == config.read_text("utf-8")
    assert again.folder == checkpoint.folder
    assert not (again.folder / "tokenizer.json").exists()
    (again.folder / "config.json").write_text("{", "utf-8")
    assert open_checkpoint(server.model).model_type == "llama"


def test_shards(server, saved):
    folder = server.folder / "a b"
    (folder / WEIGHTS).unlink()
    save_model(make_model("llama"), folder, max_shard_size="40KB")
    expected = open_model(open_checkpoint(saved)).fingerprint()
    assert open_model(open_checkpoint(server.model)).fingerprint() == expected
    first = sorted(folder.glob("model-*.safetensors"))[0].name
    assert open_model(open_checkpoint(f"{server.model}/{first}")).fingerprint() == expected


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/x.safetensors", "..\\x.safetensors", "x.bin", "https://other/x.safetensors"]
)
def test_an_index_that_leaves_its_folder(server, name):
    folder = server.folder / "a b"
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}), "utf-8")
    assert refusal(server.model) == (
        f"{server.model}/model.safetensors.index.json: expected names of safetensors files in this folder, "
        f"found {name!r}."
    )
    assert [each.path for each in server.asked if "x.safetensors" in each.path] == []


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": {"a": 5}}, {"weight_map": "a"}])
def test_an_index_without_names(server, index):
    folder = server.folder / "a b"
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    assert refusal(server.model) == (
        f"{server.model}/model.safetensors.index.json: expected a 'weight_map' from tensors to files, found none."
    )


def test_missing_files(server):
    assert refusal(server.url + "/none") == (f"{server.url}/none/config.json: expected a file, found none (HTTP 404).")
    assert refusal(server.model + "/other.safetensors") == (
        f"{server.model}/other.safetensors: expected a file, found none (HTTP 404)."
    )
    (server.folder / "a b" / WEIGHTS).unlink()
    assert refusal(server.model) == (
        f"{server.model}: expected model.safetensors or model.safetensors.index.json next to config.json, found "
        f"neither. If the weights have another name, give the address of the .safetensors file."
    )


def test_addresses_that_cannot_be_read():
    assert refusal("http://example.org/model") == (
        "http://example.org/model: expected https, found plain http, where anybody in between can change the "
        "weights. Write https://."
    )
    assert refusal("https:///model") == (
        "https:///model: expected an address such as https://host/folder, found no host."
    )
    assert refusal("https://host:port/model") == (
        "https://host:port/model: expected an address such as https://host/folder, found another text."
    )
    assert refusal("https://me:secret@host/model.gguf?token=secret") == (
        "https://host/model.gguf: expected a folder or a .safetensors file at an address, found a .gguf file. "
        "Download it and name the local file."
    )
    assert refusal("nonsense://host/model") == (
        "nonsense://host/model: expected an address with https:// or a scheme that fsspec supports (s3://, gs://, "
        "az://), found nonsense://."
    )


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs")])
def test_a_missing_package_is_named(monkeypatch, scheme, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert refusal(f"{scheme}://bucket/model") == (
        f"{scheme}://bucket/model: reading {scheme}:// needs a package that is not installed. "
        f"Run `pip install {package}`."
    )


def test_a_login_is_used_and_never_shown(server):
    address = server.model.replace("http://", "http://me:s%2Fecret@") + "?signature=hidden"
    server.login = "Basic bWU6cy9lY3JldA=="
    checkpoint = open_checkpoint(address)
    assert checkpoint.source == checkpoint.name == server.model
    assert checkpoint.read("model.norm.weight").shape == (48,)
    assert all(each.path.endswith("?signature=hidden") for each in server.asked)
    server.login = "Basic other"
    assert refusal(address) == (
        f"{server.model}/config.json: the server refuses access (HTTP 401). Expected a public address, "
        f"or one with a login (https://user:password@host/...)."
    )
    for path in range_cache.cache_folder().rglob("*"):
        assert "ecret" not in path.name
        if path.suffix == ".json" and ".records" in path.parts:
            assert "ecret" not in path.read_text("utf-8") and "hidden" not in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:pass@word@host:1/a/b?c=d#e", "https://host:1/a/b"),
        ("https://host?x=a@b", "https://host"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("org/model@v1", "org/model@v1"),
    ],
)
def test_the_shown_address(address, shown):
    assert without_login(address) == shown


@pytest.fixture
def memory(saved):
    store = fsspec.filesystem("memory")
    store.store.clear()
    for path in saved.iterdir():
        store.pipe_file(f"/bucket/model/{path.name}", path.read_bytes())
    yield store
    store.store.clear()


def test_other_stores(memory, saved, monkeypatch):
    asked = []
    cat_file = type(memory).cat_file

    def counting(self, path, start=None, end=None, **options):
        content = cat_file(self, path, start, end, **options)
        asked.append((path, len(content)))
        return content

    monkeypatch.setattr(type(memory), "cat_file", counting)
    expected = open_model(open_checkpoint(saved)).fingerprint()
    assert open_model(open_checkpoint("memory://bucket/model")).fingerprint() == expected
    assert 0 < sum(n for path, n in asked if path.endswith(WEIGHTS)) < (saved / WEIGHTS).stat().st_size
    del asked[:]
    assert open_model(open_checkpoint("memory://bucket/model/")).fingerprint() == expected
    assert asked == []


def test_a_file_of_a_store_that_changes_during_a_run(memory, saved):
    checkpoint = open_checkpoint("memory://bucket/model")
    memory.pipe_file(f"/bucket/model/{WEIGHTS}", (saved / WEIGHTS).read_bytes())
    with pytest.raises(CheckpointError) as refused:
        checkpoint.read("model.norm.weight")
    assert str(refused.value) == (
        f"memory://bucket/model/{WEIGHTS}: expected the file of the beginning of this run, found a changed one. "
        f"Run the same again to read the new one."
    )


def test_a_store_without_the_model_or_without_access(memory, monkeypatch):
    assert refusal("memory://bucket/none") == "memory://bucket/none/config.json: expected a file, found none."

    def refuse(*_, **__):
        raise PermissionError("with a secret in it")

    monkeypatch.setattr(type(memory), "cat_file", refuse)
    assert refusal("memory://bucket/model") == (
        "memory://bucket/model/config.json: the store refuses access. Log in with the tools of the store, and run it "
        "again."
    )

    def fail(*_, **__):
        raise RuntimeError("with a secret in it")

    monkeypatch.setattr(type(memory), "cat_file", fail)
    assert refusal("memory://bucket/model") == (
        "memory://bucket/model/config.json: the transfer failed 4 times at byte 0 (the store raised RuntimeError). "
        "Run the same again; what was fetched is kept."
    )


def test_the_same_bytes_in_half_precision(server, tmp_path):
    for dtype in (torch.bfloat16, torch.float16):
        folder = server.folder / str(dtype)
        save_model(make_model("llama").to(dtype), folder)
        local, remote = open_checkpoint(folder), open_checkpoint(f"{server.url}/{dtype}")
        name = "model.layers.1.self_attn.o_proj.weight"
        assert remote.read(name).equal(local.read(name))
        assert remote.read(name, slice(2, 9)).equal(local.read(name, slice(2, 9)))
