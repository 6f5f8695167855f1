"""The commands that write, and the models and atlases that they begin with."""

from __future__ import annotations

import importlib
import io
import itertools
import pkgutil
import random
import shutil
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

import headatlas
import headatlas.figures
from headatlas.atlas import load_atlas
from headatlas.figures import saving

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))


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

    def empty_hub(self, published: bool) -> None:
        """Leave nothing on the hub but, if it is to be there, the atlas."""
        from dataset_hub import Repository

        assert self.hub is not None
        self.hub.repositories.clear()
        if published:
            files = {each.name: each.read_bytes() for each in (self.place / "published").iterdir()}
            self.hub.repositories["org/tiny"] = Repository(commits=[{".gitattributes": b"*.parquet filter=lfs"}, files])

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
