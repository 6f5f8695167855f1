"""Names that can only mean a model elsewhere, and pages of the hub."""

import pytest

from headatlas.checkpoints.remote.names import is_remote, name_on_the_hub


@pytest.mark.parametrize(
    ("source", "remote"),
    [
        ("https://host/x", True), ("s3://bucket/x", True), ("org/model/file.gguf", True), ("org/model@v1", True),
        ("org/model@refs/pr/1", True), ("org/model@v1/sub/file.gguf", True),
        ("org/model", False), ("gpt2", False), ("file.gguf", False), ("org/file.gguf", False), ("./a/b/c.gguf", False),
        ("/a/b/c.gguf", False), ("a/b/c", False), ("~/a/b.gguf", False), ("c:/a/b", False), ("src/a/b.gguf", True),
    ],
)  # fmt: skip
def test_names_that_are_not_local(source, remote, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_remote(source) is remote
    (tmp_path / "src" / "a").mkdir(parents=True)
    assert not is_remote("src/a/b.gguf")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("org/model", "org/model"),
        ("hf://org/model@v1", "org/model@v1"),
        ("https://huggingface.co/org/model", "org/model"),
        ("https://huggingface.co/org/model/tree/main", "org/model"),
        ("https://hf.co/org/model/tree/v1", "org/model@v1"),
        ("https://huggingface.co/org/model/blob/main/a.gguf", "org/model/a.gguf"),
        ("https://huggingface.co/org/model/resolve/v1/a.gguf", "org/model@v1/a.gguf"),
        ("https://huggingface.co/org/model/resolve/main/model.safetensors", "org/model"),
        ("https://example.org/org/model", None),
    ],
)
def test_pages_of_the_hub(source, name):
    assert name_on_the_hub(source) == name
