"""The settings that define a measurement: `k`, threshold, input vectors; and the label for changed settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from headatlas.errors import SettingsError

MIN_PAIRS = 30
"""A relation is measurable if it has at least this many pairs whose words are one token each."""

SCORING_VERSION = 2
"""Of what is counted as a hit, raised by each change that can change one: results of two versions are never mixed.
Version 2 allows for numbers that underflow."""

MIN_UNCOPIED = 10
"""With fewer pairs that copying misses, a relation cannot be told from copying."""

LARGE_VOCABULARY = 100_000
"""With more tokens than this, the profile `maps` uses larger `k`, as the paper does for Llama 3, by name. The profile
`alone` does not: more targets would be near their source (docs/evidence.md)."""

CONTEXTUALIZE = ("first-mlp", "embedding", "alone")
CONTEXTUALIZE_OF = {"maps": "first-mlp", "alone": "alone"}
"""What the heads read in each profile."""

PROFILES = ("maps", "alone")
"""How heads are read: `maps` as published; `alone` as the model's own layers hand each word to them."""
DEFAULT_PROFILE = "alone"

RULES = ("plain", "calibrated")
"""How scores are counted, which changes no score: `calibrated` counts a score only if it is also beyond
chance and beyond copying."""

TERMS = ("value_bias", "attention_gain", "final_norm_gain", "input_norm_gain")

LEAST_AGREEMENT = 0.5
"""A prefix behaves unlike ordinary words if `headatlas.architectures.FirstPass.agreement` is below this. On the demo
model and Gemma 3 270M, prefixes that agree well with texts have 0.65 to 0.98; a chat model's marks of turns 0.42."""

LEAST_COSINE = 0.2
"""A map does not see its model if the median over layers of `headatlas.atlas.manifest.InputFacts.cosines` is below
this; docs/evidence.md has the measurement behind it."""

MAX_Q, MIN_EXCESS = 0.01, 0.1
"""With `calibrated`, a score is beyond chance if its q-value is below MAX_Q and it exceeds the chance level by more
than MIN_EXCESS."""


@dataclass(frozen=True)
class Settings:
    """The settings of one measurement; the defaults are the profile `maps` for a model with up to 100,000 tokens.

    Args:
        k: a target counts if it is among the `k` highest (lowest) logits. At least 1.
        k_copying: the same for relations whose class is `copying`.
        threshold: a head implements a relation if its score is strictly above this limit, 0 to 1; a decimal as text, so
            that comparisons are exact.
        contextualize: what the heads read. `first-mlp`: the embedding in the first layer, the first MLP's output in
            later ones. `embedding`: the embedding in all layers. `alone`: what each layer's values are computed from
            when the token passes through the model's own layers alone, behind a prefix.
        prefix: the token before it, for `alone`.
        value_bias, attention_gain, final_norm_gain, input_norm_gain: terms that are counted in addition to the OV
            circuits, see `headatlas.architectures.Terms`; the profile `maps` counts none of them, `alone` all that the
            model has and its input does not contain.
        profile: the named set of settings that these were derived from.
        rule: how scores are counted unless one says otherwise.
    """

    k: int = 10
    k_copying: int = 1
    threshold: str = "0.15"
    contextualize: str = "first-mlp"
    prefix: int | None = None
    profile: str = "maps"
    rule: str = "plain"
    value_bias: bool = False
    attention_gain: bool = False
    final_norm_gain: bool = False
    input_norm_gain: bool = False

    def __post_init__(self) -> None:
        parse_threshold(self.threshold)
        for name in ("k", "k_copying"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: expected a whole number of at least 1, found {getattr(self, name)}.")
        if self.contextualize not in CONTEXTUALIZE:
            raise SettingsError(
                f"contextualize: expected one of {', '.join(CONTEXTUALIZE)}, found {self.contextualize!r}."
            )
        checked_profile(self.profile)
        checked_rule(self.rule)

    @classmethod
    def of_profile(
        cls,
        d_vocab: int,
        profile: str = DEFAULT_PROFILE,
        k: int | None = None,
        threshold: str | float | None = None,
        contextualize: str | None = None,
        rule: str = "plain",
        **terms: Any,
    ) -> Settings:
        """The settings of a profile for a vocabulary of `d_vocab` tokens, with the given changes.

        >>> Settings.of_profile(50_000, k=5).label(50_000)
        'alone, modified: k=5'
        """
        larger_k = checked_profile(profile) == "maps" and d_vocab > LARGE_VOCABULARY
        chosen = {
            "k": 25 if larger_k else 10,
            "k_copying": 3 if larger_k else 1,
            "contextualize": CONTEXTUALIZE_OF[profile],
            "profile": profile,
            "rule": rule,
        }
        given = {"k": k, "threshold": None if threshold is None else str(threshold), "contextualize": contextualize}
        return cls(**(chosen | {name: value for name, value in given.items() if value is not None} | terms))

    def label(self, d_vocab: int) -> str:
        """The profile's name, the rule unless it is `plain`, and every setting that differs from the profile.

        >>> Settings.of_profile(50_000, k=5, rule="calibrated").label(50_000)
        'alone, calibrated, modified: k=5'
        """
        default = Settings.of_profile(d_vocab, self.profile, rule=self.rule)
        own = ("prefix", *TERMS) if self.profile == "alone" else ("prefix",)  # each model's own
        changed = [
            f"{field.name}={_label(getattr(self, field.name))}"
            for field in fields(self)
            if field.name not in own
            and getattr(self, field.name) != getattr(default, field.name)
            and not (field.name == "threshold" and Fraction(self.threshold) == Fraction(default.threshold))
        ]
        name = self.profile if self.rule == "plain" else f"{self.profile}, {self.rule}"
        return f"{name}, modified: {', '.join(changed)}" if changed else name

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)


def _label(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def checked_profile(profile: str) -> str:
    """The profile itself; raises `SettingsError` if there is no such profile."""
    if profile not in PROFILES:
        raise SettingsError(f"profile: expected one of {', '.join(PROFILES)}, found {profile!r}.")
    return profile


def checked_rule(rule: str) -> str:
    """The rule itself; raises `SettingsError` if there is no such rule."""
    if rule not in RULES:
        raise SettingsError(f"rule: expected one of {', '.join(RULES)}, found {rule!r}.")
    return rule


def parse_threshold(threshold: str | float) -> Fraction:
    """The exact value of a threshold written as a decimal; raises `SettingsError` outside 0 to 1."""
    text = str(threshold)
    try:
        # A long exponent would ask for a number of that many digits.
        value = Fraction(text) if len(text) <= 1000 and len(text.lower().partition("e")[2]) <= 4 else None
    except (ValueError, ZeroDivisionError):
        value = None
    if value is None or not 0 <= value < 1:
        raise SettingsError(f"threshold: expected a number from 0 to below 1 such as 0.15, found {threshold!r}.")
    return value
