"""No device, pipe or socket is opened as a model, a list of relations, a table or a text."""

import os
import socket
import threading

import pytest

import headatlas
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import HeadatlasError
from headatlas.measuring.import_headvis import import_headvis
from headatlas.measuring.import_scores import import_scores
from headatlas.measuring.running.contexts import load_toml
from headatlas.measuring.running.passages import load_text
from headatlas.measuring.survey_list import read_model_list
from headatlas.regular_files import open_regular, read_regular, read_regular_text
from models import make_model, save_model

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def in_time(act):
    """What `act` raises, if it ends at all."""
    found: list[BaseException | None] = []

    def run():
        try:
            act()
        except BaseException as error:
            found.append(error)
        else:
            found.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert found, "it waits for ever"
    return found[0]


@pytest.fixture
def pipe(tmp_path):
    def make(name):
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
        return tmp_path / name

    return make


def test_only_files_are_opened(tmp_path, pipe, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo")
    assert read_regular(tmp_path / "a.txt") == b"one\r\ntwo" and read_regular_text(tmp_path / "a.txt") == "one\ntwo"
    assert len(read_regular(tmp_path / "a.txt", 3)) == 4
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for path in (pipe("pipe"), tmp_path / "socket", tmp_path, tmp_path / "null"):
            if path.name == "null":
                path.symlink_to(os.devnull)
            error = in_time(lambda path=path: open_regular(path))
            assert isinstance(error, OSError) and "it is no file" in str(error), path


def test_links_may_lead_out_of_a_folder_only_where_that_is_allowed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "folder" / "own").write_bytes(b"own")
    (tmp_path / "folder" / "out").symlink_to("../secret")
    (tmp_path / "folder" / "in").symlink_to("own")
    (tmp_path / "alias").symlink_to("folder")
    folder = tmp_path / "alias"
    assert read_regular(folder / "in", inside=folder) == b"own" and read_regular(folder / "out") == b"secret"
    with pytest.raises(OSError, match="a link that leads out of its folder"):
        read_regular(folder / "out", inside=folder)


READERS = {
    "a.json": lambda path: headatlas.load_relations(path.parent),
    "a.csv": lambda path: import_scores(path, measure="weights"),
    "metrics.json": lambda path: import_headvis(None, path),
    "models.toml": read_model_list,
    "prompts.toml": load_toml,
    "text.txt": load_text,
    "model.gguf": open_checkpoint,
}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_in_the_place_of_a_file_is_refused(pipe, name):
    path = pipe(name)
    error = in_time(lambda: READERS[name](path))
    assert isinstance(error, HeadatlasError) and "no file" in str(error), error


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin"])
def test_a_pipe_in_a_folder_of_a_model_is_refused(tmp_path, name):
    folder = save_model(make_model("llama-tied"), tmp_path / "m")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    error = in_time(lambda: open_checkpoint(folder).load_tokenizer())
    assert isinstance(error, HeadatlasError) and "expected a file, found a device, a pipe or a socket" in str(error)
