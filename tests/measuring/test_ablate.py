"""What `ablate` finds: a planted task that its head alone carries, the same again, and what it refuses."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import headatlas
from atlases import make_atlas
from headatlas.analysis.ablation import BY_OTHER_SCORE, BY_SCORE
from headatlas.errors import HeadatlasError, SettingsError
from headatlas.measuring import ablate as ablation
from headatlas.measuring.output import file_name
from headatlas.measuring.running.bench import MEAN_PROMPTS, AblationSettings, Bench
from headatlas.measuring.running.questions import PromptText, Questions, load_prompts, make_questions
from planted import HEAD, LAYER, PAIRS, WORDS, make_planted, plant_values, write_relation

TASK = PAIRS[:30]
OTHER = [[source, WORDS[-1]] for source, _ in PAIRS]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A model that answers by its planted head alone: what L1H2 writes is louder than all else."""
    place = tmp_path_factory.mktemp("ablated")
    make_planted(place / "model")
    plant_values(place / "model", TASK, by_weights=True)
    path = place / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors[f"model.layers.{LAYER}.self_attn.o_proj.weight"].view(64, 4, 40)[:, HEAD] *= 1000
    tensors["model.norm.weight"].fill_(1)
    # It attends to all tokens alike.
    tensors[f"model.layers.{LAYER}.self_attn.q_proj.weight"].zero_()
    tensors[f"model.layers.{LAYER}.self_attn.q_proj.bias"].zero_()
    save_file(tensors, path, metadata={"format": "pt"})
    write_relation(place / "r.json", TASK)
    write_relation(place / "other.json", OTHER, k=10)
    headatlas.map_heads(
        place / "model", place / "atlas", relations=[place / "r.json", place / "other.json"], profile="maps"
    )
    (place / "p.toml").write_text(
        '[r]\nprompt = "baz {source}"\nshots = 0\n[other]\nprompt = "{source} baz"\nshots = 1\n', "utf-8"
    )
    return place


def ablate(place, names="r", **options):
    options = {"add_relations": [place / "r.json", place / "other.json"], "prompts": place / "p.toml"} | options
    atlas = headatlas.load_atlas(place / "atlas")
    return headatlas.ablate_heads(atlas, names, **options)


def test_without_the_planted_head_the_task_is_gone(planted):
    atlas, (facts,) = ablate(planted)
    assert facts.status == "tested" and facts.base > 0.5
    assert facts.heads[0] == f"L{LAYER}H{HEAD}" and facts.removed_by == "zero" and facts.prompt == "baz {source}"
    table = headatlas.load_atlas(planted / "atlas").evidence("ablation")
    assert table.equals(atlas.evidence("ablation"))
    own = table[table["task"] == "r"]
    curve = own[own["order"] == "score"].set_index("removed")["correct"]
    assert curve[0] == round(facts.base * own["prompts"].iloc[0]) and curve[1] <= 0.1 * curve[0]
    randoms = own[own["order"] != "score"]
    assert set(randoms["order"]) == {f"random {number}" for number in range(1, 6)}
    # Some draw leaves the answers as they are: the head that carries them is in none.
    assert randoms.groupby("order")["correct"].min().max() > 0.8 * curve[0]
    assert (planted / "atlas" / "ablation-r.png").exists() and (planted / "atlas" / "ablation-r.svg").exists()


def test_threads_of_the_process_stay_as_they_were(planted):
    before = torch.get_num_threads()
    ablate(planted, threads=before + 1)
    assert torch.get_num_threads() == before


def test_the_same_seed_gives_the_same(planted):
    first = ablate(planted, seed=4)[0].evidence("ablation")
    assert ablate(planted, seed=4)[0].evidence("ablation").equals(first)


def test_a_run_that_waited_keeps_the_curves_of_the_one_before(planted):
    stale = headatlas.load_atlas(planted / "atlas")
    assert stale.evidence("ablation") is None or "other" not in stale.manifest.evidence.ablation.relations
    ablate(planted, "other")
    options = {"add_relations": [planted / "r.json", planted / "other.json"], "prompts": planted / "p.toml"}
    headatlas.ablate_heads(stale, "r", **options)
    after = headatlas.load_atlas(planted / "atlas")
    assert set(after.evidence("ablation")["relation"]) == {"r", "other"}
    assert set(after.manifest.evidence.ablation.relations) == {"r", "other"}


def test_an_interrupted_ablation_continues_with_the_next_relation(planted, monkeypatch):
    whole = [vars(each) | {"seconds": None} for each in ablate(planted, ["r", "other"])[1]]
    measure, done = ablation._ablate, []

    def stop(atlas, bench, name, *rest):
        if name == "r" and "other" in done:
            raise KeyboardInterrupt
        done.append(name)
        return measure(atlas, bench, name, *rest)

    monkeypatch.setattr(ablation, "_ablate", stop)
    with pytest.raises(KeyboardInterrupt):
        ablate(planted, ["r", "other"])
    assert done == ["other"] and (planted / "atlas" / ablation.PARTS).exists()
    monkeypatch.setattr(ablation, "_ablate", lambda *given: done.append(given[2]) or measure(*given))
    found = [vars(each) | {"seconds": None} for each in ablate(planted, ["r", "other"])[1]]
    assert done == ["other", "r"] and found == whole
    assert not (planted / "atlas" / ablation.PARTS).exists()


def test_the_mean_replaces_zeros(planted):
    zero = ablate(planted)[0].evidence("ablation")
    atlas, (facts,) = ablate(planted, mean=True)
    assert facts.removed_by == "mean" and len(atlas.evidence("ablation")) == len(zero)


def test_what_the_model_cannot_do_is_not_testable_and_others_are_kept(planted):
    ablate(planted)
    atlas, (facts,) = ablate(planted, "other")
    assert facts.status == "not testable" and facts.base < 0.1
    table = atlas.evidence("ablation")
    assert set(table["relation"]) == {"r", "other"}
    assert table[table["relation"] == "other"]["removed"].tolist() == [0]
    assert set(atlas.manifest.evidence.ablation.relations) == {"r", "other"}
    assert not (planted / "atlas" / "ablation-other.png").exists()


@pytest.mark.parametrize(
    "names, options, message",
    [
        ("nothing", {}, "relation: expected one of .*, found 'nothing'"),
        ("r", {"prompts": None}, "expected one with prompts in prompts.toml, found 'r'"),
        ("r", {"n_prompts": 3}, "n_prompts: expected a whole number of at least 10, found 3"),
        ("r", {"add_relations": None}, "are not those of a built-in relation"),
    ],
)
def test_what_cannot_be_is_refused(planted, names, options, message):
    with pytest.raises(SettingsError, match=message):
        ablate(planted, names, **options)


def test_random_heads_do_not_implement_the_relation_and_are_of_the_same_layers():
    atlas = make_atlas(6, 9, relations=("a", "b", "c", "d"), without_heads=(2,))
    own = ablation.ranked_heads(atlas, "a")
    assert own
    removed = own[:4]
    draws, elsewhere = ablation.random_heads(atlas, "a", removed, seed=0)
    assert len(draws) == 5 and len({tuple(draw) for draw in draws}) == 5 and elsewhere == 0
    for draw in draws:
        assert len(set(draw)) == len(removed) and not set(draw) & set(own)
        assert [layer for layer, _ in draw] == [layer for layer, _ in removed]
    assert ablation.random_heads(atlas, "a", removed, seed=0)[0] == draws
    assert ablation.random_heads(atlas, "a", removed, seed=1)[0] != draws
    assert not {*draws[0]} & {*ablation.random_heads(atlas, "a", removed, 0, without=draws[0])[0][0]}


def test_random_heads_of_a_full_layer_are_from_the_nearest():
    atlas = make_atlas(6, 5, relations=("a", "b", "c", "d"), without_heads=(2,))
    own = set(ablation.ranked_heads(atlas, "a"))
    removed = [(3, head) for head in range(5)]
    draws, elsewhere = ablation.random_heads(atlas, "a", removed, seed=0)
    assert elsewhere == 5 and all(not {*draw} & {*removed} and not {*draw} & own for draw in draws)
    assert {layer for layer, _ in draws[0]} <= {1, 4, 5} and 2 not in {layer for layer, _ in draws[0]}
    everything = [(layer, head) for layer in (0, 1, 3, 4, 5) for head in range(5)]
    assert ablation.random_heads(atlas, "a", everything, seed=0)[0][0] == []


def test_overlap_is_of_the_one_with_fewer_heads():
    atlas = make_atlas(6, 5, relations=("a", "b", "c", "d"))
    ours, theirs = (set(ablation.ranked_heads(atlas, name)) for name in "ab")
    assert ablation.overlap(atlas, "a", "b") == len(ours & theirs) / min(len(ours), len(theirs))
    assert ablation.overlap(atlas, "a", "a") == 1


def test_removal_steps():
    assert ablation.removal_steps(1) == [1]
    assert ablation.removal_steps(12) == [1, 2, 3, 4, 6, 8, 11, 12]


def test_questions_have_other_sources_and_answers_as_examples():
    from headatlas.relations import EncodedRelation
    from models import make_tokenizer

    pairs = (("a", "x"), ("b", "x"), ("c", "y"), ("c", "z"), ("d", "w"), ("e", "v"))
    relation = headatlas.Relation("r", pairs)
    encoded = EncodedRelation(relation, 10, pairs, (1, 2, 3, 3, 4, 5), (6, 6, 7, 8, 9, 10), ())
    tokenizer = make_tokenizer([*"abcdexyzwv", "of"])
    text = PromptText("of {source} of", 2)
    questions = make_questions(encoded, text, tokenizer, 4, seed=0)
    assert len(questions.prompts) == 4 and questions.correct([99] * 4) == 0
    right = dict(zip("abcde", [{6}, {6}, {7, 8}, {9}, {10}], strict=True))
    for prompt, answers in zip(questions.prompts, questions.right, strict=True):
        words = tokenizer.convert_ids_to_tokens(prompt)
        source = words[-2].removeprefix("Ġ")
        assert answers == right[source] and len(answers & set(prompt)) == 0
        assert words.count("Ġof") == 3 and words.count(f"Ġ{source}") == 1
    assert make_questions(encoded, text, tokenizer, 4, seed=0) == questions
    assert make_questions(encoded, text, tokenizer, 9, seed=1).prompts != questions.prompts


@pytest.mark.parametrize(
    "entry",
    ['"text"', '{prompt = "no mark"}', '{prompt = "{source} "}', '{prompt = "a {source}", shots = 99}',
     '{prompt = "a {source}", shots = true}', '{prompt = "a {source}", other = 1}', '{shots = 3}'],
)  # fmt: skip
def test_prompts_that_make_no_sense(tmp_path, entry):
    path = tmp_path / "p.toml"
    path.write_text(f"r = {entry}\n", "utf-8")
    with pytest.raises(SettingsError, match=r"p\.toml: \[r\]: expected"):
        load_prompts(path)


def test_every_builtin_relation_has_a_prompt():
    assert set(load_prompts()) == {relation.name for relation in headatlas.builtin_relations()}


def test_names_of_files_are_safe():
    assert file_name("country_to_capital") == "country_to_capital"
    assert "/" not in file_name("../a b") and ablation.file_name("a b") != ablation.file_name("a_b")


def test_the_means_are_means(planted):
    """Of other relations' prompts alone, at the last token."""
    from headatlas.measuring.running.model import RunningModel
    from headatlas.measuring.session import Session, relations_of

    atlas = headatlas.load_atlas(planted / "atlas")
    session = Session.of_atlas(atlas)
    heads, tokenizer = session.heads, session.tokenizer
    files = [planted / "r.json", planted / "other.json"]
    relations, _ = relations_of(atlas, tokenizer, heads.d_vocab, None, files)
    running = RunningModel(heads)
    settings = AblationSettings(10, 64, ablation.RemovedBy.MEAN, 0)
    bench = Bench(running, relations, load_prompts(planted / "p.toml"), tokenizer, settings)
    prompts = bench.questions("other", MEAN_PROMPTS).prompts
    outputs = [running.watch(torch.tensor([prompt]), torch.tensor([0])).outputs[1][0] for prompt in prompts]
    assert torch.allclose(bench.means("r")[1], torch.stack(outputs).mean(0), atol=1e-5)


def test_commands_show_what_was_found(planted, monkeypatch):
    from typer.testing import CliRunner

    from headatlas.cli import app

    monkeypatch.setenv("COLUMNS", "200")
    place = planted
    files = ["--add-relations", str(place / "r.json"), "--add-relations", str(place / "other.json")]
    command = ["ablate", str(place / "atlas"), "--relation", "r", "--prompts", str(place / "p.toml"), *files]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "share of 30 prompts" in done.output and "by score" in done.output and "ablation-r.png" in done.output
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert found[0]["status"] == "tested" and found[0]["curve"][0]["removed"] == 0
    done = CliRunner().invoke(app, [*command, "--relation", "other"])
    assert "other: not testable" in done.output
    (place / "t.toml").write_text('templates = ["baz {source} bez"]', "utf-8")
    command = ["validate", str(place / "atlas"), "--templates", str(place / "t.toml"), "--pairs", "5", *files]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "Mean over relations" in done.output and "validation.png" in done.output, done.output
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert found["pairs"] == 5 and found["mean_over_relations"]


@pytest.fixture(scope="module")
def blind(planted):
    """An atlas of the same model whose heads are in another order: those that suppress the relation come first."""
    from headatlas.atlas.folder import save_atlas

    atlas = headatlas.load_atlas(planted / "atlas")
    data = atlas.data.copy(deep=True)
    for name in [name for name in ("score", "hits", "uncopied_hits") if name in data]:
        data[name].values[:] = data[name].values[:, :, ::-1]
    assert atlas.pair_hits is not None
    hits = atlas.pair_hits.copy()
    promoted = hits["side"] == "promoted"
    hits.loc[promoted, "head"] = atlas.n_heads - 1 - hits.loc[promoted, "head"]
    return save_atlas(replace(atlas, data=data, pair_hits=hits), planted / "blind")


@pytest.mark.usefixtures("rendered")
def test_two_orders_of_heads_answer_the_same_prompts(planted, blind):
    other = headatlas.load_atlas(planted / "blind")
    atlas, (facts,) = ablate(planted, against=other, controls=1)
    assert facts.against is not None and facts.against.name == "blind" and facts.against.label == "maps"
    assert facts.heads[0] == f"L{LAYER}H{HEAD}" and facts.against.heads[0] == f"L{LAYER}H{3 - HEAD}"
    table = atlas.evidence("ablation")
    own = table[table["task"] == "r"]
    by_score, by_other = (own[own["order"] == order].set_index("removed") for order in (BY_SCORE, BY_OTHER_SCORE))
    assert by_score["correct"][0] == by_other["correct"][0] and by_score["correct"][1] <= 0.1 * by_score["correct"][0]
    assert by_other["correct"][1] > 0.8 * by_other["correct"][0]
    assert by_score["log_probability"][1] < by_other["log_probability"][1] - 1
    named = {*facts.heads, *facts.against.heads}
    draws, _ = ablation.random_heads(atlas, "r", [(LAYER, HEAD), (LAYER, 1)], 0, {(LAYER, 0)})
    assert draws and all((LAYER, 0) not in draw for draw in draws) and len(named) >= 2


def test_the_log_probability_is_that_of_all_targets():
    questions = Questions("r", PromptText("{source}", 0), [[1], [2]], [frozenset({0, 2}), frozenset({1})])
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.5, 4.0, 0.0]])
    found = questions.answers([([1], logits[1:]), ([0], logits[:1])])
    p = logits.double().softmax(-1)
    assert found.correct == 2
    assert found.log_probability == pytest.approx(float((p[0, 0] + p[0, 2]).log() + p[1, 1].log()) / 2)


def test_another_models_atlas_is_no_comparison(planted):
    other = make_atlas(3, 4, relations=("a", "b", "c", "d"))
    with pytest.raises(HeadatlasError):
        ablate(planted, against=other)
