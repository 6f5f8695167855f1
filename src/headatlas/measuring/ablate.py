"""The accuracy of a task as the heads of its relation are removed, compared with random heads and other tasks."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from headatlas.analysis.ablation import BY_OTHER_SCORE, BY_SCORE, random_order
from headatlas.atlas import head_name, load_atlas
from headatlas.atlas.evidence import Ablation, AblationFacts, Against, Control, RemovedBy, Status
from headatlas.atlas.json_facts import read_facts, write_facts
from headatlas.errors import SettingsError
from headatlas.measuring.output import EVIDENCE_FORMATS, ablation_picture, add_evidence, file_name
from headatlas.measuring.progress import Progress, Stage, report_stage
from headatlas.measuring.run_folder import RunParts
from headatlas.measuring.running.bench import AblationSettings, Bench, Head
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.questions import PROMPTS, Answers, PromptText, load_prompts
from headatlas.measuring.session import Session, relations_of

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.atlas import Atlas

MIN_BASE = 0.1
"""A task that the whole model solves less often than this is not testable."""

MOST_OVERLAP, MOST_DIFFERENCE = 0.15, 0.2
"""Of a control task: less than this share of heads in common, and a base accuracy that differs by less than this."""

LEAST_COMPARED = 8
"""Heads that two atlases are compared by even if fewer implement the relation."""

RANDOM_DRAWS, CONTROLS = 5, 3
MOST_PROMPTS, MOST_HEADS = 40, 64
PARTS = ".unfinished-ablation"
VERSION = 3
"""Of how prompts and random heads are made and counted: parts of an earlier version are not used."""


def ablate_heads(
    atlas: Atlas,
    relations: Iterable[str] | str,
    *,
    against: Atlas | None = None,
    model: str | Path | None = None,
    adapter: str | Path | None = None,
    add_relations: Any = None,
    prompts: str | Path | None = None,
    n_prompts: int = MOST_PROMPTS,
    n_heads: int = MOST_HEADS,
    controls: int = CONTROLS,
    mean: bool = False,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Atlas, list[Ablation]]:
    """Remove a relation's heads, strongest first, and count how often the model still gives its targets.

    An answer is the token with the highest logit after a prompt; it is correct if it is one of the source's targets.
    The output of a removed head at the last token is replaced by zeros (with `mean`: by its mean output over prompts of
    other relations) in front of the output projection. For comparison, as many random heads of the same layers that do
    not implement the relation are removed (five draws), and other tasks lose the relation's heads. Each finished
    relation is kept in the atlas, as its `ablation`; an interrupted call continues with the next one.

    Args:
        relations: names; each needs prompts.
        against: another atlas of the same model, such as one of another profile. The same prompts are answered without
            the heads that either atlas scores highest, above the threshold or not, but above 0.
        model, adapter, add_relations, device, threads: as for `validate_atlas`.
        prompts: a TOML file instead of the package's own.
        n_prompts: most prompts of a task.
        n_heads: most heads to remove.
        controls: most other tasks.
        mean: replace the output of a removed head by its mean over prompts of other relations.
        seed: of prompts, examples, random heads and controls.

    Returns:
        The atlas with the curves as its evidence `ablation`, and the result for each relation.

    Raises:
        HeadatlasError: another model than the atlas's, no prompts of a relation, too little memory.

    >>> atlas, [found] = ablate_heads(atlas, "country_to_capital", n_prompts=10)
    >>> found.heads[0]
    'L1H2'
    """
    from headatlas.engines.devices import check_device, count_threads, use_threads

    check_device(device)
    count_threads(threads)
    wanted = [relations] if isinstance(relations, str) else list(dict.fromkeys(relations))
    for name, value, least in (("n_prompts", n_prompts, 10), ("n_heads", n_heads, 1), ("controls", controls, 0)):
        if value < least:
            raise SettingsError(f"{name}: expected a whole number of at least {least}, found {value}.")
    texts = load_prompts(prompts)
    wanted = list(dict.fromkeys(map(atlas.check_relation, wanted)))
    for name in wanted:
        if name not in texts:
            raise SettingsError(
                f"relation: expected one with prompts in {prompts or PROMPTS.name}, found {name!r}. Write a file with "
                f"prompts for it and name it by --prompts."
            )
    session = Session.of_atlas(atlas, model, adapter, progress)
    heads, tokenizer = session.heads, session.tokenizer
    if against is not None:
        _check_against(against, session, wanted)
    asked, _ = relations_of(atlas, tokenizer, heads.d_vocab, wanted, add_relations)
    others, _ = relations_of(atlas, tokenizer, heads.d_vocab, None, add_relations)
    settings = AblationSettings(n_prompts, n_heads, RemovedBy.MEAN if mean else RemovedBy.ZERO, seed)
    identity = _identity(atlas, against, settings, controls, {name: texts[name] for name in others if name in texts})
    found = []
    with use_threads(threads), RunParts(atlas.folder, PARTS, identity, "ablating heads of this atlas") as parts:
        bench, atlas = None, _with_kept_curves(atlas)
        for number, name in enumerate(asked):

            def report(done: int, total: int, number: int = number) -> None:
                if progress is not None:
                    progress(Stage.ANSWERS, number * 1000 + 1000 * done // total, 1000 * len(asked))

            known = atlas.manifest.evidence.ablation
            # Curves are in the atlas before their part is saved.
            result = _load(parts, name) if known is not None and name in known.relations else None
            if result is None:
                if bench is None:
                    running = RunningModel(heads, device, report_stage(progress, Stage.BYTES))
                    relations_with_prompts = {each: others[each] for each in others if each in texts}
                    bench = Bench(running, relations_with_prompts, texts, tokenizer, settings)
                result = _ablate(atlas, bench, name, against, controls, device, report)
                atlas = _keep(atlas, *result)
                _save(parts, name, *result)
            found.append(result[0])
        parts.remove()
    return atlas, found


class Point(NamedTuple):
    """A point of a curve: what the model answers to a task without some heads; a row of the table."""

    task: str
    order: str
    removed: int
    correct: int
    prompts: int
    log_probability: float


def _check_against(against: Atlas, session: Session, relations: Iterable[str]) -> None:
    """Refuse an atlas of another model, or one that did not measure the relations."""
    Session.of_atlas(against, session.source, session.adapter)
    for name in relations:
        against.check_relation(name)


def _identity(
    atlas: Atlas, against: Atlas | None, settings: AblationSettings, controls: int, texts: dict[str, PromptText]
) -> dict[str, Any]:
    """What the relations of one run have in common."""
    tasks = {name: [text.prompt, text.shots] for name, text in texts.items()}
    chosen = asdict(settings) | {"removed_by": settings.removed_by.value, "controls": controls}
    known = {"version": VERSION, "atlas": atlas.manifest.identity, "settings": chosen, "tasks": tasks}
    return known | {"against": None if against is None else against.manifest.identity}


def _save(parts: RunParts, name: str, found: Ablation, points: list[Point]) -> None:
    import numpy as np

    content = json.dumps({"found": write_facts(found), "points": points})
    parts.save(f"relation-{file_name(name)}", {"content": np.array(content)})


def _load(parts: RunParts, name: str) -> tuple[Ablation, list[Point]] | None:
    part = parts.load(f"relation-{file_name(name)}")
    if part is None:
        return None
    content = json.loads(str(part["content"]))
    return read_facts(Ablation, content["found"], PARTS), [Point(*each) for each in content["points"]]


def _ablate(
    atlas: Atlas,
    bench: Bench,
    name: str,
    against: Atlas | None,
    n_controls: int,
    device: str,
    report: Callable[[int, int], None],
) -> tuple[Ablation, list[Point]]:
    started, settings = time.perf_counter(), bench.settings
    bench.drop({name})
    task = bench.task(name)
    base = bench.accuracy(name)
    orders = {BY_SCORE: ranked_heads(atlas, name)[: settings.most_heads]}
    if against is not None:
        most = max(len(orders[BY_SCORE]), len(ranked_heads(against, name)), LEAST_COMPARED)
        most = min(most, settings.most_heads)
        orders = {BY_SCORE: best_heads(atlas, name)[:most], BY_OTHER_SCORE: best_heads(against, name)[:most]}
    ordered = orders[BY_SCORE]
    status = Status.NOT_TESTABLE if base < MIN_BASE else Status.TESTED if ordered else Status.NO_HEADS
    controls: list[Control] = []
    elsewhere = 0
    points = [_point(name, BY_SCORE, 0, task.base, len(task.questions.prompts))]
    if status is Status.TESTED:
        instead = bench.means(name) if settings.removed_by is RemovedBy.MEAN else None
        controls = [
            Control(other, bench.accuracy(other), overlap(atlas, name, other))
            for other in choose_controls(atlas, bench, name, n_controls, any_overlap=against is not None)
        ]
        points, elsewhere = _curves(atlas, bench, name, orders, [each.task for each in controls], instead, report)
    found = Ablation(
        relation=name,
        prompt=task.questions.text.prompt,
        shots=task.questions.text.shots,
        base=base,
        heads=tuple(head_name(*head) for head in ordered),
        controls=tuple(controls),
        status=status,
        seconds=round(time.perf_counter() - started, 1),
        **vars(settings),
        device=device,
        against=None if against is None else _described(atlas, against, orders[BY_OTHER_SCORE]),
        random_elsewhere=elsewhere,
    )
    return found, points


def _described(atlas: Atlas, against: Atlas, ordered: list[Head]) -> Against:
    return Against(
        name=against.name if against.folder is None else against.folder.name,
        label=against.label,
        own_label=atlas.label,
        heads=tuple(head_name(*head) for head in ordered),
    )


def _point(task: str, order: str, removed: int, answers: Answers, prompts: int) -> Point:
    return Point(task, order, removed, answers.correct, prompts, answers.log_probability)


def _curves(
    atlas: Atlas,
    bench: Bench,
    name: str,
    orders: dict[str, list[Head]],
    controls: list[str],
    instead: dict[int, Tensor] | None,
    report: Callable[[int, int], None],
) -> tuple[list[Point], int]:
    """The task without its heads and without random heads, and other tasks without its heads; and how many heads of a
    random draw are from other layers than these heads."""
    longest = max(orders.values(), key=len)
    most, named = len(longest), {head for ordered in orders.values() for head in ordered}
    draws, elsewhere = random_heads(atlas, name, longest, bench.settings.seed, named)
    curves = [(name, order, ordered) for order, ordered in orders.items()]
    curves += [(name, random_order(number), draw) for number, draw in enumerate(draws, start=1)]
    curves += [(other, order, ordered) for other in controls for order, ordered in orders.items()]
    steps = removal_steps(most)
    points = []
    for number, (each, order, removed) in enumerate(curves):
        task = bench.task(each)
        n_prompts = len(task.questions.prompts)
        points.append(_point(each, order, 0, task.base, n_prompts))
        for at, count in enumerate(step for step in steps if step <= len(removed)):
            answers = bench.answers(each, removed[:count], instead)
            points.append(_point(each, order, count, answers, n_prompts))
            report(number * len(steps) + at + 1, len(curves) * len(steps))
    return points, elsewhere


def ranked_heads(atlas: Atlas, relation: str) -> list[Head]:
    """The heads that implement a relation (score strictly above the atlas's threshold), the strongest first."""
    rows = atlas.heads(relation=relation)
    return [(int(layer), int(head)) for layer, head in zip(rows["layer"], rows["head"], strict=True)]


def best_heads(atlas: Atlas, relation: str) -> list[Head]:
    """All heads with a score above 0, the strongest first."""
    rows = atlas.heads(relation=relation, min_score=0, rule="plain")
    return [(int(layer), int(head)) for layer, head in zip(rows["layer"], rows["head"], strict=True)]


def random_heads(
    atlas: Atlas, relation: str, removed: Sequence[Head], seed: int, without: Collection[Head] = ()
) -> tuple[list[list[Head]], int]:
    """Random draws of heads that do not implement the relation, each in the layer of the removed head at its place.

    Layers do not matter equally, so that heads of any layer would be no fair comparison. Where a layer has too few
    other heads, a draw continues with heads of the nearest layers that have some.

    Args:
        removed: in the order of their removal.
        without: further heads that are in no draw.

    Returns:
        The draws, each as long as `removed`, or as all other heads if these are fewer; how many heads of a draw are
        from another layer.
    """
    left_out = {*ranked_heads(atlas, relation), *removed, *without}
    layers = [layer for layer in range(atlas.n_layers) if atlas.has_heads[layer]]
    generator = random.Random(f"{seed} random heads {relation}")
    draws, elsewhere = [], 0
    for _ in range(RANDOM_DRAWS):
        rest = {at: [(at, head) for head in range(atlas.n_heads) if (at, head) not in left_out] for at in layers}
        for heads in rest.values():
            generator.shuffle(heads)
        draw, elsewhere = [], 0
        for layer, _head in removed:
            filled = [at for at in layers if rest[at]]
            if filled:
                nearest = min(filled, key=lambda at: (abs(at - layer), at))
                draw.append(rest[nearest].pop())
                elsewhere += nearest != layer
        draws.append(draw)
    return draws, elsewhere


def overlap(atlas: Atlas, relation: str, other: str) -> float:
    """Heads that implement both relations, as a share of those of the relation with fewer; 0 to 1."""
    ours, theirs = (set(ranked_heads(atlas, name)) for name in (relation, other))
    return len(ours & theirs) / max(1, min(len(ours), len(theirs)))


def choose_controls(atlas: Atlas, bench: Bench, name: str, most: int, any_overlap: bool = False) -> list[str]:
    """Other relations with little overlap and a similar base accuracy, in an order that the seed chooses.

    Args:
        any_overlap: also accept those with much overlap, after the others.
    """
    overlaps = {each: overlap(atlas, name, each) for each in bench.relations if each != name}
    candidates = [each for each, found in overlaps.items() if any_overlap or found < MOST_OVERLAP]
    random.Random(f"{bench.settings.seed} controls {name}").shuffle(candidates)
    if any_overlap:
        candidates.sort(key=lambda each: overlaps[each])
    base, chosen = bench.accuracy(name), []
    for each in candidates:
        if len(chosen) == most:
            break
        if bench.accuracy(each) >= MIN_BASE and abs(bench.accuracy(each) - base) < MOST_DIFFERENCE:
            chosen.append(each)
        bench.drop({name, *chosen})
    return chosen


def removal_steps(n_heads: int) -> list[int]:
    """How many heads are removed at the points of a curve: steps of one at first, then increasing ones."""
    steps, step = [], 1
    while step < n_heads:
        steps.append(step)
        step = max(step + 1, round(step * 1.4))
    return [*steps, n_heads]


def _with_kept_curves(atlas: Atlas) -> Atlas:
    """The atlas with the curves that are in its folder now: another run may have added some since it was loaded."""
    if atlas.folder is None:
        return atlas
    stored = load_atlas(atlas.folder)
    table, facts = stored.evidence("ablation"), stored.manifest.evidence.ablation
    if table is None or facts is None or stored.manifest.identity != atlas.manifest.identity:
        return atlas
    return atlas.with_evidence({"ablation": (table, facts)})


def _keep(atlas: Atlas, found: Ablation, points: list[Point]) -> Atlas:
    """The atlas with a relation's curves, in place of its earlier ones, which are drawn."""
    import pandas as pd

    name = found.relation
    table: Any = pd.DataFrame(points, columns=list(Point._fields))
    table.insert(0, "relation", name)
    before = atlas.evidence("ablation")
    if before is not None:
        table = pd.concat([before[before["relation"] != name], table], ignore_index=True)
    known = atlas.manifest.evidence.ablation
    facts = AblationFacts({**(known.relations if known else {}), name: found})
    atlas = add_evidence(atlas, {"ablation": (table, facts)})
    if atlas.folder is not None:
        from headatlas.figures import draw_ablation, save_figure

        for suffix in EVIDENCE_FORMATS:
            path = atlas.folder / f"{ablation_picture(name)}.{suffix}"
            if found.status is Status.TESTED:
                save_figure(draw_ablation(atlas, name), path)
            else:
                with suppress(OSError):  # the picture of an earlier run, which is no longer so
                    path.unlink()
    return atlas
