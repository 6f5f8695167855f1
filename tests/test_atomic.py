"""A file is written whole or not at all."""

import pytest

from headatlas.atomic import write_atomically


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
