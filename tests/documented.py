"""Pages of the documentation, what they print to be run, and a folder where it runs as printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

from headatlas.atlas import Atlas
from headatlas.relations import builtin_relations
from models import make_model, save_model
from needs import ROOT
from served import Hub, serve

README = ROOT / "README.md"
DOCS = ROOT / "docs"
COMMANDS = DOCS / "commands.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]

DEMO = "headatlas map -o demo-atlas"
"""The command that most examples start from."""

ATTENTION = "headatlas attention demo-atlas --seeds 2"
"""The command of several pages that takes longest."""


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(text: str) -> list[str]:
    """The commands of a text, in order, but for those that make everything anew."""
    lines = [line for block in blocks(text, "console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), lines
    return [line[2:] for line in lines if not line.startswith("$ make ")]


def halves_of_commands() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The sections of commands.md that have commands, half of them each, for two workers: title, commands."""
    text = COMMANDS.read_text("utf-8")
    sections = {part.partition("\n")[0].strip("`"): commands(part) for part in text.split("\n## ")}
    found = [(title, lines) for title, lines in sections.items() if lines]
    assert sum(len(lines) for _, lines in found) == len(commands(text)), "two sections of commands.md have one title"
    middle = len(found) // 2
    return dict(found[:middle]), dict(found[middle:])


@dataclass
class Place:
    """A folder where commands run as printed, and the commands that have run there."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def run_once(self, command: str) -> None:
        """Run a command unless the same one, comments apart, has run in this place."""
        key = re.sub(r"\s+# .*", "", command)
        if key not in self.done:
            self.run(command)
            self.done.add(key)

    def run(self, command: str) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": str(n_threads())}
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder, env=os.environ | own | self.environment,
            capture_output=True, encoding="utf-8", timeout=1200,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run_python(self, code: str) -> str:
        return self.run(f"{sys.executable} - <<'EOF'\n{code}\nEOF\n")


def n_threads() -> int:
    """Threads of a command: all cores, as a user has it, shared with pytest's other workers."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


@contextmanager
def make_place(folder: Path) -> Iterator[Place]:
    """A place with a model at path/to/model, also org/model on a hub, whose words are those of a built-in relation."""
    (relation,) = (relation for relation in builtin_relations() if relation.name == "country_to_continent")
    words = [word for pair in relation.pairs[:60] for word in pair]
    model = folder / "path" / "to" / "model"
    save_model(make_model("llama", vocab_size=131), model, words)
    save_adapter(folder / "path" / "to" / "adapter")
    with serve(model, type("Models", (Hub,), {"name": "model"})) as hub:
        own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hub"), "HEADATLAS_CACHE": str(folder / "ranges")}
        yield Place(folder, own)


def save_adapter(folder: Path) -> None:
    """A LoRA adapter for the values of one layer of that model."""
    folder.mkdir()
    parts = {"lora_A": torch.full((2, 48), 0.1), "lora_B": torch.full((20, 2), 0.1)}
    name = "base_model.model.model.layers.1.self_attn.v_proj"
    save_file({f"{name}.{part}.weight": value for part, value in parts.items()}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["v_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")


def copy_demo(whole: Place, place: Place, *lines: str) -> Path:
    """The demo model's atlas of a place where these commands have run, as if they had run here."""
    demo = place.folder / "demo-atlas"
    shutil.copytree(whole.folder / "demo-atlas", demo)
    place.done.update(lines)
    return demo


def check_heads_of(atlas: Atlas, *heads: tuple[str, str]) -> None:
    """README names the hits and pairs of these heads, each for a relation."""
    readme = " ".join(README.read_text("utf-8").split())
    for relation, name in heads:
        row = atlas.heads(relation=relation).set_index("name").loc[name]
        assert f"({row['hits']} of {row['pairs']}" in readme, (relation, name)
