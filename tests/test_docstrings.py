"""The examples in docstrings run as they are written, on a tiny model in which a head maps countries to capitals."""

import doctest
import importlib
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import headatlas
from headatlas.atlas import load_atlas
from planted import make_planted

SOURCE = Path(headatlas.__file__).parent
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text("utf-8")]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The folder in which the examples run: a model and its atlas."""
    place = tmp_path_factory.mktemp("example")
    capitals = next(relation for relation in headatlas.builtin_relations() if relation.name == "country_to_capital")
    pairs = [pair for pair in capitals.pairs if "".join(pair).isascii()][:40]
    words = list(dict.fromkeys(word for pair in pairs for word in pair))
    make_planted(place / "path" / "to" / "model", pairs=pairs, words=words, profile="alone")
    tuned = shutil.copytree(place / "path" / "to" / "model", place / "path" / "to" / "tuned")
    tensors = load_file(tuned / "model.safetensors")
    tensors["model.layers.1.self_attn.o_proj.weight"] *= 0.9
    save_file(tensors, tuned / "model.safetensors", metadata={"format": "pt"})
    headatlas.map_heads(place / "path" / "to" / "model", place / "atlas")
    (place / "models.toml").write_text(
        '[[model]]\nname = "tiny"\nsource = "path/to/model"\n[[model]]\nname = "gone"\nsource = "./gone"\n', "utf-8"
    )
    (place / "text.txt").write_text(f" {' '.join(words)}" * 10, "utf-8")
    atlas = load_atlas(place / "atlas")
    scores = [[0.25] * atlas.n_heads] * atlas.n_layers
    (place / "headvis").mkdir()
    (place / "headvis" / "pile.json").write_text(json.dumps({"metrics": {"prev_token_score": scores}}), "utf-8")
    return place


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_examples(path, example, tmp_path, monkeypatch):
    module = importlib.import_module(module_of(path))
    found = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert found, "an example that doctest does not find"
    shutil.copytree(example, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for test in found:
        assert not any(doctest.SKIP in each.options for each in test.examples), f"{test.name}: an example is skipped"
        test.globs.setdefault("atlas", load_atlas("atlas"))
        output: list[str] = []
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        runner.run(test, out=output.append)
        assert not runner.failures, "".join(output)
