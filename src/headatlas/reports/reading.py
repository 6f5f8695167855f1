"""The section of the report about where heads look."""

from __future__ import annotations

from headatlas.analysis.functions import STEP, Functions
from headatlas.analysis.headvis import compare_with_headvis
from headatlas.analysis.meetings import Meeting
from headatlas.analysis.reading import BEHAVIOURS, find_behaviour
from headatlas.analysis.reading_words import CERTAIN, summarise_words, times_as_much
from headatlas.analysis.removal import find_removal
from headatlas.analysis.sentences import Sentences
from headatlas.analysis.spans import find_span
from headatlas.atlas import Atlas, head_name
from headatlas.atlas.evidence import ScoresCheck, unread_layers
from headatlas.reports.blocks import Block, Code, Strong, bullets, heading, line, paragraph, table
from headatlas.reports.text import agree, count, is_clear, or_none, p_value, percent, ratio
from headatlas.settings import MAX_Q, MIN_EXCESS

STRONGEST = 3


def named_functions(found: Functions | None) -> str:
    """The share of heads with a named function, writing or reading, in a sentence; empty if it is not known."""
    if found is None:
        return ""
    beyond = "beyond chance and copying" if found.rule == "calibrated" else "not compared with chance"
    if found.suppressing:
        beyond += f"; {found.suppressing:,} of them only {agree(found.suppressing, 'suppresses', 'suppress')}"
    return (
        f"{found.any:,} of {found.n_heads:,} heads ({percent(found.any / found.n_heads)}) "
        f"{agree(found.any, 'has', 'have')} a named function: {found.writing:,} by what they write ({beyond}), "
        f"{found.looking:,} by where they look, {found.both:,} by both; {found.only_sink:,} "
        f"{agree(found.only_sink, 'is', 'are')} only a sink."
    )


def where_heads_look(atlas: Atlas, found: Functions | None) -> list[Block]:
    title = heading("Where heads look")
    facts = atlas.manifest.evidence.attention
    if found is None or facts is None:
        return [title, paragraph("Not measured; ", Code("headatlas attention"), " runs the model and measures it.")]
    reading = found.reading
    rows = []
    for each in BEHAVIOURS:
        span, strongest = find_span(None, reading.of(each.name)), reading.strongest(each.name)
        heads = len(strongest)
        rows.append(
            [
                each.title,
                f"{reading.limits[each.name]:g}",
                f"{heads:,}",
                percent(heads / found.n_heads),
                "-" if span.first is None else str(span.first),
                "-" if span.quartiles is None else str(span.quartiles[1]),
                "-" if span.last is None else str(span.last),
                ", ".join(f"{head_name(layer, head)} ({value:.2f})" for layer, head, value in strongest[:STRONGEST])
                or "-",
            ]
        )
    rows.append(["Any", "", f"{found.looking:,}", percent(found.looking / found.n_heads), "", "", "", ""])
    text = "the package's text" if facts.text is None else facts.text
    lower = [f"{each.title} {', '.join(f'{heads:,}' for heads in found.by_limit[each.name])}" for each in BEHAVIOURS]
    return [
        title,
        paragraph(
            f"Share of a head's attention in the running model, on {count(facts.sequences, 'sequence')} of random "
            f"tokens that are shown twice (previous token, induction, duplicate, self) and on {facts.text_tokens:,} "
            f"tokens of {text} (sink, local, delimiter). A head is named if the share is above the limit, significant "
            f"against shuffled attention (Bernstein's bound; q < {MAX_Q:g}) and larger by more than {MIN_EXCESS:g}."
        ),
        table(
            ["looks at", "limit", "heads", "share of heads", "first layer", "median", "last layer", "strongest"],
            rows,
            right=(1, 2, 3, 4, 5, 6),
        ),
        paragraph(
            f"Heads if all limits are lower by {STEP:g}, as they are, and higher by {STEP:g}: {'; '.join(lower)}."
        ),
        *_meetings(found),
        *_without_heads(atlas, found),
        *_in_sentences(atlas, found),
        *_words(atlas),
        _scores_check(facts.scores_check),
        *_by_headvis(atlas),
    ]


def _by_headvis(atlas: Atlas) -> list[Block]:
    """How HeadVis' metrics, if they were imported, agree with the shares on text that are most like them."""
    agreement = compare_with_headvis(atlas)
    if not agreement:
        return []
    listed = ", ".join(f"{find_behaviour(name).title.lower()} {r:.2f}" for name, r in agreement.items())
    return [
        paragraph(
            f"Correlation over heads of these shares on text with the imported metrics of HeadVis, whose texts and "
            f"definitions are others: {listed}."
        )
    ]


def _in_sentences(atlas: Atlas, found: Functions) -> list[Block]:
    """The strongest head of each way of reading, in a sentence."""
    sentences = Sentences(atlas)
    strongest = dict.fromkeys(head for each in BEHAVIOURS for head in found.reading.heads_of(each.name)[:1])
    if not strongest:
        return []
    return [
        paragraph("The strongest head of each way of reading:"),
        bullets(line(Strong(head_name(*head)), f": {sentences.of(*head)}") for head in strongest),
    ]


def _without_heads(atlas: Atlas, found: Functions) -> list[Block]:
    """What in-context copying loses without the heads of a behaviour."""
    removal = find_removal(atlas)
    if removal is None:
        return [paragraph("What in-context copying loses without these heads: not measured.")]
    facts = removal.facts
    shown = (
        f"On {count(facts.sequences, 'sequence')} of {facts.random_tokens} random tokens that are shown twice, the "
        f"model gives the tokens of the second half a mean probability of {facts.probability:.2f} and predicts "
        f"{percent(facts.accuracy)} of them"
    )
    if not removal.can_tell:
        return [paragraph(f"{shown}: too few to tell what its heads do for copying from context.")]
    rows = [
        [
            find_behaviour(each.behaviour).title,
            str(each.heads),
            f"{each.probability:.2f}",
            percent(each.accuracy),
            f"{each.low:.2f} to {each.high:.2f}",
            f"{each.control_probability:.2f} ({each.controls})",
            ", ".join(
                f"{name} ({value:.2f})"
                for name, value in removal.strongest(found.reading.heads_of(each.behaviour))[:STRONGEST]
            )
            or "-",
        ]
        for each in facts.together
    ]
    return [
        paragraph(
            f"{shown}. The table shows the same without all heads of a kind, whose outputs are replaced by their "
            f"means, and without as many other heads of the same layers. The fall without a single head is named if "
            f"its interval excludes 0 and no single other head has one as large (the largest: "
            f"{removal.largest_control:.2f})."
        ),
        table(
            ["without all", "heads", "probability", "accuracy", "fall, 95 %", "other heads", "largest single falls"],
            rows,
            right=(1, 2, 3, 4, 5),
        ),
    ]


def _scores_check(checks: tuple[ScoresCheck, ...]) -> Block:
    read, unread = [each for each in checks if each.error is not None], unread_layers(checks)
    parts = [
        f"Self-check of queries and keys: in {count(sum(len(each.layers) for each in read), 'layer')}, scores from the "
        f"weights agree with the running model's at every distance, head by head (largest relative difference "
        f"{max(each.error or 0.0 for each in read):.1e}; positions: {', '.join(str(each.positions) for each in read)})."
        if read
        else "Self-check of queries and keys: none is read."
    ]
    if unread:
        parts.append(
            f"Not read: layers {', '.join(map(str, unread))}, whose attention is the model's own; the map of writing "
            f"stays as it is."
        )
    return paragraph(" ".join(parts))


def _words(atlas: Atlas) -> list[Block]:
    facts, found = atlas.manifest.evidence.reading_words, summarise_words(atlas)
    if facts is None or found is None:
        return []
    distances = ", ".join(map(str, facts.distances))
    on_text = [
        f"{what} get {ratio(times_as_much(found.real[kind]))} times as much attention on text as others at the same "
        f"distance ({found.seen[kind]:,} times seen)"
        for kind, what in (("any", "words that are looked for whoever asks"), ("pair", "named pairs"))
        if found.seen[kind]
    ]
    return [
        paragraph(
            f"Words that heads look for, which their cards name: from the weights, {facts.words} words were scored for "
            f"each other at fixed distances ({distances} tokens). Over {count(found.n_heads, 'head')}, the mean "
            f"correlation with scores of attention on text is {found.mean['any']:.2f} for what a head looks for "
            f"whoever asks (scores of other words: {found.control['any']:.2f}), and {found.mean['pair']:.2f} for what "
            f"one word looks for more than others do ({found.control['pair']:.2f}). It is above {CERTAIN:g} in "
            f"{found.certain['any']:,} and {found.certain['pair']:,} heads; the words of the others are called "
            f"uncertain. {'; '.join(on_text).capitalize()}."
        )
    ]


def _meetings(found: Functions) -> list[Block]:
    tested = [each for each in found.meetings if each.p_in_layers is not None]
    if not tested:
        return [paragraph("Whether ways of reading meet categories cannot be tested.")]
    clear = [each for each in tested if is_clear(each.p_in_layers_adjusted)]
    test = f"exact test within layers, p adjusted by Holm's method for {count(len(tested), 'pair')}"
    if not clear:
        smallest = min(each.p_in_layers_adjusted or 0.0 for each in tested)
        return [
            paragraph(
                f"No way of reading clearly meets a category more or less often than the layers they share explain "
                f"({test}, smallest {p_value(smallest)})."
            )
        ]
    return [
        paragraph(f"These meet more or less often than the layers they share explain ({test}):"),
        bullets(_sentence(each) for each in sorted(clear, key=lambda each: each.p_in_layers_adjusted or 0.0)),
    ]


def _sentence(each: Meeting) -> str:
    reads, writes = each.pair
    more = "more" if each.observed > each.expected_in_layers else "fewer"
    times = or_none(each.ratio_in_layers, ratio)
    return (
        f"{reads} and {writes}: {count(each.observed, 'head')}, {more} than {each.expected_in_layers:.1f} expected "
        f"({times} times; exact test within layers, {p_value(each.p_in_layers_adjusted)})."
    )
