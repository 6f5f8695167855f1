"""The commands salient, head and find, as typed."""

import json

import pytest
from typer.testing import CliRunner

from headatlas.atlas import load_atlas
from headatlas.cli import app
from headatlas.relations import builtin_relations
from models import make_model, save_model
from planted import HEAD, LAYER, PAIRS, make_planted, write_relation

NAME = f"L{LAYER}H{HEAD}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("cards")
    make_planted(place / "tiny", profile="alone")
    write_relation(place / "planted.json")
    return place


@pytest.fixture
def run(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    if not (place / "atlas" / "atlas.json").exists():
        call("map", "tiny", "-o", "atlas", "--relations", "planted.json", "--no-salient")
    return call


def test_map_measures_salient_operations_or_says_how(run, place):
    result = run("map", "tiny", "-o", "without", "--relations", "planted.json", "--no-salient")
    assert "were not measured: `headatlas salient without` measures them in about" in " ".join(result.stderr.split())
    run("map", "tiny", "-o", "with", "--relations", "planted.json")
    assert set(load_atlas(place / "with").manifest.evidence.names) == {"salient", "similar", "descriptions"}


def test_salient_then_head(run, place):
    assert "not measured" in run("head", "atlas", NAME).stdout
    result = run("salient", "atlas", "--tokens", "9")
    assert "9 salient tokens of each head" in result.stderr
    screen = run("head", "atlas", NAME)
    assert "Writes what planted 1.00 maps the token" in " ".join(screen.stdout.split()) and NAME in screen.stdout
    record = json.loads(run("head", "atlas", NAME, "--json").stdout)
    assert len(record["salient"]) == 9
    assert record["relations"][0] | {"score": 1.0, "hits": len(PAIRS)} == record["relations"][0]
    assert run("head", "atlas", NAME, "--markdown").stdout.startswith(f"# {NAME} of tiny")


def test_head_of_a_model_is_measured_in_memory(run, place):
    (relation,) = (relation for relation in builtin_relations() if relation.name == "country_to_continent")
    words = [word for pair in relation.pairs[:60] for word in pair]
    save_model(make_model("llama", vocab_size=131), place / "countries", words)
    before = sorted(place.iterdir())
    record = json.loads(run("head", "countries", "L1H5", "--json").stdout)
    assert record["relations"][0]["relation"] == "country_to_continent"
    assert len(record["salient"]) == 30 and record["description"] is not None
    assert "expected L0H0 to L2H5" in " ".join(run("head", "countries", "L1H9", code=2).stderr.split())
    assert sorted(place.iterdir()) == before


def test_bad_names_are_one_sentence(run):
    for name, message in (
        ("23", "expected a name such as L23H4, found '23'"),
        ("L9H0", "expected L0H0 to L2H3 in tiny"),
    ):
        result = run("head", "atlas", name, code=2)
        assert message in " ".join(result.stderr.split())
    assert "expected one of the two" in run("head", "atlas", NAME, "--json", "--markdown", code=2).stderr


def test_find(run):
    pairs = [f"{source}->{target}" for source, target in PAIRS[:3]]
    result = run("find", "atlas", *pairs, "Rome->Paris", "--top", "2", "--k", "1")
    assert "Left out: Rome -> Paris: this model has no tokens for 'Rome'." in result.stderr
    assert f"{NAME}" in result.stdout and "3 of 3" in result.stdout
    record = json.loads(run("find", "tiny", *pairs, "--json", "--k", "1").stdout)
    assert record["heads"][0] == {
        "name": NAME,
        "layer": LAYER,
        "head": HEAD,
        "hits": 3,
        "median_rank": 1.0,
        "ranks": [1, 1, 1],
    }
    assert "expected two words such as France->Paris" in run("find", "tiny", "France", code=2).stderr
