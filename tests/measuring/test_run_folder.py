"""Output folders: foreign ones are left alone, and two runs cannot share one."""

import errno
import io
import os
import struct
import zipfile
from unittest.mock import Mock

import numpy as np
import pytest

from atlases import ATTENTION, make_atlas, make_attention, make_evidence
from headatlas.atlas import EVIDENCE, load_atlas, save_atlas
from headatlas.errors import AtlasError
from headatlas.explorer import build_page
from headatlas.measuring.kept_residuals import KeptResiduals
from headatlas.measuring.output import OUTPUTS, add_evidence, write_results
from headatlas.measuring.run_folder import RunFolder, RunParts, remove_parts
from headatlas.reports.markdown import to_markdown
from headatlas.reports.report import build_report

IDENTITY = {"measure": "weights", "model": "m", "relations": "r", "settings": {"k": 10}}


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("text", "utf-8")
    with pytest.raises(AtlasError) as caught, RunFolder(tmp_path, IDENTITY):
        pass
    assert str(caught.value) == (
        f"{tmp_path}: expected an empty folder or an atlas, found 'thesis.tex'. "
        f"Choose another folder, or write into this one with --overwrite."
    )
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_map_goes_on_of_which_only_salient_operations_are_there(tmp_path):
    with RunParts(tmp_path, ".salient", {}, "measuring salient operations") as parts:
        parts.save_layer(0, {"x": np.arange(3)})
    with RunFolder(tmp_path, IDENTITY):
        pass
    assert os.listdir(tmp_path) == [".salient"]


def test_a_lock_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path, monkeypatch):
    no_space = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("filelock.FileLock.acquire", Mock(side_effect=no_space))
    with (
        pytest.raises(AtlasError, match=r"cannot be written \(No space left on device\)\. Make room"),
        RunParts(tmp_path, ".parts", {}, "measuring"),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way(tmp_path):
    path = tmp_path / "file"
    path.write_text("", "utf-8")
    with pytest.raises(AtlasError) as caught, RunFolder(path, IDENTITY):
        pass
    assert str(caught.value) == f"{path}: expected a folder to write the atlas into, found a file."
    with (
        pytest.raises(AtlasError, match=r"cannot be written .* Choose another folder"),
        RunFolder(path / "sub", IDENTITY),
    ):
        pass


def test_two_runs_cannot_share_a_folder(tmp_path):
    with RunFolder(tmp_path, IDENTITY):
        with pytest.raises(AtlasError) as caught, RunFolder(tmp_path, IDENTITY):
            pass
        assert str(caught.value) == (f"{tmp_path}: another run is writing into this folder. Wait for it.")
    with RunFolder(tmp_path, IDENTITY):
        pass


def test_an_unfinished_run_of_something_else_is_refused_unless_overwritten(tmp_path):
    with RunFolder(tmp_path, IDENTITY) as folder:
        folder.save_layer(0, {"x": np.arange(3)})
    other = IDENTITY | {"settings": {"k": 5}}
    with pytest.raises(AtlasError) as caught, RunFolder(tmp_path, other):
        pass
    assert "holds an unfinished run with k=10 where this run has 5" in str(caught.value)
    with RunFolder(tmp_path, IDENTITY) as folder:
        assert folder.load_layer(0)["x"].tolist() == [0, 1, 2] and folder.load_layer(1) is None
    with RunFolder(tmp_path, other, overwrite=True) as folder:
        assert folder.load_layer(0) is None


@pytest.mark.usefixtures("rendered")
def test_a_written_folder_holds_everything(tmp_path):
    write_results(make_atlas(), tmp_path / "a")
    later = {"hits.parquet", "pairs.parquet", *(f"{name}.parquet" for name in EVIDENCE)}
    expected = {name for name in set(OUTPUTS) - later if not name.startswith("sensitivity")}
    assert {path.name for path in (tmp_path / "a").iterdir()} == expected
    assert (tmp_path / "a" / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert "figure.png" in (tmp_path / "a" / "report.md").read_text("utf-8")


@pytest.mark.usefixtures("rendered")
def test_added_evidence_is_told_in_report_and_page(tmp_path):
    atlas = make_atlas(3, 4)
    write_results(atlas, tmp_path)
    before = {name: (tmp_path / name).read_text("utf-8") for name in ("report.md", "explorer.html")}
    table = make_attention(atlas, {"induction": {(1, 2): 0.9}}).evidence("attention")
    added = add_evidence(load_atlas(tmp_path), {"attention": (table, ATTENTION)})
    report = (tmp_path / "report.md").read_text("utf-8")
    assert "L1H2 (0.90)" in report and "L1H2 (0.90)" not in before["report.md"]
    pictures = [line for line in before["report.md"].splitlines() if line.startswith("![")]
    assert pictures and pictures == [line for line in report.splitlines() if line.startswith("![")]
    told = build_report(added, figure="figure.png", suppression_figure="suppression.png")
    assert (tmp_path / "explorer.html").read_text("utf-8") == build_page(added, reports=[told])
    assert report == to_markdown(told)


def test_a_report_that_was_removed_stays_away(tmp_path):
    atlas = make_atlas(3, 4)
    save_atlas(atlas, tmp_path)
    table = make_attention(atlas).evidence("attention")
    add_evidence(load_atlas(tmp_path), {"attention": (table, ATTENTION)})
    assert not [name for name in ("report.md", "explorer.html") if (tmp_path / name).exists()]


def test_overwriting_an_atlas_removes_the_pictures_of_its_evidence(tmp_path):
    """They would show what is no longer there; files that are not the atlas's stay."""
    save_atlas(make_evidence(make_atlas(3, 4)), tmp_path)
    names = ["validation.png", "reading.svg", "composition.png", "reading-notes.png", "ablation-mine.png"]
    for name in names:
        (tmp_path / name).write_text("", "utf-8")
    with RunFolder(tmp_path, IDENTITY, overwrite=True):
        assert [name for name in names if (tmp_path / name).exists()] == names[3:]


def test_parts_of_the_same_run_are_kept_and_those_of_another_dropped(tmp_path):
    def parts(identity):
        return RunParts(tmp_path, ".parts", identity, "testing")

    with parts({"seed": 0}) as first:
        first.save("a", {"x": np.arange(3)})
        with pytest.raises(AtlasError) as caught, parts({"seed": 0}):
            pass
        assert str(caught.value) == f"{tmp_path}: another run is testing. Wait for it."
    with parts({"seed": 0}) as again:
        assert again.load("a")["x"].tolist() == [0, 1, 2] and again.load("b") is None
    with parts({"seed": 1}) as other:
        assert other.load("a") is None
    assert os.listdir(tmp_path) == []


def array(shape, descr="<f8", data=b"", version=b"\1\0"):
    """A file of numpy's format, whatever it holds."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (53 - len(header) % 64 + 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


def packed(compression=zipfile.ZIP_STORED, **files):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.npy", content)
    return target.getvalue()


DAMAGED = {
    "more numbers than memory": lambda: packed(x=array((10**11,))),
    "more than any memory": lambda: packed(x=array((10**30,))),
    "compressed": lambda: packed(zipfile.ZIP_DEFLATED, x=array((10**8,), "|u1", bytes(10**8))),
    "texts of no length": lambda: packed(x=array((10**12,), "<U0")),
    "complex numbers": lambda: packed(x=array((1,), "<c16", bytes(16))),
    "dates": lambda: packed(x=array((1,), "<M8[D]", bytes(8))),
    "objects": lambda: packed(x=array((1,), "|O", b"c" * 8)),
    "another version": lambda: packed(x=array((1,), data=bytes(8), version=b"\2\0")),
    "one array, large": lambda: array((10**11,)),
    "one array": lambda: array((1,), data=bytes(8)),
    "encrypted": lambda: packed(x=array((1,), data=bytes(8))).replace(b"\x14\0\0\0", b"\x14\0\1\0"),
    "an unknown compression": lambda: packed(x=array((1,), data=bytes(8))).replace(
        b"\x14\0\0\0\0\0", b"\x14\0\0\0\x63\0"
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_part_that_numpy_did_not_write_is_measured_again(tmp_path, case):
    with RunParts(tmp_path, ".parts", {}, "testing") as parts:
        parts.save("a", {"x": np.arange(3.0)})
        parts.save("b", {"text": np.array(""), "x": np.asfortranarray(np.arange(6).reshape(2, 3)), "none": np.empty(0)})
    (tmp_path / ".parts" / "a.npz").write_bytes(DAMAGED[case]())
    with RunParts(tmp_path, ".parts", {}, "testing") as parts:
        assert parts.load("a") is None
        b = parts.load("b")
        assert b["text"] == "" and b["x"].tolist() == [[0, 1, 2], [3, 4, 5]] and not len(b["none"])


@pytest.mark.parametrize("noted", ["[" * 100_000, "9" * 5_000, "[" + "[]," * 2_000_000 + "0]", '"a"'])
def test_parts_of_a_run_that_is_not_noted_are_dropped(tmp_path, noted):
    with RunParts(tmp_path, ".parts", {}, "testing") as parts:
        parts.save("a", {"x": np.arange(3)})
    (tmp_path / ".parts" / "run.json").write_text(noted, "utf-8")
    with RunParts(tmp_path, ".parts", {}, "testing") as parts:
        assert parts.load("a") is None


def test_settings_of_another_run_that_are_none(tmp_path):
    with RunFolder(tmp_path, IDENTITY) as folder:
        folder.save_layer(0, {"x": np.arange(3)})
    (tmp_path / ".unfinished" / "run.json").write_text('{"model": "m", "relations": "r", "settings": 3}', "utf-8")
    with pytest.raises(AtlasError, match="an unfinished run with k=None where this run has 10"):
        RunFolder(tmp_path, IDENTITY).__enter__()


def test_parts_that_do_not_fit_their_run_are_one_sentence(tmp_path):
    """They may be anybody's; a fault without such parts is a fault of headatlas."""
    with pytest.raises(KeyError), RunParts(tmp_path, ".parts", {}, "testing") as parts:
        parts.save("a", {"x": np.arange(3)})
        parts.load("a")["y"]
    with pytest.raises(AtlasError) as caught, RunParts(tmp_path, ".parts", {}, "testing") as parts:
        parts.load("a")["y"]
    assert str(caught.value) == (
        f"{tmp_path}/.parts: expected finished parts of this run, and failed with those that are there (KeyError; "
        f"--debug shows where). Remove this folder, and the same command starts anew."
    )
    with RunParts(tmp_path, ".parts", {}, "testing") as parts:
        parts.save("residuals-x", {"ids": np.arange(3)})
        parts.save("residuals-0001", {"x": np.arange(3)})
        kept = KeptResiduals(parts, np.arange(3))
        assert kept.load(2) is None
        kept.drop_before(2)
        (tmp_path / ".parts" / "residuals-0000.npz").mkdir()
        kept.drop_before(2)


def test_without_a_folder_nothing_is_kept():
    with RunParts(None, ".parts", {}, "testing") as parts:
        parts.save("a", {"x": np.arange(3)})
        assert parts.load("a") is None


def test_a_hidden_folder_or_a_lock_that_is_a_link_is_not_followed(tmp_path):
    """A received atlas can bring them."""
    victim, file = tmp_path / "victim", tmp_path / "file"
    victim.mkdir()
    (victim / "precious.npz").touch()
    file.write_text("mine", "utf-8")
    folder = tmp_path / "atlas"
    atlas = load_atlas(save_atlas(make_atlas(n_layers=5, n_heads=3), folder))
    hidden = folder / ".unfinished-validation"
    hidden.symlink_to(victim)
    with pytest.raises(AtlasError, match="a link to another place"), RunParts(folder, hidden.name, IDENTITY, "trying"):
        pass
    hidden.unlink()
    hidden.mkdir()
    (hidden / "lock").symlink_to(file)
    with pytest.raises(AtlasError, match="a link to another place"), RunParts(folder, hidden.name, IDENTITY, "trying"):
        pass
    (folder / ".evidence.lock").symlink_to(file)
    with pytest.raises(AtlasError, match="a link to another place"):
        add_evidence(atlas, {"attention": (make_attention(atlas).evidence("attention"), ATTENTION)})
    assert [each.name for each in victim.iterdir()] == ["precious.npz"] and file.read_text("utf-8") == "mine"


def test_parts_of_a_finished_run_are_removed_unless_another_run_holds_them(tmp_path):
    with RunParts(tmp_path, ".parts", {"run": 1}, "running") as parts:
        parts.save("one", {"x": np.arange(3)})
        remove_parts(tmp_path, ".parts")
        assert parts.load("one") is not None
    remove_parts(tmp_path, ".parts")
    remove_parts(tmp_path, ".parts")
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    (tmp_path / ".parts").symlink_to(tmp_path / "mine")
    remove_parts(tmp_path, ".parts")
    assert (tmp_path / "mine" / "x").exists()


def test_what_is_of_no_use_is_removed_before_another_run_can_begin(tmp_path, monkeypatch):
    from filelock import FileLock

    there, release = [], FileLock.release

    def released(lock, *args, **options):
        there.append((tmp_path / ".parts").exists())
        release(lock, *args, **options)

    monkeypatch.setattr(FileLock, "release", released)
    with RunParts(tmp_path, ".parts", {"run": 1}, "running"):
        pass
    assert there[0] is False
