"""Pairs in texts: which words `validate` shows to the running model, in which texts, and what it looks for.

Knows words and tokens, no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas.evidence import GroupFacts
from headatlas.bounded_toml import read_toml
from headatlas.errors import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from headatlas.relations import EncodedRelation

TEMPLATES = Path(__file__).parent / "data" / "templates.toml"
MARK = "{source}"

MIN_SEVERAL = 10
"""Fewest pairs with a source of several tokens that are reported of a relation."""


@dataclass
class Contexts:
    """What is shown and what is looked for.

    Args:
        groups: pairs by relation and length of sources.
        prompts: token ids, shorter ones first; each text once, however many pairs need it.
        source: place of the source's last token in each prompt.
        of_group, of_text, prompt, target_ids, k: of each task (a pair in a template): its group, the template's number,
            its prompt, the target, and among how many highest logits it counts.
    """

    groups: list[GroupFacts] = field(default_factory=list)
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    of_group: list[int] = field(default_factory=list)
    of_text: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    target_ids: list[int] = field(default_factory=list)
    k: list[int] = field(default_factory=list)

    @property
    def n_texts(self) -> int:
        """Number of templates."""
        return 1 + max(self.of_text, default=0)


def load_toml(path: str | Path) -> dict[str, Any]:
    """A TOML file; raises `SettingsError` where it is none."""
    try:
        return read_toml(Path(path))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise SettingsError(f"{path}: expected a TOML file, found something else ({error}).") from error


def load_templates(path: str | Path | None = None) -> list[str]:
    """Texts with `{source}` once and words on both sides of it.

    Raises:
        SettingsError: the file cannot be read, or holds something else.
    """
    path = TEMPLATES if path is None else Path(path)
    templates = load_toml(path).get("templates")
    if not isinstance(templates, list) or not templates:
        raise SettingsError(f"{path}: expected a list `templates` of texts, found {templates!r}.")
    for text in templates:
        if not isinstance(text, str) or text.count(MARK) != 1 or f" {MARK} " not in text or text != text.strip():
            raise SettingsError(
                f"{path}: expected texts with {MARK} once, a space and a word before and behind it, found {text!r}."
            )
    if len(set(templates)) < len(templates):
        raise SettingsError(f"{path}: expected each text once, found one twice.")
    return templates


def leading_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that the tokenizer puts before a text; those behind one would end it and are left out."""
    whole, bare = tokenizer("the")["input_ids"], tokenizer("the", add_special_tokens=False)["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if bare and whole[start : start + len(bare)] == bare:
            return whole[:start]
    return []


def make_contexts(
    relations: Sequence[EncodedRelation],
    tokenizer: PreTrainedTokenizerBase,
    d_vocab: int,
    templates: Sequence[str],
    pairs: int | None,
    seed: int,
) -> Contexts:
    """Choose pairs and put them into texts.

    Args:
        pairs: most pairs of a relation for each length of sources; None: all. Chosen by one seeded order of all
            words, so that relations with common sources share texts.
    """
    from headatlas.relations.encoding import single_token_ids

    words = {target for each in relations for _, target, why in each.dropped if why == "source"}
    targets = single_token_ids(words, tokenizer)
    contexts, texts = Contexts(), _Texts(tokenizer, templates)
    wanted: list[tuple[int, int, tuple[tuple[int, ...], int], int, int]] = []
    for each in relations:
        one = [(*pair, target) for pair, target in zip(each.pairs, each.target_ids, strict=True)]
        of_source = {source: token for (source, _), token in zip(each.pairs, each.source_ids, strict=True)}
        several = [
            (source, target, targets[target])
            for source, target, why in dict.fromkeys(each.dropped)
            if why == "source" and targets[target] is not None
        ]
        for tokens, candidates in (("one", one), ("several", several)):
            chosen = sorted(candidates, key=lambda pair: (_place(seed, pair[0]), pair[1]))[:pairs]
            kept = []
            for source, _, target in chosen:
                shown = texts.of(source, of_source.get(source))
                if shown is not None and target is not None and target < d_vocab:
                    kept.append((shown, target))
            if tokens == "several" and len(kept) < MIN_SEVERAL:
                continue
            wanted += [
                (len(contexts.groups), number, text, target, each.k)
                for shown, target in kept
                for number, text in enumerate(shown)
            ]
            contexts.groups.append(GroupFacts(each.name, tokens, len(kept), len(chosen) - len(kept)))
    ordered = sorted({text for _, _, text, _, _ in wanted}, key=lambda text: (len(text[0]), text))
    number = {text: place for place, text in enumerate(ordered)}
    contexts.prompts, contexts.source = [ids for ids, _ in ordered], [at for _, at in ordered]
    for group, of_text, text, target, k in sorted(wanted, key=lambda task: number[task[2]]):
        contexts.of_group.append(group)
        contexts.of_text.append(of_text)
        contexts.prompt.append(number[text])
        contexts.target_ids.append(target)
        contexts.k.append(k)
    return contexts


class _Texts:
    """Sources in templates as token ids, each made once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, templates: Sequence[str]) -> None:
        self._tokenizer, self._templates = tokenizer, templates
        self._leading = leading_ids(tokenizer)
        self._known: dict[tuple[str, int | None], list[tuple[tuple[int, ...], int]] | None] = {}

    def of(self, source: str, token: int | None) -> list[tuple[tuple[int, ...], int]] | None:
        """Token ids and the place of the source's last token, for each template.

        Args:
            token: the source's token, which has to be in that place; None if the source has several tokens.

        Returns None where a template's other words change the source's tokens.
        """
        if (source, token) not in self._known:
            self._known[source, token] = self._make(source, token)
        return self._known[source, token]

    def _make(self, source: str, token: int | None) -> list[tuple[tuple[int, ...], int]] | None:
        made = []
        for template in self._templates:
            before = template.split(MARK)[0] + source
            begun, whole = (self._ids(text) for text in (before, template.replace(MARK, source)))
            if not begun or len(begun) >= len(whole) or whole[: len(begun)] != begun:
                return None
            if token is not None and begun[-1] != token:
                return None
            made.append((tuple(self._leading + whole), len(self._leading) + len(begun) - 1))
        return made

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]


def _place(seed: int, word: str) -> str:
    return hashlib.sha256(f"{seed} {word}".encode()).hexdigest()
