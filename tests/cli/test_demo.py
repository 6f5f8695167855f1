"""`demo` names the demo model in every command, also next to a folder of that name."""

import pytest
from typer.testing import CliRunner

from headatlas.cli import app
from headatlas.errors import CheckpointError


@pytest.mark.parametrize(
    "arguments",
    [
        ("map", "-o", "out"),
        ("map", "demo", "-o", "out"),
        ("plan",),
        ("plan", "demo"),
        ("head", "demo", "L23H4"),
        ("find", "demo", "France->Paris"),
        ("relations", "--model", "demo"),
    ],
    ids=" ".join,
)
def test_demo_is_the_demo_model(arguments, tmp_path, monkeypatch):
    def open_checkpoint(source, adapter=None):
        raise CheckpointError(f"opened {source}")

    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "atlas.json").write_text("{}", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("headatlas.architectures.open.open_checkpoint", open_checkpoint)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "opened demo" in result.output, result.output
