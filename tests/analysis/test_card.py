"""Cards of synthetic atlases: every number is the atlas's own, what is missing reads so, hostile tokens stay text."""

import io
import json

import pytest
from rich.console import Console

from atlases import HOSTILE, make_atlas, make_evidence
from headatlas.analysis.card import head_card
from headatlas.analysis.categories import classify
from headatlas.atlas import Atlas
from headatlas.cli.card_screen import show_card
from headatlas.errors import AtlasError, SettingsError
from headatlas.figures import PALETTES
from headatlas.reports.card import write_card

COLOURS = PALETTES["paper"].of_categories(("Algorithmic", "Knowledge", "Linguistic", "Translation"))


@pytest.fixture(scope="module")
def bare():
    return make_atlas()


@pytest.fixture(scope="module")
def full():
    return make_evidence(make_atlas(chance=True))


def with_hits(atlas, rows):
    import pandas as pd

    names = ["relation", "source", "target", "source_id", "target_id", "layer", "head", "side"]
    return Atlas(atlas.data, atlas.manifest, pd.DataFrame(rows, columns=names))


def shown(card, width=80):
    screen = Console(width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False)
    show_card(card.as_dict(), COLOURS, screen)
    return screen.file.getvalue()


def test_numbers_are_those_of_the_atlas(full):
    card = head_card(full, "l7h2")
    assert (card.name, card.layer, card.head) == ("L7H2", 7, 2)
    q_values = full.q_values("suppression")
    low, high = full.interval("score")
    for each in card.relations:
        place = {"relation": each["relation"], "layer": 7, "head": 2}
        assert each["score"] == float(full.scores.sel(place))
        assert each["hits"] == int(full.data["hits"].sel(place))
        assert each["score_interval"] == [float(low.sel(place)), float(high.sel(place))]
        assert each["score_chance"] == float(full.chance().sel(place))
        assert each["suppression_q"] == float(q_values.sel(place))
    scores = [each["score"] for each in card.relations]
    assert scores == sorted(scores, reverse=True)


def test_categories_follow_the_rule(full):
    for rule in ("plain", "calibrated"):
        found = classify(full, rule=rule)
        for head in range(full.n_heads):
            expected = tuple(name for name in found.categories if found.of(name)[4, head])
            assert head_card(full, f"L4H{head}", rule).categories == expected
    with pytest.raises(AtlasError, match="needs chance levels"):
        head_card(make_atlas(), "L0H0", "calibrated")


def test_what_was_not_measured_is_none_and_reads_so(bare):
    card = head_card(bare, "L3H3").as_dict()
    assert all(
        card[name] is None for name in ("description", "reading", "salient", "similar", "validation", "ablation")
    )
    assert card["relations"][0]["score_q"] is None and card["relations"][0]["examples"] is None
    for text in (write_card(head_card(bare, "L3H3")), shown(head_card(bare, "L3H3"))):
        assert text.count("not measured") >= 5
        assert "None" not in text and "nan" not in text


def test_examples_are_hits_and_what_other_heads_hit(bare):
    relation = bare.relations[0]
    rows = [
        (relation, "France", "Paris", 1, 2, 3, 4, "promoted"),
        (relation, "Italy", "Rome", 3, 4, 5, 6, "promoted"),
        (relation, "Spain", "Madrid", 5, 6, 3, 4, "suppressed"),
        (relation, "France", "Paris", 1, 2, 5, 6, "promoted"),
    ]
    card = head_card(with_hits(bare, rows), "L3H4")
    (examples,) = [each["examples"] for each in card.relations if each["relation"] == relation]
    assert examples == {
        "hit": [["France", "Paris"]],
        "missed": [["Italy", "Rome"], ["Spain", "Madrid"]],
        "suppressed": [["Spain", "Madrid"]],
    }
    (other,) = [each["examples"] for each in card.relations if each["relation"] == bare.relations[1]]
    assert other == {"hit": [], "missed": [], "suppressed": []}


def test_neighbours(full):
    card = head_card(full, "L5H4")
    assert [each["name"] for each in card.key_value_group["heads"]] == ["L5H3", "L5H4", "L5H5"]
    assert card.similar == [{"name": "L5H3", "similarity": 0.5, "categories": list(head_card(full, "L5H3").categories)}]
    assert card.layer_context["classified"] == int((classify(full).count[5] > 0).sum())


@pytest.mark.parametrize("name", ["", "23", "L23", "H4L23", "L-1H2", "L٣H1", "L1H2\x1b[31m", "L99999999H1"])
def test_a_bad_name_is_one_sentence(bare, name):
    with pytest.raises(SettingsError, match="head: expected a name such as L23H4, found"):
        head_card(bare, name)


def test_a_head_that_is_not_there(bare):
    for name in ("L30H0", "L0H9"):
        with pytest.raises(SettingsError, match=f"head: expected L0H0 to L29H8 in demo-135M, found '{name}'"):
            head_card(bare, name)
    with pytest.raises(AtlasError, match="layer 2 has no attention heads"):
        head_card(make_atlas(without_heads=(2,)), "L2H0")


@pytest.mark.parametrize("layer", range(6))
def test_hostile_tokens_stay_text(full, layer):
    for head in range(full.n_heads):
        card = head_card(full, f"L{layer}H{head}")
        json.loads(json.dumps(card.as_dict()))
        for text in (shown(card), shown(card, 120)):
            assert "\x1b[31m" not in text and "\u202e" not in text
            assert max(len(line) for line in plain(text)) <= 120
        markdown = write_card(card)
        assert "<b>" not in markdown and "</script>" not in markdown
        assert not set("\x1b\u202e") & set(markdown)
    assert {operation["token"] for operation in card.salient} <= {*HOSTILE, *(f" word{n}" for n in range(50))}


def plain(text):
    from rich.text import Text

    return [line.plain.rstrip() for line in Text.from_ansi(text).split("\n")]


@pytest.mark.parametrize("width", [80, 120])
def test_the_card_fits_its_screen(full, width):
    assert all(len(line) <= width for line in plain(shown(head_card(full, "L0H0"), width)))
