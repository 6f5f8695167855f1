"""The house's rule: imports point only from a later room to an earlier one, and no files import in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import headatlas

ROOT = Path(headatlas.__file__).parent

ROOMS = (
    ("_version", "errors", "printable", "atomic", "regular_files", "bounded_json", "bounded_toml", "settings"),
    ("checkpoints",),
    ("architectures",),
    ("relations",),
    ("scoring",),
    ("engines",),
    ("atlas",),
    ("analysis",),
    ("figures", "reports", "explorer"),
    ("measuring",),
    ("sharing",),
    ("cli",),
    ("__init__", "__main__", "notebook"),
)
"""From the first that others may import to the last; docs/house.md draws and explains it."""

LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}


def module_name(path: Path, root: Path) -> str:
    """`checkpoints.gguf.header`; a package's own file is `checkpoints.gguf.__init__`."""
    return ".".join(path.relative_to(root).with_suffix("").parts)


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of all imports from the package: at the top, inside functions, and for typing only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == package)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import hides which room it reaches into"
            if node.module and node.module.split(".")[0] == package:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{package}."):
            # The tables of lazy names: "headatlas.figures.map".
            yield node.value


def import_graph(root: Path) -> dict[str, set[str]]:
    """Each file of a package and the files that it imports."""
    files = {module_name(path, root): path for path in root.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        graph[name] = set()
        for dotted in imported_names(ast.parse(path.read_text("utf-8")), root.name):
            parts = dotted.split(".")[1:]
            # The longest beginning that is a file or a package; the rest is a name in it.
            for end in range(len(parts), -1, -1):
                found = ".".join(parts[:end])
                target = found if found in files else f"{found}.__init__".lstrip(".")
                if target in files:
                    graph[name].add(target)
                    break
        graph[name].discard(name)
    return graph


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports that point to a later room."""
    level = {name: LEVEL[name.split(".")[0]] for name in graph}
    return sorted(f"{name} -> {to}" for name, targets in graph.items() for to in targets if level[to] > level[name])


def sideways(graph: dict[str, set[str]]) -> list[str]:
    """Imports between rooms of one level that go both ways."""
    rooms = {(name.split(".")[0], to.split(".")[0]) for name, targets in graph.items() for to in targets if "." in name}
    return sorted(f"{a} <-> {b}" for a, b in rooms if a < b and (b, a) in rooms)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files that import each other, by whatever detour (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for to in sorted(graph[name]):
            if to not in index:
                visit(to)
                low[name] = min(low[name], low[to])
            elif to in stack:
                low[name] = min(low[name], index[to])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def test_every_file_has_a_room():
    assert {name.split(".")[0] for name in import_graph(ROOT)} <= set(LEVEL)


def test_no_import_points_to_a_later_room():
    assert upward(import_graph(ROOT)) == []


def test_rooms_of_one_level_do_not_import_each_other_both_ways():
    assert sideways(import_graph(ROOT)) == []


def test_no_files_import_in_a_circle():
    assert circles(import_graph(ROOT)) == []


def plant(root: Path, files: dict[str, str]) -> dict[str, set[str]]:
    package = root / "headatlas"
    for name, text in files.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return import_graph(package)


def test_a_lazy_arrow_upwards_is_found(tmp_path):
    graph = plant(
        tmp_path,
        {"atlas/value": "def f():\n    from headatlas.cli.app import main\n", "cli/app": "main = 1\n"},
    )
    assert upward(graph) == ["atlas.value -> cli.app"]


def test_an_arrow_for_typing_only_is_found(tmp_path):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import headatlas.engines.ray\n"
    graph = plant(tmp_path, {"scoring/ranks": text, "engines/ray": ""})
    assert upward(graph) == ["scoring.ranks -> engines.ray"]


def test_an_arrow_through_a_table_of_lazy_names_is_found(tmp_path):
    graph = plant(tmp_path, {"atlas/__init__": 'HOME = {"f": "headatlas.figures.map"}\n', "figures/map": ""})
    assert upward(graph) == ["atlas.__init__ -> figures.map"]


def test_a_circle_inside_a_room_is_found(tmp_path):
    graph = plant(
        tmp_path,
        {
            "figures/map": "from headatlas.figures.saving import save\n",
            "figures/saving": "def save():\n    from headatlas.figures.style import ink\n",
            "figures/style": "from headatlas.figures import map\n",
            "figures/__init__": "",
        },
    )
    assert circles(graph) == [["figures.map", "figures.saving", "figures.style"]]
