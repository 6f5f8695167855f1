"""Layers scored on a Ray cluster: a block of a model's layers is one task.

No weights are sent through Ray: each worker opens the checkpoint itself, from storage that all machines share or by
byte ranges over the network, builds its search once and keeps it for the next block. Only paths, token ids, the
heads' input vectors and packed hits are sent. The driver computes the input of the next layers while workers score.
With its hits, a worker returns a digest of all weights that it read for them. The driver compares it with its own,
which detects a machine with another file at the same path before anything is saved.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from headatlas._version import __version__
from headatlas.engines.engine import LayerResult, Task
from headatlas.errors import CheckpointError, EngineError, HeadatlasError, SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.architectures import HeadModel
    from headatlas.engines.local import LayerScorer

RETRIES = 3
"""How often Ray itself restarts a block whose process or machine was lost."""

ATTEMPTS = 4
"""How often a block is submitted before the run fails; Ray's own retries are not counted."""

BLOCKS_PER_SLOT = 4
"""Blocks for each task that the cluster can run at once: more spread the work evenly, fewer cause less overhead."""

SUBMITTED_PER_SLOT = 2
"""Blocks that are submitted for each such task, whose input vectors the cluster holds."""


class RayEngine:
    """Scores layers on a Ray cluster; a context manager that disconnects from the cluster at the end.

    Args:
        address: `auto` (the cluster of `RAY_ADDRESS`, or the one that this machine belongs to), `HOST:PORT` of a
            cluster's head, or `local`, which starts Ray on this machine for this run only.
        threads: CPUs of one task; default 1.
        gpus_per_task: GPUs of one task, such as 1 or 0.5; 0 (default) scores on the CPU.
        layers_per_task: layers in a block; default: a number that gives each place in the cluster a few blocks.

    If the process has already called `ray.init`, that connection is used, and stays open.

    Raises:
        EngineError: there is no such cluster, or none of its machines has room for one task.
        SettingsError: ray is not installed, or an argument is outside its range.

    Example:
        with RayEngine("10.0.0.5:6379", gpus_per_task=1) as engine:
            map_heads("gpt2", "atlas", engine=engine)
    """

    name = "ray"

    def __init__(
        self,
        address: str = "auto",
        threads: int | None = None,
        gpus_per_task: float = 0,
        layers_per_task: int | None = None,
    ) -> None:
        for name, value in (("threads", threads), ("layers_per_task", layers_per_task)):
            if value is not None and value < 1:
                raise SettingsError(f"{name}: expected a whole number of at least 1, found {value}.")
        if not (0 <= gpus_per_task < 1 or gpus_per_task == int(gpus_per_task) > 0):
            raise SettingsError(
                f"gpus_per_task: expected 0, a share of one GPU such as 0.5, or a whole number, found {gpus_per_task}."
            )
        self.threads, self.gpus_per_task, self.layers_per_task = threads or 1, gpus_per_task, layers_per_task
        self.device = "cuda" if gpus_per_task else "cpu"
        self._ray, self._address = _import_ray(), address
        self._leaves = not self._ray.is_initialized()
        self._connected = False
        try:
            self._connect()
            self._slots()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect from the cluster, which stops the remaining tasks of this run."""
        if self._leaves and self._connected:
            self._connected = False
            self._ray.shutdown()

    def _connect(self) -> None:
        if self._leaves and not self._connected:
            _connect(self._ray, self._address)
            self._connected = True

    def score(
        self, model: HeadModel, task: Task, layers: Sequence[int], inputs: Iterator[tuple[int, Tensor]]
    ) -> Iterator[tuple[int, LayerResult]]:
        ray = self._ray
        self._connect()
        size = self.layers_per_task or max(1, len(layers) // (BLOCKS_PER_SLOT * self._slots()))
        remote = ray.remote(score_block).options(
            num_cpus=self.threads, num_gpus=self.gpus_per_task, max_retries=RETRIES, name=f"headatlas {model.name}"
        )
        known = _Digests(model)
        shared_task = ray.put(task)
        vectors = _SharedVectors(ray, inputs)
        slots = self._slots()
        blocks = deque(tuple(layers[start : start + size]) for start in range(0, len(layers), size))
        running: dict[Any, tuple[tuple[int, ...], dict[int, Any], int]] = {}

        def submit(block: tuple[int, ...], references: dict[int, Any], attempt: int) -> None:
            args = shared_task, self.device, self.threads, block, references, __version__
            running[remote.remote(*args)] = block, references, attempt

        try:
            while blocks or running:
                with suppress(EngineError):  # no machine for now: those that return go on
                    slots = self._slots()
                while blocks and len(running) < SUBMITTED_PER_SLOT * slots:
                    block = blocks.popleft()
                    submit(block, vectors.of_layers([layer for layer in block if model.has_heads(layer)]), 1)
                # With a timeout, because an interruption is handled only between calls.
                ready, _ = ray.wait(list(running), num_returns=1, timeout=1)
                for reference in ready:
                    block, references, attempt = running.pop(reference)
                    try:
                        done: BlockDone = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        _refuse_hopeless(error, block, attempt)
                        submit(block, references, attempt + 1)
                        continue
                    known.check(done)
                    for layer in block:
                        yield layer, done.hits[layer]
        finally:
            if running:
                # Disconnecting stops the tasks. `ray.cancel` would end this process, with status 1 and no message, if
                # a task ends while it is cancelled (Ray 2.60: "Tried to complete task that was not pending"). Tasks
                # in a connection that the caller opened run to their end.
                self.close()

    def _slots(self) -> int:
        """How many tasks the cluster can run at once."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        slots = 0
        for node in nodes:
            fitting = node.get("CPU", 0) // self.threads
            if self.gpus_per_task:
                fitting = min(fitting, (node.get("GPU", 0) + 1e-6) // self.gpus_per_task)
            slots += int(fitting)
        if not slots:
            gpus = f" and {self.gpus_per_task:g} GPU" if self.gpus_per_task else ""
            found = ", ".join(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes)
            raise EngineError(
                f"ray: expected a machine with {self.threads} CPU{gpus} for one task, found {found or 'none'}. Reduce "
                f"--threads or --gpus-per-task, or add a machine first."
            )
        return slots


class _SharedVectors:
    """The input vectors of layers in the cluster's object store; vectors that several layers read are there once."""

    def __init__(self, ray: Any, inputs: Iterator[tuple[int, Tensor]]) -> None:
        self._ray, self._inputs = ray, inputs
        self._last: tuple[Tensor, Any] | None = None

    def of_layers(self, layers: Sequence[int]) -> dict[int, Any]:
        """References to the vectors of the next layers, which are computed here and now."""
        references = {}
        for layer in layers:
            of_layer, x = next(self._inputs)
            assert of_layer == layer, f"the input of layer {of_layer} instead of {layer}"
            if self._last is None or self._last[0] is not x:
                self._last = x, self._ray.put(x.numpy())
            references[layer] = self._last[1]
        return references


class BlockDone(NamedTuple):
    """What a worker returns; small for every model."""

    hits: dict[int, LayerResult]
    digests: dict[int | None, str]
    """Digest of the weights read for each layer; under None, that of the weights outside the layers' attention."""

    node: str


class _Digests:
    """Digests of the weights as the driver reads them, for comparison with those of the workers."""

    def __init__(self, model: HeadModel) -> None:
        self.model = model
        self.known: dict[int | None, str] = {}

    def check(self, done: BlockDone) -> None:
        for layer, found in done.digests.items():
            if layer not in self.known:
                self.known[layer] = self.model.fingerprint(parts=self.model.parts_of(layer))
            if found != self.known[layer]:
                where = "embedding, unembedding or final norm" if layer is None else f"layer {layer}"
                raise CheckpointError(
                    f"{self.model.checkpoint.source}: {where}: expected the same weights as on this machine "
                    f"(fingerprint {self.known[layer][:12]}), found others on the machine {done.node} "
                    f"({found[:12]}). Make the same files available on every machine of the cluster. Nothing of this "
                    f"block was saved."
                )


_scorers: dict[str, tuple[HeadModel, LayerScorer, str]] = {}
"""In a worker: model, search and digest of the shared weights, for the last task."""


def score_block(
    task: Task, device: str, threads: int, layers: tuple[int, ...], references: dict[int, Any], version: str
) -> BlockDone:
    """Score a block of layers, in a worker of the cluster; their input vectors are in its object store."""
    node = _node()
    if version != __version__:
        raise EngineError(
            f"ray: expected headatlas {version}, the version of the machine that started the run, found {__version__} "
            f"on the machine {node}. Install the same version there."
        )
    try:
        model, scorer, shared = _scorer(task, device, threads)
        parts = {layer: model.parts_of(layer) for layer in layers}
        model.checkpoint.fetch(model.stored(part for layer in layers for part in parts[layer]))
        digests = {None: shared} | {layer: model.fingerprint(parts=parts[layer]) for layer in layers}
        return BlockDone(dict(scorer.score(layers, _vectors(references))), digests, node)
    except HeadatlasError as error:
        raise type(error)(f"{error} (on the machine {node})") from None


def _vectors(references: dict[int, Any]) -> Iterator[tuple[int, Tensor]]:
    import torch

    ray = _import_ray()
    for layer, reference in references.items():
        # A copy: what lies in the object store cannot be written to, which torch warns of.
        yield layer, torch.from_numpy(ray.get(reference).copy())


def _scorer(task: Task, device: str, threads: int) -> tuple[HeadModel, LayerScorer, str]:
    from headatlas.architectures import Terms, open_model
    from headatlas.architectures.open import open_checkpoint
    from headatlas.checkpoints.open import DEMO
    from headatlas.engines.devices import check_device
    from headatlas.engines.local import LayerScorer

    key = f"{task.key} {device} {threads}"
    if key not in _scorers:
        _scorers.clear()
        check_device(device)
        checkpoint = open_checkpoint(DEMO if task.source is None else task.source, task.adapter)
        model = open_model(checkpoint, Terms.of_settings(task.settings), task.settings.contextualize)
        parts = model.parts_of(None)
        checkpoint.fetch(model.stored(parts))
        _scorers[key] = model, LayerScorer(model, task, device, threads), model.fingerprint(parts=parts)
    return _scorers[key]


def _refuse_hopeless(error: Exception, block: tuple[int, ...], attempt: int) -> None:
    """Raise an error if another attempt at a block would fail in the same way, or if this was the last one."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, HeadatlasError) and (attempt == ATTEMPTS or not isinstance(cause, CheckpointError)):
        raise cause
    if attempt == ATTEMPTS:
        layers = f"layer {block[0]}" if len(block) == 1 else f"layers {block[0]} to {block[-1]}"
        raise EngineError(
            f"ray: {layers} failed {ATTEMPTS} times, the last time with {_first_line(cause or error)} "
            f"Finished layers are saved; run the same command again to continue."
        ) from error


def _import_ray() -> Any:
    # Otherwise, Ray would send usage reports from clusters that are started here.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise SettingsError("engine: ray is not installed. Run `pip install 'headatlas[ray]'`.") from error
    return ray


def _connect(ray: Any, address: str) -> None:
    import logging

    host, _, port = address.rpartition(":")
    if address not in ("auto", "local"):
        if not (host and port.isdigit() and "/" not in host):
            raise SettingsError(
                f"address: expected auto, local or HOST:PORT of a Ray cluster's head, found {address!r}."
            )
        try:
            # Ray itself would try for a minute, and then terminate the process.
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise EngineError(
                f"ray: expected a cluster's head at {address}, found none "
                f"({getattr(error, 'strerror', None) or error})."
            ) from error
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises no more special one if a node does not start in time
        if isinstance(error, ConnectionError) and address == "auto":
            raise EngineError(
                "ray: expected a cluster on this machine, found none. Give the address of its head with --address "
                "HOST:PORT, or start one for this run with --address local."
            ) from error
        raise EngineError(
            f"ray: cannot connect to the cluster at {address}: {_first_line(error)} If it expects a token, set "
            f"RAY_AUTH_MODE=token, and put the token into ~/.ray/auth_token or RAY_AUTH_TOKEN."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if text.endswith(".") else f"{text}."


def _node() -> str:
    return _import_ray().util.get_node_ip_address()
