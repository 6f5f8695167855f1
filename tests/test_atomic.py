"""A file is written whole or not at all."""

import errno
import os
import stat
from unittest.mock import Mock

import pytest

from headatlas.atomic import ABANDONED, make_folder, sweep, temporary_folder, write_atomically
from headatlas.errors import AtlasError


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, lambda partial: partial.write_text("old", "utf-8"))

    def fail(partial):
        partial.write_text("half", "utf-8")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        write_atomically(path, fail)
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text("utf-8") == "old"


@pytest.mark.parametrize("inside", [True, False])
def test_a_temporary_folder_that_does_not_fit_is_said(tmp_path, monkeypatch, inside):
    with temporary_folder(tmp_path if inside else None) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    monkeypatch.setattr(os, "mkdir", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(AtlasError) as said, temporary_folder(tmp_path if inside else None):
        pass
    where = tmp_path if inside else "temporary files"
    assert str(said.value).startswith(f"{where}: cannot be written (No space left on device). Make room")


def test_two_writers_do_not_mix(tmp_path):
    """The second one begins and ends while the first one writes."""
    path = tmp_path / "a.txt"

    def first(partial):
        partial.write_text("first", "utf-8")
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            pool.submit(write_atomically, path, lambda other: other.write_text("second", "utf-8")).result()
        assert path.read_text("utf-8") == "second"

    write_atomically(path, first)
    assert path.read_text("utf-8") == "first"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_no_link_that_waits_is_followed(tmp_path, monkeypatch):
    """Whoever made the folder knows which names an unfinished file had."""
    victim, path = tmp_path / "victim", tmp_path / "folder" / "a.txt"
    victim.write_text("mine", "utf-8")
    path.parent.mkdir()
    import threading

    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    waiting = [f".a.txt.{os.getpid()}-{threading.get_ident()}.partial", ".a.txt.partial", f".a.txt.{'0' * 16}.partial"]
    for name in waiting:
        (path.parent / name).symlink_to(victim)
    with pytest.raises(FileExistsError):  # even if it were guessed
        write_atomically(path, lambda partial: partial.write_text("theirs", "utf-8"))
    (path.parent / waiting[-1]).unlink()
    path.symlink_to(victim)
    write_atomically(path, lambda partial: partial.write_text("theirs", "utf-8"))
    assert victim.read_text("utf-8") == "mine"
    assert path.read_text("utf-8") == "theirs" and not path.is_symlink()


def test_permissions_are_those_of_any_file_or_the_ones_asked_for(tmp_path):
    if os.name != "posix":
        pytest.skip("Windows has no such permissions")
    (tmp_path / "ordinary").touch()
    for name, options in {"a": {}, "b": {"mode": 0o600}}.items():
        write_atomically(tmp_path / name, lambda partial: partial.write_text("x", "utf-8"), **options)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes["a"] == modes["ordinary"] and modes["b"] == 0o600


def test_a_long_name_can_be_written(tmp_path):
    write_atomically(tmp_path / ("a" * 250), lambda partial: partial.write_text("x", "utf-8"))
    assert len(list(tmp_path.iterdir())) == 1


def test_what_killed_processes_left_is_swept_and_no_target_of_a_link(tmp_path):
    victim, folder = tmp_path / "victim.partial", tmp_path / "folder"
    victim.touch()
    folder.mkdir()
    names = {"old": f".a.txt.{'0' * 16}.partial", "older": ".a.txt.17-140.partial", "young": f".b.{'1' * 16}.partial"}
    for name in names.values():
        (folder / name).touch()
    link, own = folder / f".c.{'2' * 16}.partial", folder / "a.partial"
    link.symlink_to(victim)
    own.touch()
    then = os.stat(own).st_mtime - ABANDONED - 1
    for path in (folder / names["old"], folder / names["older"], own, victim):
        os.utime(path, (then, then))
    os.utime(link, (then, then), follow_symlinks=False)
    sweep(folder)
    assert {each.name for each in folder.iterdir()} == {names["young"], own.name} and victim.exists()
    sweep(tmp_path / "gone")


def test_a_file_is_flushed_before_its_name_and_the_name_before_it_is_called_written(tmp_path, monkeypatch):
    """What a power failure can leave depends on this order alone."""
    if os.name != "posix":
        pytest.skip("Windows flushes no folders")
    done, flush, rename = [], os.fsync, os.replace

    def flushed(file):
        flush(file)
        kind = "folder" if stat.S_ISDIR(os.fstat(file).st_mode) else f"{os.fstat(file).st_size} bytes"
        done.append(f"flush {kind}")

    monkeypatch.setattr("os.fsync", flushed)
    monkeypatch.setattr("os.replace", lambda *names: (rename(*names), done.append("rename")))
    write_atomically(tmp_path / "a.txt", lambda partial: partial.write_text("whole", "utf-8"))
    assert done == ["flush 5 bytes", "rename", "flush folder"]
    done.clear()
    make_folder(tmp_path / "b" / "c")
    assert done == ["flush folder", "flush folder"] and (tmp_path / "b" / "c").is_dir()
    make_folder(tmp_path / "b" / "c")
    assert len(done) == 2


def test_a_file_system_that_flushes_no_folders_is_written_to(tmp_path, monkeypatch):
    if os.name != "posix":
        pytest.skip("Windows flushes no folders")
    flush, refusals = os.fsync, [errno.EINVAL, errno.EIO]

    def refuse(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(refusals[0], "refused")
        flush(file)

    monkeypatch.setattr("os.fsync", refuse)
    write_atomically(tmp_path / "a.txt", lambda partial: partial.write_text("whole", "utf-8"))
    assert (tmp_path / "a.txt").read_text("utf-8") == "whole"
    refusals.pop(0)
    with pytest.raises(OSError, match="refused"):  # the disk is broken
        write_atomically(tmp_path / "a.txt", lambda partial: partial.write_text("whole", "utf-8"))


def test_unfinished_folders_of_one_name_are_swept(tmp_path):
    names = [f".atlas.{'0' * 16}.partial", f".atlas.{'1' * 16}.partial", f".atlas.b.{'0' * 16}.partial"]
    names += [f".other.{'0' * 16}.partial", ".atlas.mine"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
        then = os.stat(tmp_path).st_mtime - (0 if "1" in name else ABANDONED + 1)
        os.utime(tmp_path / name, (then, then))
    sweep(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {*names}
    sweep(tmp_path, "atlas")
    assert {each.name for each in tmp_path.iterdir()} == {*names[1:]}
