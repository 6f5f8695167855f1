"""What the report and the card say about which heads feed which."""

from atlases import make_atlas, make_composition
from headatlas.analysis.card import head_card
from headatlas.reports.card import write_card
from headatlas.reports.report import write_report


def section(atlas):
    report = write_report(atlas)
    return report[report.index("## Which heads feed which") : report.index("## Coverage")]


def test_the_section():
    atlas = make_composition(make_atlas(n_layers=4, n_heads=3))
    text = section(atlas)
    assert "3 heads are predicted to look behind earlier copies: L1H0 (0.59, measured 0.29)" in text
    assert "Of the 6 heads with the highest predicted share, 6 are among the 6" in text
    assert "1 of 1 edges are beyond random pairs" in text
    assert "| key | L0H1 (previous token) | L3H0 | 5.00 | 0.001 |" in text
    assert "| key | L0H1 | L3H0 | 0.50 | -0.250 (-0.250 to -0.250) | 0.125 | -0.2500 | 0.1250 |" in text
    assert "Without all of these edges at once, copying is 0.250; without as many random ones 0.500, 0.438." in text


def test_nothing_named():
    text = section(make_composition(make_atlas(n_layers=4, n_heads=3), []))
    assert "0 of 0 edges" in text and "|" not in text and "In the running model" not in text
    assert "Not measured; `headatlas composition` measures it" in section(make_atlas())


def test_the_card():
    atlas = make_composition(make_atlas(n_layers=4, n_heads=3))
    card = head_card(atlas, "L3H0")
    assert "Fed by L0H1 (previous token) through its keys." in write_card(card)
    facts = card.as_dict()["composition"]
    assert [each["sender"] for each in facts["fed_by"]] == ["L0H1"] and facts["feeds"] == []
    assert "Which heads feed it: not measured." in write_card(head_card(make_atlas(), "L0H0"))
