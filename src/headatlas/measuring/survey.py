"""Many models, one after the other: an atlas each, an index of all, and a picture to compare them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas import SIDES, Atlas, records
from headatlas.atomic import write_atomically
from headatlas.errors import AtlasError, HeadatlasError, SettingsError
from headatlas.measuring.progress import Progress, Stage
from headatlas.measuring.survey_list import ListedModel, read_model_list

if TYPE_CHECKING:
    import pandas as pd

    from headatlas.engines import Engine

INDEX_CSV, INDEX_JSON, PICTURE = "index.csv", "index.json", "survey.png"
LOCK = ".survey.lock"


class Status(StrEnum):
    """What became of a model of the list."""

    DONE = "done"
    FAILED = "failed"
    WAITING = "waiting"
    """Not reached in this run."""


TOTALS = {"score": "classified", "suppression": "suppressing"}
"""Columns with the number of heads that have any category."""


def survey_models(
    models: str | Path,
    output: str | Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    engine: Engine | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    raise_bugs: bool = False,
) -> pd.DataFrame:
    """Map every model of a list, and tabulate what the maps show.

    A model that cannot be mapped does not stop the others: its row says why. The same call continues where an earlier
    one stopped: finished atlases are confirmed, failed models are tried again.

    Args:
        models: a TOML file, see `headatlas.measuring.survey_list.read_model_list`.
        output: folder for an atlas `NAME/` of each model, `index.csv`, `index.json` and `survey.png`.
        device, threads, engine: as for `map_heads`.
        overwrite: measure all models anew, and replace the atlases in `output`.
        progress: called as `map_heads` does for each model, and with `models`.
        raise_bugs: let errors that are not of headatlas's own kind end the survey.

    Returns:
        A row per model, in the list's order: name, source, model_type, n_layers, n_heads (in a layer), heads;
        numbers of heads: classified, `score_CATEGORY`, suppressing, `suppression_CATEGORY`; label, fingerprint,
        status (`done`, `failed`, or `waiting` for what this run has not reached), error, seconds (of scoring, in the
        run that finished it).

    Raises:
        SettingsError: the list cannot be used.
        AtlasError: `output` cannot be written.

    >>> survey_models("models.toml", "out")[["name", "status"]]
       name  status
    0  tiny    done
    1  gone  failed
    """
    from headatlas.figures import draw_survey, save_figure
    from headatlas.measuring.map import map_heads

    listed = read_model_list(models)
    output = Path(output)
    _check_folders(listed, output)
    rows = [_row(model, Status.WAITING) for model in listed]
    with _held(output):
        for number, model in enumerate(listed):
            if progress is not None:
                progress(Stage.MODELS, number, len(listed))
            try:
                atlas = map_heads(
                    output=output / model.name, device=device, threads=threads, engine=engine, overwrite=overwrite,
                    progress=progress, **model.options,
                )  # fmt: skip
                rows[number] = _row(model, Status.DONE) | _counts(atlas)
            except Exception as error:
                if raise_bugs and not isinstance(error, HeadatlasError | MemoryError):
                    raise
                rows[number] = _row(model, Status.FAILED) | {"error": _reason(error)}
            _write_index(_table(rows), output)
        table = _table(rows)
        save_figure(draw_survey(table), output / PICTURE)
        if progress is not None:
            progress(Stage.MODELS, len(listed), len(listed))
    return table


@contextmanager
def _held(output: Path) -> Iterator[None]:
    """Make the folder, and keep other surveys out of it."""
    from filelock import FileLock, Timeout

    try:
        output.mkdir(parents=True, exist_ok=True)
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
        if model.name.lower() in (INDEX_CSV, INDEX_JSON, PICTURE):
            raise SettingsError(f"{folder}: this name is the survey's own; expected another name for the model.")
        if folder.is_symlink() or folder.resolve().parent != output.resolve():
            raise AtlasError(f"{folder}: expected a folder of the survey, found a link that may lead out of {output}.")


def _row(model: ListedModel, status: Status) -> dict[str, Any]:
    return {"name": model.name, "source": model.source, "status": status.value}


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

    known = ["name", "source", "model_type", "n_layers", "n_heads", "heads"]
    found = {column.removeprefix("score_") for row in rows for column in row if column.startswith("score_")}
    categories = sorted(found, key=category_order)
    counts = [name for side in SIDES for name in (TOTALS[side], *(f"{side}_{category}" for category in categories))]
    table = pd.DataFrame(rows, columns=[*known, *counts, "label", "fingerprint", "status", "error", "seconds"])
    return table.astype(dict.fromkeys(["n_layers", "n_heads", "heads", *counts], "Int64"))


def _write_index(table: pd.DataFrame, output: Path) -> None:
    text = json.dumps({"schema": 1, "models": records(table)}, indent=1)
    write_atomically(output / INDEX_CSV, lambda path: path.write_text(table.to_csv(index=False), "utf-8"))
    write_atomically(output / INDEX_JSON, lambda path: path.write_text(text, "utf-8"))
