"""What `attention` finds: planted heads and nothing else, the plain loop's numbers, and what it refuses."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM

import headatlas
from headatlas.analysis.reading import find_reading
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import AtlasError, HeadatlasError, SettingsError
from headatlas.measuring import attention as measuring
from headatlas.measuring.running.passages import kinds_of, load_text, repeated_tokens, text_pieces
from headatlas.measuring.running.predicted import SAMPLE_TOKENS, SAMPLES
from headatlas.measuring.vocabulary import read_vocabulary
from headatlas.scoring.behaviours import ON_RANDOM, ON_TEXT
from interrupts import start_hearing
from models import make_model, save_model
from needs import need_demo_model
from planted import WORDS, write_relation
from planted_attention import PLANTED, PREFIX, random_text, save_reading_model, save_uniform_model
from reference import load_by_transformers, looked_at


def map_model(place):
    """The atlas of the model in a folder, with a relation of its words and a text beside it."""
    write_relation(place / "r.json")
    (place / "t.txt").write_text(random_text(), "utf-8")
    return headatlas.map_heads(
        place / "model", place / "atlas", relations=place / "r.json", profile="maps", chance=False, self_check=False
    )


def measure(place, seeds=2, **options):
    atlas = headatlas.load_atlas(place / "atlas")
    atlas = headatlas.measure_attention(atlas, **({"text": place / "t.txt", "seeds": seeds} | options))
    return atlas, atlas.evidence("attention")


def named(atlas):
    """Behaviour -> heads."""
    reading = find_reading(atlas)
    found = {name: [(layer, head) for layer, head, _ in reading.strongest(name)] for name in reading.names}
    return {name: heads for name, heads in found.items() if heads}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder with a planted model with rotary positions and its atlas."""
    place = tmp_path_factory.mktemp("planted")
    save_reading_model("rotary", place / "model")
    map_model(place)
    return place


@pytest.mark.parametrize("kind", ["learned", "rotary"])
def test_planted_heads_are_found_and_nothing_else(tmp_path, kind):
    save_reading_model(kind, tmp_path / "model")
    map_model(tmp_path)
    atlas, table = measure(tmp_path)
    assert named(atlas) == {name: [head] for name, head in PLANTED[kind].items()}
    facts = atlas.manifest.evidence.attention
    # GPT-2's 64 positions hold the prefix and 31 tokens twice.
    assert facts.random_tokens == {"learned": 31, "rotary": 48}[kind] and facts.sequences == 8
    again = headatlas.load_atlas(tmp_path / "atlas")
    assert again.evidence("attention").equals(table) and again.manifest.evidence.attention == facts


def test_planted_heads_with_alibi(tmp_path):
    """Those of a steep slope look at near tokens in any model; nothing else is found."""
    save_reading_model("alibi", tmp_path / "model")
    map_model(tmp_path)
    found = named(measure(tmp_path)[0])
    assert {name: found.pop(name) for name in PLANTED["alibi"]} == {
        name: [head] for name, head in PLANTED["alibi"].items()
    }
    assert set(found) == {"self", "local"} and {head for _, head in found["local"]} == {0, 1, 2}


def test_a_planted_duplicate_head_with_alibi(tmp_path):
    """It looks at a token's earlier copy, and at the token itself where there is none."""
    save_reading_model("alibi copies", tmp_path / "model")
    map_model(tmp_path)
    found = named(measure(tmp_path)[0])
    assert found.pop("duplicate") == [PLANTED["alibi copies"]["duplicate"]]
    assert set(found) == {"self", "local"} and {head for _, head in found["local"]} == {0, 1, 2}
    assert PLANTED["alibi copies"]["duplicate"] in found["self"]


def test_uniform_attention_names_nothing(tmp_path):
    save_uniform_model(tmp_path / "model")
    map_model(tmp_path)
    atlas, table = measure(tmp_path)
    assert named(atlas) == {}
    tested = table[table["p_value"].notna()]
    assert tested["value"].to_numpy() == pytest.approx(tested["chance"].to_numpy(), abs=1e-5)
    assert table[table["behaviour"] == "entropy"]["value"].to_numpy() == pytest.approx(1, abs=1e-5)


def test_renumbered_heads_renumber_the_result(planted, tmp_path):
    _, table = measure(planted)
    model, order = AutoModelForCausalLM.from_pretrained(planted / "model"), [2, 0, 3, 1]
    with torch.no_grad():
        for layer in model.model.layers:
            for name, dim in (("q_proj", 0), ("k_proj", 0), ("v_proj", 0), ("o_proj", 1)):
                weight = getattr(layer.self_attn, name).weight
                weight.copy_(torch.cat([weight.chunk(4, dim)[head] for head in order], dim))
    save_model(model, tmp_path / "model", [*WORDS, PREFIX])
    map_model(tmp_path)
    _, renumbered = measure(tmp_path)
    renumbered = renumbered.assign(head=[order[head] for head in renumbered["head"]])
    keys = ["input", "behaviour", "layer", "head"]
    one, other = (each.sort_values(keys, ignore_index=True) for each in (table, renumbered))
    assert (one[keys].to_numpy() == other[keys].to_numpy()).all()
    for name in ("value", "chance", "rows"):
        assert one[name].to_numpy() == pytest.approx(other[name].to_numpy(), abs=1e-4, nan_ok=True)


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2", "gpt_oss", "qwen3_next", "mpt", "bloom", "gpt_neo"])
def test_shares_are_those_of_a_plain_loop(tmp_path, case):
    """Over `output_attentions`: grouped heads, learned positions, windows, caps, sinks, hybrids, ALiBi."""
    save_model(make_model(case), tmp_path / "model", WORDS)
    atlas = map_model(tmp_path)
    (tmp_path / "t.txt").write_text(random_text(600), "utf-8")
    atlas, table = measure(tmp_path, seeds=1)
    assert sorted(set(table["layer"])) == np.flatnonzero(atlas.has_heads).tolist()
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    compare_with_plain_loop(
        table,
        AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32, **eager),
        *sequences_of(atlas, tmp_path / "t.txt"),
        1e-4,
    )


def sequences_of(atlas, text):
    """What the measurement showed, and the kinds of the tokens: random sequences, pieces of text, kinds."""
    checkpoint = open_checkpoint(atlas.manifest.model.source)
    tokenizer, d_vocab = checkpoint.load_tokenizer(), atlas.manifest.model.d_vocab
    vocabulary = read_vocabulary(tokenizer, d_vocab)
    facts = atlas.manifest.evidence.attention
    most = 2 * facts.random_tokens + 1
    found = repeated_tokens(vocabulary.ids(junk=False), facts.prefix, most, 4, 0)
    length = facts.text_tokens // facts.pieces
    pieces = text_pieces(load_text(text), tokenizer, d_vocab, facts.prefix, length + 1, text)
    return found, pieces, kinds_of(vocabulary.texts)


def compare_with_plain_loop(table, model, random_ids, pieces, kinds, near, layers=None):
    """Every share of the sequences, from the attention that transformers returns.

    Args:
        layers: to compare; default: all with heads.
    """
    for name, sequences in (("random", random_ids), ("text", pieces)):
        here = table[table["input"] == name]
        of_layer = list(dict.fromkeys(here["layer"]))
        behaviours = [each for each in dict.fromkeys(here["behaviour"]) if each in (*ON_RANDOM, *ON_TEXT)]
        shares = {}
        for ids in sequences:
            with torch.no_grad():
                every = model.eval()(input_ids=ids[None], output_attentions=True).attentions
            for behaviour in behaviours:
                places = [
                    looked_at(behaviour, ids.tolist(), kinds.words[ids].tolist(), kinds.delimiters[ids].tolist(), i)
                    for i in range(1, len(ids))
                ] if behaviour != "sink" else None  # fmt: skip
                for layer, a in zip(of_layer, (each for each in every if each is not None), strict=True):
                    if layers is None or layer in layers:
                        shares.setdefault((behaviour, layer), []).append(plain_share(a[0].double(), places))
        for (behaviour, layer), each in shares.items():
            known = [share for share in each if share is not None]
            expected = np.mean(known, 0) if known else np.nan
            found = here[(here["layer"] == layer) & (here["behaviour"] == behaviour)].sort_values("head")["value"]
            assert found.to_numpy() == pytest.approx(expected, abs=near, nan_ok=True), (name, layer, behaviour)


def plain_share(a, places):
    """The share of attention on some places, by head; None if no token sees any of them.

    Args:
        places: for each token behind the first; None: the sink.
    """
    # What no head of a layer ever looks at is hidden by its mask.
    seen, shares = (a > 0).any(0), []
    for i in range(1, a.shape[1]):
        if places is None:
            rest = (1 - a[:, i].sum(-1)).clamp(min=0)
            if seen[i, 0] or float(rest.max()) > 1e-3:
                shares.append((a[:, i, 0] + rest).tolist())
        elif here := [j for j in places[i - 1] if seen[i, j]]:
            shares.append(a[:, i, here].sum(-1).tolist())
    return np.mean(shares, 0) if shares else None


@pytest.mark.system
def test_shares_of_the_demo_model_are_those_of_a_plain_loop(tmp_path):
    """Transformers reads the GGUF file by its own loader."""
    from headatlas.checkpoints.open import demo_model

    need_demo_model()
    (capitals,) = (each for each in headatlas.builtin_relations() if each.name == "country_to_capital")
    headatlas.map_heads(
        output=tmp_path / "atlas", relations=[capitals], profile="maps", chance=False, self_check=False, salient=False
    )
    (tmp_path / "t.txt").write_text(load_text()[:4000], "utf-8")
    atlas, table = measure(tmp_path, seeds=1)
    model = load_by_transformers(demo_model())
    model.set_attn_implementation("eager")
    compare_with_plain_loop(table, model, *sequences_of(atlas, tmp_path / "t.txt"), 1e-4, {0, 8, 11, 17, 18, 23, 29})
    strongest = table[table["behaviour"] == "induction"].nlargest(1, "value").iloc[0]
    assert (strongest["layer"], strongest["head"]) == (18, 6)


def rows_of(table, behaviour, kind="text"):
    return table[(table["input"] == kind) & (table["behaviour"] == behaviour)].reset_index(drop=True)


def test_attention_that_depends_on_each_token_alone_is_predicted(planted):
    """All layers of the planted model read embeddings: its heads write nothing."""
    model = planted / "silent"
    whole = AutoModelForCausalLM.from_pretrained(planted / "model")
    with torch.no_grad():
        for layer in whole.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    save_model(whole, model, [*WORDS, PREFIX])
    place = planted / "of-silent"
    place.mkdir()
    (place / "model").symlink_to(model)
    map_model(place)
    _, table = measure(place)
    agreement = rows_of(table, "agreement")
    assert (agreement["value"] > 0.98).all()
    assert (agreement["low"] <= agreement["value"]).all() and (agreement["value"] <= agreement["high"]).all()
    for behaviour in ("previous", "self", "sink", "near", "long"):
        row = rows_of(table, behaviour)
        assert row["predicted"].to_numpy() == pytest.approx(row["value"].to_numpy(), abs=0.02), behaviour
    assert rows_of(table, "previous", "random")["predicted"].isna().all()
    # The head of the previous token looks at a place, whatever the tokens are; the others look for tokens.
    assert {name: find_reading(measure(planted)[0]).of(name).sum() for name in ("previous", "induction")} == {
        "previous": 1, "induction": 1,
    }  # fmt: skip


def test_what_a_head_knows_of_the_tokens_before_is_not_predicted(planted):
    """The planted induction head reads what another head wrote; the control is the same tokens in another order."""
    atlas, table = measure(planted)
    agreement = rows_of(table, "agreement").set_index(["layer", "head"])
    place = PLANTED["rotary"]["induction"]
    assert agreement.loc[place, "value"] < 0.9
    assert (agreement["chance"] <= agreement["value"] + 0.1).all()
    facts = atlas.manifest.evidence.attention
    assert facts.samples == SAMPLES and 0 < facts.sample_tokens < SAMPLE_TOKENS + 1


def test_an_interrupted_measurement_goes_on(planted, monkeypatch):
    _, whole = measure(planted)
    original, done = measuring._measure, []

    def stops(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return original(*args)

    monkeypatch.setattr(measuring, "_measure", stops)
    with pytest.raises(KeyboardInterrupt):
        measure(planted)
    parts = planted / "atlas" / measuring.PARTS
    names = ["random-00000.npz", "random-00001.npz", "samples.npz", "words.npz"]
    assert sorted(path.name for path in parts.glob("*.npz")) == names
    calls = []
    monkeypatch.setattr(measuring, "_measure", lambda *args: calls.append(args) or original(*args))
    assert measure(planted)[1].equals(whole)
    assert len(calls) == len(text_batches(planted)) and not parts.exists()


@pytest.mark.system
@pytest.mark.parametrize("moment", ["random-00001.npz", "random-00070.npz", "text-00000.npz"])
def test_a_killed_measurement_goes_on(planted, tmp_path, moment):
    """The same command continues with the parts that are safe, and gives the same table."""
    shutil.copytree(planted / "atlas", tmp_path / "atlas")
    text = planted / "t.txt"
    command = [sys.executable, "-m", "headatlas", "attention", tmp_path / "atlas", "--text", text, "--seeds", "80"]
    command += ["--model", planted / "model"]
    part = tmp_path / "atlas" / measuring.PARTS / moment
    with start_hearing(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
        while not part.exists() and process.poll() is None:
            time.sleep(0.001)
        process.kill()
    assert part.exists(), "the run was over before it was killed"
    kept = part.stat().st_mtime_ns
    seen = []
    atlas = headatlas.measure_attention(
        headatlas.load_atlas(tmp_path / "atlas"), text=text, seeds=80,
        progress=lambda *_: seen.append(part.exists() and part.stat().st_mtime_ns),
    )  # fmt: skip
    assert kept in seen and not part.parent.exists()
    whole = headatlas.measure_attention(headatlas.load_atlas(planted / "atlas"), text=text, seeds=80)
    assert atlas.evidence("attention").equals(whole.evidence("attention"))


def text_batches(place):
    from headatlas.measuring.running.model import batches

    atlas = headatlas.load_atlas(place / "atlas")
    return list(batches(sequences_of(atlas, place / "t.txt")[1].tolist()))


def test_another_run_is_not_disturbed(planted):
    parts = planted / "atlas" / measuring.PARTS
    parts.mkdir()
    with FileLock(parts / "lock"), pytest.raises(AtlasError, match="another run is measuring the attention of this"):
        measure(planted)
    (parts / "lock").unlink(missing_ok=True)
    parts.rmdir()


def test_progress_counts_sequences(planted):
    seen = []
    atlas, _ = measure(planted, progress=lambda *each: seen.append(each))
    facts = atlas.manifest.evidence.attention
    prompts = [(done, total) for stage, done, total in seen if stage.value == "prompts"]
    assert prompts[0][0] == 0 and prompts[-1][0] == prompts[-1][1] == 8 + facts.pieces


def test_more_seeds_narrow_the_intervals(planted):
    """The same seeds give the same sequences; the table of more seeds is another one."""
    few, many = (measure(planted, seeds=seeds)[1] for seeds in (1, 6))
    wide, narrow = ((each["high"] - each["low"])[each["input"] == "random"].mean() for each in (few, many))
    assert narrow < wide
    text = few["input"] == "text"
    assert few[text]["value"].equals(many[text]["value"])
    assert measure(planted, seeds=1)[1].equals(few)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"seeds": 0}, "seeds: expected a whole number of at least 1, found 0"),
        ({"text": "missing.txt"}, "missing.txt: cannot be read"),
        ({"text": "short.txt"}, r"short.txt: expected a text of at least 500 tokens, found 7\."),
        ({"text": "bytes.txt"}, "bytes.txt: expected a text in UTF-8, found other bytes"),
        ({"text": None}, "the package's text: expected a text that this model's tokenizer knows, found .* are unknown"),
        ({"device": "tpu"}, "device: expected cpu"),
    ],
)
def test_what_cannot_be_is_refused(planted, options, message):
    (planted / "short.txt").write_text(random_text(7), "utf-8")
    (planted / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    if options.get("text"):
        options = {"text": planted / options["text"]}
    with pytest.raises(SettingsError, match=message):
        measure(planted, **options)
    assert not (planted / "atlas" / measuring.PARTS).exists()


def test_a_model_without_attention_weights_is_refused(tmp_path):
    """Falcon's ALiBi is right only in transformers' sdpa attention, which has no weights to hand out."""
    save_model(make_model("falcon-serial"), tmp_path / "model", WORDS)
    map_model(tmp_path)
    with pytest.raises(HeadatlasError, match="FalconAttention does not hand out its attention, so where its"):
        measure(tmp_path)
    assert not (tmp_path / "atlas" / measuring.PARTS).exists()


def test_imported_scores_have_no_model():
    from atlases import make_atlas, with_manifest

    atlas = with_manifest(make_atlas(3, 4), measure="in-context")
    with pytest.raises(HeadatlasError, match="expected an atlas of a model's weights, found imported scores"):
        headatlas.measure_attention(atlas)
