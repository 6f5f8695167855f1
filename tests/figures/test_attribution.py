"""The picture of a prompt: the rows that stand out, the tokens that fit, and text of others as nothing but text."""

from headatlas.analysis.attribution import HeadAttribution, LogitAttribution, NextToken
from headatlas.figures import draw_attribution, render
from headatlas.figures.attribution import TOKENS, shown_tokens, token_label


def attribution(n_tokens=5, n_heads=7, controls=True, text=" word"):
    """Heads whose contributions fall from the first on; each looks at one token."""
    heads = tuple(
        HeadAttribution(
            layer=0, head=head, contribution=(-1) ** head * (3.0 - 0.3 * head),
            controls=(-0.5, 0.0, 0.5) if controls else None, rank=1 + head,
            attention=tuple(float(at == head % n_tokens) for at in range(n_tokens)),
            writes=(text, text.strip(), f"{text}s"), suppresses=("no",), relations=(),
            categories=("Knowledge", "Own")[: head % 3], behaviours=None, checks=(),
        )
        for head in range(n_heads)
    )  # fmt: skip
    token = NextToken(3, text, 0.5, 1, 2.0)
    return LogitAttribution(
        model="m", fingerprint=None, note=None, prompt=f"a {text}", tokens=tuple(f" t{at}" for at in range(n_tokens)),
        next=(token,), token=token, d_vocab=11, of_several=False, against=None, value=2.0, capped=False, heads=heads,
        mlps=(0.0,), biases=(0.0,), embedding=0.0, last=0.0, n_controls=3 if controls else 0, random_removals=(),
        relations=(), left_out=(), rule="plain",
    )  # fmt: skip


def texts_of(axes):
    return [each.get_text() for each in axes.texts]


def test_rows_are_the_heads_that_stand_out():
    look, add, write = draw_attribution(attribution(), n_heads=4).axes
    assert [each.get_text() for each in look.get_yticklabels()] == ["L0H0", "L0H1", "L0H2", "L0H3"]
    assert [each.get_text() for each in look.get_xticklabels()] == ["t0", "t1", "t2", "t3", "t4"]
    assert [bar.get_width() for bar in add.patches] == [3.0, -2.7, 2.4, -2.1]
    assert {"word · words", "− no"} <= set(texts_of(write))
    assert texts_of(add) == ["+3.00", "-2.70", "+2.40", "-2.10"]


def test_a_long_prompt_shows_what_is_looked_at_and_its_end():
    found = attribution(n_tokens=90)
    at = shown_tokens(found, found.strongest(5))
    assert len(at) == TOKENS and at == sorted(at) and {0, 1, 2, 3, 4, 89} <= set(at)
    look = draw_attribution(found, n_heads=5).axes[0]
    assert look.get_xlabel() == f"attention of the last token ({TOKENS} of 90 tokens)"


def test_hostile_text_is_drawn_as_text():
    content = render(draw_attribution(attribution(text="<script>$x$\x1b\n")), "svg").decode()
    assert "<script>" not in content and "&lt;script&gt;$x$" in content and "\x1b" not in content
    assert token_label("\x1b") == "\\x1b" and token_label("") == "0 spaces" and len(token_label("x" * 99)) == 14


def test_one_token_one_head_and_no_controls():
    figure = draw_attribution(attribution(n_tokens=1, n_heads=1, controls=False))
    assert len(render(figure, "png")) > 5_000
    assert not any("random" in each.get_text() for legend in figure.legends for each in legend.get_texts())
