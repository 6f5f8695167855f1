"""One sentence for each head: where it looks, what it writes, and what is lost without it."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from atlases import DESCRIPTIONS, PAIRS, make_atlas, make_attention, make_removal, with_manifest
from headatlas.analysis.card import head_card
from headatlas.analysis.categories import classify
from headatlas.analysis.descriptions.description import NOTHING_WRITTEN
from headatlas.analysis.sentences import Sentences
from headatlas.cli.card_screen import show_card
from headatlas.reports.card import write_card

HITS = {"copies": {(0, 0): 30, (0, 2): 20}, "capital": {(0, 0): 28, (0, 1): 30}, "plural": {(0, 1): 20},
        "past": {(0, 1): 12, (0, 3): 40}, "opposite": {(0, 1): 8}}  # fmt: skip
INDUCTION = "Looks at the token behind an earlier copy of the current one (induction, 0.83 of its attention)"


@pytest.fixture
def atlas():
    """Heads of layer 0 with chosen hits of 40 pairs; the first relation is copying. Layer 2 has no heads."""
    made = make_atlas(3, 5, tuple("ABCDE"), relations=tuple(HITS), without_heads=(2,))
    hits = np.zeros(made.data["hits"].shape, dtype="int32")
    for at, places in enumerate(HITS.values()):
        for place, count in places.items():
            hits[(at, *place)] = count
    dims = made.data["hits"].dims
    made = replace(made, data=made.data.assign(hits=(dims, hits), score=(dims, hits / PAIRS)))
    made = suppress(made, {})
    items = tuple(replace(item, is_copying=item.relation == "copies") for item in made.manifest.relations.items)
    return with_manifest(made, relations=replace(made.manifest.relations, items=items))


def suppress(atlas, counts):
    """The atlas with chosen suppression hits, by relation, layer and head; none elsewhere."""
    hits = np.zeros(atlas.data["hits"].shape, dtype="int32")
    for place, count in counts.items():
        hits[place] = count
    dims = atlas.data["hits"].dims
    changed = {"suppression_hits": (dims, hits), "suppression": (dims, hits / PAIRS)}
    return replace(atlas, data=atlas.data.assign(changed))


def describe(atlas, told):
    """The atlas with descriptions: head -> rule and text."""
    rows = [(*place, text, rule, 0.5) for place, (rule, text) in told.items()]
    table = pd.DataFrame(rows, columns=["layer", "head", "description", "rule", "confidence"])
    return atlas.with_evidence({"descriptions": (table, DESCRIPTIONS)})


def test_a_card_does_not_say_the_same_twice(atlas):
    made = describe(
        suppress(atlas, {(4, 1, 3): 30}),
        {
            (1, 0): ("constant", "Responds most to verbs (go, do); often writes the (go → the)"),
            (1, 1): ("unclear", "Nothing in common was found"),
            (1, 3): ("constant", "Writes the for most tokens"),
            (0, 1): ("relation capital", "Maps capital (0.75); maps plural (0.50)"),
            (0, 0): ("relation copies", "Responds most to verbs (go, do); maps capital (0.70)"),
        },
    )
    shown = Sentences(made).shown
    assert shown(1, 0) == shown(1, 1) == ("description",)
    assert shown(0, 1) == ("sentence",)
    # It suppresses a relation's targets too; it responds to words; it has no description.
    assert shown(1, 3) == shown(0, 0) == shown(1, 4) == Sentences(atlas).shown(1, 0) == ("sentence", "description")
    measured = make_attention(made)
    assert Sentences(measured).shown(1, 0) == ("sentence", "description")


def test_the_command_for_the_rest_stays_when_the_description_stands_for_the_sentence(atlas):
    text = "Responds most to verbs (go, do); often writes the (go → the)"
    made = describe(atlas, {(1, 0): ("constant", text), (0, 1): ("relation capital", "Maps capital (0.75)")})
    missing = "Run headatlas attention to measure where it looks and what is lost without it."
    for shown in (write_card(head_card(made, "L1H0")), on_screen(head_card(made, "L1H0"))):
        assert shown.count("often writes the") == 1 == shown.count(missing) and text in shown
    for shown in (write_card(head_card(made, "L0H1")), on_screen(head_card(made, "L0H1"))):
        assert "Maps capital" not in shown and shown.count(missing) == 1 == shown.count("Writes what capital 0.75")


def on_screen(card):
    screen = Console(width=200, record=True, file=io.StringIO())
    show_card(card.as_dict(), dict.fromkeys("ABCDE", "#0072b2"), screen)
    return screen.export_text()


def test_what_was_not_measured_is_left_out_and_the_command_is_named(atlas):
    told = Sentences(atlas)
    assert told.of(0, 2) == "Writes the token that it looks at again (copies 0.50)."
    assert told.of(1, 1) == "No relation names what it writes."
    assert told.missing == "Run headatlas attention to measure where it looks and what is lost without it."
    assert Sentences(atlas).of(2, 0) is None


def test_all_three_parts(atlas):
    shares = {"induction": {(0, 0): 0.83, (0, 1): 0.83}, "sink": {(0, 2): 0.6, (0, 3): 0.7}}
    told = Sentences(make_removal(make_attention(atlas, shares), {(0, 0): 0.4, (0, 1): -0.05}))
    assert told.of(0, 0) == (
        f"{INDUCTION}; writes that token again (copies 0.75) and what capital 0.70 maps it to; without it in-context "
        "copying falls by 0.40 (from 0.80)."
    )
    assert told.of(0, 1) == (
        f"{INDUCTION}; writes what capital 0.75, plural 0.50 and 2 more relations map that token to; without it "
        "in-context copying rises by 0.05 (from 0.80)."
    )
    # What a head that rests on the sink writes when it looks elsewhere is not about the sink.
    assert told.of(0, 2).endswith("; writes the token that it looks at again (copies 0.50).")
    assert told.missing is None
    assert told.of(0, 3).endswith("; writes what past 1.00 maps the token that it looks at to.")
    assert told.of(1, 0).startswith("Looks at nothing that has a name; ")


def test_descriptions_name_what_no_relation_does(atlas):
    told = Sentences(
        describe(
            atlas,
            {
                (0, 0): ("constant", "Writes x for most tokens"),
                (1, 0): (
                    "same word",
                    "Responds most to months (May); writes the same word again (a, b); maps past (0.9)",
                ),
                (1, 1): ("constant", "Writes “(”, “.” whatever it reads"),
                (1, 2): ("unclear", "Nothing in common was found"),
                (1, 3): ("relation past", "Maps past (0.9)"),
                (1, 4): ("responds to months", f"Responds most to months (May, “)”) and days (1); {NOTHING_WRITTEN}"),
            },
        )
    )
    writes = [told.writes(1, head) for head in range(5)]
    assert writes == [
        "writes the same word again",
        "writes “(”, “.” whatever it reads",
        *["what it writes has no name"] * 2,
        "responds most to months and days",
    ]
    assert told.writes(0, 0).startswith("writes the token that it looks at again")


def test_a_head_that_only_suppresses_is_called_a_suppressor(atlas):
    made = suppress(atlas, {(1, 1, 4): 37, (3, 1, 4): 12, (2, 0, 0): 30, (2, 1, 1): 6})
    told = Sentences(made)
    assert told.writes(1, 4) == "suppresses what capital 0.93 and past 0.30 map the token that it looks at to"
    assert "suppresses" not in told.writes(0, 0), "what it implements names it"
    assert told.writes(1, 1) == "no relation names what it writes", "6 of 40 is not above 0.15"
    described = Sentences(describe(made, {(1, 4): ("constant", "Promotes x; and y")}))
    assert described.writes(1, 4).startswith("promotes x and suppresses what capital 0.93 ")
    card = head_card(made, "L1H4").as_dict()
    assert (card["categories"], card["suppressed_categories"]) == ([], ["B", "D"])
    assert "Suppresses (plain): B, D" in write_card(head_card(made, "L1H4"))
    assert head_card(made, "L1H1").as_dict()["suppressed_categories"] == []


def test_the_rule_and_threshold_that_are_asked_for_count(atlas):
    told = Sentences(atlas, classify(atlas, "0.6"))
    assert told.writes(0, 1) == "writes what capital 0.75 maps the token that it looks at to"


def test_the_card_says_the_same(atlas):
    card = head_card(make_attention(atlas, {"induction": {(0, 0): 0.83}}), "L0H0")
    told = Sentences(card.atlas)
    assert told.missing == "Run headatlas attention to measure what is lost without it."
    assert card.sentence == f"{told.of(0, 0)} {told.missing}" == card.as_dict()["sentence"]
    assert f"**{card.sentence}**" in write_card(card)
