"""A run opens its model once, and writes each result once."""

import pytest
from typer.testing import CliRunner

import headatlas
from headatlas.cli import app
from headatlas.errors import AtlasError
from headatlas.measuring.session import Session
from models import make_model, save_model
from planted import WORDS, make_planted, write_relation

OPENED = {
    "checkpoint": "headatlas.architectures.open.open_checkpoint",
    "heads": "headatlas.architectures.open_model",
    "tokenizer": "headatlas.checkpoints.folder.ModelFolder.load_tokenizer",
    "fingerprint": "headatlas.architectures.HeadModel.fingerprint",
}
WRITTEN = {
    "map": "headatlas.figures.draw_map",
    "analysis": "headatlas.reports.report.analyse",
    "report": "headatlas.measuring.output.write_atomically",
    "page": "headatlas.explorer.write_page",
    "data": "headatlas.measuring.output.save_atlas",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("session")
    make_planted(place / "tiny")
    write_relation(place / "planted.json")
    return place


@pytest.fixture
def calls(monkeypatch):
    """How often each of OPENED and WRITTEN is called."""
    counts = dict.fromkeys((*OPENED, *WRITTEN), 0)

    def count(name, path):
        owner, _, attribute = path.rpartition(".")
        module, _, last = owner.rpartition(".")
        target = getattr(__import__(module, fromlist=[last]), last) if last[0].isupper() else None
        target = target or __import__(owner, fromlist=[attribute])
        function = getattr(target, attribute)

        def counted(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        monkeypatch.setattr(target, attribute, counted)

    for name, path in (OPENED | WRITTEN).items():
        count(name, path)
    return counts


def test_map_opens_its_model_once_and_writes_each_result_once(place, calls, monkeypatch):
    monkeypatch.chdir(place)
    arguments = ["map", "tiny", "-o", "atlas", "--relations", "planted.json", "--salient"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "salient" in headatlas.load_atlas(place / "atlas").manifest.evidence.names
    assert {name: calls[name] for name in OPENED} == dict.fromkeys(OPENED, 1)
    # One map of the scores and one of suppression.
    assert {name: calls[name] for name in WRITTEN} == {"map": 2, "analysis": 1, "report": 1, "page": 1, "data": 1}


def test_a_head_of_a_model_opens_it_once(place, calls, monkeypatch):
    monkeypatch.chdir(place)
    relation = headatlas.load_relations(place / "planted.json")
    monkeypatch.setattr("headatlas.relations.choosing.builtin_relations", lambda: relation)
    done = CliRunner().invoke(app, ["head", "tiny", "L1H2", "--json"])
    assert done.exit_code == 0, done.output
    assert {name: calls[name] for name in OPENED} == dict.fromkeys(OPENED, 1)
    assert not any(calls[name] for name in WRITTEN)


def test_an_interrupted_measurement_of_salient_operations_continues_with_the_map(place, tmp_path, monkeypatch):
    from headatlas.measuring import salient

    def call():
        return headatlas.map_heads(
            place / "tiny", tmp_path / "out", relations=place / "planted.json", salient=True, self_check=False
        )

    layer = salient._Work.layer
    with monkeypatch.context() as patch:

        def stop(self, number, *inputs):
            if number == 1:
                raise KeyboardInterrupt
            return layer(self, number, *inputs)

        patch.setattr(salient._Work, "layer", stop)
        with pytest.raises(KeyboardInterrupt):
            call()
    assert not (tmp_path / "out" / "atlas.json").exists()
    seen = []
    monkeypatch.setattr(
        salient._Work, "layer", lambda self, number, *inputs: seen.append(number) or layer(self, number, *inputs)
    )
    atlas = call()
    assert seen == [1, 2] and atlas.manifest.run.layers_from_earlier_run < 2
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_an_atlas_of_another_model_is_refused(place, tmp_path):
    atlas = headatlas.map_heads(place / "tiny", relations=place / "planted.json")
    other = Session(save_model(make_model("llama-tied"), tmp_path / "other", WORDS))
    with pytest.raises(AtlasError, match=r"expected the model of tiny .* found another .* --model"):
        other.check_atlas(atlas)
    assert Session.of_atlas(atlas, place / "tiny").fingerprint == atlas.manifest.model.fingerprint
