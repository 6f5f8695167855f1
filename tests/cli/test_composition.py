"""The screen and the JSON of `composition`, the card and the report, for a tiny model with a planted pair."""

import json

import pytest
from typer.testing import CliRunner

import headatlas
from headatlas.cli import app
from planted import write_relation
from planted_attention import save_reading_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("composition")
    save_reading_model("rotary", place / "model")
    write_relation(place / "r.json")
    headatlas.map_heads(
        place / "model", place / "atlas", relations=place / "r.json", profile="maps", chance=False, self_check=False
    )
    return place


def run(place, *arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


def test_screen_card_report_and_json(place):
    atlas = str(place / "atlas")
    assert "Which heads feed it: not measured." in run(place, "head", atlas, "L1H2").stdout
    assert "`headatlas composition` measures it" in run(place, "report", atlas).stdout
    result = run(place, "composition", atlas, "--seeds", "1")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("model: 1 predicted induction heads; 1 of 8 edges between heads are beyond random pairs")
    assert any(line.split() == ["L1H2", "1.00", "1.00"] for line in lines)
    assert any("L0H1 (previous token)" in line and "L1H2" in line for line in lines)
    assert f"Picture: {place / 'atlas' / 'composition.png'}" in result.stderr
    assert "Fed by L0H1 (previous token) through its keys." in run(place, "head", atlas, "L1H2").stdout
    report = run(place, "report", atlas).stdout
    assert "## Which heads feed which" in report and "L1H2 (1.00, measured 1.00)" in report
    found = json.loads(run(place, "composition", atlas, "--seeds", "1", "--json").stdout)
    assert found["induction"] == ["L1H2"] and found["tried"] == 8 and len(found["heads"]) == 8
    (edge,) = found["edges"]
    assert edge["sender"] == "L0H1" and edge["receiver"] == "L1H2" and edge["kind"] == "key"
