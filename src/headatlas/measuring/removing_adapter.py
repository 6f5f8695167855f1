"""An adapter that removes the heads of a relation from a model, and what the model then can no longer do.

The output projection adds `z_h @ W_O_h` for each head. A LoRA of rank d_head per head takes it away exactly: `lora_A`
picks the head's channels of the projection's input, `lora_B` holds `-W_O_h`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas import head_name
from headatlas.atlas.evidence import RemovedBy
from headatlas.atomic import flush_file, flush_folder, make_folder
from headatlas.checkpoints.adapter import CONFIG, PREFIX
from headatlas.errors import ArchitectureError, AtlasError, SettingsError
from headatlas.measuring.ablate import MIN_BASE, choose_controls, random_heads, ranked_heads
from headatlas.measuring.output import file_name
from headatlas.measuring.progress import Progress, Stage, report_stage
from headatlas.measuring.quality import accuracy, perplexity, shown_text
from headatlas.measuring.run_folder import RunParts
from headatlas.measuring.running.bench import AblationSettings, Bench, Head
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.questions import PromptText, load_prompts
from headatlas.measuring.session import Session, relations_of

if TYPE_CHECKING:
    import torch

    from headatlas.architectures import HeadModel
    from headatlas.atlas import Atlas

N_HEADS, RANDOM_DRAWS = 4, 3
WEIGHTS, CARD = "adapter_model.safetensors", "README.md"


@dataclass(frozen=True)
class Effect:
    """What the model still does, whole and without heads.

    Args:
        task: a relation, or `text` for the package's text.
        measure: `accuracy`, 0 to 1, or `perplexity` of the next token, from 1.
        whole: of the whole model.
        removed: without the heads.
        random: without as many others of the same layers, mean over RANDOM_DRAWS draws; None if there are none.
    """

    task: str
    measure: str
    whole: float
    removed: float
    random: float | None


@dataclass(frozen=True)
class RemovingAdapter:
    """An adapter that removes heads.

    Args:
        relation: whose heads they are.
        heads: their names, the strongest first.
        rank: of the adapter in each layer that it changes.
        effects: on the relation's task first, then on other tasks, then on text.
    """

    relation: str
    heads: tuple[str, ...]
    rank: dict[int, int]
    effects: tuple[Effect, ...]

    def as_dict(self) -> dict[str, Any]:
        """The removal in JSON types."""
        return asdict(self)


def remove_heads(
    atlas: Atlas,
    relation: str,
    output: str | Path,
    *,
    model: str | Path | None = None,
    add_relations: Any = None,
    prompts: str | Path | None = None,
    text: str | Path | None = None,
    n_heads: int = N_HEADS,
    n_prompts: int = 40,
    controls: int = 3,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> RemovingAdapter:
    """Write a LoRA adapter, in PEFT's layout, that removes a relation's heads, and measure what it takes away.

    The folder has the adapter and a card with the effects: accuracy of the task and of other tasks, perplexity of the
    package's text, each for the whole model, without the heads, and without random heads of the same layers. Heads are
    removed at all tokens, as the adapter does. The same call goes on after an interruption.

    Args:
        relation: its heads are removed, the strongest first.
        output: folder of the adapter.
        model, add_relations, prompts, n_prompts, controls, seed, device, threads: as for `ablate_heads`.
        text: a file of plain text instead of the package's own.
        n_heads: most heads to remove.
        overwrite: replace an adapter in `output`.

    Raises:
        HeadatlasError: no head implements the relation, it has no prompts, another model than the atlas's, or a folder
            that is in use.

    >>> from pathlib import Path
    >>> found = remove_heads(atlas, "country_to_capital", "without-capitals", n_heads=1, n_prompts=10, text="text.txt")
    >>> found.heads, [path.name for path in sorted(Path("without-capitals").iterdir())]
    (('L1H2',), ['README.md', 'adapter_config.json', 'adapter_model.safetensors'])
    """
    from headatlas.engines.devices import check_device, use_threads

    check_device(device)
    for name, value, least in (("n_heads", n_heads, 1), ("n_prompts", n_prompts, 10), ("controls", controls, 0)):
        if value < least:
            raise SettingsError(f"{name}: expected a whole number of at least {least}, found {value}.")
    relation = atlas.check_relation(relation)
    folder, texts = Path(output), load_prompts(prompts)
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if there and not (overwrite and there <= {CONFIG, WEIGHTS, CARD}):
        raise AtlasError(
            f"{folder}: expected an empty folder, found files. --overwrite replaces an adapter that is alone there."
        )
    if relation not in texts:
        raise SettingsError(f"relation: expected one with prompts, found {relation!r}. Name a file by --prompts.")
    chosen = ranked_heads(atlas, relation)[:n_heads]
    if not chosen:
        raise SettingsError(f"{atlas.name}: no head implements {relation!r} above {atlas.threshold}; none is removed.")
    session = Session.of_atlas(atlas, model, None, progress)
    heads = session.fetched_heads
    tensors, config = removing_adapter(heads, chosen)
    known, _ = relations_of(atlas, session.tokenizer, heads.d_vocab, None, add_relations)
    if relation not in known:
        raise SettingsError(f"relation: the pairs of {relation!r} are not available. Name its file by --add-relations.")
    with use_threads(threads):
        running = RunningModel(heads, device, report_stage(progress, Stage.BYTES))
        asked = {name: each for name, each in known.items() if name in texts}
        settings = AblationSettings(n_prompts, n_heads, RemovedBy.ZERO, seed)
        bench = Bench(running, asked, texts, session.tokenizer, settings)
        pieces = shown_text(atlas, session, text)
        identity = _identity(atlas, relation, chosen, controls, settings, {name: texts[name] for name in asked}, pieces)
        _make_parent(folder)
        with RunParts(folder.parent, f".unfinished-{folder.name}", identity, f"writing {folder.name}") as parts:
            effects = _effects(atlas, bench, pieces, relation, chosen, controls, seed, parts, progress)
            removal = RemovingAdapter(
                relation=relation,
                heads=tuple(head_name(*head) for head in chosen),
                rank={int(layer): len(each) for layer, each in _rows(heads, chosen).items()},
                effects=effects,
            )
            _write(folder, tensors, config | {"base_model_name_or_path": heads.name}, _card(atlas, removal))
            parts.remove()
    return removal


def removing_adapter(heads: HeadModel, chosen: Iterable[Head]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and config of an adapter that removes heads.

    Raises:
        ArchitectureError: an output projection is no linear layer, which an adapter could change.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    tensors: dict[str, torch.Tensor] = {}
    modules, transposed = {}, False
    for layer, rows in _rows(heads, chosen).items():
        path = heads.attention.output_path(layer)
        module = heads.tree.module(path)
        if not isinstance(module, torch.nn.Linear | Conv1D):
            raise ArchitectureError(
                f"{heads.checkpoint.source}: layer {layer}: the output projection is a {type(module).__name__}; "
                f"expected a linear layer, which an adapter can change."
            )
        transposed = isinstance(module, Conv1D)
        filled: Any = heads.tree.fill(path)
        weight = filled.weight.T if transposed else filled.weight  # (out, in)
        picks = torch.zeros(len(rows), weight.shape[1])
        picks[torch.arange(len(rows)), torch.tensor(rows)] = 1
        name = heads.tree.path_of(path)
        tensors[f"{PREFIX}{name}.lora_A.weight"] = picks
        tensors[f"{PREFIX}{name}.lora_B.weight"] = -weight[:, rows].detach().float().contiguous()
        modules[name] = len(rows)
    rank = max(modules.values())
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "rank_pattern": modules,
        "alpha_pattern": modules,
        "target_modules": list(modules),
        "fan_in_fan_out": transposed,
        "bias": "none",
        "inference_mode": True,
    }
    return tensors, config


def _rows(heads: HeadModel, chosen: Iterable[Head]) -> dict[int, list[int]]:
    """Layer -> the channels of its heads at the input of the output projection."""
    of_layer: dict[int, list[int]] = defaultdict(list)
    for layer, head in sorted(chosen):
        d_head = heads.values_and_outputs(layer)[1].shape[1]
        of_layer[layer] += range(head * d_head, (head + 1) * d_head)
    return dict(of_layer)


def _identity(
    atlas: Atlas,
    relation: str,
    chosen: list[Head],
    controls: int,
    settings: AblationSettings,
    texts: dict[str, PromptText],
    pieces: torch.Tensor,
) -> dict[str, Any]:
    """What the effects depend on."""
    tasks = {name: [text.prompt, text.shots] for name, text in texts.items()}
    return {
        "version": 1,
        "atlas": atlas.manifest.identity,
        "relation": relation,
        "heads": [head_name(*head) for head in chosen],
        "controls": controls,
        "prompts": settings.prompts,
        "seed": settings.seed,
        "tasks": tasks,
        "text": hashlib.sha256(pieces.numpy().tobytes()).hexdigest(),
    }


def _effects(
    atlas: Atlas,
    bench: Bench,
    pieces: torch.Tensor,
    relation: str,
    chosen: list[Head],
    n_controls: int,
    seed: int,
    parts: RunParts,
    progress: Progress | None,
) -> tuple[Effect, ...]:
    import numpy as np

    running = bench.running
    whole = _tasks(atlas, bench, relation, n_controls, parts)
    draws, elsewhere = random_heads(atlas, relation, chosen, seed)
    # Heads of other layers, or fewer heads, would be no fair comparison.
    is_fair = not elsewhere and len(draws[0]) == len(chosen)
    without: list[list[Head]] = [[], chosen, *(draws[:RANDOM_DRAWS] if is_fair else [])]
    total, done = (len(whole) + 1) * len(without) - len(whole), 0
    found = []
    for name in (*whole, None):
        # The whole model's accuracy is known since the controls were chosen.
        values = [] if name is None else [whole[name]]
        for number, removed in enumerate(without[len(values) :], len(values)):
            if progress is not None:
                progress(Stage.ANSWERS, done, total)
            part = "text" if name is None else f"task-{file_name(name)}"
            kept = parts.load(f"{part}-{number}")
            if kept is None:
                if name is None:
                    value = perplexity(running, pieces, removed)
                else:
                    value = accuracy(running, bench.questions(name), removed)
                kept = {"value": np.array(value)}
                parts.save(f"{part}-{number}", kept)
            values.append(float(kept["value"]))
            done += 1
        random_values = values[2:]
        found.append(
            Effect(
                task=name or "text",
                measure="perplexity" if name is None else "accuracy",
                whole=values[0],
                removed=values[1],
                random=sum(random_values) / len(random_values) if random_values else None,
            )
        )
    if progress is not None:
        progress(Stage.ANSWERS, total, total)
    return tuple(found)


def _tasks(atlas: Atlas, bench: Bench, relation: str, n_controls: int, parts: RunParts) -> dict[str, float]:
    """Accuracy of the whole model in the relation's task, and in other tasks that it solves about as often."""
    import numpy as np

    kept = parts.load("tasks")
    if kept is None:
        if bench.accuracy(relation) < MIN_BASE:
            n_controls = 0
        names = [relation, *choose_controls(atlas, bench, relation, n_controls)]
        kept = {"names": np.array(names), "accuracy": np.array([bench.accuracy(name) for name in names])}
        parts.save("tasks", kept)
    return dict(zip(kept["names"].tolist(), kept["accuracy"].tolist(), strict=True))


def _make_parent(folder: Path) -> None:
    try:
        make_folder(folder.parent)
    except OSError as error:
        raise AtlasError(f"{folder.parent}: cannot be written ({error.strerror or error}).") from error


def _write(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any], card: str) -> None:
    """Write the adapter's files together: the folder appears whole, or stays as it was."""
    from safetensors.torch import save_file

    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            save_file(tensors, partial / WEIGHTS)
            (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            (partial / CARD).write_text(card, "utf-8")
            partial.chmod(0o755)
            for name in (WEIGHTS, CONFIG, CARD):
                flush_file(partial / name)
            flush_folder(partial)
            if folder.exists():
                # Aside first: the old adapter is lost only once the new one is in its place.
                before = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
                folder.replace(before)
                partial.replace(folder)
                flush_folder(folder.parent)
                shutil.rmtree(before, ignore_errors=True)
            else:
                partial.replace(folder)
                flush_folder(folder.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise AtlasError(f"{folder}: the adapter cannot be written ({error.strerror or error}).") from error


def _card(atlas: Atlas, removal: RemovingAdapter) -> str:
    """The adapter's card, in Markdown."""
    from headatlas.reports.text import count

    def cell(value: float | None) -> str:
        return "not measured" if value is None else f"{value:.2f}"

    rows = [
        f"| `{each.task}` | {each.measure} | {cell(each.whole)} | {cell(each.removed)} | {cell(each.random)} |"
        for each in removal.effects
    ]
    return "\n".join(
        [
            "# Heads removed",
            "",
            f"A LoRA adapter for `{atlas.name}` that removes {count(len(removal.heads), 'attention head')}, the "
            f"strongest for `{removal.relation}` by their weights: {', '.join(removal.heads)}. It takes away what they "
            "add to the residual stream, at every token, and changes nothing else. Made with headatlas.",
            "",
            "| task | measure | whole model | with this adapter | random heads of these layers |",
            "| --- | --- | ---: | ---: | ---: |",
            *rows,
            "",
            "Tasks are few-shot prompts; the first one is that of the relation. `text` is a text of eleven genres. "
            "What the model knew may come back by other heads, in other prompts, or by further training.",
            "",
        ]
    )
