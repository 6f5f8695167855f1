"""The report's comparison with chance levels."""

from __future__ import annotations

from headatlas.analysis.findings import Findings
from headatlas.atlas import Atlas, head_name
from headatlas.reports.blocks import Block, Code, Inline, heading, join, line, paragraph, table
from headatlas.reports.text import agree, count, percent
from headatlas.settings import MAX_Q, MIN_EXCESS

MOST_LISTED = 10


def how_far_chance(atlas: Atlas, found: Findings) -> list[Block]:
    """Both rules' counts, the scores that are not shown to be beyond chance, and those close to the threshold."""
    side, threshold = found.classification.side, found.classification.threshold
    blocks: list[Block] = [heading("How far it could be chance")]
    chance = found.beyond_chance
    if chance is None:
        blocks.append(paragraph("Chance levels: not measured."))
    else:
        rows: list[list[Inline]] = [
            [name, f"{int(chance.plain.of(name).sum()):,}", f"{int(chance.calibrated.of(name).sum()):,}"]
            for name in chance.plain.categories
        ]
        rows.append(["Any", f"{chance.plain.n_classified:,}", f"{chance.calibrated.n_classified:,}"])
        blocks.append(
            paragraph(
                "The rule ",
                Code("plain"),
                f" counts a head whose {side} is above {threshold}. The rule ",
                Code("calibrated"),
                f" also asks that this is beyond chance: q < {MAX_Q:g}, and more than {MIN_EXCESS:g} above what the "
                "head would reach if the relation's targets were paired anew; and beyond copying, see below.",
            )
        )
        blocks.append(table(["category", "plain", "calibrated"], rows, right=(1, 2)))
        n = len(chance.unproven)
        if n:
            listed = chance.unproven[:MOST_LISTED]
            more = f" The {MOST_LISTED} highest:" if n > MOST_LISTED else ""
            sentence = (
                f"{count(n, side)} above the threshold {agree(n, 'is', 'are')} not shown to be beyond chance.{more}"
            )
            blocks.append(paragraph(sentence))
            rows = [
                [Code(each.relation), head_name(*each.head), f"{each.share:.2f}", f"{each.chance:.2f}", _q(each.q)]
                for each in listed
            ]
            blocks.append(table(["relation", "head", side, "chance", "q"], rows, right=(2, 3, 4)))
        else:
            blocks.append(paragraph(f"Every {side} above the threshold is beyond chance."))
        blocks.append(
            paragraph(
                f"{percent(chance.exact)} of the chance levels are exact, over all sources and targets of a relation: "
                "those of heads with three hits or more, and of relations with few targets. The others are means over "
                f"{chance.re_pairings or 'several'} seeded re-pairings, and their p-value is taken as 1. "
                f"p-values are upper bounds; q-values are Benjamini-Hochberg's, over the {side} of every head and "
                "measured relation. Nothing is adjusted over models, settings or lists of relations that were tried, "
                "nor for a threshold that was chosen after a look at the map. The tests depend on each other, since "
                "pairs and relations share words."
            )
        )
    return [*blocks, paragraph(_borderline(atlas, found))]


def _borderline(atlas: Atlas, found: Findings) -> Inline:
    side = found.classification.side
    if found.borderline is None:
        return "Borderline heads: not known, as the numbers of pairs are not."
    implemented = found.classification.implements
    above = implemented & found.borderline
    n = int(above.sum())
    below = int((found.borderline & ~atlas.above(found.classification.threshold, side)).sum())
    sentence = (
        f"Borderline: of {count(int(implemented.sum()), side)} that count, {n:,} "
        f"{agree(n, 'has', 'have')} a 95 % interval (Wilson) that contains the threshold, and so "
        f"{agree(below, 'does', 'do')} {below:,} below it."
    )
    shares = atlas.share(side).values
    places = sorted(zip(*above.nonzero(), strict=True), key=lambda place: (shares[place], place))[:MOST_LISTED]
    if not places:
        return sentence
    named = join(
        ", ",
        (
            line(
                f"{head_name(int(layer), int(head))} ",
                Code(atlas.relations[relation]),
                f" ({shares[relation, layer, head]:.2f})",
            )
            for relation, layer, head in places
        ),
    )
    return line(f"{sentence} {'The nearest' if n > len(places) else 'These'}: ", named, ".")


def _q(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
