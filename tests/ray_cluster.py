"""A real Ray cluster on loopback: two machines as far as Ray can tell, each a process group that can be killed."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import headatlas

# Read by Ray when it is first imported: here, in what the tests start, and in the nodes.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}

HEAD, OTHER = "127.0.0.2", "127.0.0.3"
FAILURE = re.compile(r"\[[-\d]+ [:,\d]+ [EC] ")
"""The beginning of a line of Ray's logs at the levels error and critical."""

SMALL = ("--num-cpus=1", "--object-store-memory=80000000", "--block")

CHECK = "Check failed"
"""In the last line of a process that Ray ended."""

PORTS = ("dashboard-agent-grpc-port", "dashboard-agent-listen-port", "runtime-env-agent-port", "metrics-export-port")
"""Chosen here: for most of them, a node that lets its agents choose ends itself if they take more than 15 s."""

PATIENT = {
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    # A node that is killed is noticed after 3 s, since it refuses connections; one that is slow is not taken for lost.
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "60000",
}
"""Settings of Ray's processes; its own would fail on a busy machine."""


class Cluster:
    """Use as a context manager. One CPU a node, no dashboard, no reports, a token; ended by process group.

    Args:
        place: an empty folder with a short path (Ray puts sockets there, whose paths may have 107 characters).
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.nodes: dict[str, subprocess.Popen] = {}
        self.address = f"{HEAD}:{free_ports(HEAD, 1)[0]}"

    def __enter__(self) -> Cluster:
        try:
            port = self.address.rpartition(":")[2]
            self._start(HEAD, "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.place}/ray")
            self._wait_for_port(int(port))
            # One after the other, so that their processes do not slow each other down.
            self._wait_for(HEAD)
            self._start(OTHER, f"--address={self.address}")
            self._wait_for(OTHER)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in list(self.nodes):
            self.kill(host)

    def kill(self, host: str) -> None:
        """End a node with all its processes, at once."""
        node = self.nodes.pop(host)
        with suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait(60)

    def failures(self) -> str:
        """What Ray's logs say of failures: those of its checks, and of what ended."""
        lines = []
        for log in sorted(self.place.glob("ray/session_2*/logs/*.*")):
            found = [line for line in log.read_text("utf-8", "replace").splitlines() if FAILURE.match(line)]
            lines += [f"{log.name}: {line[:500]}" for line in found[-5:]]
        return "\n".join(lines)

    def _start(self, host: str, *options: str) -> None:
        source = str(Path(headatlas.__file__).parents[1])
        own = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", **PATIENT}
        options += tuple(f"--{name}={port}" for name, port in zip(PORTS, free_ports(host, len(PORTS)), strict=True))
        path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        with open(self.place / f"{host}.log", "w", encoding="utf-8") as log:
            self.nodes[host] = subprocess.Popen(
                [Path(sys.executable).with_name("ray"), "start", f"--node-ip-address={host}", *options, *SMALL],
                env=os.environ | own | {"PYTHONPATH": path}, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def _wait_for_port(self, port: int) -> None:
        until = time.monotonic() + 300
        while True:
            try:
                return socket.create_connection((HEAD, port), timeout=1).close()
            except OSError:
                assert time.monotonic() < until, f"nothing at port {port}"
                time.sleep(0.1)

    def _wait_for(self, host: str) -> None:
        """Wait until a node has told its log that it runs."""
        log, until = self.place / f"{host}.log", time.monotonic() + 300
        while "Ray runtime started." not in log.read_text("utf-8"):
            runs = self.nodes[host].poll() is None and time.monotonic() < until
            assert runs and CHECK not in self.failures(), f"{log.read_text('utf-8')}\n{self.failures()}"
            time.sleep(0.5)


def free_ports(host: str, count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((host, 0))
        return [each.getsockname()[1] for each in sockets]
