"""A server with one safetensors file, a cache of its own for each test, and short pauses."""

import pytest
from safetensors.torch import save_file

from headatlas.checkpoints.remote import retrying
from remote_tensors import NAME, make_tensors
from served import serve


@pytest.fixture(scope="module")
def tensors():
    return make_tensors()


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(retrying, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server(fresh_cache, tmp_path, tensors):
    (tmp_path / "served").mkdir()
    save_file(tensors, tmp_path / "served" / NAME)
    with serve(tmp_path / "served") as served:
        yield served
