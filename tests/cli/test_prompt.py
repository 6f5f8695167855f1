"""The screen, the files and the JSON of `prompt`, for a tiny model with planted heads."""

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

import headatlas
from explorer_payload import of_page
from headatlas.cli import app, prompt_screen
from planted import WORDS, write_relation
from planted_attention import PREFIX, save_reading_model

REPEATED = " " + " ".join([PREFIX, *WORDS[3:9], WORDS[3]])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("prompt")
    save_reading_model("rotary", place / "model")
    write_relation(place / "r.json")
    headatlas.map_heads(
        place / "model", place / "atlas", relations=place / "r.json", profile="maps", chance=False, self_check=False
    )
    return place


def run(place, prompt, *options):
    return CliRunner().invoke(app, ["prompt", str(place / "atlas"), prompt, "--controls", "3", *options])


def test_the_finding_comes_first_and_the_picture_is_in_the_atlas(place):
    result = run(place, REPEATED, "--top", "2", "--add-relations", str(place / "r.json"))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == [*REPEATED.split(), "→", WORDS[4]]
    assert any(line.startswith(f"The model continues with '{WORDS[4]}'") for line in lines)
    assert any(line.startswith("L1H2 stands out most, +") for line in lines)
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("head")) :]
    assert table[1].startswith("L1H2") and table[3].startswith("adds: ")
    assert all(len(line) <= 80 for line in lines)
    (picture,) = (place / "atlas").glob("prompt-*.png")
    assert f"Picture: {picture}" in result.stderr
    assert {path.suffix for path in (place / "atlas").glob(f"{picture.stem}.*")} == {".png", ".svg", ".json"}


def test_the_explorer_with_the_prompt_is_written_next_to_the_picture(place, tmp_path):
    result = run(place, REPEATED, "--html", "-o", str(tmp_path / "new"))
    assert result.exit_code == 0, result.output
    (page,) = (tmp_path / "new").glob("prompt-*.html")
    assert f"Open: {page}" in result.stderr
    header, _ = of_page(page.read_text("utf-8"))
    prompt = header["atlases"][0]["prompt"]
    assert prompt["text"] == REPEATED and prompt["controls"] == 3
    first, content = prompt["heads"][0], json.loads(next((tmp_path / "new").glob("*.json")).read_text("utf-8"))
    assert first["place"] == content["heads"][0]["layer"] * header["atlases"][0]["heads"] + content["heads"][0]["head"]
    assert first["attention"] == [round(share, 4) for share in content["heads"][0]["attention"]]


def test_json_goes_to_the_screen_and_into_the_folder(place, tmp_path):
    result = run(place, REPEATED, "--json", "-o", str(tmp_path / "new"), "--ablate", "1")
    content = json.loads(result.stdout)
    (file,) = (tmp_path / "new").glob("*.json")
    assert json.loads(file.read_text("utf-8")) == content
    assert content["heads"][0]["name"] == "L1H2" and content["heads"][0]["removal"] > 1
    assert content["left_out"] == ["r"] and len(content["random_removals"]) == 1


def test_a_prompt_is_no_markup_and_no_escape_code(place):
    result = run(place, f"{REPEATED} [bold]\x1b[31m", "--ablate", "1")
    assert result.exit_code == 0, result.output
    assert "[bold]\\x1b[31m" in result.stdout and "\x1b[31m" not in result.stdout


def test_a_wrong_prompt_is_one_sentence(place):
    result = run(place, "")
    assert result.exit_code == 2 and "Error: prompt: expected a text in UTF-8, found ''." in result.stderr


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_fits_its_width(place, width):
    from headatlas.measuring.attribute import attribute_logit

    found = attribute_logit(headatlas.load_atlas(place / "atlas"), REPEATED, controls=2, ablate=1)
    with (place / "screen.txt").open("w", encoding="utf-8") as file:
        prompt_screen.show_attribution(found, 8, Console(width=width, file=file, highlight=False))
    lines = (place / "screen.txt").read_text("utf-8").splitlines()
    assert max(map(len, lines)) <= width
    (head,) = (line for line in lines if line.startswith("head "))
    assert ("rank" in head) == (width > 100) and "without" in head
