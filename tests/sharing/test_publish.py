"""An atlas on its way to a local imitation of the hub."""

import io
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt

from atlases import make_atlas, make_attention, make_evidence, with_manifest, with_model
from dataset_hub import TOKEN, Repository, serve_data_sets
from headatlas.atlas import Manifest, load_atlas, save_atlas
from headatlas.errors import AtlasError, SettingsError
from headatlas.sharing import publish
from headatlas.sharing.data_card import ROWS, default_licence
from headatlas.sharing.publish import PUBLISHED, TABLES, publish_atlas

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of the hub's own library

SIZES = {"n_layers": 3, "n_heads": 2, "chance": True}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    (tmp_path / "hub").mkdir()
    with serve_data_sets(tmp_path / "hub", monkeypatch) as (served, kind):
        kind.served = served
        yield kind


def front_matter(card: bytes) -> dict:
    return yaml.safe_load(card.decode().split("---\n")[1])


def test_only_the_files_of_the_atlas_are_published(hub, tmp_path):
    atlas = with_model(make_evidence(make_atlas(**SIZES)), source="/home/me/models/tiny")
    folder = save_atlas(atlas, tmp_path / "atlas")
    (folder / "secret.txt").write_text("secret", "utf-8")
    (folder / "explorer.html").write_text("<script>", "utf-8")
    (folder / "report.md").write_text("secret", "utf-8")
    (folder / "figure.svg").write_text("<svg/>", "utf-8")
    found = publish_atlas(load_atlas(folder), "org/tiny", private=True)
    repository = hub.repositories["org/tiny"]
    assert set(repository.files) == {".gitattributes", *found.files} and set(found.files) <= set(PUBLISHED)
    assert {"README.md", "atlas.json", "scores.parquet", "attention.parquet", "reading.png"} <= set(found.files)
    assert repository.private and found.private and found.created and len(repository.commits) == 2
    assert found.commit == f"{hub.served.url}/datasets/org/tiny/commit/{1:040x}"
    assert found.url == f"{hub.served.url}/datasets/org/tiny"
    assert {file: len(repository.files[file]) for file in found.files} == found.files
    everything = b"".join(repository.files.values())
    assert b"secret" not in everything and b"/home/me" not in everything and str(tmp_path).encode() not in everything
    manifest = Manifest.from_json(repository.files["atlas.json"].decode(), "atlas.json")
    assert manifest.model.source == "./tiny" and manifest.identity == atlas.manifest.identity
    assert [(each.key, each.before) for each in found.replaced] == [("model.source", "/home/me/models/tiny")]
    scores = pd.read_parquet(io.BytesIO(repository.files["scores.parquet"]))
    pd.testing.assert_frame_equal(scores, atlas.table, check_dtype=False)


def test_the_card(hub):
    hostile = "evil <img src=x>\n---\nlicense: mit"
    atlas = make_attention(make_atlas(**SIZES, name=hostile, note="4-bit weights."))
    publish_atlas(atlas, "org/tiny", licence="cc-by-4.0")
    card = hub.repositories["org/tiny"].files["README.md"]
    front = front_matter(card)
    assert front["license"] == "cc-by-4.0" and front["pretty_name"].startswith("Attention heads of evil")
    assert [(each["config_name"], each["data_files"]) for each in front["configs"]] == [
        ("scores", "scores.parquet"),
        ("attention", "attention.parquet"),
    ]
    assert [each for each in front["configs"] if each.get("default")] == front["configs"][:1]
    text = card.decode().split("\n---\n", 1)[1]
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or []]
    assert not [each for each in (*tokens, *inline) if each.type.startswith("html")]
    shown = [each.attrs["src"] for each in inline if each.type == "image"]
    assert shown == ["figure.png", "reading.png"] and set(shown) <= set(hub.repositories["org/tiny"].files)
    for part in (
        "beyond chance and copying",
        "headatlas pull org/tiny",
        "@inproceedings",
        "cc-by-4.0",
        "## Limits",
        "4-bit weights. All",
    ):
        assert part in text


def test_the_licence():
    atlas = make_atlas(**SIZES)
    assert default_licence(atlas) == "other"
    items = tuple(replace(item, license="CC0-1.0") for item in atlas.manifest.relations.items)
    free = with_manifest(atlas, relations=replace(atlas.manifest.relations, items=items))
    assert default_licence(free) == "cc0-1.0"
    with pytest.raises(
        SettingsError, match=r"licence: expected a name as the hub has it, such as cc-by-4.0, found 'a b'"
    ):
        publish_atlas(atlas, "org/tiny", licence="a b", dry_run=True)


def test_the_same_atlas_is_updated(hub):
    atlas = make_atlas(**SIZES)
    publish_atlas(make_attention(atlas), "org/tiny", private=True)
    found = publish_atlas(atlas, "org/tiny")
    repository = hub.repositories["org/tiny"]
    assert found.removed == ("attention.parquet", "reading.png") and not found.created and found.private
    assert not {"attention.parquet", "reading.png"} & set(repository.files) and len(repository.commits) == 3


def test_what_is_there_is_not_lost(hub):
    atlas, other = make_atlas(**SIZES), make_atlas(**SIZES, name="other")
    publish_atlas(atlas, "org/tiny")
    hub.repositories["org/tiny"].files["notes.txt"] = b"mine"
    with pytest.raises(AtlasError, match=r"org/tiny: holds an atlas of another model.*--overwrite"):
        publish_atlas(other, "org/tiny")
    with pytest.raises(AtlasError, match="expected a private data set, found a public one"):
        publish_atlas(atlas, "org/tiny", private=True)
    assert len(hub.repositories["org/tiny"].commits) == 2
    publish_atlas(other, "org/tiny", overwrite=True)
    assert hub.repositories["org/tiny"].files["notes.txt"] == b"mine"
    hub.repositories["org/words"] = Repository(commits=[{"words.csv": b"a,b"}])
    with pytest.raises(AtlasError, match="org/words: expected an atlas or nothing there, found other files"):
        publish_atlas(atlas, "org/words", overwrite=True)
    hub.repositories["org/new"] = Repository(commits=[{".gitattributes": b"", "README.md": b"new"}])
    publish_atlas(atlas, "org/new")
    hub.repositories["org/broken"] = Repository(commits=[{"atlas.json": b"\xff"}])
    with pytest.raises(AtlasError, match="holds an atlas of another model"):
        publish_atlas(atlas, "org/broken")


def test_a_change_at_the_same_time_is_not_overwritten(hub, monkeypatch):
    atlas = make_atlas(**SIZES)
    publish_atlas(atlas, "org/tiny")
    repository = hub.repositories["org/tiny"]
    monkeypatch.setattr(
        "headatlas.sharing.publish.write_files",
        lambda atlas, folder, *_: [(folder / "README.md").write_text("---\nlicense: mit\n---\n", "utf-8"),
                                   repository.commits.append(dict(repository.files))],
    )  # fmt: skip
    with pytest.raises(AtlasError, match=r"org/tiny: it exists .* or was changed at the same time \(HTTP 412\)"):
        publish_atlas(atlas, "org/tiny")
    assert repository.files["README.md"] != b"---\nlicense: mit\n---\n"


@pytest.mark.parametrize("token", [None, "hf_other"])
def test_without_a_token_that_may_write(hub, monkeypatch, token):
    atlas = make_atlas(**SIZES)
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    expected = (
        "needs a token of the hub that may write, found none" if token is None else r"refuses access \(HTTP 401\)"
    )
    with pytest.raises(AtlasError, match=f"org/tiny: .*{expected}.* Log in with `hf auth login`, or set HF_TOKEN."):
        publish_atlas(atlas, "org/tiny")
    assert not hub.repositories
    if token is None:
        assert not hub.served.asked, "nothing is sent without a token"


def test_refused_by_the_hub(hub):
    with pytest.raises(AtlasError, match=r"other/tiny: the hub refuses access \(HTTP 403\)"):
        publish_atlas(make_atlas(**SIZES), "other/tiny")
    with pytest.raises(AtlasError, match=r"does not accept it .*The data set is new and still empty; the same command"):
        publish_atlas(make_atlas(**SIZES), "org/tiny", licence="forbidden")
    publish_atlas(make_atlas(**SIZES), "org/tiny")
    assert "atlas.json" in hub.repositories["org/tiny"].files


LIES = {
    "/datasets/org/tiny": [3, {}, {"id": 3, "sha": [], "siblings": [[]]}],
    "/repos/create": [None, {}, {"url": 3}, {"url": "a"}],
    "/preupload/main": [None, {"files": [{"path": "README.md"}]}],
    "/objects/batch": [3, {"objects": [3]}, {"transfer": [], "objects": []}],
    "/commit/main": [[], {}, {"commitUrl": 3, "commitOid": "a"}, b"\xff"],
    "/validate-yaml": [[], {"errors": 3, "warnings": None}, {"warnings": "a"}],
}


@pytest.mark.parametrize("end", LIES)
def test_answers_of_other_types(hub, monkeypatch, end):
    monkeypatch.setattr(publish, "write_files", write_little)
    for lie in LIES[end]:
        hub.lies, hub.repositories = {end: lie}, {} if end == "/repos/create" else {"org/tiny": Repository()}
        with pytest.raises(AtlasError, match="org/tiny: ") as caught:
            publish_atlas(make_atlas(**SIZES), "org/tiny")
        assert "\n" not in str(caught.value)


def write_little(atlas, folder, name, licence):
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", "utf-8")
    (folder / "scores.parquet").write_bytes(b"PAR1")


def test_without_a_network(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(AtlasError, match=r"org/tiny: the hub cannot be reached .* with a connection"):
        publish_atlas(make_atlas(**SIZES), "org/tiny")
    found = publish_atlas(make_atlas(**SIZES), "org/tiny", dry_run=True)
    assert found.commit is None and found.created is None and "README.md" in found.files


def test_names(hub):
    for name in ("tiny", "org/ti ny", "../tiny", "org/..", "/org/tiny", "org/tiny/x"):
        with pytest.raises(SettingsError, match="expected the name of a data set on the hub such as org/name"):
            publish_atlas(make_atlas(**SIZES), name)
    with pytest.raises(SettingsError, match="on the main branch"):
        publish_atlas(make_atlas(**SIZES), "org/tiny@v1")
    assert TOKEN and not hub.repositories


def test_the_card_explains_every_table():
    assert set(ROWS) == set(TABLES)
