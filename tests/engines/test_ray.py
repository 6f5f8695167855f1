"""A Ray cluster of two nodes: the same hits as here, whatever is lost on the way."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

import pytest

import headatlas
from headatlas.engines import RayEngine
from headatlas.errors import EngineError, SettingsError
from interrupts import start_hearing
from models import make_model, save_model
from needs import need_package
from planted import PAIRS, WORDS, write_relation
from ray_cluster import OTHER, Cluster
from ray_drivers import RayWarning, drive

need_package("ray", "ray")
pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("default::ray_drivers.RayWarning")]
N_LAYERS = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model whose layers take long enough to be interrupted, its relation, and its atlas made here."""
    place = tmp_path_factory.mktemp("models")
    save_model(make_model("llama", num_hidden_layers=N_LAYERS, vocab_size=20_011), place / "tiny", WORDS)
    write_relation(place / "r.json", PAIRS)
    headatlas.map_heads(place / "tiny", place / "local", relations=place / "r.json")
    return place


@pytest.fixture(scope="module")
def cluster():
    """Shared by all tests; the last one kills a node of it."""
    with ExitStack() as stack:
        for left in (2, 1, 0):
            try:
                cluster = stack.enter_context(Cluster(short_folder(stack)))
                break
            except AssertionError as error:
                # A node of Ray ends itself if the machine is so busy that its agents take more than 15 s to start.
                if not left:
                    raise
                warnings.warn(f"Ray did not start; it is started again\n{error}", RayWarning, stacklevel=1)
        yield cluster


def short_folder(stack):
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def assert_same(place, atlas):
    local = headatlas.load_atlas(place / "local")
    assert atlas.table.equals(local.table) and atlas.pair_hits.equals(local.pair_hits)


def call(place, *arguments):
    command = [sys.executable, "-m", "headatlas", *map(str, arguments)]
    return start_hearing(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def wait_for_layers(out, process, n_layers):
    while len(list(out.glob(".unfinished/layer-*.npz"))) < n_layers:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def test_runs_of_one_engine_are_finished_by_the_other(place, cluster, tmp_path):
    ray = ("--relations", "r.json", "--engine", "ray", "--address", cluster.address)
    # Begun there, interrupted, finished here.
    process = call(place, "map", "tiny", "-o", tmp_path / "there", *ray)
    wait_for_layers(tmp_path / "there", process, 2)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 130 and "the same command continues where it stopped" in messages
    atlas = headatlas.map_heads(place / "tiny", tmp_path / "there", relations=place / "r.json")
    assert atlas.manifest.run.layers_from_earlier_run >= 2 and atlas.manifest.run.engine == "local"
    assert_same(place, atlas)

    # Begun here, finished there, as a survey with a model that is bad.
    def interrupt(what, done, of):
        if what == "layers" and done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        headatlas.map_heads(place / "tiny", tmp_path / "s" / "one", relations=place / "r.json", progress=interrupt)
    (place / "models.toml").write_text(
        'relations = "r.json"\n[[model]]\nname = "bad"\nsource = "./none"\n[[model]]\nname = "one"\nsource = "tiny"\n',
        "utf-8",
    )
    process = call(place, "survey", "models.toml", "-o", tmp_path / "s", *ray[2:])
    shown, messages = process.communicate(timeout=600)
    assert process.returncode == 1 and "bad: " in messages and "done" in shown, (shown, messages)
    atlas = headatlas.load_atlas(tmp_path / "s" / "one")
    assert atlas.manifest.run.layers_from_earlier_run == 7 and atlas.manifest.run.engine == "ray"
    assert_same(place, atlas)


def test_another_model_on_a_node_and_missing_room_are_refused(place, cluster, tmp_path):
    # The same engine serves the next call.
    refused, no_room = drive("read_other_weights", cluster, place / "tiny", tmp_path / "out")
    assert f"{place}/tiny: layer " in refused and "(fingerprint 000000000000)" in refused
    assert "Make the same files available on every machine of the cluster." in refused
    assert not list(tmp_path.glob("out-refused/.unfinished/layer-*.npz"))
    assert_same(place, headatlas.load_atlas(tmp_path / "out"))
    assert no_room == (
        "ray: expected a machine with 1 CPU and 1 GPU for one task, found 1 CPU and 0 GPU, 1 CPU and 0 GPU. "
        "Reduce --threads or --gpus-per-task, or add a machine first."
    )


def test_an_error_names_the_node_that_cannot_open_the_model(place, cluster, tmp_path):
    folder = shutil.copytree(place / "tiny", tmp_path / "tiny")
    (error,) = drive("open_what_is_gone", cluster, folder, place / "r.json")
    sentence, node = error.split(" (on the machine ")
    # Without a folder at the path, a missing file is reported.
    assert sentence == f"{folder}: expected a model's folder or a .gguf file, found nothing there."
    assert node in ("127.0.0.2)", "127.0.0.3)")


def test_a_cluster_that_expects_a_token_is_refused_without_one(place, cluster):
    command = [sys.executable, "-m", "headatlas", "map", "tiny", "-o", "unauthorised", "--engine", "ray"]
    done = subprocess.run(
        [*command, "--address", cluster.address], cwd=place, capture_output=True, encoding="utf-8", timeout=600,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")},
    )  # fmt: skip
    sentence = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and sentence.startswith(
        f"Error: ray: cannot connect to the cluster at {cluster.address}: "
    )
    assert sentence.endswith(
        "If it expects a token, set RAY_AUTH_MODE=token, and put the token into ~/.ray/auth_token or RAY_AUTH_TOKEN."
    )


def test_bad_addresses_are_refused():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EngineError) as caught:
        RayEngine(f"127.0.0.1:{port}")
    assert str(caught.value) == f"ray: expected a cluster's head at 127.0.0.1:{port}, found none (Connection refused)."
    for address in ("ray://host:10001", "host", "host:", ":6379"):
        with pytest.raises(SettingsError) as caught:
            RayEngine(address)
        message = f"address: expected auto, local or HOST:PORT of a Ray cluster's head, found {address!r}."
        assert str(caught.value) == message


def test_a_killed_node_and_a_killed_run_change_nothing(place, cluster):
    """Two nodes, of which one is lost in the middle; then the driver; each goes on and ends in the same atlas."""
    ray = ("--relations", "r.json", "--engine", "ray", "--address", cluster.address)
    out = place / "killed"
    process = call(place, "map", "tiny", "-o", "killed", *ray)
    wait_for_layers(out, process, 3)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    kept = len(list(out.glob(".unfinished/layer-*.npz")))
    assert 3 <= kept < N_LAYERS and not (out / "atlas.json").exists()

    # Goes on through Python, so that the node can be killed between two layers: it has work then.
    drive("lose_a_node", cluster, place / "tiny", out, kept, cluster.nodes[OTHER].pid)
    cluster.kill(OTHER)
    atlas = headatlas.load_atlas(out)
    assert atlas.manifest.run.layers_from_earlier_run >= kept
    assert atlas.manifest.run.engine == "ray"
    assert_same(place, atlas)
