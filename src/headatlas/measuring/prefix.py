"""The token before each word that passes through a model alone: which one, and how it behaves.

Without a prefix, a word would be at the first position, whose residuals are unlike all others. The rule was chosen on
two models by the agreement of scores with heads in texts: docs/evidence.md has the figures.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.atlas.manifest import PrefixFacts
from headatlas.errors import ArchitectureError, SettingsError
from headatlas.measuring.running.contexts import leading_ids
from headatlas.relations.encoding import single_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from headatlas.architectures import FirstPass, HeadModel
    from headatlas.measuring.run_folder import RunParts
    from headatlas.measuring.session import Session

ORDINARY = ("the", "of", "and", "in", "to", "a", "is", "on")
"""Words that can be a prefix; the first that is one token of the model is used if the tokenizer adds none."""

TOLERANCE = 0.01
"""Largest relative difference between what a layer reads here and in the whole model, which runs in float32."""

PART = "first-pass"
NOT_ASKED = "not asked for"


@dataclass(frozen=True)
class Prefix:
    """A prefix.

    Args:
        token: its id.
        text: the tokenizer's text for it.
        rule: why this one: `tokenizer` puts it before every text, `ordinary` word, or named by the `user`.
    """

    token: int
    text: str
    rule: str


def choose_prefix(session: Session, sources: Collection[int], given: str | None = None) -> Prefix | None:
    """The prefix that is asked for or, without one, the tokenizer's own or an ordinary word.

    None if the heads do not read words alone, so that they need none.

    Args:
        sources: tokens of words; one of them is taken if no word of ORDINARY is one token.
        given: the text of a token.

    Raises:
        SettingsError: what is asked for is not one token, or no prefix is needed.
    """
    if session.contextualize != "alone":
        if given is not None:
            raise SettingsError("prefix: only heads that read words alone need one. Use it with --profile alone.")
        return None
    if given is not None:
        tokenizer, d_vocab = session.tokenizer, session.heads.d_vocab
        ids = tokenizer(given, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or not 0 <= ids[0] < d_vocab:
            raise SettingsError(f"prefix: expected one token of this model, found {given!r} ({len(ids)} tokens).")
        return Prefix(ids[0], given, "user")
    return default_prefix(session, sources)


def default_prefix(session: Session, sources: Collection[int]) -> Prefix:
    """The tokenizer's own prefix or an ordinary word; one of `sources` if none is one token."""
    tokenizer, d_vocab = session.tokenizer, session.heads.d_vocab
    leading = [token for token in leading_ids(tokenizer) if 0 <= token < d_vocab]
    if leading:
        return Prefix(leading[-1], str(tokenizer.convert_ids_to_tokens(leading[-1])), "tokenizer")
    # In byte-pair vocabularies, tokens with small ids are the most common.
    ordinary = [*ordinary_prefixes(tokenizer, d_vocab), min(sources)][0]
    return Prefix(ordinary, str(tokenizer.convert_ids_to_tokens(ordinary)), "ordinary")


def ordinary_prefixes(tokenizer: PreTrainedTokenizerBase, d_vocab: int) -> list[int]:
    """The ordinary words that are one token of a model."""
    found = single_token_ids(set(ORDINARY), tokenizer)
    return [token for word in ORDINARY if (token := found[word]) is not None and token < d_vocab]


class Examination:
    """Examines the first pass of a run: is the residual right, and does the prefix behave?

    Args:
        check: compare with the whole model in memory, if it fits.
        parts: of the run, where the result is kept for a run that continues it.
    """

    def __init__(self, heads: HeadModel, prefix: Prefix, check: bool, parts: RunParts | None) -> None:
        self.heads, self.prefix, self.check, self.parts = heads, prefix, check, parts
        self.agreement: float | None = None
        self.error: float | None = None
        self.why_not: str | None = NOT_ASKED
        if (kept := None if parts is None else parts.load(PART)) is not None:
            self.agreement, self.error, self.why_not = json.loads(str(kept["found"]))
        self._is_known = kept is not None and (self.why_not != NOT_ASKED or not check)

    def examine(self, found: FirstPass) -> None:
        """To be called with the first pass; what an earlier run has found is not examined again.

        Raises:
            ArchitectureError: the whole model reads something else.
        """
        import numpy as np

        if self._is_known:
            return
        self.agreement = found.agreement
        if self.check:
            self._compare(found)
        if self.parts is not None:
            self.parts.save(PART, {"found": np.array(json.dumps([self.agreement, self.error, self.why_not]))})

    def facts(self) -> PrefixFacts:
        prefix = self.prefix
        return PrefixFacts(prefix.token, prefix.text, prefix.rule, self.agreement, self.error, self.why_not)

    def _compare(self, found: FirstPass) -> None:
        import torch

        from headatlas.measuring.running.model import RunningModel

        heads, last = self.heads, max(found.inputs)
        try:
            running = RunningModel(heads)
        except ArchitectureError as error:
            self.why_not = str(error)
            return
        expected = running.read_by_values(found.pairs, last).double()
        size = torch.linalg.vector_norm(expected, dim=-1)
        self.error = float((torch.linalg.vector_norm(found.inputs[last] - expected, dim=-1) / size).max())
        self.why_not = None
        if not self.error <= TOLERANCE:
            raise ArchitectureError(
                f"{heads.checkpoint.source}: layer {last}: the heads read something else than in the whole model; "
                f"expected a relative difference below {TOLERANCE:g}, found {self.error:.2g}. headatlas makes no map "
                f"from inputs that may be wrong."
            )
