"""Code and lists for other tools on the command line."""

import ast
import json

import pytest
from typer.testing import CliRunner

from atlases import make_atlas, make_attention, with_model
from headatlas.atlas import save_atlas
from headatlas.cli import app


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    atlas = make_attention(make_atlas(n_layers=3, n_heads=3), {"induction": {(1, 2): 0.9}})
    return save_atlas(with_model(atlas, model_type="llama"), tmp_path_factory.mktemp("export") / "atlas")


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("fmt", ["torch", "nnsight", "nnterp", "transformer-lens", "inspect"])
def test_code(folder, tmp_path, fmt):
    file = tmp_path / "code.py"
    run(folder, "--format", fmt, "--reads", "induction", "-o", file)
    assert "HEADS = {1: [2]}" in ast.unparse(ast.parse(file.read_text("utf-8")))
    assert "HEADS = {0: [1], 2: [0]}" in run(folder, "--format", fmt, "--heads", "L2H0, L0H1").stdout


def test_a_list_of_far_reading_heads(folder):
    assert json.loads(run(folder, "--format", "full-attention").stdout)["query_heads"][1] == [0, 0, 1]


def test_heads_are_chosen_for_code_alone(folder):
    assert "Error: heads: expected --relation" in run(folder, "--format", "torch", code=2).stderr
    assert "Error: relation: it chooses the heads of code" in run(folder, "--relation", "x", code=2).stderr


def test_names_are_escaped_where_heads_are_piped(tmp_path):
    atlas = make_atlas(n_layers=5, n_heads=3, categories=("Knowledge",), relations=("a\tb\x1b[31m",))
    folder = save_atlas(atlas, tmp_path / "atlas")
    done = CliRunner().invoke(app, ["heads", str(folder), "--min-score", "0"])
    assert done.exit_code == 0, done.output
    for line in done.stdout.splitlines():
        assert line.split("\t")[1] == "a\\tb\\x1b[31m" and len(line.split("\t")) == 11
