"""Sentences about heads that a language model writes, each scored by held-out choice, kept in the atlas."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas._version import __version__
from headatlas.analysis.card import parse_head
from headatlas.analysis.written import COLUMNS, MOST_SENTENCE, OPTIONS, clean_sentence, read_written
from headatlas.analysis.written_tasks import (
    CHOOSE,
    GROUP,
    PROMPT_VERSION,
    WRITE,
    Task,
    Tasks,
    count_right,
    parse_choice,
)
from headatlas.atlas.evidence import WrittenFacts
from headatlas.errors import AtlasError, EndpointError, SettingsError
from headatlas.measuring.endpoint import ChatEndpoint
from headatlas.measuring.output import EVIDENCE_FORMATS, add_evidence, save_pictures
from headatlas.measuring.progress import Progress, Stage
from headatlas.measuring.run_folder import RunParts

if TYPE_CHECKING:
    import numpy as np

    from headatlas.atlas import Atlas

PARTS = ".unfinished-describe"
PARALLEL = 4
MOST_TOKENS = 1024
"""Of one answer; models that reason before they answer need more than the sentence takes."""

PER_TOKEN = 4
"""Characters of a token, for the estimate of the cost."""

SENTENCE_TOKENS, CHOICE_TOKENS = 60, 4
FEWEST_ANSWERS = 6
"""After as many questions without one usable answer, the endpoint is given up."""


@dataclass(frozen=True)
class Cost:
    """What a run will send.

    Args:
        heads: that are described; `kept`: that are finished already; `left_out`: with too few mappings.
        requests: to the endpoint.
        tokens_in, tokens_out: estimates, of 4 characters a token; models that reason write more.
        host, model: where it goes.
    """

    heads: int
    kept: int
    left_out: int
    requests: int
    tokens_in: int
    tokens_out: int
    host: str
    model: str


def describe_atlas(
    atlas: Atlas,
    *,
    endpoint: str,
    model: str,
    heads: Sequence[str] | None = None,
    limit: int | None = None,
    parallel: int = PARALLEL,
    seed: int = 0,
    overwrite: bool = False,
    confirm: Callable[[Cost], bool] | None = None,
    progress: Progress | None = None,
) -> Atlas:
    """Let a language model write a sentence about each head, and score it next to that of the rules.

    The model is shown a part of each head's mappings. Then, given a sentence alone, it picks the head's held-out
    mappings among five groups, four of other heads: up to three times with its own sentence, and with the sentence of
    the rules. The score is the share of right answers; 1 in 5 by chance.

    Args:
        atlas: with a folder, the table is written there, and a call that was interrupted continues where it stopped.
        endpoint: an OpenAI-compatible address such as `https://host/v1`; its key is taken from the environment
            variable `HEADATLAS_API_KEY`, if that is set.
        model: as the endpoint names it.
        heads: such as `L23H4`; default: all.
        limit: most heads, those with the highest scores first; heads that are described already do not count.
        parallel: requests at a time.
        seed: of what is shown, held out and compared.
        overwrite: replace sentences of another model, prompt or seed.
        confirm: called with the cost before anything is sent; False stops.

    Returns:
        The atlas with the evidence `written`, a row per head; unchanged if nothing was sent.

    Raises:
        HeadatlasError: no such head, sentences of another model are there, the endpoint fails or answers nonsense.
    """
    import pandas as pd

    if limit is not None and limit < 1:
        raise SettingsError(f"limit: expected a whole number of at least 1, found {limit}.")
    if not 1 <= parallel <= 64:
        raise SettingsError(f"parallel: expected a whole number from 1 to 64, found {parallel}.")
    chat, every = ChatEndpoint(endpoint, model), Tasks(atlas, seed)
    known = _known(atlas, chat, seed, overwrite)
    places = every.places() if heads is None else list(dict.fromkeys(parse_head(atlas, name) for name in heads))
    tasks, left_out = [], 0
    for place in places:
        if place in known:
            continue
        if limit is not None and len(tasks) >= limit:
            break
        task = every.of(*place)
        left_out += task is None
        tasks += [task] if task is not None else []
    identity = {
        "atlas": atlas.manifest.identity, "endpoint": chat.url, "model": model, "seed": seed,
        "prompt": [PROMPT_VERSION, _prompt_sha256()],
    }  # fmt: skip
    with RunParts(atlas.folder, PARTS, identity, "describing the heads of this atlas") as parts:
        found = {task: kept for task in tasks if (kept := _kept(parts, task)) is not None}
        missing = [task for task in tasks if task not in found]
        if missing and confirm is not None:
            cost = _cost(missing, len(known) + len(found), left_out, chat)
            if not confirm(cost):
                return atlas
        if progress is not None:
            progress(Stage.DESCRIBED, len(found), len(tasks))
        with chat:
            _ask_all(chat, missing, parallel, parts, found, len(tasks), progress)
        rows = [[*place, *(getattr(each, name) for name in COLUMNS[2:])] for place, each in known.items()]
        rows += [row for task, answers in found.items() if (row := _row(task, answers)) is not None]
        if not rows:
            raise AtlasError(
                f"{atlas.name}: no head has a sentence: {left_out} have too few mappings to hold any out. Measure "
                f"`headatlas salient` first, or name other heads."
            )
        table = pd.DataFrame(sorted(rows), columns=list(COLUMNS))
        before = atlas.manifest.evidence.written
        kept_empty = 0 if before is None or not known else before.empty
        facts = WrittenFacts(
            model=model,
            host=chat.host,
            prompt_version=PROMPT_VERSION,
            prompt_sha256=_prompt_sha256(),
            options=OPTIONS,
            group=GROUP,
            seed=seed,
            left_out=left_out,
            empty=kept_empty + sum(not str(answers["sentence"]) for answers in found.values()),
            tool=__version__,
        )
        atlas = add_evidence(atlas, {"written": (table, facts)})
        if atlas.folder is not None:
            from headatlas.figures import draw_written

            save_pictures(draw_written(atlas), atlas.folder / "written", EVIDENCE_FORMATS)
        parts.remove()
    return atlas


def _known(atlas: Atlas, chat: ChatEndpoint, seed: int, overwrite: bool) -> dict[Any, Any]:
    """The rows that are there and were made in the same way.

    Raises:
        SettingsError: they were made in another way.
    """
    facts = atlas.manifest.evidence.written
    if facts is None or overwrite:
        return {}
    here = (facts.model, facts.prompt_version, facts.prompt_sha256, facts.seed)
    if here != (chat.model, PROMPT_VERSION, _prompt_sha256(), seed):
        raise SettingsError(
            f"describe: the atlas holds sentences of {facts.model!r} (prompt {facts.prompt_version}, seed "
            f"{facts.seed}). Name that model, or replace them with --overwrite."
        )
    return read_written(atlas) or {}


def _ask_all(
    chat: ChatEndpoint,
    tasks: Sequence[Task],
    parallel: int,
    parts: RunParts,
    found: dict[Task, dict[str, np.ndarray]],
    total: int,
    progress: Progress | None,
) -> None:
    """Ask about all tasks; what is finished is safe when this ends, however it ends."""
    usable = _Usable()
    pool = ThreadPoolExecutor(parallel)
    try:
        waiting = {pool.submit(_ask, chat, task, usable): task for task in tasks}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            # What is finished first, then what failed.
            for each in sorted(done, key=lambda each: each.exception() is not None):
                task, answers = waiting.pop(each), each.result()
                parts.save(_part(task), answers)
                found[task] = answers
                if progress is not None:
                    progress(Stage.DESCRIBED, len(found), total)
    finally:
        chat.stop()
        pool.shutdown(cancel_futures=True)


class _Usable:
    """Whether the endpoint has given any usable answer."""

    def __init__(self) -> None:
        self.any, self.failed = False, 0

    def note(self, usable: bool, host: str, expected: str, answer: str) -> None:
        self.any, self.failed = self.any or usable, self.failed + (not usable)
        if not self.any and self.failed >= FEWEST_ANSWERS:
            from headatlas.printable import printable

            shown = printable(" ".join(answer.split())[:80]) or "nothing"
            raise EndpointError(
                f"{host}: expected {expected}, found {shown!r} and the like {self.failed} times. Try another model."
            )


def _ask(chat: ChatEndpoint, task: Task, usable: _Usable) -> dict[str, np.ndarray]:
    """The sentence, empty if there is none, and the choices with it and with that of the rules; -1: not usable."""
    import numpy as np

    answer = chat.ask(WRITE, task.prompt, MOST_TOKENS)
    sentence = clean_sentence(answer) or ""
    if not sentence:
        usable.note(False, chat.host, "a sentence", answer)
        return {"sentence": np.array("")}

    def choose(text: str) -> np.ndarray:
        choices = []
        for question in task.questions:
            answer = chat.ask(CHOOSE, question.prompt(text), MOST_TOKENS)
            choice = parse_choice(answer)
            usable.note(choice is not None, chat.host, "a letter from A to E", answer)
            choices.append(-1 if choice is None else choice)
        return np.array(choices, dtype=np.int64)

    return {"sentence": np.array(sentence), "choices": choose(sentence), "rules": choose(task.rules_sentence)}


def _row(task: Task, answers: dict[str, np.ndarray]) -> list[Any] | None:
    """A row of the table `written`; None if the model wrote no sentence."""
    sentence = str(answers["sentence"])
    if not sentence:
        return None
    (correct, answered), (rules_correct, rules_answered) = (
        count_right(task, [None if choice < 0 else choice for choice in answers[name].tolist()])
        for name in ("choices", "rules")
    )
    return [task.layer, task.head, sentence, task.kind, len(task.questions), correct, answered, task.rules_sentence,
            rules_correct, rules_answered]  # fmt: skip


def _kept(parts: RunParts, task: Task) -> dict[str, np.ndarray] | None:
    """The answers of an interrupted run, if they are whole."""
    kept = parts.load(_part(task))
    if kept is None or kept.get("sentence") is None or kept["sentence"].dtype.kind != "U":
        return None
    sentence = str(kept["sentence"])
    if not sentence:
        return kept
    n = len(task.questions)
    numbers = [kept[name] for name in ("choices", "rules") if name in kept]
    whole = len(numbers) == 2 and all(each.shape == (n,) and each.dtype.kind == "i" for each in numbers)
    return kept if whole and len(sentence) <= MOST_SENTENCE and clean_sentence(sentence) == sentence else None


def _part(task: Task) -> str:
    return f"L{task.layer}H{task.head}"


def _cost(tasks: Sequence[Task], kept: int, left_out: int, chat: ChatEndpoint) -> Cost:
    requests, characters, out = 0, 0, 0
    for task in tasks:
        asked = 2 * len(task.questions)
        requests += 1 + asked
        characters += len(WRITE) + len(task.prompt) + asked * len(CHOOSE)
        for sentence in ("x" * PER_TOKEN * SENTENCE_TOKENS, task.rules_sentence):
            characters += sum(len(question.prompt(sentence)) for question in task.questions)
        out += SENTENCE_TOKENS + asked * CHOICE_TOKENS
    return Cost(len(tasks), kept, left_out, requests, characters // PER_TOKEN, out, chat.host, chat.model)


def _prompt_sha256() -> str:
    return hashlib.sha256(f"{WRITE}\n{CHOOSE}".encode()).hexdigest()
