"""What a planted model loses without each of its heads, and what it loses without others: nothing."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import headatlas
from headatlas.analysis.reading import find_reading
from headatlas.measuring import copying_without_heads
from headatlas.measuring.copying_without_heads import CONTROL, NAMED, RANDOM_TOKENS, SEQUENCES, choose_heads
from headatlas.measuring.running.passages import repeated_tokens
from headatlas.measuring.vocabulary import read_vocabulary
from planted import write_relation
from planted_attention import PLANTED, random_text, save_reading_model, save_uniform_model

HEADS = PLANTED["rotary"]


def map_model(place):
    write_relation(place / "r.json")
    (place / "t.txt").write_text(random_text(), "utf-8")
    headatlas.map_heads(
        place / "model", place / "atlas", relations=place / "r.json", profile="maps", chance=False, self_check=False
    )


def measure(place, **options):
    atlas = headatlas.load_atlas(place / "atlas")
    return headatlas.measure_attention(atlas, text=place / "t.txt", seeds=1, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("removal")
    save_reading_model("rotary", place / "model")
    map_model(place)
    return place


@pytest.fixture(scope="module")
def atlas(place):
    return measure(place)


def rows_by_head(atlas):
    return atlas.evidence("removal").set_index(["layer", "head"])


def test_without_a_planted_head_copying_is_lost_and_without_others_it_stays(atlas):
    rows, facts = rows_by_head(atlas), atlas.manifest.evidence.removal
    assert facts.accuracy == 1 and facts.probability > 0.5
    needed = [HEADS["previous"], HEADS["induction"]]
    for head in needed:
        assert rows.loc[head, "kind"] == NAMED and rows.loc[head, "accuracy"] < 0.1
        assert rows.loc[head, "probability_low"] > 0.5
    others = rows.drop(needed)
    assert rows.loc[HEADS["duplicate"], "kind"] == NAMED
    assert (others["accuracy"] == 1).all() and others["probability_fall"].abs().max() < 1e-6


def test_controls_are_other_heads_of_the_same_layers(atlas):
    kinds = rows_by_head(atlas)["kind"]
    assert kinds.loc[0].tolist().count(CONTROL) == 2 and kinds.loc[1].tolist().count(CONTROL) == 1
    assert set(kinds[kinds == NAMED].index) == {HEADS[name] for name in copying_without_heads.COPYING}
    chosen = choose_heads(find_reading(atlas))
    assert chosen == choose_heads(find_reading(atlas))
    assert chosen.controls_of([(0, 1), (0, 3), (1, 2)]) == [*chosen.controls[0], *chosen.controls[1]]


def test_heads_of_a_behaviour_are_removed_together(atlas):
    found = {each.behaviour: each for each in atlas.manifest.evidence.removal.together}
    assert set(found) == set(copying_without_heads.COPYING)
    rows, induction = rows_by_head(atlas), found["induction"]
    # One head of each behaviour is planted.
    assert (induction.heads, induction.controls) == (1, 1)
    assert induction.probability == pytest.approx(rows.loc[HEADS["induction"], "probability"])
    assert induction.low > 0.5 and induction.control_accuracy == 1
    assert induction.fall == pytest.approx(atlas.manifest.evidence.removal.probability - induction.probability)


def test_numbers_are_those_of_a_plain_loop(place, atlas):
    """Over the whole model of transformers, one sequence at a time."""
    model = AutoModelForCausalLM.from_pretrained(place / "model").eval()
    facts = atlas.manifest.evidence.removal
    from headatlas.architectures.open import open_checkpoint

    vocabulary = read_vocabulary(open_checkpoint(place / "model").load_tokenizer(), atlas.manifest.model.d_vocab)
    ids = repeated_tokens(vocabulary.ids(junk=False), facts.prefix, None, SEQUENCES, 0, RANDOM_TOKENS)
    assert ids.shape == (facts.sequences, 2 * facts.random_tokens + 1)
    layer, head = HEADS["induction"]
    projection, d_head = model.model.layers[layer].self_attn.o_proj, 64
    columns = slice(head * d_head, (head + 1) * d_head)
    outputs = []
    hook = projection.register_forward_pre_hook(lambda module, args: outputs.append(args[0]))
    with torch.no_grad():
        for each in ids:
            model(each[None])
    hook.remove()
    mean = torch.cat(outputs)[:, 1:, columns].mean((0, 1))

    def remove(module, args):
        changed = args[0].clone()
        changed[:, 1:, columns] = mean
        return (changed,)

    projection.register_forward_pre_hook(remove)
    right, probability = [], []
    for each in ids:
        with torch.no_grad():
            said = model(each[None]).logits[0].softmax(-1)
        for at in range(facts.random_tokens + 1, len(each) - 1):
            right.append(float(said[at].argmax() == each[at + 1]))
            probability.append(float(said[at, each[at + 1]]))
    row = rows_by_head(atlas).loc[(layer, head)]
    assert row["accuracy"] == pytest.approx(np.mean(right)) and len(right) == facts.tokens
    assert row["probability"] == pytest.approx(np.mean(probability), rel=1e-4)
    by_sequence = facts.probability - np.reshape(probability, (facts.sequences, -1)).mean(1)
    assert row["probability_fall"] == pytest.approx(by_sequence.mean(), rel=1e-4)
    assert row["probability_low"] < row["probability_fall"] < row["probability_high"]


def test_an_interrupted_removal_goes_on(place, atlas, monkeypatch):
    original, seen = copying_without_heads.Copying.without, []

    def stops(self, heads):
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(heads)
        return original(self, heads)

    monkeypatch.setattr(copying_without_heads.Copying, "without", stops)
    with pytest.raises(KeyboardInterrupt):
        measure(place)
    seen.clear()
    monkeypatch.setattr(copying_without_heads.Copying, "without", lambda *given: seen.append(given) or original(*given))
    again = measure(place)
    # Layer 0 is safe; layer 1 and the three behaviours are not.
    assert len(seen) == 8
    assert again.evidence("removal").equals(atlas.evidence("removal"))


def test_progress_counts_removals(place):
    seen = []
    measure(place, progress=lambda stage, done, total: seen.append((stage.value, done, total)))
    counts = [(done, total) for stage, done, total in seen if stage == "heads removed"]
    # The whole model, four and two heads of the layers, and two sets for each of three behaviours.
    assert counts[0] == (0, 13) and counts[-1] == (13, 13)


def test_a_model_without_such_heads_has_no_rows(tmp_path):
    save_uniform_model(tmp_path / "model")
    map_model(tmp_path)
    atlas = measure(tmp_path)
    assert not len(atlas.evidence("removal")) and atlas.manifest.evidence.removal.together == ()
    assert headatlas.load_atlas(tmp_path / "atlas").evidence("removal").equals(atlas.evidence("removal"))
