"""The manifest: what is written is read again, and whatever else is read is refused in one sentence."""

import copy
import json
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from atlases import IMPORTED, PAIRS, make_atlas, make_evidence, with_manifest
from headatlas.atlas import Manifest, load_atlas, save_atlas
from headatlas.atlas.evidence import (
    Ablation,
    AblationFacts,
    Against,
    AttentionFacts,
    Control,
    Correlation,
    GroupFacts,
    RemovedBy,
    ScoresCheck,
    Status,
    ValidationFacts,
)
from headatlas.atlas.manifest import (
    ChanceFacts,
    CopyingFacts,
    FileFacts,
    InputFacts,
    LayerCheckFacts,
    PrefixFacts,
    RunFacts,
    SelfCheckFacts,
)
from headatlas.errors import AtlasError


def full_manifest() -> Manifest:
    """A manifest in which no part is None or empty."""
    manifest = make_evidence(make_atlas(4, 6, without_heads=(2,), unmeasured=("Geometry",), note="a note")).manifest
    ablation = Ablation(
        "knowledge_relation", "The {source} is", 2, 0.5, ("L0H1", "L3H5"), (Control("other", 0.4, 0.0),),
        Status.TESTED, 1.5, 40, 64, RemovedBy.MEAN, 0, "cpu", Against("other", "maps", "alone", ("L1H1",)),
    )  # fmt: skip
    validation = ValidationFacts(
        ("The {source} is",), PAIRS, 0, ("knowledge_relation",), ("gone",),
        (GroupFacts("knowledge_relation", "one", 20, 1),), 40, 3, 1.5, "cpu", {"torch": "2"},
        (Correlation("score", "in-context", "own", "one", "knowledge_relation", 20, 24, 0.5, None, 0.25),),
    )  # fmt: skip
    attention = AttentionFacts(
        260,
        8,
        32,
        48,
        "text.txt",
        "b" * 64,
        4131,
        17,
        32,
        127,
        "d" * 64,
        {"induction": 0.3},
        (ScoresCheck((0, 1), "ALiBi", 1e-7), ScoresCheck((3,), None, None)),
        "1",
        1.5,
        "cpu",
        {"torch": "2"},
    )
    evidence = {"validation": validation, "ablation": AblationFacts({ablation.relation: ablation})}
    return replace(
        manifest.with_evidence(evidence | {"attention": attention}),
        self_check=SelfCheckFacts(1e-9, (LayerCheckFacts((0, 3), (0, 1, 3), 1e-9, False),)),
        prefix=PrefixFacts(260, " the", "ordinary", 0.99, 1e-7, "why not"),
        input=InputFacts(256, (0.5, -0.25, None, 1.0), ("value_bias",), "why not"),
        chance=ChanceFacts(3, 4),
        copying=CopyingFacts(("embedding",), 10),
        packages={"torch": "2.13.0"},
        run=RunFacts(1.5, 0, 7, "local", "cpu", 2),
        imported=IMPORTED,
        files={"scores.parquet": FileFacts("0" * 64)},
    )


FULL = full_manifest().as_dict()


def changed(path: str, value: object) -> dict:
    """The full manifest with another value at a path such as `model.n_heads`."""
    content = copy.deepcopy(FULL)
    *outer, last = path.split(".")
    inner = content
    for name in outer:
        inner = inner[int(name) if isinstance(inner, list) else name]
    inner[int(last) if isinstance(inner, list) else last] = value
    return content


def test_what_is_written_is_read_again():
    for manifest in (full_manifest(), make_atlas(3, 3).manifest):
        assert Manifest.from_json(manifest.to_json(), "atlas.json") == manifest
        assert Manifest.from_json(manifest.as_dict(), "atlas.json") == manifest


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.n_layers", "4", "model.n_layers: expected a whole number from 1 to 100,000, found '4'"),
        ("model.n_layers", True, "model.n_layers: expected a whole number from 1 to 100,000, found true"),
        ("model.n_heads", 10**30, "found a number beyond any range"),
        ("model.n_kv_heads", 4, "model.n_kv_heads: expected a divisor of n_heads, 6, found 4"),
        ("model.fingerprint", "f", "expected a SHA-256 (64 hexadecimal digits), found 'f'"),
        ("model.validity.0.layers.1", 4, "model.validity: expected layers from 0 to 3, each once, found layer 4"),
        ("model.validity.0.layers.1", 0, "model.validity: expected layers from 0 to 3, each once, found one twice"),
        ("model.validity.1.layers", [], "model.validity: expected every layer from 0 to 3, found 3 layers"),
        ("self_check.layers.0.tried", [9], "self_check.layers[0].tried: expected layers from 0 to 3"),
        ("settings.threshold", "1e999999999", "settings.threshold: expected a number from 0 to below 1 as text"),
        ("settings.profile", "mpas", "settings.profile: expected one of maps, alone, found 'mpas'"),
        ("prefix.agreement", 1.5, "prefix.agreement: expected a number from -1 to 1, found 1.5"),
        ("prefix.text", 3, "prefix.text: expected text, found 3"),
        ("input.cosines.1", -1.5, "input.cosines[1]: expected a number from -1 to 1, found -1.5"),
        ("input.cosines", [0.5], "input.cosines: expected none or one of each of 4 layers, found 1"),
        ("input.left_out.0", 3, "input.left_out[0]: expected text, found 3"),
        ("copying.copiers.0", None, "copying.copiers[0]: expected text, found null"),
        ("settings.rule", "maps", "settings.rule: expected one of plain, calibrated, found 'maps'"),
        ("relations.items.0.pairs", -1, "relations.items[0].pairs: expected a whole number of at least 0, found -1"),
        ("relations.items.0.measurable", 1, "relations.items[0].measurable: expected true or false, found 1"),
        ("relations.items.1.relation", "algorithmic_relation", "expected each relation once"),
        ("evidence.validation.correlations.0.pearson", 1.5, "pearson: expected a number from -1 to 1, found 1.5"),
        ("evidence.validation.correlations.0.pearson", float("nan"), "expected a number from -1 to 1, found nan"),
        ("evidence.ablation.relations.knowledge_relation.status", "?", "expected one of tested, not testable, no"),
        ("evidence.ablation.relations.knowledge_relation.heads.0", "L9H0", "expected names of heads such as L0H0"),
        ("evidence.rumours", {}, "evidence: expected only the keys salient, similar"),
        ("files", {"../x": {"sha256": "0" * 64}}, "files: expected files of an atlas"),
        ("created", "\ud800", "created: expected text of at most 1,000,000 Unicode characters"),
        ("identity", json.loads("[" * 100 + "]" * 100), "expected at most 30 values inside each other"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(path, value, message):
    with pytest.raises(AtlasError) as caught:
        Manifest.from_json(changed(path, value), "out/atlas.json")
    assert message in str(caught.value) and str(caught.value).startswith("out/atlas.json: ")
    assert str(caught.value).endswith(". Run the map again.")


def places(value: object, path: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, each in inner for place in places(each, (*path, name)))]


def mutated(generator: random.Random) -> object:
    """The full manifest with a value replaced, removed or added at a random place."""
    content = copy.deepcopy(FULL)
    *outer, last = generator.choice(places(FULL)[1:])
    inner = content
    for name in outer:
        inner = inner[name]
    values = [None, True, -1, 0, 1, 0.5, 10**400, float("inf"), float("nan"), "", "x", "\x1b[31m\ud800", [], [[]], {},
              {"x": None}, "L0H0", [0, 0], "9" * 5000]  # fmt: skip
    if generator.random() < 0.2:
        del inner[last]
    elif generator.random() < 0.1 and isinstance(inner, dict):
        inner[generator.choice(("", "x", "\x00", "schema", "y" * 9999))] = generator.choice(values)
    else:
        inner[last] = generator.choice(values)
    return content


def test_no_json_gives_anything_but_a_manifest_or_one_sentence():
    generator = random.Random(4)
    refused = 0
    for _ in range(300):
        content = mutated(generator)
        try:
            manifest = Manifest.from_json(content, "atlas.json")
        except AtlasError as error:
            refused += 1
            message = str(error)
            assert message.startswith("atlas.json: expected") or ": expected " in message
            assert message.isprintable() and len(message) < 700, message
        else:
            assert Manifest.from_json(manifest.to_json(), "atlas.json") == manifest
    assert 200 < refused < 300


OTHER_TEXTS = (
    "", "null", "4", '"schema"', "[4]", '{"schema": null}', '{"schema": true}', '{"schema": 5.0}',
    '{"schema": 5, "tool": []}', "9" * 5000, "[" * 100_000,
)  # fmt: skip


@pytest.mark.parametrize("text", OTHER_TEXTS, ids=range(len(OTHER_TEXTS)))
def test_other_texts_are_no_manifest(text):
    with pytest.raises(AtlasError, match="expected"):
        Manifest.from_json(text, "atlas.json")


def test_bytes_that_are_no_text_are_no_manifest(tmp_path):
    (tmp_path / "atlas.json").write_bytes(b"\xff\xfe")
    with pytest.raises(AtlasError, match="expected a manifest in UTF-8"):
        load_atlas(tmp_path)


def test_scores_of_other_sizes_or_relations_are_refused(tmp_path):
    atlas = make_atlas(5, 3)
    other = make_atlas(4, 3).manifest
    save_atlas(replace(atlas, manifest=other), tmp_path / "sizes")
    with pytest.raises(AtlasError, match=r"scores\.parquet: expected 48 rows, as the manifest has it, found 60"):
        load_atlas(tmp_path / "sizes")
    items = atlas.manifest.relations.items
    fewer = with_manifest(atlas, relations=replace(atlas.manifest.relations, items=items[1:]))
    save_atlas(fewer, tmp_path / "relations")
    with pytest.raises(AtlasError, match=r"scores\.parquet: expected 45 rows, as the manifest has it, found 60"):
        load_atlas(tmp_path / "relations")


def test_heads_share_key_value_heads_in_groups():
    atlas = make_atlas(2, 6)
    assert atlas.heads_per_group == 2 and atlas.group_of(3) == (1, range(2, 4))
    alone = make_atlas(2, 5)
    assert alone.heads_per_group is None and alone.group_of(3) is None


def test_the_manifest_needs_no_heavy_import():
    code = (
        "import sys, headatlas.atlas.manifest; print(sorted({'torch', 'pandas', 'numpy', 'xarray'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert out.stdout.strip() == "[]"
