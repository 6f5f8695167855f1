"""The section of the report about which heads feed which."""

from __future__ import annotations

from headatlas.analysis.composition import KINDS, TITLES, Composition, Edge, find_composition
from headatlas.atlas import Atlas, head_name
from headatlas.reports.blocks import Block, Code, heading, paragraph, table
from headatlas.reports.text import agree, count
from headatlas.settings import MAX_Q

STRONGEST = 5
"""Edges of each kind, and predicted induction heads."""


def which_heads_feed(atlas: Atlas) -> list[Block]:
    """Predicted induction heads, the edges between heads, and what the removal of the strongest does."""
    title = heading("Which heads feed which")
    found, facts = find_composition(atlas), atlas.manifest.evidence.composition
    if found is None or facts is None:
        return [title, paragraph("Not measured; ", Code("headatlas composition"), " measures it.")]
    strongest = found.strongest()
    shown = ", ".join(
        f"{head_name(layer, head)} ({share:.2f}, measured {found.measured[layer, head]:.2f})"
        for layer, head, share in strongest[:STRONGEST]
    )
    rows = [
        [
            kind,
            f"{head_name(*each.sender)} ({TITLES[each.about]})",
            head_name(*each.receiver),
            f"{each.strength:.2f}",
            f"{each.q:.2g}",
        ]
        for kind in KINDS
        for each in [edge for edge in found.edges if edge.kind == kind][:STRONGEST]
    ]
    blocks: list[Block] = [
        title,
        paragraph(
            f"Predicted from weights, without a forward pass over these tokens: what heads of the previous token and "
            f"induction heads would write, read by later heads; on {count(facts.sequences, 'sequence')} of random "
            f"tokens. {count(len(strongest), 'head')} {agree(len(strongest), 'is', 'are')} predicted to look behind "
            f"earlier copies{f': {shown}' if shown else ''}. {_agreement(found)}"
        ),
        paragraph(
            f"{len(found.edges):,} of {found.n_edges:,} edges are beyond random pairs of the same layers "
            f"(q < {MAX_Q:g}) and strong enough. The strongest by what reads them:"
        ),
    ]
    if rows:
        header = ["read by", "from", "to", "strength", "q"]
        blocks.append(table(header, rows, right=(3, 4)))
    return [*blocks, *_removed(atlas, found.edges)]


def _agreement(found: Composition) -> str:
    number = len(found.highest(found.share))
    return (
        f"Of the {number} heads with the highest predicted share, {found.n_highest_in_both} are among the {number} "
        f"with the highest measured one (correlation over all heads {found.agreement:.2f})."
    )


def _removed(atlas: Atlas, edges: tuple[Edge, ...]) -> list[Block]:
    facts = atlas.manifest.evidence.paths
    shown = [
        [
            each.kind,
            head_name(*each.sender),
            head_name(*each.receiver),
            f"{found.share:.2f}",
            f"{found.share_change:+.3f} ({found.share_low:+.3f} to {found.share_high:+.3f})",
            "-" if found.random_share is None else f"{found.random_share:.3f}",
            f"{found.copying_change:+.4f}",
            "-" if found.random_copying is None else f"{found.random_copying:.4f}",
        ]
        for each in edges
        for found in [each.removed]
        if found is not None
    ]
    if facts is None or not shown:
        return []
    random = ", ".join(f"{each:.3f}" for each in facts.without_random)
    return [
        paragraph(
            f"In the running model, what the sender writes was taken from what the later head reads. Share: its "
            f"attention on induction places; copying: the probability of the token that follows an earlier copy "
            f"({facts.copying:.3f}); random: the largest change without one of five random edges of the same layers. "
            f"Without all of these edges at once, copying is {facts.without:.3f}; without as many random ones {random}."
        ),
        table(
            ["read by", "from", "to", "share", "change (95 %)", "random", "copying, change", "random"],
            shown,
            right=(3, 4, 5, 6, 7),
        ),
    ]
