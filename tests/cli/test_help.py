"""Help of every command, options that every command has, and names that the shell completes."""

import logging
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from atlases import make_atlas
from headatlas.atlas import save_atlas
from headatlas.cli import app
from headatlas.cli.help import GROUPS

NAMES = [str(command.name) for command in app.registered_commands]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("help")
    (place / "atlas").mkdir()
    save_atlas(make_atlas(12, 3), place / "atlas")
    return place


def shown(*arguments, width=80):
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(width), "TERMINAL_WIDTH": ""})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [80, 120])
def test_help_fits_the_screen_and_shows_no_types(name, width):
    lines = shown(name, "--help", width=width).splitlines()
    assert all(len(line.rstrip()) <= width for line in lines[1:])
    text = "\n".join(lines)
    assert not re.search(r"<(bool|str|int|float|path)\b|int range", text) and "[[" not in lines[0], text
    assert "-q, --quiet" in text and "-v, --verbose" in text and "Options" in text


def test_help_keeps_brackets_and_lists_choices():
    assert "The models: [[model]], name, source." in shown("survey", "--help").replace("\n", " ")
    assert "--side score|suppression" in shown("figure", "--help")
    assert "--rule plain|calibrated" in shown("heads", "--help")
    assert "transformer-lens" in shown("export", "--help")
    assert "[required]" in shown("map", "--help")


def test_the_program_s_help_has_every_command_once():
    text = shown("--help")
    for name in NAMES:
        assert len(re.findall(rf"^  {name} ", text, re.M)) == 1, name
    assert {name for names in GROUPS.values() for name in names} >= set(NAMES) and "More" not in text


def completed(place, line):
    words = f"headatlas {line}"
    env = os.environ | {"_HEADATLAS_COMPLETE": "complete_bash", "COMP_WORDS": words}
    env["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    code = "import sys; sys.argv = ['headatlas']; import headatlas.cli as c; c.app(prog_name='headatlas')"
    done = subprocess.run([sys.executable, "-c", code], cwd=place, env=env, capture_output=True, encoding="utf-8")
    return done.stdout.split()


def test_a_shell_completes_names(place):
    assert completed(place, "heads atlas --relation know") == ["knowledge_relation"]
    assert completed(place, "heads atlas --category k") == ["knowledge"]
    assert completed(place, "head atlas l11h") == ["l11h0", "l11h1", "l11h2"]


@pytest.mark.parametrize("manifest", ["[", "[]", '{"model": 3, "relations": []}', '{"relations": {"items": [3, {}]}}'])
def test_what_is_no_manifest_completes_nothing(manifest, tmp_path):
    from headatlas.cli.completion import complete_category, complete_head, complete_relation

    (tmp_path / "atlas.json").write_text(manifest, "utf-8")
    context = type("Context", (), {"params": {"atlas": tmp_path}})
    assert complete_head(context, [], "L") == []
    assert complete_category(context, [], "Know") == ["Knowledge"]
    assert "country_to_capital" in complete_relation(context, [], "country_to_c")


def test_a_manifest_cannot_put_commands_on_the_line(tmp_path):
    from headatlas.cli.completion import complete_relation

    names = ["a;rm", "a$(b)", "a b", "a\\u001b[31m", "ab"]
    items = ", ".join(f'{{"relation": "{name}"}}' for name in names)
    (tmp_path / "atlas.json").write_text(f'{{"relations": {{"items": [{items}]}}}}', "utf-8")
    assert complete_relation(type("Context", (), {"params": {"source": tmp_path}}), [], "a") == ["ab"]


def test_quiet_prints_results_and_errors_only(place, monkeypatch):
    monkeypatch.chdir(place)
    run = CliRunner().invoke
    assert "Wrote r.md" in run(app, ["report", "atlas", "-o", "r.md"]).stderr
    assert run(app, ["report", "atlas", "-o", "r.md", "-q"]).stderr == ""
    assert run(app, ["heads", "atlas", "--quiet"]).stdout
    assert "Error: no: expected an atlas folder" in run(app, ["heads", "no", "-q"]).stderr


def test_verbose_logs_on_standard_error(place, monkeypatch):
    monkeypatch.chdir(place)
    result = CliRunner().invoke(app, ["heads", "atlas", "-v"])
    assert re.search(r"\d\d:\d\d:\d\d headatlas.cli.app: headatlas \S+: heads", result.stderr)
    assert "headatlas.cli.app: heads: done in" in result.stderr and "headatlas.cli" not in result.stdout
    assert "headatlas.cli" not in CliRunner().invoke(app, ["heads", "atlas"]).stderr
    logging.getLogger("headatlas").setLevel(logging.NOTSET)


def test_the_help_prints_no_colours_into_a_pipe():
    assert "\x1b" not in shown("map", "--help")
