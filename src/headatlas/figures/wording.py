"""The words of a figure: names made safe to print, the caption, and the metadata of the file."""

from __future__ import annotations

from dataclasses import replace

from headatlas.analysis.categories import Classification
from headatlas.atlas import Atlas
from headatlas.settings import MAX_Q, MIN_EXCESS, parse_threshold

MAX_NAME, MAX_NOTE = 60, 240
"""Longest name, and longest sentence about the model, in characters."""

MAX_WARNING = 400
"""Longest warning with its command, in characters."""

MEASURED = {
    "weights": "scores from weights",
    "attention-fixed": "attention-fixed scores of the running model",
    "in-context": "in-context scores of the running model",
}


def one_line(text: object, at_most: int = MAX_NAME) -> str:
    """One line of printable text of limited length, for names from files that others made.

    >>> one_line("two\\nlines"), one_line("a" * 9, 5)
    ('two lines', 'aaaa…')
    """
    words = " ".join(str(text).split())
    safe = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)
    return safe if len(safe) <= at_most else safe[: at_most - 1].rstrip() + "…"


def settings_label(atlas: Atlas, classification: Classification) -> str:
    """The label of the atlas's settings, with the threshold and the rule of this figure."""
    threshold, rule = classification.threshold, classification.rule
    if _is_imported(atlas):
        own = parse_threshold(threshold) == parse_threshold(atlas.threshold)
        return atlas.label if own else f"{atlas.label}, threshold={threshold}"
    settings, d_vocab = atlas.manifest.settings.settings, atlas.manifest.model.d_vocab or 0
    return replace(settings, threshold=threshold, rule=rule).label(d_vocab)


def _is_imported(atlas: Atlas) -> bool:
    return atlas.manifest.imported is not None


def caption(
    atlas: Atlas, classification: Classification, relation: str | None = None, absent: tuple[str, ...] = ()
) -> list[str]:
    """Parts of the caption: the model, what was measured, the settings, and what the figure shows.

    Args:
        absent: categories that no head has.
    """
    imported = _is_imported(atlas)
    measured = MEASURED.get(atlas.measure, one_line(atlas.measure))
    side, threshold = classification.side, classification.threshold
    parts = [
        one_line(atlas.name),
        f"{measured}, imported" if imported else measured,
        *([] if imported else [f"profile {one_line(settings_label(atlas, classification), 120)}"]),
    ]
    if relation is None:
        beyond = (
            f", beyond chance and copying (q < {MAX_Q:g}, excess > {MIN_EXCESS:g})"
            if classification.rule == "calibrated"
            else ""
        )
        parts.append(
            f"{side} above {threshold}{beyond}: {classification.n_classified:,} of {classification.n_heads:,} heads"
        )
        if absent:
            parts.append(f"no head: {one_line(', '.join(map(one_line, absent)), MAX_NOTE)}")
    else:
        measured_relation = atlas.data.sel(relation=relation)
        k, pairs = int(measured_relation["k"]), int(measured_relation["pairs"])
        extreme = "highest" if side == "score" else "lowest"
        among = f"as the {extreme} logit" if k == 1 else f"among the {f'{k} ' if k else ''}{extreme} logits"
        parts.append(f"{side}: share of {f'{pairs:,} ' if pairs else ''}pairs with the target {among}")
        above = int((atlas.share(side).sel(relation=relation).values > float(parse_threshold(threshold))).sum())
        parts.append(f"above {threshold}: {above:,} of {classification.n_heads:,} heads")
    if note := atlas.manifest.model.note:
        parts.append(one_line(note, MAX_NOTE))
    parts += [one_line(text, MAX_NOTE) for text in validity(atlas)]
    if classification.unmeasured and relation is None:
        names = ", ".join(one_line(name) for name in classification.unmeasured)
        parts.append(f"not measurable on this model: {one_line(names, MAX_NOTE)}")
    return parts


def validity(atlas: Atlas) -> list[str]:
    """A part for each group of layers whose circuits are not exact, or that have no heads."""
    texts = []
    for each in atlas.manifest.model.validity:
        if each.kind != "exact":
            n = len(each.layers)
            extent = "all layers" if n == atlas.n_layers else f"{n:,} of {atlas.n_layers:,} layers"
            texts.append(f"circuits {each.kind}: {extent}" + (f" ({each.why})" if each.why else ""))
    return texts


def metadata(
    atlas: Atlas, classification: Classification, relation: str | None = None, absent: tuple[str, ...] = ()
) -> dict[str, str]:
    """Facts for the metadata of the figure's file, the same for all formats."""
    manifest = atlas.manifest
    side = "Suppression" if classification.side == "suppression" else "Score"
    what = f"of {one_line(relation)}" if relation else "by category"
    known = {
        "Title": f"{one_line(atlas.name)}: attention heads {what}",
        "Description": " · ".join(caption(atlas, classification, relation, absent)),
        "Model": one_line(atlas.name, MAX_NOTE),
        "Settings": one_line(settings_label(atlas, classification), MAX_NOTE),
        "Measure": one_line(atlas.measure),
        "Side": side.lower(),
        "Threshold": classification.threshold,
        "Fingerprint": one_line(manifest.model.fingerprint or "unknown", MAX_NOTE),
    }
    if manifest.imported is not None:
        known["Scores-SHA256"] = one_line(manifest.imported.sha256, MAX_NOTE)
    if manifest.relations.hash is not None:
        known["Relations-SHA256"] = one_line(manifest.relations.hash, MAX_NOTE)
    return known
