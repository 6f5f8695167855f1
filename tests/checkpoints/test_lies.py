"""Every lie that a checkpoint can tell: one sentence, in two seconds, in 200 MB.

Lies whose exact sentence matters more than their cost are in the tests of each reader.
"""

import base64
import json
import shutil
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch

import headatlas
from atlases import make_atlas
from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.checkpoints.gguf.header import read_header
from headatlas.checkpoints.torch_bin.files import TorchFile
from headatlas.errors import HeadatlasError
from headatlas.measuring.running.contexts import load_templates
from headatlas.measuring.running.questions import load_prompts
from headatlas.measuring.survey_list import read_model_list
from models import make_model, save_model

SECONDS, MEGABYTES = 2.0, 200
SLACK = 4
"""How many times as slow as ours the machine of a test may be."""

PEAK = Path("/proc/self/clear_refs")
"""Linux resets the peak memory of a process when this is written."""


def memory(kind: str) -> int:
    """`VmRSS` now, or `VmHWM` at its peak, in bytes; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(kind)), 0)


def refusal(act, most_megabytes=MEGABYTES) -> str:
    """The sentence with which `act` is refused, at little cost."""
    measured = PEAK.exists()
    if measured:
        PEAK.write_text("5", "utf-8")
    before, started = memory("VmRSS"), time.process_time()
    with pytest.raises(HeadatlasError) as caught:
        act()
    seconds, grown = time.process_time() - started, memory("VmHWM") - before
    assert seconds < SECONDS * SLACK, f"{seconds:.1f} s"
    assert not measured or grown < most_megabytes * 1_000_000, f"{grown / 1e6:.0f} MB"
    found = str(caught.value)
    assert "\n" not in found and len(found) < 1_000
    return found


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = save_model(make_model("llama"), tmp_path_factory.mktemp("original"))
    open_model(open_checkpoint(folder))  # what is imported now does not count later
    open_checkpoint(folder).load_tokenizer()
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "m")


def with_header(folder, header: bytes):
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def entries(n: int) -> bytes:
    return b"{" + b",".join(b'"%x":{"dtype":"F32","shape":[],"data_offsets":[0,0]}' % i for i in range(n)) + b"}"


HEADERS = {
    "many tensors": (entries(200_000), "its header may have at most 1,200,000 values, found about"),
    "long": (entries(320_000), "it announces a header of 17,850,097 bytes, more than the 16,777,216 allowed"),
    "empty lists": (b'{"a":[' + b"[]," * 5_000_000 + b"0]}", "its header may have at most 1,200,000 values"),
    "much metadata": (
        b'{"__metadata__":{' + b",".join(b'"%x":""' % i for i in range(1_300_000)) + b"}}",
        "its header may have at most 1,200,000 values",
    ),
}


@pytest.mark.parametrize("case", HEADERS)
def test_safetensors_headers(folder, case):
    header, what = HEADERS[case]
    assert what in refusal(lambda: open_checkpoint(with_header(folder, header)))


def gguf(keys: bytes = b"", n_keys: int = 0, tensors: bytes = b"", n_tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_keys) + keys + tensors + bytes(64)


def text(word: bytes) -> bytes:
    return struct.pack("<Q", len(word)) + word


GGUFS = {
    "keys": (
        lambda: gguf(b"".join(text(b"%x" % i) + b"\0\0\0\0\1" for i in range(500_000)), 500_000),
        "it announces 500,000 keys, more than the 10,000 of any model",
    ),
    "tensors": (
        lambda: gguf(b"", 0, b"".join(text(b"%x" % i) + struct.pack("<IQIQ", 1, 8, 0, 0) for i in range(300_000)),
                     300_000),
        "it announces 300,000 tensors, more than the 100,000 of any model",
    ),
    "ten million tokens": (
        lambda: gguf(text(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 10**7) + text(b"a") * 10**7, 1),
        "it announces 10,000,000 strings, more than the 3,000,000 of any model",
    ),
    "a string as long as the file": (
        lambda: gguf(text(b"a") + struct.pack("<IQ", 8, 2**40) + b"a" * 50_000_000, 1),
        "it ends inside its header",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GGUFS)
def test_gguf_headers(original, tmp_path, case):
    make, what = GGUFS[case]
    path = tmp_path / "m.gguf"
    path.write_bytes(make())
    assert what in refusal(lambda: read_header(path))


N = 200_000
PICKLES = {
    "lists": b"\x80\x02" + b"]" * N + b".",
    "marks": b"\x80\x02" + b"(" * N + b".",
    "dictionaries of one": b"\x80\x04" + b"}K\x00Ns" * (N // 4) + b".",
    "dictionaries in lists": b"\x80\x04]" + b"}a" * (N // 2) + b".",
    "many instructions": b"\x80\x02" + b"N" * 400_000 + b".",
}


@pytest.mark.parametrize("case", PICKLES)
def test_pickles(original, tmp_path, case):
    with zipfile.ZipFile(tmp_path / "m.bin", "w") as archive:
        archive.writestr("a/data.pkl", PICKLES[case])
    assert "expected torch's file of tensors, found another" in refusal(lambda: TorchFile(tmp_path / "m.bin"))


def test_the_entries_of_an_archive(original, tmp_path):
    n = 200_000
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    listing = entry * n
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0, 0, len(listing), 4, 0)
    (tmp_path / "m.bin").write_bytes(b"PK\3\4" + listing + end)
    found = refusal(lambda: TorchFile(tmp_path / "m.bin"))
    assert "its list of entries has more than 8,388,608 bytes" in found


@pytest.mark.parametrize("name", ["../data.pkl", "/data.pkl", "a/../../data.pkl", "a\\data.pkl"])
def test_names_in_an_archive_that_lead_elsewhere(tmp_path, name, monkeypatch):
    """They are names of entries and nothing else: no file is written, and none but the archive is read."""
    inside = tmp_path / "in"
    inside.mkdir()
    monkeypatch.chdir(inside)
    torch.save({"a": torch.ones(2)}, inside / "good.bin")
    with zipfile.ZipFile(inside / "good.bin") as good, zipfile.ZipFile(inside / "m.bin", "w") as archive:
        for entry in good.infolist():
            archive.writestr(entry.filename.replace("good/data.pkl", name), good.read(entry))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    refusal(lambda: TorchFile(inside / "m.bin"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


CONFIGS = {
    "heads": ({"num_attention_heads": 10**9}, "transformers cannot read this config"),
    "key-value heads": ({"num_key_value_heads": 10**9}, "expected a number of heads that 1000000000 key-value heads"),
    "no heads": ({"num_attention_heads": 0}, "transformers cannot read this config"),
    "fewer than none": ({"num_key_value_heads": -1}, "transformers cannot build a model of this config"),
    "width": ({"hidden_size": 10**9}, "transformers cannot read this config"),
    "layers": ({"num_hidden_layers": 10**9}, "expected at most 2,000 for 'num_hidden_layers', found 1,000,000,000"),
    "many values": ({"x": [[]] * 300_000}, "expected at most 200,000 values, found about"),
    "long": ({"x": "a" * 5_000_000}, "expected at most 4,194,304 bytes, found more"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configs(folder, case):
    changes, what = CONFIGS[case]
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    found = refusal(lambda: open_model(open_checkpoint(folder)))
    assert found.startswith((f"{path}: ", f"{folder}: ")) and what in found


def test_a_vocabulary_that_the_weights_do_not_have(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"vocab_size": 10**9}), "utf-8")
    found = refusal(lambda: open_model(open_checkpoint(folder)).fingerprint())
    assert "1000000000" in found or "1,000,000,000" in found


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_config_of_great_depth(folder, opening, closing):
    path = folder / "config.json"
    nested = opening * 90_000 + "1" + closing * 90_000
    path.write_text(path.read_text("utf-8").rstrip()[:-1] + f', "x": {nested}}}', "utf-8")
    assert f"{path}: expected JSON, found something else (maximum recursion depth" in refusal(
        lambda: open_checkpoint(folder)
    )


def test_an_index_of_a_million_tensors(folder):
    (folder / "model.safetensors").unlink()
    names = ",".join(f'"{i:x}":"a.safetensors"' for i in range(1_000_000))
    index = folder / "model.safetensors.index.json"
    index.write_text(f'{{"weight_map":{{{names}}}}}', "utf-8")
    assert refusal(lambda: open_checkpoint(folder)).startswith(f"{index}: expected at most 400,000 values, found about")


def test_split_files_that_name_each_other(folder):
    """Names lead to files of tensors only, never to another index."""
    index = folder / "model.safetensors.index.json"
    (folder / "model.safetensors").unlink()
    for name in (index.name, "../m/model.safetensors.index.json"):
        index.write_text(json.dumps({"weight_map": {"a": name}}), "utf-8")
        assert "expected names of safetensors files in this folder" in refusal(lambda: open_checkpoint(folder))
    index.unlink()
    (folder / "model-00001-of-99999.safetensors").write_bytes(b"")
    assert "expected the file 'model-00002-of-99999.safetensors'" in refusal(lambda: open_checkpoint(folder))


def with_tokenizer(folder, **changes):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    return folder


def test_a_tokenizer_of_ten_million_entries(folder):
    path = folder / "tokenizer.json"
    vocabulary = ",".join(f'"{i:x}":{i}' for i in range(10_000_000))
    path.write_text(f'{{"model":{{"type":"BPE","merges":[],"vocab":{{{vocabulary}}}}}}}', "utf-8")
    del vocabulary
    assert refusal(open_checkpoint(folder).load_tokenizer) == (
        f"{path}: expected at most 67,108,864 bytes, found more. Is it the tokenizer of a language model?"
    )
    path.write_text('{"a":[' + "[]," * 5_000_000 + "[]]}", "utf-8")
    assert "expected at most 4,000,000 values, found about" in refusal(open_checkpoint(folder).load_tokenizer)


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def charsmap(content: bytes) -> dict:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


NORMALIZERS = {
    "a panic at loading": (charsmap(b"junk" * 9), "found none that transformers can read"),
    "a panic at use": (charsmap(struct.pack("<I", 8) + b"\xff" * 8 + b"a\0"), "found none that transformers can read"),
    "of nothing": (replace({"String": ""}, "x"), "a replacement of the empty text"),
    "doubling": (
        {"type": "Sequence", "normalizers": [replace({"String": "a"}, "aa")] * 40},
        "replacements that make a word more than 100 times as long",
    ),
    "growing at once": (replace({"String": "a"}, "a" * 1_000), "replacements that make a word more than 100 times"),
    "steps": ({"type": "Sequence", "normalizers": [{"type": "NFC"}] * 101}, " of them"),
    "endless": (replace({"Regex": "(a+)+$"}, "x"), "the regular expression '(a+)+$', which repeats a choice or a"),
}


@pytest.mark.parametrize("case", NORMALIZERS)
def test_normalizers(folder, case):
    normalizer, what = NORMALIZERS[case]
    found = refusal(open_checkpoint(with_tokenizer(folder, normalizer=normalizer)).load_tokenizer)
    assert found.startswith(str(folder)) and what in found


def test_a_name_with_escapes_does_not_hide_a_step(folder):
    path = folder / "tokenizer.json"
    bad = json.dumps(replace({"String": ""}, "x"))
    content = json.loads(path.read_text("utf-8"))
    content.pop("normalizer", None)
    path.write_text(json.dumps(content)[:-1] + f', "normali\\u007aer": {bad}}}', "utf-8")
    assert "a replacement of the empty text" in refusal(open_checkpoint(folder).load_tokenizer)


ENDLESS = [
    *("(a+)+$", "(a|aa)*$", r"(\w+\s?)*$", "((a*)*)*b", "(?:a?b*){2,}", "(a*)?*b", "(?:(?:a|b)c){9}"),
    *(
        r"(a*)\1x",
        "a{1000000}",
        "a+{3}",
        "a*b*c*d*e*f*g",
        "(?x)(a+) +",
        "(?#b)a",
        r"(?<x>a*)\k<x>",
        "[[a-z]+]*(?:b|c)*",
    ),
]


@pytest.mark.parametrize("pattern", ENDLESS)
def test_regular_expressions_that_never_end(folder, pattern):
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    found = refusal(open_checkpoint(with_tokenizer(folder, pre_tokenizer=step)).load_tokenizer)
    assert "tokenizer.json: expected steps that end, found the regular expression" in found


def test_special_tokens_that_are_none(folder):
    """The library finds out only when somebody asks for them."""
    (folder / "special_tokens_map.json").write_text('{"unk_token": {"a": {"b": []}}}', "utf-8")
    assert "expected a tokenizer" in refusal(open_checkpoint(folder).load_tokenizer)


def test_what_transformers_logs_about_a_config_is_printable(folder, caplog):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["rope_parameters"] = {"rope_type": "\x1b[31m", "rope_theta": 10_000.0}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    refusal(lambda: open_model(open_checkpoint(folder)))
    assert "'\\x1b[31m'" in caplog.text and "\x1b" not in caplog.text


PUBLISHED = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re)?|\p{N}{1,3}|\s+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*",
]


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_regular_expressions_of_published_tokenizers(folder, pattern):
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    tokenizer = open_checkpoint(with_tokenizer(folder, pre_tokenizer=step)).load_tokenizer()
    assert "input_ids" in tokenizer("a word")


MANY = "at most 500,000 values, found about"
RELATIONS = {
    "a.json": (
        lambda: '{"pairs":[' + ",".join(['["a","b"]'] * 1_000_000) + "]}",
        MANY,
    ),
    "b.json": (lambda: "[" + "[]," * 5_000_000 + "[]]", MANY),
    "c.json": (lambda: '{"pairs":[' + ",".join(['["a","b"]'] * 110_000) + "]}", "at most 100,000 pairs, found 110,000"),
    "d.csv": (lambda: "source,target\n" + "a,b\n" * 1_000_000, MANY),
    "e.csv": (lambda: "source,target\n" + "," * 10_000_000, MANY),
    "f.tsv": (lambda: "source\ttarget\n" + "a" * 17_000_000, "at most 16,777,216 bytes, found 17,000,014"),
    "g.json": (lambda: '{"pairs":[["a",' + "9" * 5_000 + "]]}", "a number of thousands of digits"),
    "h.json": (lambda: '{"pairs":[["a","\\ud800"]]}', "half of a character (a surrogate)"),
    "i.json": (lambda: "[" * 90_000 + "]" * 90_000, "expected JSON, found maximum recursion depth exceeded"),
}


@pytest.mark.parametrize("name", RELATIONS)
def test_relations(original, tmp_path, name):
    make, what = RELATIONS[name]
    (tmp_path / name).write_text(make(), "utf-8")
    found = refusal(lambda: headatlas.load_relations(tmp_path / name))
    assert found.startswith(f"{tmp_path / name}: ") and what in found


ONE_MODEL = "\n[[model]]\nname = 'a'\nsource = 'b'\n"
TOML = {
    "deep lists": (lambda: "k = " + "[" * 100_000, "too many values inside each other"),
    "lists in lists": (
        lambda: f"relations = {'[' * 200}{']' * 200}{ONE_MODEL}",
        "more than 50 values inside each other",
    ),
    "a key of many parts": (lambda: ".".join("a" * 200_000) + " = 1", "keys of too many parts"),
    "a table of many parts": (
        lambda: "[" + ".".join("a" * 3_000) + "]\n" + "b = 1\n" * 9_000,
        "keys of too many parts",
    ),
    "a decimal number": (lambda: "k = " + "9" * 5_000 + ONE_MODEL, "a number of thousands of digits"),
    "a hexadecimal number": (lambda: "k = 0x" + "f" * 5_000 + ONE_MODEL, "a whole number of more than 64 bits"),
    "a long text": (lambda: "prefix = '" + "a" * 50_000_000 + "'" + ONE_MODEL, "more than 1,048,576 bytes"),
    "many tables": (lambda: "".join(f"[t{i}]\n" for i in range(120_000)), "more than 1,048,576 bytes"),
}


@pytest.mark.parametrize("read", [read_model_list, load_prompts, load_templates])
@pytest.mark.parametrize("case", TOML)
def test_toml(original, tmp_path, case, read):
    make, what = TOML[case]
    (tmp_path / "a.toml").write_text(make(), "utf-8")
    found = refusal(lambda: read(tmp_path / "a.toml"))
    assert found.startswith(f"{tmp_path / 'a.toml'}: expected a") and what in found


SCORES = "relation,category,layer,head,score\n"
WIDE = {
    "names": ("," * 300_000 + "\n1", "at most 100 columns, found 300,001"),
    "a line": (f"{SCORES} \n" + "," * 300_000, "at most 100 columns, found 300,001"),
    "names of several lines": ('"a\n",' * 200_000 + "b\n1", "at most 100 columns, found 200,001"),
    "a place more": (f"{SCORES}a,K,0,0,0.1,5\n", "expected 5 columns in each line, found 6"),
    "behind empty lines": ("\n" * 1_100_000 + SCORES, "in the first 1,048,576 bytes, found none"),
}


@pytest.mark.parametrize("case", WIDE)
def test_tables_of_scores(original, tmp_path, case):
    content, what = WIDE[case]
    (tmp_path / "a.csv").write_text(content, "utf-8")
    assert what in refusal(lambda: headatlas.import_scores(tmp_path / "a.csv", "weights"))


def test_empty_lists_in_the_place_of_metrics(original, tmp_path):
    (tmp_path / "a.json").write_text("[" + "[]," * 5_000_000 + "[]]", "utf-8")
    found = refusal(lambda: headatlas.import_headvis(make_atlas(), tmp_path / "a.json"))
    assert "expected at most 1,000,000 values, found about 10,000,002" in found


def test_the_log_of_a_long_training_is_no_tokenizer(folder):
    (folder / "trainer_state.json").write_text("[" + "0," * 4_000_001 + "0]", "utf-8")
    assert open_checkpoint(folder).load_tokenizer()(" a")["input_ids"]
