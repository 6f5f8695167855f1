"""GGUF files with random changes: refused or read, with no other exception, and with little memory."""

import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_models import make_model, write
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import HeadatlasError

CASES = ("llama", "gpt2", "falcon-new", "gemma2", "gpt_oss", "deepseek_v2")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return {case: write(make_model(case), case, folder / f"{case}.gguf").read_bytes() for case in CASES}


def use(path) -> bool:
    """Use everything that a checkpoint offers; returns whether it was a model."""
    try:
        checkpoint = open_checkpoint(path)
        checkpoint.config.to_dict()
        assert checkpoint.size <= path.stat().st_size
        for name in checkpoint.names():
            assert checkpoint.read(name).shape == checkpoint.shape(name)
            assert checkpoint.read(name, slice(1, 2)).shape[1:] == checkpoint.shape(name)[1:]
            assert checkpoint.n_bytes(name) <= checkpoint.size
        assert checkpoint.note is None or checkpoint.note.startswith("Weights are quantised")
        checkpoint.load_tokenizer()
    except HeadatlasError as error:
        assert "\n" not in str(error) and len(str(error)) < 2_000 and "m.gguf" in str(error)
        return False
    return True


def mangle(content, changes, length=None):
    """`changes`: places as shares of the header (its first 8 kB), and what to write there."""
    content = bytearray(content)
    for place, new in changes:
        at = int(place * min(len(content), 8_000))
        content[at : at + len(new)] = new
    return bytes(content[:length])


NUMBERS = st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\xff", b"\0\0\0\x80", b"\1", b"\x7f" * 4, b"\0\0\0\0\0\0\xf0\x7f"])
CHANGES = st.lists(st.tuples(st.floats(0, 1), NUMBERS | st.binary(min_size=1, max_size=9)), min_size=1, max_size=6)


def peak_memory() -> int:
    """Peak memory of this process in bytes; 0 on Windows, which does not report it."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@given(case=st.sampled_from(CASES), changes=CHANGES, length=st.none() | st.integers(0, 9_000))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
def test_mangled_headers(tmp_path, originals, case, changes, length):
    path = tmp_path / "m.gguf"
    before = peak_memory()
    path.write_bytes(mangle(originals[case], changes, length))
    use(path)
    assert peak_memory() - before < 300_000_000  # the first one imports transformers


def test_what_is_not_mangled_is_a_model(tmp_path, originals):
    path = tmp_path / "m.gguf"
    for case in CASES:
        path.write_bytes(originals[case])
        assert use(path), case
