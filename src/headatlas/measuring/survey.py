"""Many models, one after the other: an atlas each, an index of all, pictures of them, and a film of a series."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.analysis.descriptions.description import UNCLEAR
from headatlas.analysis.film import Film, Scene, make_film
from headatlas.analysis.functions_of_models import ModelFunction, functions_of, table_of_functions
from headatlas.analysis.reading import BEHAVIOURS, find_reading
from headatlas.atlas import SIDES, Atlas, load_atlas, records
from headatlas.atlas.evidence import CONDITIONS
from headatlas.atomic import make_folder, refuse_link, write_atomically
from headatlas.errors import AtlasError, HeadatlasError, SettingsError
from headatlas.measuring.progress import Progress, Stage
from headatlas.measuring.survey_list import ListedModel, read_model_list
from headatlas.printable import plain_cell, printable

if TYPE_CHECKING:
    import pandas as pd

    from headatlas.engines import Engine

INDEX_CSV, INDEX_JSON, FUNCTIONS, FILM = "index.csv", "index.json", "functions.csv", "film.html"
PICTURE, PICTURE_OF_FUNCTIONS, PICTURE_OF_SIZES = "survey.png", "functions.png", "sizes.png"
OWN = (INDEX_CSV, INDEX_JSON, FUNCTIONS, FILM, PICTURE, PICTURE_OF_FUNCTIONS, PICTURE_OF_SIZES)
LOCK = ".survey.lock"


class Status(StrEnum):
    """What became of a model of the list."""

    DONE = "done"
    FAILED = "failed"
    WAITING = "waiting"
    """Not reached in this run."""


TOTALS = {"score": "classified", "suppression": "suppressing"}
"""Columns with the number of heads that have any category."""

READS = ["reading", *(f"reads_{each.name}" for each in BEHAVIOURS)]
AGREEMENTS = {condition: f"agreement_{condition.replace('-', '_')}" for condition in CONDITIONS}
"""Columns with the mean over relations of Pearson's correlation with the running model, over heads."""


def survey_models(
    models: str | Path,
    output: str | Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    engine: Engine | None = None,
    overwrite: bool = False,
    palette: str = "paper",
    width: str | float | None = None,
    font: str = "sans",
    progress: Progress | None = None,
    raise_bugs: bool = False,
) -> pd.DataFrame:
    """Map every model of a list, and tabulate what the maps show.

    A model that cannot be mapped or measured does not stop the others: its row says why. The same call continues where
    an earlier one stopped: what is finished is confirmed, failed models are tried again.

    Args:
        models: a TOML file, see `headatlas.measuring.survey_list.read_model_list`.
        output: folder for an atlas `NAME/` of each model, `index.csv`, `index.json`, `functions.csv` (a row per model
            and function), `survey.png`, `functions.png`, `sizes.png` if the models have different sizes, and
            `film.html` if at least two of them have a `step`.
        device, threads, engine: as for `map_heads`. With an engine of another kind, what is measured of the running
            model is measured on this machine's processors.
        overwrite: measure all models anew, and replace the atlases in `output`.
        palette, width, font: of the pictures, as for `headatlas.figures.draw_survey`.
        progress: called as `map_heads` does for each model, and with `models`.
        raise_bugs: let errors that are not of headatlas's own kind end the survey.

    Returns:
        A row per model, in the list's order: name, source, step, model_type, parameters, n_layers, n_heads (in a
        layer), heads; numbers of heads: classified, `score_CATEGORY`, suppressing, `suppression_CATEGORY`, and, if
        measured, reading (with a way of reading), `reads_BEHAVIOUR`, described (by their salient operations); the mean
        correlations with the running model, `agreement_CONDITION`; label, fingerprint, status (`done`, `failed`, or
        `waiting` for what this run has not reached), error, seconds (of scoring, in the run that finished it).

    Raises:
        SettingsError: the list cannot be used, or there is no such palette, width or font.
        AtlasError: `output` cannot be written.

    >>> survey_models("models.toml", "out")[["name", "status"]]
       name  status
    0  tiny    done
    1  gone  failed
    """
    from headatlas.engines import LocalEngine
    from headatlas.measuring.map import map_heads

    listed = read_model_list(models)
    look: dict[str, Any] = {"palette": palette, "width": width, "font": font}
    _check_look(**look)
    output = Path(output)
    _check_folders(listed, output)
    here = engine if isinstance(engine, LocalEngine) else None
    local: dict[str, Any] = {"device": here.device, "threads": here.threads} if here else {}
    if engine is None:
        local = {"device": device, "threads": threads}
    rows = [_row(model, Status.WAITING) for model in listed]
    functions: dict[str, list[ModelFunction]] = {}
    with _held(output):
        for number, model in enumerate(listed):
            if progress is not None:
                progress(Stage.MODELS, number, len(listed))
            try:
                map_heads(
                    output=output / model.name, device=device, threads=threads, engine=engine, overwrite=overwrite,
                    progress=progress, **model.options,
                )  # fmt: skip
                rows[number] |= {"parameters": _parameters(model)}
                atlas, problems = _measure_more(model, load_atlas(output / model.name), local, progress, raise_bugs)
                rows[number] |= _counts(atlas) | {"status": Status.DONE.value}
                functions[model.name] = functions_of(atlas)
                if problems:
                    rows[number] |= {"status": Status.FAILED.value, "error": " ".join(problems)}
            except Exception as error:
                if raise_bugs and not isinstance(error, HeadatlasError | MemoryError):
                    raise
                rows[number] = _row(model, Status.FAILED) | {"error": _reason(error)}
            _write_index(_table(rows), output)
        table = _table(rows)
        _draw(table, functions, output, look)
        _write_film(table, output)
        if progress is not None:
            progress(Stage.MODELS, len(listed), len(listed))
    return table


def _measure_more(
    model: ListedModel, atlas: Atlas, local: dict[str, Any], progress: Progress | None, raise_bugs: bool
) -> tuple[Atlas, list[str]]:
    """Measure what the list asks for and the atlas lacks, and say what failed: one measurement stops no other."""
    from headatlas.measuring.attention import measure_attention
    from headatlas.measuring.validate import validate_atlas

    places = {name: model.options[name] for name in ("model", "adapter") if name in model.options}
    own = [path for name in ("relations", "add_relations") for path in model.options.get(name, [])]
    problems = []
    for name, options in model.measurements.items():
        try:
            if name == "attention" and not _has_attention(atlas, **options):
                atlas = measure_attention(atlas, **places, **options, **local, progress=progress)
            elif name == "validate" and not _has_validation(atlas, **options):
                atlas = validate_atlas(
                    atlas, **places, **options, **local, add_relations=own or None, progress=progress
                )
        except Exception as error:
            if raise_bugs and not isinstance(error, HeadatlasError | MemoryError):
                raise
            problems.append(f"{name}: {_reason(error)}")
    return atlas, problems


def _has_attention(atlas: Atlas, seeds: int | None = None, text: Path | None = None) -> bool:
    """Whether an atlas has what `measure_attention` would measure with these options."""
    from headatlas.measuring.attention import SEEDS
    from headatlas.measuring.running.passages import load_text

    facts = atlas.manifest.evidence.attention
    if facts is None:
        return False
    shown = hashlib.sha256(load_text(text).encode()).hexdigest()
    return (facts.seeds, facts.text_sha256) == (seeds or SEEDS, shown)


def _has_validation(
    atlas: Atlas, pairs: int | None = None, effects: int = 0, seed: int = 0, templates: Path | None = None
) -> bool:
    """Whether an atlas has what `validate_atlas` would measure with these options."""
    from headatlas.measuring.running.contexts import load_templates
    from headatlas.measuring.validate import PAIRS

    facts = atlas.manifest.evidence.validation
    if facts is None:
        return False
    measured = {*facts.relations, *facts.left_out} >= set(atlas.relations)
    wanted = (pairs or PAIRS, effects, seed, tuple(load_templates(templates)))
    return measured and (facts.pairs, facts.effects, facts.seed, facts.templates) == wanted


def _parameters(model: ListedModel) -> int:
    """Numbers in the language model's weights; tied ones count once."""
    from headatlas.measuring.session import Session

    tree = Session(model.options["model"]).heads.tree
    return sum(weight.numel() for weight in tree.model.parameters())


def _check_look(palette: str, width: str | float | None, font: str) -> None:
    """Refuse what no picture can have before hours of measuring."""
    from headatlas.figures.layout import plot_look
    from headatlas.figures.palettes import checked_palette
    from headatlas.figures.style import checked_font

    checked_palette(palette)
    checked_font(font)
    plot_look(width, 7.0)


def _draw(table: pd.DataFrame, functions: dict[str, list[ModelFunction]], output: Path, look: dict[str, Any]) -> None:
    from headatlas.figures import draw_functions_of_models, draw_sizes, draw_survey, save_figure

    of_functions = table_of_functions(functions)
    text = _csv(of_functions)
    write_atomically(output / FUNCTIONS, lambda path: path.write_text(text, "utf-8"))
    save_figure(draw_survey(table, **look), output / PICTURE)
    for name, figure in (
        (PICTURE_OF_FUNCTIONS, draw_functions_of_models(table, of_functions, **look) if functions else None),
        (PICTURE_OF_SIZES, draw_sizes(table, of_functions, **look) if _sizes(table) > 1 else None),
    ):
        if figure is None:
            (output / name).unlink(missing_ok=True)
        else:
            save_figure(figure, output / name)


def _write_film(table: pd.DataFrame, output: Path) -> None:
    from headatlas.explorer import write_film

    film = film_of(table, output)
    if film is None:
        (output / FILM).unlink(missing_ok=True)
    else:
        write_film(output / FILM, film)


def _sizes(table: pd.DataFrame) -> int:
    """Number of different sizes among the models that were mapped."""
    return table.loc[table["heads"].notna(), "parameters"].nunique()


def film_of(index: pd.DataFrame, output: str | Path) -> Film | None:
    """The film of a survey's atlases; None if less than two of them have a step.

    Args:
        index: as `survey_models` returned it for this `output`.
    """
    there = index[index["step"].notna() & index["heads"].notna()]
    scenes = [
        Scene(str(name), int(step), load_atlas(Path(output) / str(name)))
        for name, step in zip(there["name"], there["step"], strict=True)
    ]
    return make_film(scenes) if len(scenes) > 1 else None


@contextmanager
def _held(output: Path) -> Iterator[None]:
    """Make the folder, and keep other surveys out of it."""
    from filelock import FileLock, Timeout

    try:
        make_folder(output)
        refuse_link(output / LOCK)
        with FileLock(output / LOCK, blocking=False):
            yield
            (output / LOCK).unlink(missing_ok=True)
    except Timeout as error:
        raise AtlasError(
            f"{output}: another survey is writing into this folder. Wait for it, or choose another."
        ) from error
    except OSError as error:
        raise AtlasError(f"{output}: cannot be written ({error.strerror or error}). Choose another folder.") from error


def _check_folders(listed: list[ListedModel], output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise AtlasError(f"{output}: expected a folder to write the survey into, found a file.")
    for model in listed:
        folder = output / model.name
        if model.name.lower() in OWN:
            raise SettingsError(f"{folder}: this name is the survey's own; expected another name for the model.")
        if folder.is_symlink() or folder.resolve().parent != output.resolve():
            raise AtlasError(f"{folder}: expected a folder of the survey, found a link that may lead out of {output}.")


def _row(model: ListedModel, status: Status) -> dict[str, Any]:
    return {"name": model.name, "source": model.source, "step": model.step, "status": status.value}


def _counts(atlas: Atlas) -> dict[str, Any]:
    """The columns of the index that come from an atlas."""
    from headatlas.analysis.categories import classify

    model, run = atlas.manifest.model, atlas.manifest.run
    by_side = {side: classify(atlas, side=side) for side in SIDES}
    row: dict[str, Any] = {
        "model_type": model.model_type,
        "n_layers": atlas.n_layers,
        "n_heads": atlas.n_heads,
        "heads": by_side["score"].n_heads,
        "label": atlas.label,
        "fingerprint": model.fingerprint,
        "seconds": run and run.seconds,
    }
    for side, found in by_side.items():
        row[TOTALS[side]] = found.n_classified
        row |= {f"{side}_{name}": int(found.of(name).sum()) for name in found.categories}
    return row | _counts_of_evidence(atlas)


def _counts_of_evidence(atlas: Atlas) -> dict[str, Any]:
    from headatlas.analysis.correlations import known_correlations, mean_over_relations

    row: dict[str, Any] = {}
    if (reading := find_reading(atlas)) is not None:
        row["reading"] = reading.n_named
        row |= {f"reads_{name}": int(reading.of(name).sum()) for name in reading.names}
    if (described := atlas.manifest.evidence.descriptions) is not None:
        row["described"] = described.heads - described.rules.get(UNCLEAR, 0)
    for each in mean_over_relations(known_correlations(atlas)):
        if (each.side, each.tokens) == ("score", "one") and each.condition in CONDITIONS and each.pearson is not None:
            row[AGREEMENTS[each.condition]] = each.pearson.mean
    return row


def _reason(error: Exception) -> str:
    if isinstance(error, HeadatlasError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory for this model on this machine."
    return f"headatlas itself failed ({type(error).__name__}: {error}); the traceback comes with --debug."


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    from headatlas.relations import category_order

    known = ["name", "source", "step", "model_type", "parameters", "n_layers", "n_heads", "heads"]
    # Columns of what was measured of any model.
    more = [name for name in (*READS, "described") if any(name in row for row in rows)]
    agreements = [name for name in AGREEMENTS.values() if any(name in row for row in rows)]
    found = {column.removeprefix("score_") for row in rows for column in row if column.startswith("score_")}
    categories = sorted(found, key=category_order)
    counts = [name for side in SIDES for name in (TOTALS[side], *(f"{side}_{category}" for category in categories))]
    last = ["label", "fingerprint", "status", "error", "seconds"]
    table = pd.DataFrame(rows, columns=[*known, *counts, *more, *agreements, *last])
    whole = dict.fromkeys(["step", "parameters", "n_layers", "n_heads", "heads", *counts, *more], "Int64")
    return table.astype(whole | dict.fromkeys(agreements, "float64"))


def _csv(table: pd.DataFrame) -> str:
    """A table for spreadsheets, whose texts come from models and from files of others."""

    def safe(cell: Any) -> Any:
        return plain_cell(printable(cell)) if isinstance(cell, str) else cell

    texts = [name for name in table if table[name].dtype == object or table[name].dtype == "str"]
    return table.assign(**{name: table[name].map(safe) for name in texts}).rename(columns=safe).to_csv(index=False)


def _write_index(table: pd.DataFrame, output: Path) -> None:
    text = json.dumps({"schema": 1, "models": records(table)}, indent=1)
    write_atomically(output / INDEX_CSV, lambda path: path.write_text(_csv(table), "utf-8"))
    write_atomically(output / INDEX_JSON, lambda path: path.write_text(text, "utf-8"))
