"""What the tests do through Ray in Python: each function here runs in a process of its own, which joins a cluster.

Ray's core ends its process with status 1, without an exception, when it finds an error of its own. In pytest's process
this would end all tests and lose their output; with `drive`, one test fails and shows what Ray wrote.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import headatlas
from headatlas.atlas import save_atlas
from headatlas.engines import RayEngine
from headatlas.errors import CheckpointError, EngineError

if TYPE_CHECKING:
    from ray_cluster import Cluster

CONNECTED = "connected to the cluster"
"""Written by a driver as soon as Ray has connected it."""

SECONDS = 600
"""How long a driver may take."""


class RayWarning(UserWarning):
    """Ray itself could not connect, and a driver was started again."""


def drive(name: str, cluster: Cluster, *arguments: object) -> list[str]:
    """Run a function of this module in a process of its own, and return the lines that it wrote.

    If Ray itself cannot connect a driver, or ends it before it is connected, it is started once more, with a warning.

    Args:
        name: of the function; it gets the cluster's address and `arguments`, as strings.

    Raises:
        AssertionError: the driver failed, Ray ended it, or it took longer than `SECONDS`; with its output and the
            failures in Ray's logs.
    """
    code, written, errors = _run(name, cluster.address, *arguments)
    if code and CONNECTED not in written and ("Traceback" not in errors or "cannot connect to the cluster" in errors):
        said = f"Ray did not connect {name}, which ended with status {code}\n{errors}\n{cluster.failures()}"
        warnings.warn(said, RayWarning, stacklevel=2)
        code, written, errors = _run(name, cluster.address, *arguments)
    assert code == 0, f"{name} ended with status {code}\n{written}\n{errors}\n{cluster.failures()}"
    return written.splitlines()[1:]


def _run(name: str, *arguments: object) -> tuple[int, str, str]:
    """Status, output and errors of a driver."""
    program = "import sys, ray_drivers; getattr(ray_drivers, sys.argv[1])(*sys.argv[2:])"
    folders = [Path(__file__).parent, Path(headatlas.__file__).parents[1], os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, map(str, folders)))
    driver = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", program, name, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    try:
        written, errors = driver.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        driver.send_signal(signal.SIGABRT)  # faulthandler shows where it waits
        written, errors = driver.communicate(timeout=60)
    return driver.returncode, written, errors


class Driver(RayEngine):
    """An engine that says when it is connected, and refuses `ray.cancel`.

    Ray 2.60 ends the process that cancels a task in the moment in which the task ends.
    """

    def __init__(self, address: str, **options: int) -> None:
        super().__init__(address, **options)
        print(CONNECTED, flush=True)

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("ray.cancel may end this process")

        self._ray.cancel = refuse


def read_other_weights(address: str, model: str, atlas: str) -> None:
    """A run on a machine that reads other weights than the nodes; another run, whose atlas is saved; no GPU."""
    from headatlas.architectures import HeadModel

    read = HeadModel.fingerprint

    def of_another_file(self: HeadModel, progress: Any = None, parts: Any = None) -> str:
        found = read(self, progress, parts)
        return found if parts is None or parts == self.parts_of(None) else "0" * 64

    relation = Path(model).with_name("r.json")
    with Driver(address, layers_per_task=3) as engine:
        try:
            with patch.object(HeadModel, "fingerprint", of_another_file):
                headatlas.map_heads(model, f"{atlas}-refused", relations=relation, engine=engine)
        except CheckpointError as error:
            print(error)
        save_atlas(headatlas.map_heads(model, relations=relation, engine=engine), atlas)
    try:
        RayEngine(address, gpus_per_task=1)
    except EngineError as error:
        print(error)


def open_what_is_gone(address: str, model: str, relation: str) -> None:
    """A run whose model is renamed before a node opens it."""

    def hide(what: str, done: int, of: int) -> None:
        if what == "layers":
            Path(model).rename(f"{model}-elsewhere")

    with Driver(address) as engine:
        try:
            headatlas.map_heads(model, relations=relation, engine=engine, progress=hide)
        except CheckpointError as error:
            print(error)


def lose_a_node(address: str, model: str, out: str, kept: str, node: str) -> None:
    """A run in which a node is killed between two layers, when it has work.

    Args:
        kept: layers that are done before.
        node: process group of the node.
    """
    lost = []

    def kill(what: str, done: int, of: int) -> None:
        if what == "layers" and done >= int(kept) + 5 and not lost:
            lost.append(done)
            os.killpg(int(node), signal.SIGKILL)

    with Driver(address, layers_per_task=1) as engine:
        assert engine._slots() == 2
        headatlas.map_heads(model, out, relations=Path(model).with_name("r.json"), engine=engine, progress=kill)
        until = time.monotonic() + 300
        while engine._slots() != 1:  # Ray notices a lost node after a while
            assert time.monotonic() < until
            time.sleep(0.1)
    assert lost
