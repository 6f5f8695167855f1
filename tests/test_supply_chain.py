"""What the package never does, and what `make install` installs."""

import ast
import re
from pathlib import Path

import pytest

import headatlas
from needs import ROOT

FORBIDDEN = {
    "builtins": {"eval", "exec", "compile", "__import__"},
    "os": {"system", "popen"},
    "pickle": {"load", "loads", "Unpickler"},
    "torch": {"load"},
    "tempfile": {"mktemp"},
    "yaml": {"load", "unsafe_load"},
    "marshal": {"load", "loads"},
}
"""Module -> functions that run what they are given, or that write where others can guess."""


def offences(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(name) if name in FORBIDDEN["builtins"]:
                found.append(name)
            case ast.Attribute(ast.Name(module), name) if name in FORBIDDEN.get(module, ()):
                found.append(f"{module}.{name}")
        for keyword in node.keywords:
            on = not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
            if keyword.arg in ("trust_remote_code", "allow_pickle", "shell") and on:
                found.append(f"{keyword.arg}={ast.unparse(keyword.value)}")
    return found


def test_nothing_in_the_package_runs_what_others_wrote():
    folder = Path(headatlas.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        assert offences(ast.parse(path.read_text("utf-8"))) == [], path


@pytest.mark.parametrize(
    "code",
    ["eval('1')", "import torch\ntorch.load(path)", "load(x, trust_remote_code=True)", "run(x, shell=flag)",
     "pickle.loads(x)", "tempfile.mktemp()"],
)  # fmt: skip
def test_what_is_forbidden_is_found(code):
    assert len(offences(ast.parse(code))) == 1


def test_constraints_are_names_and_single_versions():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    for line in lines:
        assert not line or line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.+!]*(\s*;.*)?", line), line
