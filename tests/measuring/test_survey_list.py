"""Lists of models: every entry that cannot be meant is refused with a sentence that says where."""

from pathlib import Path

import pytest

from headatlas.errors import SettingsError
from headatlas.measuring.survey_list import read_model_list

FIRST = '[[model]]\nname = "a"\nsource = "gpt2"\n'
NAMES = (
    "relations, add_relations, k, threshold, contextualize, profile, rule, prefix, "
    "value_bias, attention_gain, final_norm_gain, input_norm_gain, "
)
LAST = "self_check, chance, salient, attention, validate"
NAMED = "up to 100 letters, digits and ._+@=- that can name a folder"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "models.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def test_settings_for_all_and_for_one(write, tmp_path):
    (tmp_path / "tiny").mkdir()
    first, second, third = read_model_list(
        write(
            'relations = ["r.json", "/elsewhere/s.json"]\nk = 5\nthreshold = 0.10\n'
            '[[model]]\nname = "a"\nsource = "tiny"\nadapter = "lora"\nk = 3\nvalue_bias = true\n'
            '[[model]]\nname = "step=1000"\nsource = "org/model@step1000"\nrelations = "own.json"\n'
            '[[model]]\nname = "c"\nsource = "../other/model.gguf"\n'
        )
    )
    assert (first.name, first.source) == ("a", "tiny")
    relations = [tmp_path / "r.json", Path("/elsewhere/s.json")]
    shared = {"relations": relations, "k": 5, "threshold": "0.10"}
    own = {"model": tmp_path / "tiny", "adapter": tmp_path / "lora", "k": 3, "value_bias": True}
    assert first.options == shared | own
    assert second.options == shared | {"model": "org/model@step1000", "relations": [tmp_path / "own.json"]}
    assert third.options == shared | {"model": tmp_path / "../other/model.gguf"}


def test_measurements_for_all_and_for_one(write, tmp_path):
    first, second, third = read_model_list(
        write(
            'salient = true\nattention = { seeds = 2, text = "t.txt" }\n'
            '[[model]]\nname = "a"\nsource = "gpt2"\nstep = 0\n'
            '[[model]]\nname = "b"\nsource = "gpt2"\nattention = false\nvalidate = true\nsalient = false\n'
            '[[model]]\nname = "c"\nsource = "gpt2"\nattention = true\nvalidate = { pairs = 5 }\nstep = 10\n'
        )
    )
    assert [model.step for model in (first, second, third)] == [0, None, 10]
    assert [model.options["salient"] for model in (first, second, third)] == [True, False, True]
    assert first.measurements == {"attention": {"seeds": 2, "text": tmp_path / "t.txt"}}
    assert second.measurements == {"validate": {}}
    assert third.measurements == {"attention": {}, "validate": {"pairs": 5}}


def test_sources_are_meant_from_the_list_on(write, tmp_path, monkeypatch):
    """Not from where the command was started: a folder there that has the name of a model on the hub is not meant."""
    path = write(FIRST + '[[model]]\nname = "b"\nsource = "demo"\n')
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "gpt2").mkdir(parents=True)
    assert [model.options["model"] for model in read_model_list(path)] == ["gpt2", "demo"]
    monkeypatch.chdir(elsewhere)
    assert read_model_list(path)[0].options["model"] == "hf://gpt2"
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "demo").mkdir()
    found = [model.options["model"] for model in read_model_list(path)]
    assert found == [tmp_path / "gpt2", "demo"]
    path = write(FIRST + '[[model]]\nname = "b"\nsource = "./demo"\n')
    assert read_model_list(path)[1].options["model"] == tmp_path / "demo"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": expected at least one [[model]] with a name and a source, found none."),
        ('model = "gpt2"', ": expected at least one [[model]] with a name and a source, found none."),
        ("[model]\nname = 1", ": expected at least one [[model]] with a name and a source, found none."),
        ("[[model]]", f": model 1: name: expected {NAMED}, found None."),
        ("[[model]]\nname = 5", f": model 1: name: expected {NAMED}, found 5."),
        *(
            (f"[[model]]\nname = {name!r}\nsource = 'x'", f": model 1: name: expected {NAMED}, found {name!r}.")
            for name in ("..", "../up", "/etc", "a/b", ".hidden", "a.", "", " ", "a b", "é", "a" * 101)
        ),
        (
            '[[model]]\nname = "a"',
            ": model 1 (a): source: expected a path, a name on the hub or an address, found None.",
        ),
        (
            FIRST + '[[model]]\nname = "A"\nsource = "x"',
            ": model 2: expected a name of its own, found 'A' like model 1.",
        ),
        ("size = 5\n" + FIRST, f": expected one of {NAMES}{LAST}, found 'size'."),
        (FIRST + "size = 5", f": model 1 (a): expected one of {NAMES}{LAST}, found 'size'."),
        (FIRST + "device = 'cuda'", f": model 1 (a): expected one of {NAMES}{LAST}, found 'device'."),
        ("k = 0\n" + FIRST, ": k: expected a whole number of at least 1, found 0."),
        (FIRST + "k = true", ": model 1 (a): k: expected a whole number of at least 1, found True."),
        (FIRST + "k = 1.5", ": model 1 (a): k: expected a whole number of at least 1, found '1.5'."),
        (FIRST + "threshold = true", ": model 1 (a): threshold: expected a number such as 0.15, found True."),
        (
            FIRST + "threshold = 1.5",
            ": model 1 (a): threshold: expected a number from 0 to below 1 such as 0.15, found '1.5'.",
        ),
        (
            'contextualize = "mlp"\n' + FIRST,
            ": contextualize: expected one of first-mlp, embedding, alone, found 'mlp'.",
        ),
        (FIRST + "value_bias = 1", ": model 1 (a): value_bias: expected true or false, found 1."),
        ("relations = []\n" + FIRST, ": relations: expected a path or a list of paths, found []."),
        (FIRST + "relations = [5]", ": model 1 (a): relations: expected a path or a list of paths, found [5]."),
        (FIRST + "adapter = 5", ": model 1 (a): adapter: expected a path, found 5."),
        (FIRST + "step = -1", ": model 1 (a): step: expected a whole number of at least 0, found -1."),
        (FIRST + "step = true", ": model 1 (a): step: expected a whole number of at least 0, found True."),
        (
            FIRST + 'step = 5\n[[model]]\nname = "b"\nsource = "x"\nstep = 5',
            ": model 2 (b): step: expected a place of its own, found 5, that of a.",
        ),
        ("salient = 5\n" + FIRST, ": salient: expected true or false, found 5."),
        ("attention = 2\n" + FIRST, ": attention: expected true, false or a table of seeds, text, found 2."),
        (
            FIRST + "attention = { seeds = 0 }",
            ": model 1 (a): attention.seeds: expected a whole number of at least 1, found 0.",
        ),
        ("attention = { pairs = 2 }\n" + FIRST, ": attention: expected one of seeds, text, found 'pairs'."),
        (
            FIRST + "validate = { effects = -1 }",
            ": model 1 (a): validate.effects: expected a whole number of at least 0, found -1.",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(write, text, message):
    path = write(text)
    with pytest.raises(SettingsError) as caught:
        read_model_list(path)
    assert str(caught.value) == f"{path}{message}"


def test_paths_that_no_system_has_are_names_of_nothing(write, tmp_path):
    long = "x" * 5_000
    text = f'relations = "~nobody-of-this-name/r.json"\n[[model]]\nname = "a"\nsource = "{long}"\n'
    (model,) = read_model_list(write(text))
    assert model.options == {"model": long, "relations": [tmp_path / "~nobody-of-this-name/r.json"]}


def test_what_is_no_list_is_refused(tmp_path, write):
    with pytest.raises(SettingsError) as caught:
        read_model_list(tmp_path / "none.toml")
    assert str(caught.value) == (
        f"{tmp_path}/none.toml: expected a list of models (TOML), cannot be read (No such file or directory)."
    )
    with pytest.raises(SettingsError, match=r"models\.toml: expected a list of models \(TOML\), found another file: "):
        read_model_list(write("[[model"))
    path = write("")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="found another file"):
        read_model_list(path)
