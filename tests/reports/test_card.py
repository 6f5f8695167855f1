"""A head's card as blocks: the facts of the card, as plain text."""

from atlases import make_atlas, make_evidence
from headatlas.analysis.card import head_card
from headatlas.relations import relation_title
from headatlas.reports.blocks import BulletList, Heading, Paragraph, Strong, Table, Title
from headatlas.reports.card import MOST_OPERATIONS, NOT_MEASURED, build_card, token_text, write_card
from headatlas.reports.markdown import to_markdown

HEADINGS = [
    "Words that it looks for",
    "Strongest relations",
    "Examples",
    "Evidence of the running model",
    "Salient operations",
    "Neighbours",
]


def test_a_card_has_a_table_of_relations_and_one_of_salient_operations():
    atlas = make_evidence(make_atlas(7, 3, chance=True), n_tokens=MOST_OPERATIONS + 1)
    card = head_card(atlas, "L2H1")
    title, *blocks = build_card(card)
    assert title == Title((f"L2H1 of {atlas.name}",))
    assert [block.text for block in blocks if isinstance(block, Heading)] == [(name,) for name in HEADINGS]
    words, relations, salient = (block for block in blocks if isinstance(block, Table))
    queries = card.reading_words["pairs"]["queries"]
    assert [row[0] for row in words.rows] == [(token_text(each["token"]),) for each in queries]
    assert [row[0] for row in relations.rows] == [
        (relation_title(each["relation"]), *((" ", Strong("✓")) if each["implements"] else ()))
        for each in card.relations
    ]
    assert len(salient.rows) == MOST_OPERATIONS
    # As in the atlas: whoever renders the blocks escapes them.
    assert [row[0] for row in salient.rows] == [(each["token"],) for each in card.salient[:MOST_OPERATIONS]]
    assert write_card(card) == to_markdown([title, *blocks])


def test_a_card_names_what_was_not_measured():
    blocks = build_card(head_card(make_atlas(7, 3), "L0H0"))
    assert blocks.count(Paragraph((NOT_MEASURED,))) == 3
    lists = [item for block in blocks if isinstance(block, BulletList) for item in block.items]
    assert {(f"validation: {NOT_MEASURED}",), (f"ablation: {NOT_MEASURED}",)} <= set(lists)
