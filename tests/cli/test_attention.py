"""The screen and the JSON of `attention`, for a tiny model with planted heads."""

import json

import pytest
from typer.testing import CliRunner

import headatlas
from headatlas.cli import app
from planted import write_relation
from planted_attention import PLANTED, random_text, save_reading_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("attention")
    save_reading_model("rotary", place / "model")
    write_relation(place / "r.json")
    (place / "t.txt").write_text(random_text(), "utf-8")
    headatlas.map_heads(
        place / "model", place / "atlas", relations=place / "r.json", profile="maps", chance=False, self_check=False
    )
    return place


def run(place, *options):
    arguments = ["attention", str(place / "atlas"), "--seeds", "1", "--text", str(place / "t.txt"), *options]
    return CliRunner().invoke(app, arguments)


def test_the_finding_comes_first(place):
    result = run(place)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "model: 4 of 8 heads (50%) have a named way of reading, 1 of them only a sink"
    at = next(number for number, line in enumerate(lines) if line.startswith("Copying from context"))
    for title, head in (("Previous token", "L0H1 1.00"), ("Induction", "L1H2 1.00"), ("Sink", "L1H0 1.00")):
        (row,) = (line for line in lines[:at] if line.startswith(title))
        assert head in row and row.split(title)[1].split()[0] == "1"
    assert lines[at].endswith("repeated tokens have a probability of 0.65 (100% right)")
    removed = {line.split("  ")[0]: line.split() for line in lines[at:]}
    assert removed["Induction"][1:] == ["1", "0.01", "0.65", "(1)", "L1H2", "0.64"]
    assert removed["Duplicate"][1:] == ["1", "0.65", "0.65", "(1)", "-"]
    assert all(len(line) <= 80 for line in lines[1:])
    assert "4 sequences of 48 random tokens, shown twice; 696 tokens of text in 6 pieces" in result.stderr
    assert f"Picture: {place / 'atlas' / 'reading.png'}" in result.stderr
    assert (place / "atlas" / "reading.svg").exists()
    assert "By the weights alone: attention on text, predicted from each token by itself, agrees" in result.stderr


def test_json_has_everything(place):
    found = json.loads(run(place, "--json").stdout)
    assert found["seeds"] == 1 and found["limits"]["induction"] == 0.3 and len(found["text_sha256"]) == 64
    named = {name: heads for name, heads in found["named"].items() if heads}
    assert named == {name: [f"L{layer}H{head}"] for name, (layer, head) in PLANTED["rotary"].items()}
    assert len(found["rows"]) == 8 * (5 + 10 + 5)
    assert {row["value"] for row in found["rows"] if row["behaviour"] == "delimiter"} == {None}
    assert {row["kind"] for row in found["words"]} <= {"any", "pair"} and found["words"]
    removal = found["removal"]
    assert [each["behaviour"] for each in removal["together"]] == ["previous", "induction", "duplicate"]
    assert len(removal["rows"]) == 6 and removal["accuracy"] == 1


@pytest.mark.usefixtures("rendered")
def test_the_figure_and_what_it_refuses(place):
    run(place)
    target = place / "reading.png"
    figure = ["figure", str(place / "atlas"), "-o", str(target), "--reading"]
    assert CliRunner().invoke(app, [*figure, "--palette", "colour-blind", "--width", "column"]).exit_code == 0
    assert target.stat().st_size > 10_000
    for other in (["--relation", "r"], ["--sensitivity"]):
        result = CliRunner().invoke(app, [*figure, *other])
        assert result.exit_code == 2
        assert f"reading: a figure shows one thing. Use either {other[0]} or --reading." in result.stderr
    for name, value in (("threshold", "0.3"), ("side", "suppression"), ("categories", "Knowledge")):
        result = CliRunner().invoke(app, [*figure, f"--{name}", value])
        assert result.exit_code == 2
        assert f"reading: where heads look has no {name}. Leave --{name} out." in result.stderr


def test_heads_by_what_they_read(place):
    run(place)
    heads = ["heads", str(place / "atlas"), "--reads"]
    (row,) = CliRunner().invoke(app, [*heads, "induction"]).stdout.splitlines()
    assert row.split("\t")[:3] == ["L1H2", "induction", "1.000"] and len(row.split("\t")) == 8
    assert row.endswith("without it in-context copying falls by 0.64 (from 0.65).")
    (found,) = json.loads(CliRunner().invoke(app, [*heads, "sink", "--json"]).stdout)
    assert found["sentence"].startswith("Looks at the first token (sink, 1.00 of its attention on text); ")
    assert found["name"] == "L1H0" and found["share"] > 0.99 and found["q"] < 0.01
    assert CliRunner().invoke(app, [*heads, "sink", "--category", "Planted"]).exit_code == 0
    result = CliRunner().invoke(app, [*heads, "inductions"])
    assert result.exit_code == 2 and "reads: expected" in result.stderr and "induction" in result.stderr


def test_the_card_says_what_a_head_does_in_one_sentence(place):
    run(place)
    card = ["head", str(place / "atlas"), "L1H2"]
    looks = "Looks at the token behind an earlier copy of the current one (induction, 1.00 of its attention)"
    sentence = f"{looks}; no relation names what it writes; without it in-context copying falls by 0.64 (from 0.65)."
    shown = " ".join(CliRunner().invoke(app, card).stdout.split())
    assert sentence in shown and "copying copying from context without it: 0.01 (3% right), falls by 0.64" in shown
    assert sentence in CliRunner().invoke(app, [*card, "--markdown"]).stdout
    told = json.loads(CliRunner().invoke(app, [*card, "--json"]).stdout)
    reading = told["reading"]
    assert told["sentence"] == sentence and reading["looks"] == looks and told["removal"]["kind"] == "named"
    (found,) = (each for each in reading["behaviours"] if each["named"])
    assert (found["behaviour"], found["input"]) == ("induction", "random") and found["low"] <= found["value"]


def test_a_short_text_is_one_sentence(place):
    (place / "short.txt").write_text("ba", "utf-8")
    result = CliRunner().invoke(app, ["attention", str(place / "atlas"), "--text", str(place / "short.txt")])
    assert result.exit_code == 2
    assert "short.txt: expected a text of at least 500 tokens, found 1." in result.stderr.replace("\n", " ")
