"""Tables that other measurements add to an atlas, and the facts that the manifest keeps about each.

Their columns are in docs/folder.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Annotated

from headatlas.atlas.json_facts import Count, Digest, OneOf, Positive, Share, Size, Text, Whole, Within
from headatlas.atlas.table import SIDES
from headatlas.errors import SettingsError

EVIDENCE = {
    "salient": "salient",
    "similar": "salient",
    "descriptions": "salient",
    "validation": "validate",
    "ablation": "ablate",
    "attention": "attention",
    "removal": "attention",
    "composition": "composition",
    "edges": "composition",
    "paths": "composition",
    "reading_words": "attention",
    "headvis": "import",
    "written": "describe",
}
"""Tables that other measurements add to an atlas, see docs/folder.md, and the command that gathers each."""

CONDITIONS = ("attention-fixed", "in-context")
TOTAL_EFFECT = "total-effect"
"""The condition of the table `validation` in which a head's output goes through all later layers."""

COUNTED = ("own", "none", "all")
"""Terms that are counted between a head and the logits: the atlas's, none (as the paper), or all that the model has."""

TOKENS = ("one", "several")
Coefficient = Annotated[float, Within(-1, 1)]


def check_evidence(name: str) -> None:
    """Raise `SettingsError` if there is no such table of evidence."""
    if name not in EVIDENCE:
        raise SettingsError(f"evidence: expected one of {', '.join(EVIDENCE)}, found {name!r}.")


@dataclass(frozen=True)
class SalientFacts:
    """Settings and counts behind the table `salient`.

    Args:
        tokens: salient tokens of a head; mapped: tokens that each is mapped to on each side.
        similar: heads that are named as similar to each head.
        junk: whether junk tokens were included.
        vocabulary: tokens of the model; `looked_at`: those that were compared.
        junk_tokens: number of junk tokens by kind.
        heads_without_output: heads whose output is 0 for every token.
        tokens_without_output: salient tokens whose output is 0; they have no rows.
        tool: version of headatlas.
        seconds, processor_seconds: that it took; of a map, without what was measured together with the scores.
        device: where it ran.
    """

    tokens: Size
    mapped: Size
    similar: Size
    junk: bool
    vocabulary: Count
    looked_at: Count
    junk_tokens: Mapping[str, Count]
    heads_without_output: Count
    tokens_without_output: Count
    tool: Text
    seconds: Positive
    processor_seconds: Positive
    device: Text


@dataclass(frozen=True)
class SimilarFacts:
    """Settings behind the table `similar`.

    Args:
        heads: similar heads that are named for each head.
        probes: tokens over which outputs are compared; `seed`: of their choice.
        projected_to: numbers that an output is projected to; None if it is compared whole.
        standard_error: of a similarity near 0, caused by the projection.
        tool: version of headatlas.
    """

    heads: Size
    probes: Count
    seed: Whole
    projected_to: Size | None
    standard_error: Share
    tool: Text


@dataclass(frozen=True)
class DescriptionsFacts:
    """Counts behind the table `descriptions`.

    Args:
        heads: number of described heads; `rules`: how many of them each rule describes.
        tool: version of headatlas.
    """

    heads: Count
    rules: Mapping[str, Count]
    tool: Text


@dataclass(frozen=True)
class GroupFacts:
    """Pairs of one relation whose sources have the same length.

    Args:
        tokens: `one` or `several`, the length of the sources.
        pairs: pairs that were shown, each in every template.
        left_out: pairs whose words are tokenised differently inside the templates.
    """

    relation: Text
    tokens: Annotated[str, OneOf(TOKENS)]
    pairs: Count
    left_out: Count


@dataclass(frozen=True)
class Correlation:
    """The correlation of scores from weights with those of the running model.

    Args:
        side: `score` or `suppression`.
        condition: `attention-fixed`, `in-context` or `total-effect`.
        counted: terms between head and logits, one of COUNTED; a total effect always has all of them, named `own`.
        tokens: sources of `one` or of `several` tokens.
        relation: its name, or `headatlas.analysis.correlations.ALL`.
        pairs: number of pairs.
        points: number of heads; over all relations, of heads x relations.
        pearson, spearman: -1 to 1; None if the scores are the same for all heads, from weights or in the running model.
        pooled: Pearson's correlation with a point per head and text, instead of the mean over texts.
    """

    side: Annotated[str, OneOf(SIDES)]
    condition: Annotated[str, OneOf((*CONDITIONS, TOTAL_EFFECT))]
    counted: Annotated[str, OneOf(COUNTED)]
    tokens: Annotated[str, OneOf(TOKENS)]
    relation: Text
    pairs: Count
    points: Count
    pearson: Coefficient | None
    spearman: Coefficient | None
    pooled: Coefficient | None


@dataclass(frozen=True)
class ValidationFacts:
    """Settings and results behind the table `validation`.

    Args:
        templates: texts that contain `{source}`.
        pairs: most pairs of a relation for each length of sources; None: all.
        seed: of the choice of pairs.
        relations: names of those that were validated; `left_out`: of those whose pairs are not available.
        groups: pairs by relation and length of sources.
        prompts: number of texts.
        effects: most pairs of a relation whose total effects were measured.
        seconds: that it took; `device`: where the model ran.
        packages: versions.
        correlations: with the scores from weights.
    """

    templates: tuple[Text, ...]
    pairs: Size | None
    seed: Whole
    relations: tuple[Text, ...]
    left_out: tuple[Text, ...]
    groups: tuple[GroupFacts, ...]
    prompts: Count
    effects: Count
    seconds: Positive
    device: Text
    packages: Mapping[str, Text]
    correlations: tuple[Correlation, ...]


@dataclass(frozen=True)
class ScoresCheck:
    """How scores before the softmax are computed in some layers, compared with the running model's.

    Args:
        layers: counted from 0.
        positions: how they know positions; None if their scores are not read.
        error: largest difference of a head's scores, relative to its largest score; None if they are not read.
    """

    layers: tuple[Count, ...]
    positions: Text | None
    error: Positive | None


def unread_layers(checks: tuple[ScoresCheck, ...]) -> list[int]:
    """The layers whose scores are not read."""
    return [layer for check in checks if check.positions is None for layer in check.layers]


@dataclass(frozen=True)
class AttentionFacts:
    """Settings behind the table `attention`.

    Args:
        prefix: the token in front of each sequence.
        seeds, sequences: of random tokens; `random_tokens`: different ones in a sequence, which shows each twice.
        text: name of the file; None for the package's own text.
        text_sha256: of the text; `text_tokens`: that were shown, in so many `pieces`.
        samples: texts that the model wrote for the prediction, of `sample_tokens` each behind the prefix;
            `samples_sha256`: of their tokens.
        limits: a behaviour is named if its share is strictly above this.
        scores_check: the self-check of queries and keys.
        tool: version of headatlas.
        seconds: that it took; `device`: where the model ran.
        packages: versions.
    """

    prefix: Count
    seeds: Size
    sequences: Size
    random_tokens: Size
    text: Text | None
    text_sha256: Digest
    text_tokens: Size
    pieces: Size
    samples: Size
    sample_tokens: Size
    samples_sha256: Digest
    limits: Mapping[str, Share]
    scores_check: tuple[ScoresCheck, ...]
    tool: Text
    seconds: Positive
    device: Text
    packages: Mapping[str, Text]


@dataclass(frozen=True)
class RemovedTogether:
    """What is left of in-context copying without all heads of a behaviour, and without as many other heads.

    Args:
        behaviour: its name.
        heads, controls: how many were removed; there are fewer controls if a layer has too few other heads.
        accuracy, probability: without its heads, 0 to 1; `control_accuracy`, `control_probability`: without the others.
        fall, low, high: by how much the probability falls without its heads, and the 95 % interval over sequences.
    """

    behaviour: Text
    heads: Size
    controls: Count
    accuracy: Share
    probability: Share
    control_accuracy: Share
    control_probability: Share
    fall: Coefficient
    low: Coefficient
    high: Coefficient


@dataclass(frozen=True)
class RemovalFacts:
    """Settings and results behind the table `removal`.

    Args:
        prefix: the token in front of each sequence.
        sequences: of `random_tokens` different tokens, which each shows twice.
        tokens: whose prediction counts, in all sequences.
        accuracy: share of these that the whole model predicts; `probability`: that it gives them, on average.
        together: for each behaviour with a head.
        tool: version of headatlas.
        seconds: that it took; `device`: where the model ran.
        packages: versions.
    """

    prefix: Count
    sequences: Size
    random_tokens: Size
    tokens: Size
    accuracy: Share
    probability: Share
    together: tuple[RemovedTogether, ...]
    tool: Text
    seconds: Positive
    device: Text
    packages: Mapping[str, Text]


@dataclass(frozen=True)
class CompositionFacts:
    """Settings behind the table `composition`.

    Args:
        prefix: the token in front of each sequence.
        seeds, sequences: of random tokens; `random_tokens`: different ones in a sequence, which shows each twice.
        samples: texts that the model wrote for the prediction, of `sample_tokens` each behind the prefix.
        limit: a head writes about the previous token if its predicted share is strictly above this.
        least_share: an induction head writes about the induction place if its predicted share is strictly above this.
        draws: random sets of senders.
        tool: version of headatlas.
        seconds: that it took; `device`: where the model ran.
        packages: versions.
    """

    prefix: Count
    seeds: Size
    sequences: Size
    random_tokens: Size
    samples: Size
    sample_tokens: Size
    limit: Share
    least_share: Share
    draws: Size
    tool: Text
    seconds: Positive
    device: Text
    packages: Mapping[str, Text]


@dataclass(frozen=True)
class EdgesFacts:
    """Settings behind the table `edges`.

    Args:
        random: random pairs that edges were compared with, by kind.
        least_strength: by kind; an edge is named if its strength is strictly above this.
        tool: version of headatlas.
    """

    random: Mapping[str, Count]
    least_strength: Mapping[str, Positive]
    tool: Text


@dataclass(frozen=True)
class PathsFacts:
    """Settings behind the table `paths`, and what the removal of all its edges at once does.

    Args:
        sequences: of random tokens.
        copying: mean probability of the token that follows in the first copy, 0 to 1.
        without: the same without all edges of the table; `without_random`: without as many random ones, by draw.
        tool: version of headatlas.
    """

    sequences: Size
    copying: Share
    without: Share
    without_random: tuple[Share, ...]
    tool: Text


@dataclass(frozen=True)
class ReadingWordsFacts:
    """Settings behind the table `reading_words`.

    Args:
        words: that were compared with each other.
        distances: tokens from a word back to the one that it looks for; scores are the mean over them.
        least: lowest score in the table.
        tool: version of headatlas.
    """

    words: Size
    distances: tuple[Size, ...]
    least: Positive
    tool: Text


@dataclass(frozen=True)
class HeadVisFacts:
    """Where the table `headvis` comes from; None for what the files do not say.

    Args:
        file, sha256: that was imported.
        model, dataset: names that they state; `sequences` of at most `tokens` tokens were shown.
        metrics: names of those that are known of some head.
        tool: version of headatlas.
    """

    file: Text
    sha256: Digest
    model: Text | None
    dataset: Text | None
    sequences: Size | None
    tokens: Size | None
    metrics: tuple[Text, ...]
    tool: Text


@dataclass(frozen=True)
class WrittenFacts:
    """Settings behind the table `written`.

    Args:
        model: that wrote and chose, as its endpoint names it; `host`: of the endpoint.
        prompt_version, prompt_sha256: of the texts that it was sent; the first counts their changes.
        options: groups of mappings that a question offers; `group`: mappings in each.
        seed: of what is shown, held out and compared.
        left_out: heads with too few mappings to hold any out; `empty`: heads that the model wrote no sentence about.
        tool: version of headatlas.
    """

    model: Text
    host: Text
    prompt_version: Size
    prompt_sha256: Digest
    options: Size
    group: Size
    seed: Whole
    left_out: Count
    empty: Count
    tool: Text


class Status(StrEnum):
    """Whether a relation could be tested by ablation."""

    TESTED = "tested"
    NOT_TESTABLE = "not testable"
    """The whole model solves its task too rarely."""

    NO_HEADS = "no heads"
    """No head implements the relation."""


class RemovedBy(StrEnum):
    """What replaces the output of a removed head."""

    ZERO = "zero"
    MEAN = "mean"


@dataclass(frozen=True)
class Control:
    """Another task that loses the relation's heads.

    Args:
        task: name of its relation.
        base: share of its prompts that the whole model solves, 0 to 1.
        overlap: heads that implement both relations, as a share of those of the relation with fewer, 0 to 1.
    """

    task: Text
    base: Share
    overlap: Share


@dataclass(frozen=True)
class Against:
    """The atlas whose order of heads is compared.

    Args:
        name: of its folder, or of its model if it has none.
        label: its settings, such as `maps`.
        own_label: those of the atlas itself.
        heads: names of its heads in the order of their removal.
    """

    name: Text
    label: Text
    own_label: Text
    heads: tuple[Text, ...]


@dataclass(frozen=True)
class Ablation:
    """One relation's ablation; its curves are in the table `ablation`.

    Args:
        relation: its name.
        status: whether it could be tested.
        base: share of its prompts that the whole model solves, 0 to 1.
        prompt, shots: text of the task, and examples in front of it.
        heads: names of the heads in the order of their removal.
        controls: other tasks that lose these heads.
        prompts, most_heads: limits on prompts and heads.
        removed_by: what replaces the output of a removed head.
        seed: of prompts, examples, random heads and controls.
        seconds: that it took.
        device: where the model ran.
        against: the atlas that it is compared with; None if there is none.
        random_elsewhere: heads of each random draw that are from other layers than the relation's heads, because
            these have too few others.
    """

    relation: Text
    prompt: Text
    shots: Count
    base: Share
    heads: tuple[Text, ...]
    controls: tuple[Control, ...]
    status: Status
    seconds: Positive
    prompts: Size
    most_heads: Size
    removed_by: RemovedBy
    seed: Whole
    device: Text
    against: Against | None
    random_elsewhere: Count = 0


@dataclass(frozen=True)
class AblationFacts:
    """The ablation of each relation, by its name."""

    relations: Mapping[str, Ablation]


Facts = (
    SalientFacts
    | SimilarFacts
    | DescriptionsFacts
    | ValidationFacts
    | AblationFacts
    | AttentionFacts
    | RemovalFacts
    | CompositionFacts
    | EdgesFacts
    | PathsFacts
    | ReadingWordsFacts
    | HeadVisFacts
    | WrittenFacts
)


@dataclass(frozen=True)
class EvidenceFacts:
    """The facts about each table of evidence; None if it was not gathered."""

    salient: SalientFacts | None = None
    similar: SimilarFacts | None = None
    descriptions: DescriptionsFacts | None = None
    validation: ValidationFacts | None = None
    ablation: AblationFacts | None = None
    attention: AttentionFacts | None = None
    removal: RemovalFacts | None = None
    composition: CompositionFacts | None = None
    edges: EdgesFacts | None = None
    paths: PathsFacts | None = None
    reading_words: ReadingWordsFacts | None = None
    headvis: HeadVisFacts | None = None
    written: WrittenFacts | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The tables that were gathered."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)

    def having(self, facts: Mapping[str, Facts]) -> EvidenceFacts:
        """The same with the facts of some tables added or replaced."""
        return replace(self, **facts)
