"""Pages name everything that there is, and only what there is."""

import re

import pytest

from documented import COMMANDS, DOCS, PAGES, ROOT


def test_every_command_is_documented():
    from headatlas.cli import app

    text = COMMANDS.read_text("utf-8")
    names = [command.name for command in app.registered_commands]
    assert len(names) == 25
    for name in names:
        assert f"## `headatlas {name}`" in text


@pytest.mark.parametrize("command", ["map", "survey"])
def test_every_option_is_documented(command):
    import inspect

    from headatlas import cli

    text = COMMANDS.read_text("utf-8")
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
    rows = [line for line in (DOCS / "promises.md").read_text("utf-8").splitlines() if "`tests/" in line]
    assert len(rows) > 15
    for row in rows:
        for name in re.findall(r"`((?:tests|tools|examples)/[^`]+)`", row):
            assert (ROOT / name).is_file(), row


def test_the_reference_has_every_public_name():
    import headatlas

    listed = re.findall(
        r"^\.\. auto(?:function|class):: headatlas\.(\w+)$", (DOCS / "reference.md").read_text("utf-8"), re.M
    )
    assert sorted(listed) == sorted(set(headatlas.__all__) - {"__version__"}), (
        "docs/reference.md lists headatlas.__all__"
    )
