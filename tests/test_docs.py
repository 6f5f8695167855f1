"""Every command and every Python example of README and documentation runs as printed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from headatlas.relations import builtin_relations
from models import make_model, save_model
from needs import find_gemma
from served import Hub, serve

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def commands(page: Path) -> list[str]:
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), page
    return [line[2:] for line in lines if not line.startswith("$ make ")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the examples run: with a model at path/to/model whose words are those of a built-in relation."""
    place = tmp_path_factory.mktemp("docs")
    (relation,) = (relation for relation in builtin_relations() if relation.name == "country_to_continent")
    words = sorted({word for pair in relation.pairs for word in pair})[:90]
    words = [word for pair in relation.pairs[:60] for word in pair] or words
    save_model(make_model("llama", vocab_size=131), place / "path" / "to" / "model", words)
    save_adapter(place / "path" / "to" / "adapter")
    models = type("Models", (Hub,), {"name": "model"})
    with serve(place / "path" / "to" / "model", models) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(place / "hub"))
        patch.setenv("HEADATLAS_CACHE", str(place / "ranges"))
        yield place


def save_adapter(folder: Path) -> None:
    """A LoRA adapter for the values of one layer of that model."""
    folder.mkdir()
    parts = {"lora_A": torch.full((2, 48), 0.1), "lora_B": torch.full((20, 2), 0.1)}
    name = "base_model.model.model.layers.1.self_attn.v_proj"
    save_file({f"{name}.{part}.weight": value for part, value in parts.items()}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["v_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")


@pytest.fixture(scope="module")
def demo(place):
    """The demo model's atlas, which the examples start from."""
    run_once("headatlas map -o demo-atlas", place)
    return place / "demo-atlas"


DONE: set[tuple[str, Path]] = set()


def run_once(command: str, place: Path) -> None:
    """Run a command unless the same one, comments apart, has run in this place."""
    key = re.sub(r"\s+# .*", "", command), place
    if key not in DONE:
        run(command, place)
        DONE.add(key)


def run(command: str, place: Path) -> str:
    # As a user has it: one thread, enough for the tests' tiny models, is slow for the demo model.
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=place, env=env | {"PATH": path, "MPLBACKEND": "Agg"},
        capture_output=True, encoding="utf-8", timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.system
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")], ids=lambda page: page.name)
def test_commands_run_as_printed(page, place, demo):
    for command in commands(page):
        run_once(command, place)


@pytest.mark.system
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_runs_as_printed(page, place, demo):
    run_once("headatlas export demo-atlas --format heads -o heads.json", place)
    run(f"{sys.executable} - <<'EOF'\n" + "\n".join(blocks(page, "python")) + "\nEOF\n", place)


@pytest.mark.system
def test_what_the_readme_tells_of_the_demo_model_is_so(place, demo):
    import headatlas

    atlas = headatlas.load_atlas(demo)
    readme = (ROOT / "README.md").read_text("utf-8")
    found = headatlas.classify(atlas)
    assert f"{found.n_classified} of {found.n_heads} heads" in readme
    assert f"{len(atlas.relations)} relations" in readme
    strict = headatlas.classify(atlas, rule="calibrated").count
    assert f"{int((strict > 0).sum())} of them beyond chance" in readme
    assert f"{int((strict[-10:] > 0).sum())} of these in the last ten layers" in readme
    check_heads_of(
        atlas,
        ("country_to_demonym", "L23H4"),
        ("country_to_capital", "L23H4"),
        ("name_copying", "L23H2"),
        ("noun_to_pronoun", "L26H2"),
    )


@pytest.mark.system
def test_what_the_readme_tells_of_gemma_is_so():
    import numpy as np

    import headatlas

    atlas = headatlas.map_heads(find_gemma(), salient=False)
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    found, strict = headatlas.classify(atlas), headatlas.classify(atlas, rule="calibrated")
    assert f"{found.n_classified} of {found.n_heads} heads implement a relation" in readme
    assert f"none of them before layer {np.flatnonzero(found.count.any(1)).min()}" in readme
    assert f"{strict.n_classified} beyond chance and beyond copying" in readme
    several = [(11, 2), (12, 1), (12, 2), (12, 3), (15, 3)]
    plain, beyond = (
        [int(each.implements[:, layer, head].sum()) for layer, head in several] for each in (found, strict)
    )
    assert f"{min(plain)} to {max(plain)} of {len(atlas.relations)} relations" in readme
    assert f"({min(beyond)} to {max(beyond)} beyond chance and copying)" in readme
    check_heads_of(
        atlas, ("country_to_capital", "L12H2"), ("us_city_to_state", "L15H3"), ("noun_to_pronoun", "L14H3")
    )  # fmt: skip


def check_heads_of(atlas, *heads: tuple[str, str]) -> None:
    """README names the hits and pairs of these heads, each for a relation."""
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    for relation, name in heads:
        row = atlas.heads(relation=relation).set_index("name").loc[name]
        assert f"({row['hits']} of {row['pairs']}" in readme, (relation, name)


def test_every_command_is_documented():
    from headatlas.cli import app

    text = (ROOT / "docs" / "commands.md").read_text("utf-8")
    names = [command.name for command in app.registered_commands]
    assert len(names) == 25
    for name in names:
        assert f"## `headatlas {name}`" in text


@pytest.mark.parametrize("command", ["map", "survey"])
def test_every_option_is_documented(command):
    import inspect

    from headatlas import cli

    text = (ROOT / "docs" / "commands.md").read_text("utf-8")
    section = text.split(f"## `headatlas {command}`")[1].split("\n## ")[0]
    named = {"as_json": "json"}
    options = set(inspect.signature(getattr(getattr(cli, command), f"{command}_command")).parameters) - {
        "model",
        "models",
        "output",
        # Of every command, at the top of the page.
        "quiet",
        "verbose",
    }
    assert options
    for name in options:
        assert re.search(rf"`--(no-)?{named.get(name, name).replace('_', '-')}\b", section), name


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert "://" in target or (page.parent / target).exists(), (page.name, target)


def test_every_promise_names_tests_that_exist():
    rows = [line for line in (ROOT / "docs" / "promises.md").read_text("utf-8").splitlines() if "`tests/" in line]
    assert len(rows) > 15
    for row in rows:
        for name in re.findall(r"`((?:tests|tools|examples)/[^`]+)`", row):
            assert (ROOT / name).is_file(), row


def test_the_reference_has_every_public_name():
    import headatlas

    listed = re.findall(
        r"^\.\. auto(?:function|class):: headatlas\.(\w+)$", (ROOT / "docs" / "reference.md").read_text("utf-8"), re.M
    )
    assert sorted(listed) == sorted(set(headatlas.__all__) - {"__version__"}), (
        "docs/reference.md lists headatlas.__all__"
    )
