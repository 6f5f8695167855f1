"""An atlas of somebody else, from a local imitation of the hub."""

import io
import json
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlases import make_atlas, make_attention, make_evidence
from dataset_hub import Repository, serve_data_sets
from headatlas.atlas import load_atlas
from headatlas.errors import AtlasError, SettingsError
from headatlas.sharing import pull
from headatlas.sharing.publish import publish_atlas
from headatlas.sharing.pull import pull_atlas

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of the hub's own library


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The files of a published atlas."""
    with pytest.MonkeyPatch.context() as patch, serve_data_sets(tmp_path_factory.mktemp("hub"), patch) as (_, kind):
        publish_atlas(make_attention(make_atlas(n_layers=3, n_heads=2)), "org/tiny")
        return kind.repositories["org/tiny"].files


@pytest.fixture
def hub(tmp_path, monkeypatch, published):
    """The imitation with that atlas; the tests run in an empty folder."""
    for name in ("hub", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with serve_data_sets(tmp_path / "hub", monkeypatch) as (served, kind):
        kind.served = served
        kind.repositories["org/tiny"] = Repository(commits=[dict(published)])
        yield kind


@pytest.fixture
def refused(hub, tmp_path):
    """Asserts that a pull is refused with this sentence, and leaves nothing."""

    def check(match: str, name: str = "org/tiny", **more) -> None:
        with pytest.raises(AtlasError, match=match) as raised:
            pull_atlas(name, **more)
        assert "\n" not in str(raised.value)
        assert not list((tmp_path / "here").iterdir())

    return check


def parquet(**columns) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def change_manifest(hub, change) -> None:
    files = hub.repositories["org/tiny"].files
    manifest = json.loads(files["atlas.json"])
    change(manifest)
    files["atlas.json"] = json.dumps(manifest).encode()


def replace_table(hub, file: str, content: bytes) -> None:
    """Another table, whose hash the manifest has."""
    import hashlib

    hub.repositories["org/tiny"].files[file] = content
    digest = hashlib.sha256(content).hexdigest()
    change_manifest(hub, lambda manifest: manifest["files"][file].update(sha256=digest))


def test_the_way_there_and_back(hub, tmp_path):
    sent = make_evidence(make_atlas(n_layers=3, n_heads=2, chance=True))
    publish_atlas(sent, "org/all")
    atlas = pull_atlas("org/all")
    assert atlas.folder is not None and atlas.folder.absolute() == tmp_path / "here" / "all"
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["all"]
    pd.testing.assert_frame_equal(atlas.table, sent.table)
    for name in sent.manifest.evidence.names:
        pd.testing.assert_frame_equal(atlas.evidence(name), sent.evidence(name), check_dtype=False)
    assert atlas.manifest.identity == sent.manifest.identity
    made = {path.name for path in atlas.folder.iterdir()}
    assert {"explorer.html", "report.md", "figure.png", "figure.pdf", "reading.png", "composition.svg"} <= made
    assert not any(path.is_symlink() or path.is_dir() for path in atlas.folder.iterdir())
    assert (atlas.folder.stat().st_mode & 0o777) != 0o700, "readable as any other folder"
    # The atlas can be published again.
    assert publish_atlas(load_atlas(atlas.folder), "org/again").files


def test_nothing_but_tables_is_fetched(hub):
    files = hub.repositories["org/tiny"].files
    hostile = {"explorer.html": b"<script>alert(1)</script>", "report.md": b"<script>", "figure.png": b"evil",
               "../evil": b"evil", "a/b.py": b"evil", "loader.py": b"evil", "salient.parquet.bak": b"evil"}  # fmt: skip
    files.update(hostile)
    atlas = pull_atlas("org/tiny", "deep/er/atlas")
    asked = {each.path.split("/resolve/")[1].split("/", 1)[1] for each in hub.served.asked if "/resolve/" in each.path}
    assert asked == {"atlas.json", *atlas.manifest.files}
    assert all(b"evil" not in path.read_bytes() for path in atlas.folder.iterdir())
    assert b"alert(1)" not in (atlas.folder / "explorer.html").read_bytes()


def test_a_revision(hub, refused, monkeypatch):
    # What is written anew is the same for every revision.
    monkeypatch.setattr(pull, "_write_anew", lambda name, download, folder: shutil.copytree(download, folder))
    repository = hub.repositories["org/tiny"]
    repository.commits.append({".gitattributes": b""})
    refused("org/tiny: expected an atlas .a data set with atlas.json., found none")
    first = f"{0:040x}"
    refused("org/tiny: expected a branch, a tag or a commit 'v9' of it, found none", revision="v9")
    assert pull_atlas("org/tiny", "a", revision=first).folder.name == "a"
    assert pull_atlas(f"org/tiny@{first}", "b").folder.name == "b"
    with pytest.raises(SettingsError, match="revision: expected one"):
        pull_atlas(f"org/tiny@{first}", "c", revision="main")


def test_no_access_and_no_network(hub, refused, monkeypatch):
    refused("org/none: expected a data set of this name on the hub, found none. If it is private: Log in", "org/none")
    hub.repositories["org/tiny"].private = True
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    refused("org/tiny: expected a data set of this name on the hub, found none. If it is private: Log in")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("org/tiny: the hub cannot be reached .no network, or HF_HUB_OFFLINE is set.")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    refused("org/tiny: the hub cannot be reached")


def test_a_folder_that_is_there(hub, tmp_path):
    for name, make in (("tiny", "mkdir"), ("file", "touch")):
        getattr(tmp_path / "here" / name, make)()
        with pytest.raises(
            AtlasError, match=f"{name}: expected no file or folder of this name, found one. Name another"
        ):
            pull_atlas("org/tiny", name)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AtlasError, match="link: expected no file or folder"):
        pull_atlas("org/tiny", "link")
    with pytest.raises(AtlasError, match="cannot be written"):
        pull_atlas("org/tiny", "file/atlas")
    assert not hub.served.of("atlas.json")


def test_sizes_are_bounded_before_a_download(hub, refused, monkeypatch):
    hub.sizes["scores.parquet"] = 2**30 + 1
    refused("scores.parquet: expected at most 1,073,741,824 bytes, found 1,073,741,825; nothing was downloaded")
    hub.sizes["scores.parquet"] = None
    refused("found an unknown number; nothing was downloaded")
    hub.sizes["scores.parquet"] = 2**28
    monkeypatch.setattr(pull, "MOST_IN_ALL", 2**28)
    refused("org/tiny: expected at most 268,435,456 bytes, found 268,")
    assert not [each for each in hub.served.asked if "/resolve/" in each.path]


LISTING = {"id": "org/tiny", "sha": "0" * 40, "siblings": [{"rfilename": "atlas.json", "size": 2}]}
NO_ANSWER = "org/tiny: expected an answer of the hub as its library knows them, found another one"
LISTINGS = [
    *((lie, NO_ANSWER) for lie in ([], "a", b"", b"{", b"\xff", {}, LISTING | {"siblings": [3]})),
    (LISTING | {"siblings": [{"size": 2}]}, NO_ANSWER),
    (LISTING | {"siblings": None}, "expected an atlas"),
    *((LISTING | {"sha": lie}, "expected an atlas") for lie in (None, 3, [[]], "../../x", "main")),
    *(
        (LISTING | {"siblings": [{"rfilename": "atlas.json", "size": lie}]}, "at most 268,435,456 bytes, found")
        for lie in ("2", True, -1, 10**30, [2])
    ),
]


@pytest.mark.parametrize("lie", LISTINGS, ids=str)
def test_listings_that_are_none(hub, refused, lie):
    hub.lies["/revision/main"] = hub.lies["/datasets/org/tiny"] = lie[0]
    refused(lie[1])


def test_other_bytes_than_listed(hub, refused):
    hub.sizes["scores.parquet"] = 17
    refused("org/tiny: scores.parquet: expected 17 bytes, found another file")


def test_damaged_manifests(hub, refused):
    files = hub.repositories["org/tiny"].files
    whole = files["atlas.json"]
    damaged = "org/tiny: what is there is damaged or no atlas"
    for content, why in (
        (b"", "atlas.json: expected a manifest with a schema version"),
        (b"\xff\xfe", "atlas.json: expected a manifest in UTF-8"),
        (b'{"schema": 1}', "expected schema 5, found 1. Use the headatlas version that wrote it"),
        (whole.replace(b'"n_layers": 3', b'"n_layers": 4'), "every layer from 0 to 3"),
        (whole.replace(b'"scores.parquet"', b'"../../scores.parquet"'), "files: expected files of an atlas"),
    ):
        files["atlas.json"] = content
        refused(f"{damaged} .*{why}")
    files["atlas.json"] = whole
    del files["scores.parquet"]
    refused("org/tiny: its manifest names scores.parquet, which is not there")


def test_damaged_tables(hub, refused, monkeypatch):
    damaged = "org/tiny: what is there is damaged or no atlas"
    files = hub.repositories["org/tiny"].files
    scores = files["scores.parquet"]
    n_rows = pq.read_metadata(io.BytesIO(scores)).num_rows
    files["scores.parquet"] = scores[:-1] + b"x"
    refused(damaged)
    files["scores.parquet"] = parquet(relation=["a"])
    refused(f"{damaged} .scores.parquet: the file is not the one that was written with atlas.json")
    replace_table(hub, "scores.parquet", b"../../etc/passwd")  # what git has of a link
    refused(f"{damaged} .scores.parquet: expected a table in Parquet, found a damaged one")
    replace_table(hub, "scores.parquet", parquet(relation=["a"]))
    refused(f"{damaged} .scores.parquet: expected .* rows, as the manifest has it, found 1")
    replace_table(hub, "scores.parquet", parquet(relation=[["a"]] * n_rows))
    refused(f"{damaged} .scores.parquet: column 'list.element'|column 'relation': expected texts, found list")
    replace_table(hub, "scores.parquet", scores)
    replace_table(hub, "attention.parquet", parquet(layer=[0], head=[0]))
    refused(damaged)


def test_small_files_that_unpack_to_huge_tables(hub, refused, monkeypatch):
    damaged = "org/tiny: what is there is damaged or no atlas"
    there = pq.read_table(io.BytesIO(hub.repositories["org/tiny"].files["attention.parquet"]))
    long = there.set_column(there.column_names.index("behaviour"), "behaviour", pa.array(["x" * 20_000] * len(there)))
    replace_table(hub, "attention.parquet", parquet(**{name: long[name] for name in long.column_names}))
    refused(f"{damaged} .attention.parquet: column 'behaviour': expected texts of at most 10,000 bytes, found 20,000")
    replace_table(hub, "attention.parquet", parquet(layer=pa.array([0] * 60_000_000)))
    refused(f"{damaged} .attention.parquet: expected at most 50,000,000 rows, as the manifest has it, found 60,000,000")


def test_a_pull_that_is_stopped_leaves_nothing(hub, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("headatlas.measuring.output.write_results", stop)
    with pytest.raises(KeyboardInterrupt):
        pull_atlas("org/tiny")
    assert not list((tmp_path / "here").iterdir())
