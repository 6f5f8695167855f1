"""What the heads of a model do at one prompt for one next token, against what their cards say; plain data and words.

Contributions are direct: what a head writes at the last token, read off by the final norm and the unembedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headatlas.atlas import head_name
from headatlas.printable import printable
from headatlas.relations import relation_title

if TYPE_CHECKING:
    import pandas as pd

LEAST_SHARE = 0.1
"""Least share of a head's attention on a token that counts as looking at it."""

MOST_ATTENDED = 5
"""Tokens that JSON and the table name of each head's attention."""


@dataclass(frozen=True)
class NextToken:
    """A token behind the prompt.

    Args:
        token_id: its id.
        text: what it reads, a leading space kept.
        probability: 0 to 1.
        rank: among all tokens, from 1.
        logit: the model's own.
    """

    token_id: int
    text: str
    probability: float
    rank: int
    logit: float


@dataclass(frozen=True)
class Check:
    """Whether a head does at this prompt what its card says.

    Args:
        kind: `relation`, `suppression` (of a relation) or `reading`.
        name: of the relation or of the way of reading.
        agrees: None if the prompt does not show it: the head looks at no source of the relation, or no token is of
            the kind that it reads.
        source, target: of a relation, the source that it looks at, and the target that it writes or lowers most.
        share: of its attention on that source, or on the tokens of the way of reading, 0 to 1.
        rank: of the target in what the head writes, from 1; of a suppression, from the lowest logit.
        k: the target counts if it is among so many.
        answers: the target is the next token whose logit is split.
    """

    kind: str
    name: str
    agrees: bool | None
    source: str | None = None
    target: str | None = None
    share: float | None = None
    rank: int | None = None
    k: int | None = None
    answers: bool = False

    @property
    def title(self) -> str:
        """The name as people read it."""
        if self.kind == "reading":
            return self.name
        return "suppresses " * (self.kind == "suppression") + relation_title(self.name)


@dataclass(frozen=True)
class HeadAttribution:
    """What one head does at the last token of the prompt.

    Args:
        layer, head: its place.
        contribution: to the logit of the token, minus the baseline.
        controls: the same on control prompts: (lowest, mean, highest); None without controls.
        rank: of the token in what the head writes, among all tokens, from 1; ties count against it.
        attention: share on each token of the prompt, 0 to 1.
        writes, suppresses: the tokens that it raises and lowers most.
        relations, categories, behaviours: what its card says, strongest first; of behaviours None if not measured.
        checks: one for each relation, suppressed relation and behaviour.
        removal: by how much the log-probability of the token falls without the head; None if it was not removed.
    """

    layer: int
    head: int
    contribution: float
    controls: tuple[float, float, float] | None
    rank: int
    attention: tuple[float, ...]
    writes: tuple[str, ...]
    suppresses: tuple[str, ...]
    relations: tuple[str, ...]
    categories: tuple[str, ...]
    behaviours: tuple[str, ...] | None
    checks: tuple[Check, ...]
    removal: float | None = None

    @property
    def name(self) -> str:
        return head_name(self.layer, self.head)

    @property
    def excess(self) -> float:
        """The contribution over the mean of the controls; without controls, the contribution."""
        return self.contribution - (0.0 if self.controls is None else self.controls[1])

    @property
    def is_beyond(self) -> bool | None:
        """Whether the contribution is outside the range of the controls; None without controls."""
        if self.controls is None:
            return None
        return not self.controls[0] <= self.contribution <= self.controls[2]

    @property
    def agrees(self) -> bool | None:
        """Whether it does one of the things that its card says; None if the prompt shows none of them."""
        shown = [each.agrees for each in self.checks if each.agrees is not None]
        return any(shown) if shown else None

    def attended(self, most: int = MOST_ATTENDED) -> list[tuple[int, float]]:
        """The tokens that it looks at most: (position, share)."""
        order = sorted(range(len(self.attention)), key=lambda at: (-self.attention[at], at))
        return [(at, self.attention[at]) for at in order[:most]]


@dataclass(frozen=True)
class RelationAtWork:
    """A relation that the prompt shows: do the heads that implement it write its target, and do others?

    Args:
        relation: its name.
        source, targets: words of the prompt's pair.
        heads: that implement the relation and look at the source.
        hits: those of them that write a target among the relation's `k` highest logits.
        others, other_hits: the same among heads that do not implement the relation.
    """

    relation: str
    source: str
    targets: tuple[str, ...]
    heads: tuple[str, ...]
    hits: tuple[str, ...]
    others: int
    other_hits: int


@dataclass(frozen=True)
class LogitAttribution:
    """The logit of a next token as a sum over heads, MLPs, biases and the embedding, and what each head does.

    Args:
        model, fingerprint, note: of the atlas.
        prompt: the text.
        tokens: what the model reads, special tokens included.
        next: the most probable next tokens, the first first.
        token: whose logit is split.
        d_vocab: number of tokens of the model.
        of_several: the word that was asked for has several tokens; `token` is the first.
        against: text of the token whose logit is the baseline; None: the mean over the vocabulary.
        value: the logit minus the baseline; the sum of `heads`, `mlps`, `biases`, `embedding` and `last`.
        capped: the family caps its logits; `value` is before the cap.
        heads: of all layers with softmax attention, in order.
        mlps, biases: by layer. What a layer without softmax attention writes is among its MLPs.
        embedding: of the last token, with its position.
        last: biases of the final norm and of the unembedding.
        n_controls: prompts of random tokens that end in the same token.
        random_removals: falls of the log-probability without random other heads, by name.
        relations: that the prompt shows.
        left_out: relations whose pairs are not available, so that they were not compared.
        rule: which relations count as implemented, `plain` or `calibrated`.
    """

    model: str
    fingerprint: str | None
    note: str | None
    prompt: str
    tokens: tuple[str, ...]
    next: tuple[NextToken, ...]
    token: NextToken
    d_vocab: int
    of_several: bool
    against: str | None
    value: float
    capped: bool
    heads: tuple[HeadAttribution, ...]
    mlps: tuple[float, ...]
    biases: tuple[float, ...]
    embedding: float
    last: float
    n_controls: int
    random_removals: tuple[tuple[str, float], ...]
    relations: tuple[RelationAtWork, ...]
    left_out: tuple[str, ...]
    rule: str

    @property
    def of_parts(self) -> dict[str, float]:
        """The sums over heads, MLPs, biases and the embedding; together they are `value`."""
        return {
            "heads": sum(each.contribution for each in self.heads),
            "MLPs": sum(self.mlps),
            "embedding": self.embedding,
            "biases": sum(self.biases) + self.last,
        }

    def strongest(self, most: int | None = None) -> list[HeadAttribution]:
        """The heads whose contributions differ most from those on the controls; without controls, the largest ones."""
        order = sorted(self.heads, key=lambda each: (-abs(each.excess), each.layer, each.head))
        return order[:most]

    @property
    def beyond(self) -> list[HeadAttribution]:
        """The heads whose contribution is outside the range of their controls, the strongest first."""
        return [each for each in self.strongest() if each.is_beyond]

    @property
    def expected_beyond(self) -> float:
        """As many heads would be outside the range if the prompt were one more control."""
        return 2 * len(self.heads) / (self.n_controls + 1)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per head, the strongest first: name, layer, head, contribution, control_low, control_mean,
        control_high, rank, looks_at, share, writes, relations, categories, behaviours, agrees, removal.
        """
        import pandas as pd

        rows = []
        for each in self.strongest():
            low, mean, high = each.controls or (None, None, None)
            ((at, share),) = each.attended(1)
            rows.append(
                {
                    "name": each.name, "layer": each.layer, "head": each.head, "contribution": each.contribution,
                    "control_low": low, "control_mean": mean, "control_high": high, "rank": each.rank,
                    "looks_at": self.tokens[at], "share": share, "writes": list(each.writes),
                    "relations": list(each.relations), "categories": list(each.categories),
                    "behaviours": None if each.behaviours is None else list(each.behaviours),
                    "agrees": each.agrees, "removal": each.removal,
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def as_dict(self) -> dict[str, Any]:
        """JSON types; the heads in the order of `strongest`."""
        known = asdict(self)
        known["random_removals"] = [{"name": name, "removal": fall} for name, fall in self.random_removals]
        known["of_parts"] = self.of_parts
        known["heads"] = [
            {"name": each.name}
            | asdict(each)
            | {
                "excess": each.excess,
                "attention": [round(share, 5) for share in each.attention],
                "attended": [
                    {"position": at, "token": self.tokens[at], "share": share} for at, share in each.attended()
                ],
                "beyond_controls": each.is_beyond,
                "agrees": each.agrees,
            }
            for each in self.strongest()
        ]
        return known


def quoted(token: str) -> str:
    """A token as people read it, safe to print.

    >>> quoted(" Paris"), quoted("  ")
    ("'Paris'", '2 spaces')
    """
    text = printable(token.strip(" "))
    return f"'{text}'" if text else f"{len(token)} spaces"


def shown_words(head: HeadAttribution) -> tuple[bool, list[str]]:
    """Whether the words are those that a head raises, and the words: those that it lowers, if it lowers the token."""
    raises = head.contribution >= 0
    return raises, list(dict.fromkeys(word.strip(" ") or word for word in (head.writes if raises else head.suppresses)))


def sentences_of(found: LogitAttribution) -> list[str]:
    """The finding in a few sentences, each with what it has to be compared with."""
    return [_continues(found), _parts(found), *_head_sentences(found), *_control_sentences(found)]


def _continues(found: LogitAttribution) -> str:
    first, rest = found.next[0], found.next[1:3]
    then = ", ".join(f"{quoted(each.text)} {each.probability:.2f}" for each in rest)
    text = f"The model continues with {quoted(first.text)} ({first.probability:.2f}; then {then})."
    if found.token.token_id == first.token_id:
        return text
    token = found.token
    part = " (the first token of the word)" if found.of_several else ""
    return f"{text} Looked at: {quoted(token.text)}{part}, rank {token.rank:,}, probability {_probability(token)}."


def _probability(token: NextToken) -> str:
    return f"{token.probability:.2g}" if token.probability < 0.01 else f"{token.probability:.2f}"


def _parts(found: LogitAttribution) -> str:
    baseline = "the mean of the vocabulary" if found.against is None else quoted(found.against)
    parts = ", ".join(f"{name} {value:+.2f}" for name, value in found.of_parts.items())
    cap = ", before the model caps it" * found.capped
    return f"Its logit is {found.value:+.2f} from {baseline}{cap}: {parts}."


def _head_sentences(found: LogitAttribution) -> list[str]:
    chosen = found.strongest(1)
    if not chosen:
        return []
    (head,) = chosen
    ((at, share),) = head.attended(1)
    control = "" if head.controls is None else f" (controls {head.controls[0]:+.2f} to {head.controls[2]:+.2f})"
    stands = "adds most" if head.controls is None else "stands out most"
    raises, words = shown_words(head)
    verb = "writes" if raises else "lowers"
    return [
        f"{head.name} {stands}, {head.contribution:+.2f}{control}: it looks at {quoted(found.tokens[at])} "
        f"({share:.2f}) and {verb} {', '.join(map(quoted, words[:3]))}; among {found.d_vocab:,} tokens, "
        f"{quoted(found.token.text)} is number {head.rank:,} of what it writes.",
        f"{says(head)}.",
    ]


def says(head: HeadAttribution) -> str:
    """How what a head does here compares with its card."""
    answers = [each for each in head.checks if each.answers]
    if answers:
        first = answers[0]
        names = ", ".join(each.title for each in answers[:2])
        limit = f"among the first {first.k}" if first.agrees else f"not among the first {first.k}"
        return f"Its card has the pair {first.source} -> {first.target} ({names}), here at {first.rank:,}, {limit}"
    for agrees, text in ((True, "That is what its card says"), (False, "Its card says something else")):
        names = [each.title for each in head.checks if each.agrees is agrees]
        if names and head.agrees is agrees:
            return f"{text} ({', '.join(names[:2])})"
    named = [each.title for each in head.checks]
    if named:
        return f"What its card says ({', '.join(named[:2])}) cannot be seen at this prompt"
    return "Its card names nothing that it does"


def _control_sentences(found: LogitAttribution) -> list[str]:
    if not found.n_controls:
        return []
    return [
        f"{len(found.beyond)} of {len(found.heads)} heads are outside the range of their own contributions on "
        f"{found.n_controls} prompts of random tokens that end in the same token; about {found.expected_beyond:.0f} "
        f"would be by chance."
    ]


def mark(agrees: bool | None) -> str:
    """A sign for a check: ✓ as the card says, ✗ not so, · not shown by this prompt."""
    return {True: "✓", False: "✗", None: "·"}[agrees]


def shown_checks(head: HeadAttribution) -> Sequence[Check]:
    """The checks of a head: of the answer first, then what agrees, what does not, what the prompt does not show."""
    order = {True: 0, False: 1, None: 2}
    return sorted(head.checks, key=lambda each: (not each.answers, order[each.agrees]))
