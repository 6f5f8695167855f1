"""What an atlas says about its model in a model's card, as Markdown to paste: a sentence, a table, a link."""

from __future__ import annotations

from urllib.parse import quote

from headatlas._version import __version__
from headatlas.analysis.categories import Classification, classify
from headatlas.analysis.functions import find_functions
from headatlas.atlas import Atlas
from headatlas.reports.blocks import Block, Code, Heading, Inline, line, paragraph, table
from headatlas.reports.markdown import escape, to_markdown
from headatlas.reports.provenance import MEASURED
from headatlas.reports.reading import named_functions
from headatlas.reports.text import agree, count, percent

PAGE = "https://github.com/headatlas/headatlas"
UNKNOWN = "not measured"


def write_model_card(
    atlas: Atlas, threshold: str | float | None = None, rule: str | None = None, published: str | None = None
) -> str:
    """A section for a model's card: a badge, the headline, and the categories with what chance and copying explain.

    Args:
        threshold, rule: as for `classify`.
        published: the data set on the hub that holds the atlas, such as `org/atlas`; it is linked, with its picture.

    Raises:
        AtlasError: `calibrated` is asked for and was not measured.
        SettingsError: an argument is out of its range.

    >>> print(write_model_card(atlas, published="me/tiny-atlas").splitlines()[0])
    ## Attention heads
    """
    found = classify(atlas, threshold, "score", rule)
    parts = [to_markdown([Heading(line("Attention heads"))])]
    if published is not None:
        from headatlas.checkpoints.remote.names import dataset_page, dataset_picture

        page, picture = dataset_page(published), dataset_picture(published, "figure.png")
        parts += [f"[![{escape(_badge(found))}]({_badge_picture(found)})]({page})\n"]
        parts += [f"[![{escape(f'Map of the heads of {atlas.name}')}]({picture})]({page})\n"]
    parts.append(to_markdown(summary(atlas, found)))
    parts.append(f"Made with [headatlas]({PAGE}) {escape(__version__)}" + _link(published) + "\n")
    return "\n".join(parts)


def summary(atlas: Atlas, found: Classification) -> list[Block]:
    """The headline, the table of categories, and what the numbers are not."""
    functions = find_functions(atlas, found.threshold)
    blocks: list[Block] = [paragraph(headline(atlas, found))]
    if functions is not None:
        blocks.append(paragraph(named_functions(functions)))
    header = [
        "category", "heads", "share", "beyond chance and copying", "strongest head", "relation", "score", "by chance",
        "by copying",
    ]  # fmt: skip
    blocks.append(table(header, _rows(atlas, found), right=(1, 2, 3, 6, 7, 8)))
    blocks.append(
        paragraph(
            f"Measured: {MEASURED[atlas.measure]}; settings: {atlas.label}. A head counts if a score is above "
            f"{found.threshold}. By chance: the score expected if the pairs of words were shuffled; by copying: that "
            "of a head which only copies its word. The strongest head is one beyond both, where there is one. A score "
            "shows a capability, not a role in the running model."
        )
    )
    return blocks


def headline(atlas: Atlas, found: Classification) -> str:
    """How many heads implement a relation, and how many of them beyond chance and copying."""
    n, of = found.n_classified, found.n_heads
    strict = _strict(atlas, found)
    beyond = (
        "; chance and copying were not measured"
        if strict is None
        else "" if found.rule == "calibrated" else f"; {strict.n_classified:,} of them beyond chance and beyond copying"
    )  # fmt: skip
    counted = ", beyond chance and beyond copying" if found.rule == "calibrated" else ""
    return (
        f"{n:,} of {of:,} attention heads ({percent(n / of)}) of {atlas.name} "
        f"{agree(n, 'implements', 'implement')} at least one of {count(len(atlas.relations), 'relation')} between words"
        f"{counted}{beyond}."
    )


def _strict(atlas: Atlas, found: Classification) -> Classification | None:
    """The same by the rule `calibrated`; None if chance or copying were not measured."""
    if atlas.chance() is None or not atlas.has_copying:
        return None
    return classify(atlas, found.threshold, "score", "calibrated")


def _rows(atlas: Atlas, found: Classification) -> list[list[Inline]]:
    strict, rows = _strict(atlas, found), []
    for category in found.categories:
        heads = int(found.of(category).sum())
        beyond = UNKNOWN if strict is None else f"{int(strict.of(category).sum()):,}"
        cells: list[Inline] = [category, f"{heads:,}", percent(heads / found.n_heads), beyond]
        rows.append([*cells, *_strongest(atlas, found, strict, category)])
    rows += [[category, "not measurable", *[""] * 7] for category in found.unmeasured]
    total = UNKNOWN if strict is None else f"{strict.n_classified:,}"
    rows.append(["Any", f"{found.n_classified:,}", percent(found.n_classified / found.n_heads), total, *[""] * 5])
    return rows


def _strongest(atlas: Atlas, found: Classification, strict: Classification | None, category: str) -> list[Inline]:
    """Head, relation, score, and what chance and copying reach there."""
    rules = [found.rule] if strict is None else ["calibrated", found.rule]
    for rule in rules:
        rows = atlas.heads(category, min_score=found.threshold, rule=rule)
        if len(rows):
            best = rows.iloc[0]
            relation, layer = str(best["relation"]), int(best["layer"])
            chance = UNKNOWN if best["chance"] is None else f"{best['chance']:.2f}"
            return [str(best["name"]), Code(relation), f"{best['score']:.2f}", chance, _copying(atlas, relation, layer)]
    return ["none", "", "", "", ""]


def _copying(atlas: Atlas, relation: str, layer: int) -> str:
    copied, number = atlas.copied, atlas.relations.index(relation)
    if copied is None:
        return UNKNOWN
    if atlas.is_copying[number]:
        return "is copying"
    return f"{int(copied.values[number, layer]) / int(atlas.data['pairs'].values[number]):.2f}"


def _badge(found: Classification) -> str:
    return f"attention heads: {found.n_classified} of {found.n_heads} with a function"


def _badge_picture(found: Classification) -> str:
    """Drawn by shields.io, as most badges in cards are; it gets these numbers and nothing else."""
    label, value = (text.replace("-", "--").replace("_", "__") for text in _badge(found).split(": "))
    return f"https://img.shields.io/badge/{quote(label)}-{quote(value)}-8c564b"


def _link(published: str | None) -> str:
    if published is None:
        return "."
    from headatlas.checkpoints.remote.names import dataset_page

    page = dataset_page(published)
    return f": [the whole atlas]({page}), all scores, pairs and settings. `headatlas pull {published}` fetches it."
