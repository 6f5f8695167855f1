"""What a whole model can do, against transformers' own loss and the model's own answers."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from headatlas import map_heads
from headatlas.measuring.quality import measure_quality, shown_text
from headatlas.measuring.session import Session
from planted import PAIRS, make_planted, write_relation


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The folder of a model whose L1H2 maps sources to targets, with prompts and a text, and its atlas."""
    place = tmp_path_factory.mktemp("planted")
    relation = write_relation(place / "country_to_capital.json", PAIRS)
    atlas = map_heads(make_planted(place / "model"), relations=relation, profile="maps", chance=False)
    (place / "text.txt").write_text(f" {' '.join(word for pair in PAIRS for word in pair)}" * 10, "utf-8")
    (place / "prompts.toml").write_text('[country_to_capital]\nprompt = "{source}"\nshots = 0\n', "utf-8")
    return place, atlas


def test_perplexity_and_accuracy_are_those_of_transformers(planted):
    place, atlas = planted
    session = Session(place / "model", profile="maps")
    quality = measure_quality(
        atlas, session, prompts=place / "prompts.toml", text=place / "text.txt",
        add_relations=place / "country_to_capital.json",
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(place / "model", dtype=torch.float32)
    pieces = shown_text(atlas, session, place / "text.txt")
    with torch.no_grad():
        loss = sum(float(model(piece[None], labels=piece[None]).loss) for piece in pieces) / len(pieces)
        ids = {source: session.tokenizer.encode(f" {source}", add_special_tokens=False) for source, _ in PAIRS}
        right = [
            int(model(torch.tensor([ids[source]])).logits[0, -1].argmax())
            == session.tokenizer.encode(f" {target}", add_special_tokens=False)[0]
            for source, target in PAIRS
        ]
    assert quality.perplexity == pytest.approx(math.exp(loss), rel=1e-4)
    assert quality.accuracy == {"country_to_capital": pytest.approx(sum(right) / len(PAIRS))}
    assert quality.mean_accuracy == quality.accuracy["country_to_capital"]
