"""The notebooks in examples/ are valid, hold no outputs, and run from top to bottom on a tiny model."""

import re
from pathlib import Path

import pytest

from needs import ROOT, need_package
from planted import make_planted

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

need_package("nbclient", "dev")


def read(path: Path):
    import nbformat

    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_valid_and_hold_no_outputs(path):
    import nbformat

    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.system
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    from nbclient import NotebookClient

    notebook = read(path)
    # One target for each source, and at most as many as a planted head can hold.
    pairs = list(dict(planted_pairs(notebook)).items())[:40]
    words = list(dict.fromkeys(sum(pairs, ())))
    model = make_planted(tmp_path / "model", pairs=pairs, words=words, profile="alone")
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    assert 'model = "demo"' in parameters.source
    parameters.source = re.sub('"demo"', repr(str(model)), parameters.source)
    done = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "".join(str(output) for cell in done.cells for output in cell.get("outputs", ()))
    assert "L1H2" in shown


def planted_pairs(notebook) -> list[tuple[str, str]]:
    """The pairs that the notebook itself writes, or those of a built-in relation."""
    written = re.findall(r'\("(\w+)", "(\w+)"\),', "".join(cell.source for cell in notebook.cells))
    if written:
        return written
    from headatlas.relations import builtin_relations

    capitals = next(relation for relation in builtin_relations() if relation.name == "country_to_capital")
    return [pair for pair in capitals.pairs if "".join(pair).isascii()]
