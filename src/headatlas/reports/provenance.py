"""The sections of the report on what was measured and how, and on its limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from headatlas._version import __version__
from headatlas.analysis.assumed_input import input_cosines, input_warning
from headatlas.analysis.findings import Findings
from headatlas.analysis.significance import DRAWS
from headatlas.atlas import Atlas
from headatlas.reports.blocks import Block, Code, CodeBlock, Inline, Strong, heading, join, line, paragraph, table
from headatlas.reports.text import agree, count, listed, listed_pieces
from headatlas.settings import LEAST_AGREEMENT, LEAST_COSINE, MAX_Q, MIN_EXCESS, parse_threshold

METHOD = """@inproceedings{elhelo-geva-2025-inferring,
  title         = {Inferring Functionality of Attention Heads from their Parameters},
  author        = {Elhelo, Amit and Geva, Mor},
  booktitle     = {Proceedings of the 63rd Annual Meeting of the Association for Computational Linguistics (ACL)},
  year          = {2025},
  note          = {arXiv:2412.11965},
  url           = {https://arxiv.org/abs/2412.11965}
}"""

MEASURED = {
    "weights": "the weights alone, without any text",
    "attention-fixed": "the running model, with attention fixed on the source token",
    "in-context": "the running model, as it reads a context",
}

SHOWN_ELSEWHERE = {"identity", "files", "schema", "label", "measure", "self_check"}
"""Parts of the manifest that other sections show, or that exist only once the folder is written."""

COVERAGE = {
    "k": "k",
    "in_file": "pairs in file",
    "pairs": "kept",
    "source_dropped": "source not one token",
    "target_dropped": "target not one token",
    "duplicates": "duplicates",
}


def warning(atlas: Atlas) -> list[Block]:
    """That a map does not see its model, if so."""
    found = input_warning(atlas)
    return [] if found is None else [paragraph(Strong(found.sentence), " ", Code(found.command))]


def settings_line(atlas: Atlas, found: Findings) -> list[Block]:
    """What was measured, and when a head counts, in one paragraph."""
    classification = found.classification
    imported, strict = atlas.manifest.imported is not None, classification.rule == "calibrated"
    settings = "Scores were imported, k and pairs are not known" if imported else f"Settings: {_label(atlas, found)}"
    beyond = (
        f", beyond chance (q < {MAX_Q:g}, more than {MIN_EXCESS:g} above the chance level) and beyond copying"
        if strict
        else ""
    )
    return [
        paragraph(
            f"Measured: {MEASURED[atlas.measure]} ({atlas.measure}). {settings}. A head counts for a relation when its "
            f"{classification.side} is above {classification.threshold}{beyond}."
        )
    ]


def coverage(atlas: Atlas, found: Findings) -> list[Block]:
    """Every relation, measured or not, and what became of its pairs."""
    sums, measured = found.coverage, set(atlas.relations)
    rows = [
        [
            Code(item.relation),
            item.category,
            *(_number(getattr(item, name)) for name in COVERAGE),
            "yes" if item.relation in measured else "no",
        ]
        for item in atlas.manifest.relations.items
    ]
    n = sums.n_relations - len(sums.not_measurable)
    sentences: list[Inline] = [f"{n:,} of {count(sums.n_relations, 'relation')} {agree(n, 'was', 'were')} measured."]
    least = atlas.manifest.settings.min_pairs
    if sums.not_measurable:
        why = f" (fewer than {least} pairs whose words are both single tokens)" if least is not None else ""
        sentences.append(line(f"Not measurable{why}: ", listed_pieces(map(Code, sums.not_measurable)), "."))
    if sums.in_file is not None and sums.pairs is not None:
        sentences.append(f"{sums.pairs:,} of {count(sums.in_file, 'pair')} {agree(sums.pairs, 'was', 'were')} kept.")
    elif all(item.pairs is None for item in atlas.manifest.relations.items):
        sentences.append("Their pairs are not known.")
    else:
        sentences.append("For some relations the number of pairs is not known.")
    header = ["relation", "category", *COVERAGE.values(), "measurable"]
    return [
        heading("Coverage"),
        paragraph(join(" ", sentences)),
        table(header, rows, right=(2, 3, 4, 5, 6, 7)),
    ]


def validity(atlas: Atlas) -> list[Block]:
    """How far the heads' circuits are exact, and how it was checked."""
    groups = atlas.manifest.model.validity
    if not groups:
        return [heading("Validity"), paragraph("Not known: the scores were imported.")]
    rows = [[each.kind, each.why or "-", _layers(each.layers)] for each in groups]
    check = atlas.manifest.self_check
    if check is not None:
        tried = sorted({layer for each in check.layers for layer in each.tried})
        sentence = (
            f"Before scoring, the circuits of {agree(len(tried), 'layer', 'layers')} {listed(str(at) for at in tried)} "
            f"(the first and last of each kind) were compared with the model's own attention modules, head by head; "
            f"largest relative difference: {check.largest_error:.1e}."
        )
    else:
        sentence = "The comparison of the circuits with the model's own attention modules was switched off."
    meaning = (
        "This concerns the circuits that were read, neither their input nor the map. Exact: for a given input, the "
        "circuit is what the head adds for a token that it attends to. Up to scale: up to a positive factor per token, "
        "which changes no rank. Not applicable: the layer has no attention heads; it is not counted."
    )
    return [
        heading("Validity"),
        paragraph(sentence),
        table(["circuits are", "why", "layers"], rows),
        paragraph(meaning),
        *([paragraph(_underflow(faint))] if (faint := atlas.manifest.model.underflow) else []),
    ]


def _underflow(heads: Sequence[str]) -> str:
    return (
        f"The output of {agree(len(heads), 'head', 'heads')} {listed(heads)} is below what float32 can hold, and "
        f"with it bfloat16 and float16: a running model computes zeros there. The scores are those of exact arithmetic."
    )


def settings_and_versions(atlas: Atlas, found: Findings) -> list[Block]:
    """Everything in the manifest, a row per value."""
    import numpy
    import scipy

    manifest, imported = atlas.manifest.as_dict(), atlas.manifest.imported is not None
    rows = [
        ["measured", MEASURED[atlas.measure]],
        ["label", _label(atlas, found)],
        ["threshold of this report", found.classification.threshold],
    ]
    groups = ["model", "settings", "relations", "imported", "tool", "packages", "run"]
    for group in [*groups, *(name for name in manifest if name not in groups)]:
        if group in SHOWN_ELSEWHERE or manifest[group] in (None, {}):
            continue
        for path, value in _leaves((group,), manifest[group]):
            if path not in (("relations", "items"), ("model", "validity")):
                rows.append([": ".join(path).replace("_", " "), _value(path, value, imported)])
    for name, value in (
        ("headatlas", __version__),
        ("numpy", numpy.__version__),
        ("scipy", scipy.__version__),
        ("seed of the permutation tests", found.seed),
        ("draws of the permutation tests", DRAWS),
    ):
        rows.append([f"this report: {name}", str(value)])
    return [heading("Settings and versions"), table(["what", "value"], rows)]


def citation(atlas: Atlas) -> list[Block]:
    """BibTeX of the method and of the tool."""
    # From a file: nothing that could end the entry.
    version = re.sub(r"[^A-Za-z0-9.+-]", "", atlas.manifest.tool.version)[:40]
    title = "headatlas: a map of what every attention head of a language model does"
    tool = f"@software{{headatlas,\n  title   = {{{title}}},\n  version = {{{version}}}\n}}"
    return [
        heading("How to cite"),
        paragraph("The method, and the tool:"),
        CodeBlock(f"{METHOD}\n\n{tool}", "bibtex"),
    ]


def limits(atlas: Atlas, found: Findings) -> list[Block]:
    """What such a score can and cannot show, which depends on what was measured."""
    measure, imported = atlas.measure, atlas.manifest.imported is not None
    if measure == "weights":
        sentences: list[Inline] = [
            "A score shows what a head would write if it read a single token, judged by the weights alone. It does not "
            "show when, or whether, the head reads that token: the attention pattern is left out. Words of several "
            "tokens are left out.",
            join(" ", [_input(atlas, imported), *_compared_input(atlas)]),
            "A high score shows a capability, not a role in the running model; a low one does not show that the model "
            "lacks the function, which may lie in MLPs, in other heads, or in several heads together.",
        ]
    else:
        sentences = [
            "These are scores of a running model, averaged over templates."
            + (
                " The attention of the last token was fixed on the source, so they show what a head would write if it "
                "read the source there, not that it does so by itself."
                if measure == "attention-fixed"
                else " They mix what a head writes with where it looks, and hold for contexts like the templates."
            ),
            "A high score still shows a capability on these templates, not that the model needs the head; nothing was "
            "removed to see what depends on it.",
        ]
    if imported:
        sentences.append(
            "The scores were imported: k, the pairs"
            + (", the model's weights" if measure == "weights" else ", the templates, the model's weights")
            + " and how many digits are exact are not known here."
        )
    sentences.append(_chance_limit(found))
    sentences.append(
        "The number of heads above a threshold grows with the number of relations and falls with the threshold, so "
        "counts compare only between maps of the same relations and settings."
    )
    return [heading("Limits"), paragraph(join(" ", sentences))]


def _chance_limit(found: Findings) -> Inline:
    """What the counts in this report do and do not say about chance, with and without measured chance levels."""
    same_words = "a head that always writes the same few words scores high on a relation with few different targets"
    side = found.classification.side
    if found.beyond_chance is None:
        return f"Chance levels were not measured, so no {side} is compared with chance: {same_words}."
    if found.classification.rule == "calibrated":
        return (
            f"Heads count only if their {side} is beyond chance, which means the {side} reached with the relation's "
            "targets paired anew, and beyond copying; other explanations of a high value are not tested."
        )
    return line(
        "Chance levels were measured, but the rule ",
        Code("plain"),
        f" counts heads by their {side} alone: {same_words}, and a head that copies its word scores high on a relation "
        'whose targets lie near their sources. The sections "How far it could be chance" and "How far it could be '
        'copying" list those that are not beyond either.',
    )


def _input(atlas: Atlas, imported: bool) -> str:
    way = None if imported else atlas.manifest.settings.contextualize
    if way == "embedding":
        return "In all layers the input is the plain embedding, which approximates later layers' input poorly."
    if way == "first-mlp":
        return (
            "In layers after the first the input is an approximation: the first MLP's output for the token, without "
            "what other layers add."
        )
    if way == "alone":
        return _alone(atlas)
    return "In later layers the input of a weight-based score is an approximation; it is not known which."


TERMS = {
    "value_bias": "the bias of the values",
    "attention_gain": "the gain of the norm behind the attention",
    "final_norm_gain": "the gain of the final norm",
    "input_norm_gain": "the gain of the norm before the attention",
}


def _compared_input(atlas: Atlas) -> list[Inline]:
    """How far the input is from what the model's own layers hand to the heads, and which terms are left out."""
    facts, found = atlas.manifest.input, input_cosines(atlas)
    if facts is None:
        return []
    if found is None:
        why_not = (facts.why_not or "no layer has heads").rstrip(".")
        return [f"How far it is from what the model's own layers hand to the heads was not measured ({why_not})."]
    sentences: list[Inline] = [
        f"It was compared with what the model's own layers hand to the heads, for {count(facts.tokens, 'word')}: the "
        f"mean cosine of a layer is {found.lowest:.2f} to {found.highest:.2f}, median {found.median:.2f} (1: the same "
        f"up to scale; below {LEAST_COSINE}, scores have little to do with the running model)."
    ]
    if facts.left_out:
        terms = listed(TERMS.get(name, name) for name in facts.left_out)
        sentences.append(f"Of this model the map leaves out, though it may change ranks: {terms}.")
    return sentences


def _alone(atlas: Atlas) -> str:
    """What heads read with the profile `alone`, how it was checked, and whether the prefix behaves."""
    prefix = atlas.manifest.prefix
    if prefix is None:
        return "In each layer the input is what the model's own layers hand to the heads for the token alone."
    why = {
        "tokenizer": "which the tokenizer puts before every text",
        "ordinary": "an ordinary word, because the tokenizer puts nothing before a text",
        "user": "chosen by the user",
    }[prefix.rule]
    text = (
        "In each layer the input is what the model's own layers hand to the heads for the token alone, behind the "
        f"prefix {prefix.text!r} ({why}); other words of a text, which change it, are left out."
    )
    if prefix.error is None:
        why_not = (prefix.why_not or "not asked for").rstrip(".")
        text += f" It was not compared with the whole model in memory ({why_not})."
    else:
        text += f" It differs from that of the whole model in memory by at most {prefix.error:.1g} of its length."
    if prefix.agreement is not None and prefix.agreement < LEAST_AGREEMENT:
        text += (
            f" Behind this prefix, words differ from each other in other ways than behind ordinary words (agreement "
            f"{prefix.agreement:.2f}, expected at least {LEAST_AGREEMENT}): another one, by --prefix, may suit the "
            "model better."
        )
    return text


def _label(atlas: Atlas, found: Findings) -> str:
    threshold, rule, label = found.classification.threshold, found.classification.rule, atlas.label
    if rule != atlas.rule:
        label = f"{label}, shown with the rule {rule}"
    if parse_threshold(threshold) == parse_threshold(atlas.threshold):
        return label
    return f"{label}, shown at threshold {threshold}"


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves((*path, str(key)), inner)
    else:
        yield path, value


def _value(path: tuple[str, ...], value: Any, imported: bool) -> str:
    if value is None and path == ("model", "note") and not imported:
        return "none"
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        # Tables within the manifest, such as all correlations of a validation: sections of their own tell them.
        return f"{len(value):,} {agree(len(value), 'entry', 'entries')} in atlas.json"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) or "none"


def _layers(numbers: Sequence[int]) -> str:
    """Numbers of layers with runs joined: `0-2, 5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in runs)


def _number(value: Any) -> str:
    return "not known" if value is None else str(value)
