"""The report's comparison with copying."""

from __future__ import annotations

from headatlas.analysis.copying import CopyingControl, CopyingLevel
from headatlas.analysis.findings import Findings
from headatlas.atlas import head_name
from headatlas.reports.blocks import Block, Code, Inline, heading, line, paragraph, table
from headatlas.reports.text import agree, count, listed, listed_pieces, percent
from headatlas.settings import MIN_UNCOPIED

MOST_LISTED, MOST_LEVELS = 10, 15

MATTERS = 0.1
"""From this copying level on a relation is in the table."""


def how_far_copying(found: Findings) -> list[Block]:
    """The relations' copying levels, those that cannot be told from copying, and the scores that copying explains."""
    title, control = heading("How far it could be copying"), found.copying
    if control is None:
        return [title, paragraph("Which pairs copying hits: not measured.")]
    definition = (
        "A head that only copies its word hits the targets near it in the vocabulary. The copying level of a relation "
        "is the share of its pairs that the word's embedding, its row of the unembedding, or the input of the layer's "
        "heads hits in the place of a head's output; a score is beyond copying if it holds among the other pairs alone."
    )
    return [title, paragraph(definition), *_inseparable(control), *_levels(control), *_explained(found, control)]


def _inseparable(control: CopyingControl) -> list[Block]:
    partly = [each for each in control.levels if each.n_inseparable and each.relation not in control.inseparable]
    blocks: list[Block] = []
    if control.inseparable:
        names = listed_pieces(Code(name) for name in control.inseparable)
        sentence = f" cannot be told from copying on this model, as copying misses fewer than {MIN_UNCOPIED} pairs."
        blocks.append(paragraph(line(names, sentence, " A score there is neither a function nor evidence of none.")))
    if partly:
        names = listed_pieces(line(Code(each.relation), f" ({count(each.n_inseparable, 'layer')})") for each in partly)
        blocks.append(paragraph(line("In some layers the same holds for ", names, ".")))
    if not blocks:
        blocks.append(paragraph("Every measured relation can be told from copying in every layer."))
    return blocks


def _levels(control: CopyingControl) -> list[Block]:
    high = [each for each in control.levels if each.highest >= MATTERS]
    if not high:
        return [paragraph(f"No relation has a copying level of {percent(MATTERS)} or more.")]
    rows: list[list[Inline]] = [
        [Code(each.relation), _level(each), f"{each.fewest_uncopied:,}", f"{each.n_above:,}", f"{each.n_beyond:,}"]
        for each in high[:MOST_LEVELS]
    ]
    more = f" The {MOST_LEVELS} highest:" if len(high) > MOST_LEVELS else ""
    header = ["relation", "copying level", "pairs it misses", "above the threshold", "beyond copying"]
    sentence = (
        f"{count(len(high), 'relation')} {agree(len(high), 'has', 'have')} a copying level of {percent(MATTERS)} "
    )
    return [paragraph(f"{sentence}or more.{more}"), table(header, rows, right=(1, 2, 3, 4))]


def _level(each: CopyingLevel) -> str:
    lowest, highest = f"{each.lowest:.2f}", f"{each.highest:.2f}"
    return highest if lowest == highest else f"{lowest} to {highest}"


def _explained(found: Findings, control: CopyingControl) -> list[Block]:
    side, n = found.classification.side, len(control.explained)
    blocks: list[Block] = []
    if n:
        more = f" The {MOST_LISTED} highest:" if n > MOST_LISTED else ""
        sentence = (
            f"{count(n, side)} above the threshold and beyond chance {agree(n, 'is', 'are')} not shown to be beyond "
            f"copying.{more}"
        )
        rows: list[list[Inline]] = [
            [Code(each.relation), head_name(*each.head), f"{each.share:.2f}", f"{each.uncopied:.2f}", f"{each.pairs:,}"]
            for each in control.explained[:MOST_LISTED]
        ]
        header = ["relation", "head", side, "among uncopied pairs", "uncopied pairs"]
        blocks += [paragraph(sentence), table(header, rows, right=(2, 3, 4))]
    heads = [head_name(*place) for place in control.copying_heads]
    if heads:
        verb = "suppress" if side == "suppression" else "copy"
        named = heads[:MOST_LISTED]
        rest = f" and {count(len(heads) - len(named), 'other')}" if len(heads) > len(named) else ""
        names = f"{', '.join(named)}{rest}" if rest else listed(named)
        blocks.append(paragraph(f"Heads that {verb} their word, by the relations of words with themselves: {names}."))
    return blocks
