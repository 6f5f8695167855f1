"""Break every command that writes, as machines do, and see what readers and the next run of the command find.

    python tools/faults.py FAULT[,FAULT...] [COMMAND ...] [--moments N] [--seed S] [--every K]

FAULT is one of

- `kill`: SIGKILL at N random moments of each command, also of the runs that go on after a kill;
- `full`: from the K-th, 2K-th, ... step of writing on (file made, its content, its flushing, its renaming, folder
  made), nothing fits on the disk any more;
- `power`: the machine stops after each step of writing, and of the changes of folders that were not flushed, only
  some are on the disk, and files that were not flushed are empty;
- `watch`: another process reads every file over and over while the command runs;
- `read-only`: the folder cannot be written;
- `moved`: the folder is moved between a kill and the run that goes on;
- `two`: the same command twice at the same time;
- `clock`: the clock is set back by ten years between a kill and the run that goes on.

After each fault, every file has to be whole, every atlas has to load with all its tables, and the same command has to
give what an uninterrupted run gives, without measuring a finished part again. Prints a row for each command, and what
was wrong; exits with 1 if something was. The models are tiny, and commands run in forks of one process that has
imported everything, so that thousands of faults take minutes. Needs a system with `fork`.
"""

from __future__ import annotations

import argparse
import errno
import functools
import importlib
import io
import itertools
import json
import os
import pickle
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import pyarrow.parquet as pq
import torch
from matplotlib.figure import Figure
from PIL import Image

import headatlas
import headatlas.figures
from headatlas.atlas import MANIFEST, Atlas, load_atlas
from headatlas.cli import main as run_command_line
from headatlas.errors import AtlasError
from headatlas.figures import saving
from headatlas.measuring import run_folder

LONGEST = 300.0
"""Seconds after which a command hangs."""

YEARS = 10 * 365 * 24 * 3600
"""By how much the clock is set back."""

VOLATILE = {"created", "seconds", "processor_seconds", "layers_from_earlier_run", "files", "sha256"}
"""Keys and columns of results that differ between two equal runs; the tables themselves are compared."""


# The commands, and the models and atlases that they need


@dataclass(frozen=True)
class Command:
    """A command that writes into a folder.

    Args:
        arguments: of the command line; `{out}` is the folder, `{place}` where models and relations are.
        start: the folder that it begins with, of those that `prepare` makes; default: none.
        goes_on: False if a finished run cannot be repeated.
    """

    arguments: str
    start: str | None = None
    goes_on: bool = True

    def line(self, place: Path, out: Path) -> list[str]:
        return [each.format(place=place, out=out) for each in self.arguments.split()]


ON_ATLAS = " {out} --model {place}/model --threads 1 --json"
COMMANDS = {
    "map": Command(
        "map {place}/model -o {out} --relations {place}/r.json --relations {place}/other.json --threads 1 --json"
    ),
    "salient": Command("salient" + ON_ATLAS, "mapped"),
    "attention": Command("attention --seeds 2 --text {place}/text.txt" + ON_ATLAS, "mapped"),
    "composition": Command("composition --seeds 1" + ON_ATLAS, "mapped"),
    "validate": Command(
        "validate --templates {place}/t.toml --effects 5 --add-relations {place}/r.json "
        "--add-relations {place}/other.json" + ON_ATLAS,
        "mapped",
    ),
    "ablate": Command(
        "ablate --relation r --relation other --prompts {place}/p.toml --add-relations {place}/r.json "
        "--add-relations {place}/other.json" + ON_ATLAS,
        "ablated",
    ),
    "survey": Command("survey {place}/models.toml -o {out} --threads 1 --json"),
    "audit": Command(
        "audit {place}/model {place}/tuned -o {out} --relations {place}/r.json --words 40 --threads 1 --json"
    ),
    "publish": Command("publish {place}/whole org/tiny --json"),
    "pull": Command("pull org/tiny -o {out} --json", goes_on=False),
}


class World:
    """Models, relations and atlases to begin with, and the local imitation of the hub."""

    def __init__(self, place: Path) -> None:
        self.place, self.hub = place, None
        self.counter = itertools.count()
        # Figures are not drawn, which would take most of the time and changes no writing.
        png = io.BytesIO()
        Image.new("RGB", (40, 30)).save(png, "PNG")
        svg = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>\n'
        self.picture = {"png": png.getvalue(), "svg": svg, "pdf": b"%PDF-1.4\n%%EOF\n"}

    def prepare(self) -> None:
        """Make models and atlases, and import all that the forks need."""
        from safetensors.torch import load_file, save_file

        saving.render = lambda figure, format: self.picture[format]
        for name in headatlas.figures.__all__:
            if name.startswith("draw_"):
                setattr(headatlas.figures, name, lambda *args, **options: Figure())
        for module in pkgutil.walk_packages(headatlas.__path__, "headatlas."):
            if not module.name.endswith((".__main__", ".ray")):
                importlib.import_module(module.name)

        from headatlas.measuring import ablate
        from planted import HEAD, LAYER, PAIRS, WORDS, make_planted, plant_values, write_relation

        place = self.place
        task, other = PAIRS[:30], [[source, WORDS[-1]] for source, _ in PAIRS]
        make_planted(place / "model")
        plant_values(place / "model", task, by_weights=True)
        path = place / "model" / "model.safetensors"
        tensors = load_file(path)
        tensors[f"model.layers.{LAYER}.self_attn.o_proj.weight"].view(64, 4, 40)[:, HEAD] *= 1000
        tensors["model.norm.weight"].fill_(1)
        save_file(tensors, path, metadata={"format": "pt"})
        shutil.copytree(place / "model", place / "tuned")
        generator = torch.Generator().manual_seed(1)
        for tensor in tensors.values():
            tensor += 0.02 * tensor.std() * torch.randn(tensor.shape, generator=generator)
        save_file(tensors, place / "tuned" / "model.safetensors", metadata={"format": "pt"})
        write_relation(place / "r.json", task)
        write_relation(place / "other.json", other, k=10)
        (place / "t.toml").write_text('templates = ["baz {source} bez", "cab {source} cob coc"]\n', "utf-8")
        (place / "p.toml").write_text(
            '[r]\nprompt = "baz {source}"\nshots = 0\n[other]\nprompt = "{source} baz"\nshots = 1\n', "utf-8"
        )
        (place / "text.txt").write_text(" ".join(random.Random(0).choices(WORDS, k=2000)), "utf-8")
        model = '[[model]]\nname = "{0}"\nsource = "{1}"\nstep = {2}\n'
        (place / "models.toml").write_text(
            'relations = "r.json"\n' + model.format("first", "./model", 1) + model.format("last", "./tuned", 2), "utf-8"
        )
        relations = [place / "r.json", place / "other.json"]
        headatlas.map_heads(place / "model", place / "mapped", relations=relations, threads=1, salient=False)
        # Curves of both relations with another seed, which are replaced one after the other.
        shutil.copytree(place / "mapped", place / "ablated")
        options = {"model": place / "model", "add_relations": relations, "prompts": place / "p.toml", "threads": 1}
        ablate.ablate_heads(load_atlas(place / "ablated"), ["r", "other"], seed=5, **options)
        shutil.copytree(place / "ablated", place / "whole")
        headatlas.measure_salient(load_atlas(place / "whole"), model=place / "model", threads=1)
        for weights in place.glob("*/model.safetensors"):
            weights.chmod(0o644)  # safetensors writes them for their owner alone; `read-only` is another user

    def folder(self, command: Command) -> Path:
        """A new folder for a command, with what it begins with."""
        out = self.place / "runs" / f"{next(self.counter)}" / "out"
        out.parent.mkdir(parents=True)
        if command.start is not None:
            shutil.copytree(self.place / command.start, out)
        return out

    @contextmanager
    def with_hub(self, published: bool) -> Iterator[None]:
        """The hub, with the atlas or empty."""
        from dataset_hub import Repository

        assert self.hub is not None
        self.hub.repositories.clear()
        if published:
            files = {each.name: each.read_bytes() for each in (self.place / "published").iterdir()}
            self.hub.repositories["org/tiny"] = Repository(commits=[{".gitattributes": b"*.parquet filter=lfs"}, files])
        yield

    def open_hub(self, stack: ExitStack) -> None:
        """Start the imitation of the hub; its threads are not in the forks, which ask it as any other server."""
        import pytest

        from dataset_hub import serve_data_sets
        from headatlas.sharing.local_paths import without_local_paths
        from headatlas.sharing.publish import write_files

        (self.place / "hub").mkdir()
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        _, self.hub = stack.enter_context(serve_data_sets(self.place / "hub", patch))
        (self.place / "published").mkdir()
        atlas = load_atlas(self.place / "whole")
        for name in atlas.manifest.evidence.names:
            atlas.evidence(name)
        manifest, _ = without_local_paths(atlas.manifest)
        write_files(replace(atlas, manifest=manifest), self.place / "published", "org/tiny", "cc0-1.0")


# Running a command in a fork


@dataclass
class Run:
    """A command in a fork of this process."""

    pid: int
    pipe: int
    text: str = ""
    code: int | None = None

    def wait(self, seconds: float = LONGEST) -> int | None:
        """Its exit code once it has ended; None after so many seconds."""
        until = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._read()
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                os.close(self.pipe)
            elif time.monotonic() >= until:
                return None
            else:
                time.sleep(0.002)
        return self.code

    def _read(self) -> None:
        """Take what it has printed, so that it never waits for that."""
        with suppress(BlockingIOError):
            while content := os.read(self.pipe, 1 << 16):
                self.text += content.decode("utf-8", "replace")

    def kill(self) -> bool:
        """End it as a power cut does; whether it was still running."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        return self.code == -signal.SIGKILL


def start(
    line: list[str], before: Callable[[], object] | None = None, after: Callable[[], object] | None = None
) -> Run:
    """Fork, and run a command line there.

    Args:
        before: called in the fork first.
        after: called in the fork when the command has ended.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        os.set_blocking(read, False)
        return Run(pid, read)
    code = 70
    try:
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.stdout, sys.stderr = (os.fdopen(each, "w", encoding="utf-8", closefd=False) for each in (1, 2))
        sys.argv = ["headatlas", *line]
        if before is not None:
            before()
        run_command_line()
        code = 0
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        if after is not None:
            after()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Notes:
    """Which parts a command and its earlier runs have finished: a file that the forks append to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self) -> None:
        save, remove = run_folder.RunParts.save, shutil.rmtree

        def noted_save(parts: run_folder.RunParts, part: str, arrays: dict[str, np.ndarray]) -> None:
            save(parts, part, arrays)
            self._append(f"{parts.path} {part}")

        def noted_remove(path: Any, *args: Any, **options: Any) -> None:
            self._append(f"{path} removed")
            remove(path, *args, **options)

        run_folder.RunParts.save, shutil.rmtree = noted_save, noted_remove

    def _append(self, line: str) -> None:
        if not line.startswith("None "):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    def lost(self) -> list[str]:
        """Parts that were finished twice before the run's result was there."""
        finished: set[str] = set()
        twice = []
        for line in self.path.read_text("utf-8").splitlines() if self.path.exists() else ():
            folder, part = line.rsplit(" ", 1)
            if part == "removed":
                finished = {each for each in finished if not each.startswith(f"{folder} ")}
            elif line in finished:
                twice.append(part)
            finished.add(line)
        return twice


# What readers find


def unreadable(folder: Path, tables: bool = True) -> list[str]:
    """What is not whole in a folder: files that cannot be read, and atlases that do not fit together.

    Args:
        tables: also load each atlas with its evidence.
    """
    found = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix in (".partial", ".lock") or path.name == "lock" or not path.is_file():
            continue
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # removed since
        try:
            READERS.get(path.suffix, len)(content)
        except Exception as error:
            found.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    if tables:
        for manifest in sorted(folder.rglob(MANIFEST)):
            try:
                read_all(manifest.parent)
            except AtlasError as error:
                found.append(str(error))
    return found


def read_all(folder: Path) -> Atlas:
    atlas = load_atlas(folder)
    for name in atlas.manifest.evidence.names:
        atlas.evidence(name)
    return atlas


def _arrays(content: bytes) -> None:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        dict(arrays)


def _ends(end: bytes) -> Callable[[bytes], None]:
    def check(content: bytes) -> None:
        if not content.rstrip().endswith(end):
            raise ValueError(f"does not end with {end!r}")

    return check


READERS: dict[str, Callable[[bytes], object]] = {
    ".json": json.loads,
    ".parquet": lambda content: pq.read_table(io.BytesIO(content)),
    ".npz": _arrays,
    ".png": lambda content: Image.open(io.BytesIO(content)).load(),
    ".svg": ElementTree.fromstring,
    ".pdf": _ends(b"%%EOF"),
    ".html": _ends(b"</html>"),
    ".csv": _ends(b""),
    ".md": _ends(b""),
}


def result(folder: Path) -> dict[str, Any]:
    """What a command has made, without what differs between two equal runs; by the names of the files."""
    made: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name.endswith((".partial", "lock")):
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            made[name] = pq.read_table(io.BytesIO(content)).to_pydict()
        elif path.suffix == ".json":
            made[name] = _steady(json.loads(content))
        elif path.suffix == ".csv":
            rows = [line.split(",") for line in content.decode().splitlines()]
            keep = [at for at, column in enumerate(rows[0]) if column not in VOLATILE]
            made[name] = [[row[at] for at in keep] for row in rows]
        else:
            made[name] = None
    return made


def _steady(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _steady(value) for key, value in content.items() if key not in VOLATILE}
    return [_steady(each) for each in content] if isinstance(content, list) else content


def differences(found: Any, whole: Any, where: str = "") -> list[str]:
    """Where two results differ, in words."""
    if isinstance(found, dict) and isinstance(whole, dict):
        names = sorted({*found, *whole})
        missing = [f"{where}{name} is {'there' if name in found else 'missing'}" for name in names
                   if (name in found) != (name in whole)]  # fmt: skip
        both = [name for name in names if name in found and name in whole]
        return missing + [each for name in both for each in differences(found[name], whole[name], f"{where}{name}: ")]
    # By their texts: numbers that are not known differ from themselves.
    return [] if repr(found) == repr(whole) else [f"{where}{found!r:.80} instead of {whole!r:.80}"]


# The faults


@dataclass
class Found:
    """What a fault did to a command.

    Args:
        faults: how many there were.
        missed: further kills that came too late.
        lost: finished parts that were measured again.
        wrong: what should not have been, in words.
    """

    faults: int = 0
    missed: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)


class Case:
    """One command with all that is needed to break it."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.command = world, name, COMMANDS[name]
        self.found = Found()
        modules = world.place / "modules.txt"
        for after in (lambda: modules.write_text("\n".join(sys.modules), "utf-8"), None):
            with self.hub():
                out = self.folder()
                started = time.monotonic()
                run = self.start(out, after=after)
                assert run.wait() == 0, f"{name}: {run.text}"
                self.seconds = time.monotonic() - started
                self.whole = self.result(out)
                shutil.rmtree(out.parent)
            # What the command imports is imported once, here, for all forks that follow.
            for module in {*modules.read_text("utf-8").split("\n")} - {*sys.modules}:
                with suppress(Exception):
                    importlib.import_module(module)

    def hub(self) -> Any:
        shared = self.name in ("publish", "pull")
        return self.world.with_hub(self.name == "pull") if shared else ExitStack()

    def folder(self) -> Path:
        return self.world.folder(self.command)

    def start(self, out: Path, *before: Callable[[], object], after: Callable[[], object] | None = None) -> Run:
        notes = Notes(out.parent / "parts.txt")

        def prepare() -> None:
            for each in (notes.install, *before):
                each()

        return start(self.command.line(self.world.place, out), prepare, after)

    def readable(self, out: Path, when: str) -> None:
        self.found.wrong += [f"{self.name}: {when}: {each}" for each in unreadable(self.there(out))]

    def there(self, out: Path) -> Path:
        """Where the result is: what is on the hub is copied."""
        if self.name != "publish":
            return out
        assert self.world.hub is not None
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        repository = self.world.hub.repositories.get("org/tiny")
        for name, content in (repository.files if repository else {}).items():
            (out / name).write_bytes(content)
        return out

    def result(self, out: Path) -> dict[str, Any]:
        return result(self.there(out))

    def finish(self, out: Path, when: str, run: Run | None = None) -> None:
        """Run the command again, unless the last run came to its end, and compare."""
        if (run is None or run.code == -signal.SIGKILL) and (self.command.goes_on or not out.exists()):
            run = self.start(out)
            run.wait()
        if run is not None and run.code not in (0, -signal.SIGKILL):
            self.found.wrong.append(f"{self.name}: {when}: the next run gives {run.code}: {run.text[-2000:]}")
        else:
            self.compare(out, when)

    def compare(self, out: Path, when: str) -> None:
        self.readable(out, f"{when}, at the end")
        different = differences(self.result(out), self.whole)
        self.found.wrong += [f"{self.name}: {when}: {each}" for each in different]
        left = [each.name for each in out.parent.iterdir() if each.name not in ("out", "parts.txt")]
        if left and self.name != "pull":
            self.found.wrong.append(f"{self.name}: {when}: left {left}")
        lost = Notes(out.parent / "parts.txt").lost()
        self.found.lost += len(lost)
        self.found.wrong += [f"{self.name}: {when}: {each} was measured again" for each in lost]
        shutil.rmtree(out.parent)

    def refused(self, run: Run, when: str, why: str = "cannot be written") -> None:
        """A run that cannot go on says why in one sentence."""
        errors = [line for line in run.text.splitlines() if line.startswith("Error: ")]
        if run.code != 2 or len(errors) != 1 or "Traceback" in run.text or why not in errors[0]:
            self.found.wrong.append(f"{self.name}: {when}: exit code {run.code}: {run.text[-2000:]}")


def kill(case: Case, moments: int, chance: random.Random, **_: Any) -> None:
    while case.found.faults < moments:
        with case.hub():
            out, when, run = case.folder(), "never killed", None
            while case.found.faults < moments and (case.command.goes_on or not out.exists()):
                seconds = chance.uniform(0, case.seconds)
                run = case.start(out)
                if run.wait(seconds) is not None or not run.kill():
                    case.found.missed += 1
                    break
                case.found.faults += 1
                when = f"killed (number {case.found.faults}) after {seconds:.3f} s"
                case.readable(out, when)
            case.finish(out, when, run)


class Full:
    """From the `n`-th step of writing on, nothing fits on the disk; of all files, by the limit of the kernel."""

    def __init__(self, n: int) -> None:
        self.left = n

    def install(self) -> None:
        make, flush, steps = os.open, os.fsync, ("replace", "rename", "mkdir")

        def made(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if not flags & os.O_CREAT:
                return make(path, flags, *args, **options)
            self.step(path)
            file = make(path, flags, *args, **options)
            self.step(None)  # its content
            return file

        def flushed(file: int) -> None:
            self.step(None)
            flush(file)
            if self.left <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def counted(act: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(act)
            def acts(path: Any, *args: Any, **options: Any) -> Any:
                self.step(path)
                return act(path, *args, **options)

            return acts

        os.open, os.fsync = made, flushed
        for name in steps:
            setattr(os, name, counted(getattr(os, name)))

    def step(self, path: Any) -> None:
        import resource

        self.left -= 1
        if self.left <= 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            if path is not None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))


def full(case: Case, every: int, **_: Any) -> None:
    for n in itertools.count(every, every):
        with case.hub():
            out, when = case.folder(), f"disk full from step {n} on"
            disk = Full(n)
            run = case.start(out, disk.install)
            code = run.wait()
            if code == 0:
                case.compare(out, when)
                return
            case.found.faults += 1
            case.refused(run, when)
            case.readable(out, when)
            case.finish(out, when)


@dataclass(frozen=True)
class Event:
    """A step of writing.

    Args:
        act: `flush` (a file), `rename`, `remove`, `make` (a folder), `flush folder`, or `finish` (a part of a run).
        path: of the file or folder.
        target: of a renaming.
        content: of a file that is flushed, or renamed.
    """

    act: str
    path: str
    target: str = ""
    content: bytes = b""


class Recorder:
    """Notes in which order a command writes, flushes and renames, with what the files hold."""

    def __init__(self, log: Path) -> None:
        self.log, self.events = log, []

    def install(self) -> None:
        flush, save = os.fsync, run_folder.RunParts.save

        def flushed(file: int) -> None:
            flush(file)
            path = os.readlink(f"/proc/self/fd/{file}")
            if os.path.isdir(path):
                self.events.append(Event("flush folder", path))
            else:
                self.events.append(Event("flush", path, content=Path(path).read_bytes()))

        def renamed(act: Callable[..., Any]) -> Callable[..., Any]:
            def acts(path: Any, target: Any) -> None:
                content = Path(path).read_bytes() if os.path.isfile(path) else b""
                act(path, target)
                self.events.append(Event("rename", os.path.abspath(path), os.path.abspath(target), content))

            return acts

        def noted(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
            def acts(path: Any, *args: Any, **options: Any) -> None:
                act(path, *args, **options)
                parent = options.get("dir_fd")
                folder = os.getcwd() if parent is None else os.readlink(f"/proc/self/fd/{parent}")
                self.events.append(Event(name, os.path.join(folder, os.fspath(path))))

            return acts

        def saved(parts: run_folder.RunParts, part: str, arrays: dict[str, np.ndarray]) -> None:
            save(parts, part, arrays)
            if parts.path is not None:
                self.events.append(Event("finish", str((parts.path / f"{part}.npz").absolute())))

        os.fsync, run_folder.RunParts.save = flushed, saved
        os.replace, os.rename = renamed(os.replace), renamed(os.rename)
        os.unlink = os.remove = noted("remove", os.unlink)
        os.rmdir, os.mkdir = noted("remove", os.rmdir), noted("make", os.mkdir)

    def write(self) -> None:
        self.log.write_bytes(pickle.dumps(self.events))

    def read(self) -> list[Event]:
        return pickle.loads(self.log.read_bytes())


class Disk:
    """What is on the disk after each step, if the power fails then; only below one folder.

    A file's content is on the disk once it was flushed; a change of a folder, once that folder was flushed after it.
    Changes that were not flushed can be there or not, each of them.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root.resolve())
        self.names: dict[str, bytes | None] = {}
        """What is safe: path -> content, None of a folder."""
        for path in root.rglob("*"):
            self.names[str(path.resolve())] = None if path.is_dir() else path.read_bytes()
        self.flushed: dict[str, bytes] = {path: content for path, content in self.names.items() if content is not None}
        self.waiting: list[Event] = []

    def follow(self, event: Event) -> str | None:
        """What a step is, if it is wrong in itself."""
        wrong = None
        if event.act == "flush":
            self.flushed[event.path] = event.content
        elif event.act == "flush folder":
            safe = [each for each in self.waiting if self._folder(each) == event.path]
            self.waiting = [each for each in self.waiting if each not in safe]
            for each in safe:
                change(self.names, each)
        elif event.act != "finish" and (event.path.startswith(self.root) or event.target.startswith(self.root)):
            if event.act == "rename" and not os.path.isdir(event.target) and event.target.startswith(self.root):
                known = self.flushed.get(event.path, b"")
                if known != event.content:
                    wrong = f"{event.target} is renamed before all of it is flushed"
                event = replace(event, content=known)
                self.flushed[event.target] = known
            self.waiting.append(event)
        return wrong

    @staticmethod
    def _folder(event: Event) -> str:
        return os.path.dirname(event.target or event.path)

    def states(self, chance: random.Random) -> Iterator[dict[str, bytes | None]]:
        """What can be on the disk: no waiting change, all, each alone, all but each, and some at random."""
        n = len(self.waiting)
        chosen = {0, 2**n - 1, *(1 << at for at in range(n)), *(2**n - 1 - (1 << at) for at in range(n))}
        chosen |= {chance.getrandbits(n) for _ in range(3)} if n else set()
        for subset in sorted(chosen):
            names = dict(self.names)
            for at, event in enumerate(self.waiting):
                if subset >> at & 1:
                    change(names, event)
            yield names

    def write(self, names: dict[str, bytes | None], folder: Path) -> None:
        """Make a folder as it is on the disk; what lies in a folder that is not there is not there either."""
        folder.mkdir(parents=True)
        for path, content in sorted(names.items()):
            target = folder / os.path.relpath(path, self.root)
            if target.parent.is_dir():
                target.mkdir(exist_ok=True) if content is None else target.write_bytes(content)


def change(names: dict[str, bytes | None], event: Event) -> None:
    """Do a change of a folder."""
    if event.act == "make":
        names[event.path] = None
    elif event.act == "remove":
        names.pop(event.path, None)
    elif event.act == "rename":
        moved = {path: names.pop(path) for path in list(names) if f"{path}/".startswith(f"{event.path}/")}
        for path, content in moved.items():
            names[event.target + path.removeprefix(event.path)] = content
        if event.path not in moved:
            names[event.target] = event.content


def power(case: Case, chance: random.Random, every: int, **_: Any) -> None:
    if case.name == "publish":
        return  # it writes nothing that stays
    with case.hub():
        out = case.folder()
        disk, recorder = Disk(out.parent), Recorder(case.world.place / "events")
        run = case.start(out, recorder.install, after=recorder.write)
        if run.wait() != 0:
            case.found.wrong.append(f"{case.name}: {run.text[-2000:]}")
            return
        seen: set[int] = set()
        safe_parts: set[str] = set()
        for number, event in enumerate(recorder.read()):
            if wrong := disk.follow(event):
                case.found.wrong.append(f"{case.name}: step {number}: {wrong}")
            if event.act == "finish":
                safe_parts.add(event.path)
                if event.path not in disk.names:
                    case.found.wrong.append(f"{case.name}: step {number}: {event.path} is said to be safe, and is not")
            for names in disk.states(chance):
                mark = hash(tuple(sorted((path, hash(content)) for path, content in names.items())))
                if mark in seen:
                    continue
                seen.add(mark)
                case.found.faults += 1
                there = out.parent.parent / "after"
                disk.write(names, there)
                when = f"power failed after step {number} ({event.act} {os.path.relpath(event.path, disk.root)})"
                case.found.wrong += [f"{case.name}: {when}: {each}" for each in unreadable(there / "out")]
                if chance.random() < every / 50:
                    again = out.parent.parent / f"{next(case.world.counter)}"
                    shutil.move(there, again)
                    (again / "parts.txt").unlink(missing_ok=True)
                    case.finish(again / "out", when)
                shutil.rmtree(there, ignore_errors=True)
        made = [event.target or event.path for event in disk.waiting if event.act != "remove"]
        for path in [path for path in made if os.path.exists(path)][:1]:
            case.found.wrong.append(f"{case.name}: not safe on the disk when it ends: {path}")
        shutil.rmtree(out.parent)


def watch(case: Case, **_: Any) -> None:
    with case.hub():
        out = case.folder()
        run = case.start(out)
        while run.wait(0) is None:
            case.found.faults += 1
            case.found.wrong += [f"{case.name}: read while it runs: {each}" for each in unreadable(out, tables=False)]
        case.finish(out, "watched", run)


def read_only(case: Case, **_: Any) -> None:
    """Without rights of the administrator, who may write everywhere."""
    if case.name == "publish":
        return
    with case.hub():
        out = case.folder()
        before = result(out.parent)
        inside = [path for path in out.parent.rglob("*") if path.is_dir()]
        for folder in (out.parent, *inside):
            folder.chmod(0o555)
        run = case.start(out, leave_rights)
        run.wait()
        case.found.faults += 1
        case.refused(run, "read-only")
        for folder in (out.parent, *inside):
            folder.chmod(0o755)
        for each in differences(result(out.parent), before):
            case.found.wrong.append(f"{case.name}: read-only: {each}")
        case.finish(out, "was read-only")


def leave_rights() -> None:
    """Become a user who may write nowhere but where everybody may."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


def moved(case: Case, moments: int, chance: random.Random, **_: Any) -> None:
    while case.found.faults < moments:
        with case.hub():
            out = case.folder()
            run = case.start(out)
            if run.wait(chance.uniform(0, case.seconds)) is None and run.kill():
                case.found.faults += 1
                notes = Notes(out.parent / "parts.txt")
                elsewhere = out.parent.parent / f"{next(case.world.counter)} moved"
                out.parent.rename(elsewhere)
                old, out = out, elsewhere / "out"
                if notes.path.name in os.listdir(elsewhere):
                    text = (elsewhere / notes.path.name).read_text("utf-8")
                    (elsewhere / notes.path.name).write_text(text.replace(str(old), str(out)), "utf-8")
                case.finish(out, "moved")
            else:
                case.found.missed += 1
                shutil.rmtree(out.parent)


def two(case: Case, moments: int, chance: random.Random, **_: Any) -> None:
    while case.found.faults < moments:
        with case.hub():
            out = case.folder()
            first = case.start(out)
            first.wait(chance.uniform(0, case.seconds))
            second = case.start(out)
            for run in (first, second):
                run.wait()
            case.found.faults += 1
            if case.name == "publish" or first.code == 0 == second.code:
                pass
            elif {first.code, second.code} == {0, 2}:
                case.refused(
                    first if first.code else second,
                    "at the same time",
                    "found one" if case.name == "pull" else "another ",
                )
            else:
                case.found.wrong += [
                    f"{case.name}: two at once: {run.code}: {run.text[-1000:]}" for run in (first, second)
                ]
            case.readable(out, "two at once")
            case.found.wrong += [
                f"{case.name}: two at once: {each}" for each in differences(case.result(out), case.whole)
            ]
            shutil.rmtree(out.parent)


def clock(case: Case, moments: int, chance: random.Random, **_: Any) -> None:
    def set_back() -> None:
        now = time.time
        time.time = lambda: now() - YEARS

    while case.found.faults < moments:
        with case.hub():
            out = case.folder()
            run = case.start(out)
            if run.wait(chance.uniform(0, case.seconds)) is None and run.kill():
                case.found.faults += 1
                for path in out.rglob("*"):  # as if half of it had been written tomorrow
                    if chance.random() < 0.5:
                        os.utime(path, (time.time() + 86_400, time.time() + 86_400), follow_symlinks=False)
                if case.command.goes_on or not out.exists():
                    run = case.start(out, set_back)
                    run.wait()
                case.finish(out, "the clock was set back", run)
            else:
                case.found.missed += 1
                shutil.rmtree(out.parent)


FAULTS: dict[str, Callable[..., None]] = {
    "kill": kill, "full": full, "power": power, "watch": watch, "read-only": read_only, "moved": moved, "two": two,
    "clock": clock,
}  # fmt: skip


def break_commands(
    faults: Iterable[str], names: Iterable[str], *, moments: int = 100, seed: int = 0, every: int = 1
) -> list[Found]:
    """What each fault did to each command, printed as a row for each."""
    every_found, names = [], list(names)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headatlas-faults-")))
        os.environ |= {"HEADATLAS_CACHE": f"{place}/cache", "HF_HOME": f"{place}/huggingface", "MPLBACKEND": "Agg"}
        place.chmod(0o755)  # for another user, of `read-only`
        torch.set_num_threads(1)
        world = World(place)
        world.prepare()
        if {"publish", "pull"} & {*names}:
            world.open_hub(stack)
        print("fault      command      seconds  faults  missed  parts lost   wrong", flush=True)
        for name in names:
            case = Case(world, name)
            for fault in faults:
                case.found = found = Found()
                FAULTS[fault](case, moments=moments, chance=random.Random(f"{seed} {fault} {name}"), every=every)
                row = f"{fault:<10} {name:<12} {case.seconds:7.2f} {found.faults:7} {found.missed:7} {found.lost:11}"
                print(f"{row} {len(found.wrong):7}", *(f"  {each}" for each in found.wrong[:20]), sep="\n", flush=True)
                every_found.append(found)
    return every_found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", metavar="FAULT", help=f"some of {', '.join(FAULTS)}, with commas between them")
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"default: all: {', '.join(COMMANDS)}")
    parser.add_argument("--moments", type=int, default=100, help="of kill, moved, two and clock; default: 100")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    parser.add_argument("--every", type=int, default=1, help="of full: test each K-th step; default: 1")
    asked = parser.parse_args()
    faults = asked.faults.split(",")
    if unknown := ({*faults} - {*FAULTS}) | ({*asked.commands} - {*COMMANDS}):
        parser.error(f"no faults or commands: {', '.join(sorted(unknown))}")
    started = time.monotonic()
    all_found = break_commands(
        faults, asked.commands or COMMANDS, moments=asked.moments, seed=asked.seed, every=asked.every
    )
    print(f"seed {asked.seed}, {time.monotonic() - started:.0f} s")
    sys.exit(any(each.wrong for each in all_found))
