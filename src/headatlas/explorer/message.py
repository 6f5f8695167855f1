"""The header of the payload, as the page reads it: `explorer/src/message.ts` has the same types with the same keys.

Keys are written as TypeScript writes them. Every text is plain and printable; the page shows it and never as markup.
"""

from __future__ import annotations

from typing import Literal, TypedDict

Rule = Literal["plain", "calibrated"]


class Relation(TypedDict):
    name: str
    category: str
    k: int
    pairs: int
    description: str
    copying: bool


class Unmeasured(TypedDict):
    """A relation that was not measurable."""

    name: str
    category: str
    pairs: int | None


class Validity(TypedDict):
    """How far the circuits of some layers are exact, and why not."""

    kind: str
    why: str
    layers: list[int]


class Salient(TypedDict):
    """Sizes of the arrays of salient operations: tokens by head, and tokens that each is mapped to."""

    tokens: int
    mapped: int


class ReadingWords(TypedDict):
    """Sizes of the arrays of words that heads look for: whoever asks; queries, and words for each. Above the agreement
    `certain` they are not called uncertain.
    """

    keys: int
    queries: int
    ofQuery: int
    certain: float


class Behaviour(TypedDict):
    """A way of reading; a head is named for it above the limit."""

    name: str
    title: str
    limit: float


class Composition(TypedDict):
    """Which heads feed which: how many edges were tried, and the number of those that are named, which arrays hold."""

    tried: int
    edges: int
    kinds: list[str]
    about: list[str]


class Written(TypedDict):
    """Sentences by a language model: which one, and the score that guessing has; arrays hold sentences and scores."""

    model: str
    chance: float


class PromptCheck(TypedDict):
    """Whether a head does at the prompt what its card says; null if the prompt does not show it."""

    title: str
    agrees: bool | None


class PromptHead(TypedDict):
    """What a head does at the prompt: adds to the token's logit (on the controls, from low to high), looks at each
    token, and raises words, or lowers them; `rank` of the token among them.
    """

    place: int
    adds: float
    low: float | None
    high: float | None
    attention: list[float]
    rank: int
    lowers: bool
    words: list[str]
    checks: list[PromptCheck]


class Prompt(TypedDict):
    """What the heads do at one prompt for one next token; the heads that stand out most first."""

    text: str
    token: str
    tokens: list[str]
    rule: str
    controls: int
    sentences: list[str]
    heads: list[PromptHead]


class Curve(TypedDict):
    """Right answers by the number of heads removed, for heads in one order."""

    relation: str
    task: str
    order: str
    random: bool
    removed: list[int]
    correct: list[int]
    prompts: list[int]


class Piece(TypedDict):
    style: Literal["plain", "code", "strong"]
    text: str


class TextBlock(TypedDict):
    type: Literal["title", "heading", "paragraph"]
    text: list[Piece]


class ListBlock(TypedDict):
    type: Literal["list"]
    items: list[list[Piece]]


class TableBlock(TypedDict):
    """A table; `right` are the numbers of the columns aligned to the right."""

    type: Literal["table"]
    header: list[list[Piece]]
    rows: list[list[list[Piece]]]
    right: list[int]


class CodeBlock(TypedDict):
    type: Literal["code"]
    text: str


Block = TextBlock | ListBlock | TableBlock | CodeBlock


class AtlasFacts(TypedDict):
    """One atlas; its arrays have names that begin with `prefix`."""

    prefix: str
    name: str
    measure: str
    label: str
    threshold: str
    rule: Rule
    layers: int
    heads: int
    kvHeads: int | None
    note: str
    warning: str
    validity: list[str]
    validityGroups: list[Validity]
    hasHeads: list[bool]
    relations: list[Relation]
    notMeasured: list[Unmeasured]
    hasCounts: bool
    pairs: bool
    salient: Salient | None
    similar: int
    descriptions: bool
    written: Written | None
    prompt: Prompt | None
    validation: bool
    ablation: list[Curve] | None
    reading: list[Behaviour] | None
    readingWords: ReadingWords | None
    composition: Composition | None
    report: list[Block]


class Strongest(TypedDict):
    """The head with the most hits on the shared pairs of a relation; `place` is null if no head has any."""

    place: int | None
    score: float
    chance: float | None
    copying: float | None


class SharedRelation(TypedDict):
    """A relation that both atlases measured."""

    name: str
    category: str
    pairs: int
    first: Strongest
    second: Strongest


class Matched(TypedDict):
    """Places of a head of the first atlas and the most similar one of the second, beyond chance."""

    first: int
    second: int
    similarity: float
    q: float
    common: int
    expected: float


class Functions(TypedDict):
    """Two atlases by function, for one side; `tried` heads of the first had enough hits to be matched."""

    relations: list[SharedRelation]
    onlyFirst: list[str]
    onlySecond: list[str]
    matched: list[Matched]
    tried: int
    fewestHits: int
    byChance: float | None


class Palette(TypedDict):
    """Colours of categories by name, of two and more categories, and 256 colours of a continuous scale."""

    categories: list[tuple[str, str]]
    counts: list[str]
    unclassified: str
    notApplicable: str
    scale: list[str]


class Stored(TypedDict):
    """Where an array lies in the bytes after the header."""

    type: str
    shape: list[int]
    offset: int


class Header(TypedDict):
    """`functions` by side, if heads of two atlases do not correspond; `version` of the tool; `link` to the scores."""

    format: int
    atlases: list[AtlasFacts]
    functions: dict[str, Functions] | None
    words: list[str]
    palettes: dict[str, Palette]
    readingPalettes: dict[str, Palette]
    maxQ: float
    minExcess: float
    minUncopied: int
    version: str
    link: str
    arrays: dict[str, Stored]
