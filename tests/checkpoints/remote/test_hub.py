"""The hub, imitated on loopback: what is fetched, what is refused, and that local paths never reach it."""

import json
import shutil

import pytest
from safetensors import safe_open

from hub_reader import WANTED, hash_of, read_apart
from models import make_model, save_model
from served import SHA, Hub, serve


@pytest.fixture
def hub(tmp_path):
    folder = save_model(make_model("llama"), tmp_path / "served")
    (folder / "modeling_evil.py").write_text("raise SystemExit('ran')", "utf-8")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "consolidated.safetensors").write_bytes(b"the same again")
    (folder / "original").mkdir()
    (folder / "original" / "model.safetensors").write_bytes(b"another format")
    with serve(folder, Hub) as served:
        yield served


def read_locally(folder):
    """What `ask` answers, by the safetensors library."""
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        return hash_of(weights.get_tensor(name)[rows or slice(None)] for name, rows in WANTED)


def ask(name, hub, cache, **environment):
    """Read a model from the hub in another process."""
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(cache),
        "HEADATLAS_CACHE": str(cache / "ranges"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": str(cache),
    }
    return read_apart(name, settings | environment)


SMALL = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
WEIGHTS = "model.safetensors"


def snapshot(cache):
    return cache / "hub" / "models--org--tiny" / "snapshots" / SHA


@pytest.mark.parametrize("answer", [b"[]", b'{"id": 3, "sha": {}, "siblings": 7}', b"{", b"[" * 5_000])
def test_an_answer_of_other_types_is_one_sentence(tmp_path, answer):
    class Lying(Hub):
        def describe(self):
            self.send(200, answer, {"Content-Type": "application/json"})

    with serve(save_model(make_model("llama"), tmp_path / "served"), Lying) as hub:
        refused = ask("org/tiny", hub, tmp_path / "cache")
    assert refused.startswith("org/tiny: expected an answer of the hub as its library knows them, found another one (")


def test_only_what_is_read_is_fetched_and_only_once(hub, tmp_path):
    expected = read_locally(hub.folder)
    cache = tmp_path / "cache"
    assert ask("org/tiny", hub, cache) == expected
    assert {path.name for path in snapshot(cache).rglob("*")} == SMALL
    assert 0 < hub.bytes_of(WEIGHTS) < (hub.folder / WEIGHTS).stat().st_size
    assert hub.of("modeling_evil.py") == hub.of("pytorch_model.bin") == hub.of("consolidated.safetensors") == []
    del hub.asked[:]
    assert ask("org/tiny", hub, cache) == expected
    assert hub.of(WEIGHTS) == []
    del hub.asked[:]
    assert ask("org/tiny", hub, cache, HF_HUB_OFFLINE="1") == expected
    assert hub.asked == []


def test_weights_in_the_hub_s_cache_are_read_from_there(hub, tmp_path):
    expected = read_locally(hub.folder)
    cache = tmp_path / "cache"
    ask("org/tiny", hub, cache)
    shutil.rmtree(cache / "ranges")
    shutil.copy(hub.folder / WEIGHTS, snapshot(cache) / WEIGHTS)
    del hub.asked[:]
    assert ask("org/tiny", hub, cache, HF_HUB_OFFLINE="1") == expected
    assert ask("org/tiny", hub, cache) == expected
    assert hub.of(WEIGHTS) == []


def test_revisions(hub, tmp_path):
    expected = read_locally(hub.folder)
    assert ask("org/tiny@v1", hub, tmp_path / "cache") == expected
    assert ask(f"org/tiny@{SHA}", hub, tmp_path / "cache") == expected
    assert ask("org/tiny@v2", hub, tmp_path / "cache") == (
        "org/tiny@v2: expected a branch, a tag or a commit of this model after '@', found none."
    )


def test_a_private_model_s_token_goes_to_the_hub_only(hub, tmp_path):
    expected = read_locally(hub.folder)
    with serve(hub.folder) as elsewhere:
        hub.elsewhere = elsewhere.url
        hub.login = "Bearer hf_secret"
        cache = tmp_path / "cache"
        assert ask("org/tiny", hub, cache, HF_TOKEN="hf_secret") == expected
        assert {each.authorization for each in elsewhere.asked} == {None}
        assert {each.authorization for each in hub.asked} == {"Bearer hf_secret"}
        assert hub.bytes_of(WEIGHTS) == 0
        refused = ask("org/tiny", hub, tmp_path / "other", HF_TOKEN="hf_wrong")
        assert refused == (
            "org/tiny: the hub refuses access (HTTP 401). For a private model, log in with `hf auth login`."
        )
        hub.login = None
        elsewhere.login = "nobody has it"
        refused = ask("org/tiny", hub, tmp_path / "third", HF_TOKEN="hf_secret")
        assert refused == (
            "org/tiny/model.safetensors: the server refuses access (HTTP 401). "
            "For a private model, log in with `hf auth login`."
        )


def shards(folder, names):
    index = {"metadata": {}, "weight_map": {f"tensor{number}": name for number, name in enumerate(names)}}
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin",
                                  "..\\other.safetensors"])  # fmt: skip
def test_an_index_that_leaves_its_folder(hub, tmp_path, name):
    shards(hub.folder, [name])
    assert ask("org/tiny", hub, tmp_path / "cache") == (
        f"org/tiny/model.safetensors.index.json: expected names of safetensors files in this folder, found {name!r}."
    )


def test_shards(hub, tmp_path):
    expected = read_locally(hub.folder)
    (hub.folder / WEIGHTS).unlink()
    save_model(make_model("llama"), hub.folder, max_shard_size="40KB")
    assert len(list(hub.folder.glob("model-*.safetensors"))) > 1
    assert ask("org/tiny", hub, tmp_path / "cache") == expected
    (hub.folder / "model.safetensors.index.json").unlink()
    assert ask("org/tiny", hub, tmp_path / "other") == expected
    next(hub.folder.glob("model-00002-*")).unlink()
    assert "which belongs to 'model-00001-of-" in ask("org/tiny", hub, tmp_path / "third")


def test_pickled_weights_are_fetched_if_there_are_no_others(hub, tmp_path):
    (hub.folder / WEIGHTS).unlink()
    (hub.folder / "consolidated.safetensors").unlink()
    ask("org/tiny", hub, tmp_path / "cache")
    assert (snapshot(tmp_path / "cache") / "pytorch_model.bin").read_bytes() == b"pickle"
    assert hub.of("modeling_evil.py") == []


def test_gguf_files_are_fetched_whole(hub, tmp_path):
    for path in hub.folder.iterdir():
        if path.is_file():
            path.unlink()
    (hub.folder / "a.gguf").write_bytes(b"GGUF")
    found = ask("org/tiny", hub, tmp_path / "cache")
    assert found.startswith(f"{snapshot(tmp_path / 'cache')}/a.gguf: ")
    (hub.folder / "b.gguf").write_bytes(b"GGUF")
    assert ask("org/tiny", hub, tmp_path / "other") == (
        "org/tiny: expected one model, found 2 .gguf files. Name one of them: org/tiny/a.gguf."
    )
    assert ask("org/tiny/b.gguf", hub, tmp_path / "other").startswith(f"{snapshot(tmp_path / 'other')}/b.gguf: ")
    assert ask("org/tiny/c.gguf", hub, tmp_path / "other") == (
        "org/tiny/c.gguf: expected this file in the model's repository, found none."
    )
    for path in hub.folder.glob("*.gguf"):
        path.unlink()
    assert ask("org/tiny", hub, tmp_path / "third") == (
        "org/tiny: expected safetensors, .bin or .gguf files on the hub, found none."
    )


def test_refusals(hub, tmp_path):
    cache = tmp_path / "cache"
    assert ask("org/none", hub, cache) == (
        "org/none: expected a folder, a .gguf file or a model on the hub, found none of this name. "
        "For a private model, log in with `hf auth login`."
    )
    assert ask("org/gated", hub, cache) == (
        "org/gated: the licence of this model must be accepted. Accept it on the hub, then log in with `hf auth login`."
    )
    assert ask("org/tiny", hub, cache, HF_HUB_OFFLINE="1") == (
        "org/tiny: this model is not in the hub's cache, and the hub cannot be reached (no network, or "
        "HF_HUB_OFFLINE is set). Fetch it once with a connection, or give a local folder."
    )
    assert ask("a b", hub, cache) == "a b: expected a folder, a .gguf file or a name on the hub such as org/model."


def test_local_paths_never_reach_the_hub(hub, tmp_path):
    for name in ("./org/tiny", "/org/tiny", "tiny.gguf", "~/tiny", "a/b/c"):
        assert "found nothing there" in ask(name, hub, tmp_path / "cache")
    assert hub.asked == []
