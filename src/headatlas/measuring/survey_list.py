"""The models of a survey, as a TOML file lists them; does not know how they are measured."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headatlas.bounded_toml import read_toml
from headatlas.errors import SettingsError
from headatlas.regular_files import at_home
from headatlas.settings import LARGE_VOCABULARY, Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@=-]{0,99}(?<!\.)")
"""Names that are one folder on every system."""

PATHS, PATH, WHOLE, COUNT, NUMBER, TEXT, SWITCH = (
    "a path or a list of paths",
    "a path",
    "a whole number of at least 1",
    "a whole number of at least 0",
    "a number such as 0.15",
    "a text",
    "true or false",
)

SETTINGS = {
    "relations": PATHS,
    "add_relations": PATHS,
    "k": WHOLE,
    "threshold": NUMBER,
    "contextualize": TEXT,
    "profile": TEXT,
    "rule": TEXT,
    "prefix": TEXT,
    "value_bias": SWITCH,
    "attention_gain": SWITCH,
    "final_norm_gain": SWITCH,
    "input_norm_gain": SWITCH,
    "self_check": SWITCH,
    "chance": SWITCH,
    "salient": SWITCH,
}
"""Settings for all models, or in one model's entry for that model: arguments of `map_heads`."""

MEASUREMENTS = {
    "attention": {"seeds": WHOLE, "text": PATH},
    "validate": {"pairs": WHOLE, "effects": COUNT, "seed": COUNT, "templates": PATH},
}
"""What is measured of the running model if a key says so, `true` or a table of these options, for all or for one."""


@dataclass(frozen=True)
class ListedModel:
    """One model of a survey.

    Args:
        name: of its atlas's folder.
        source: as the file names it.
        options: arguments of `map_heads` except the output: the model, its adapter and the settings.
        measurements: of MEASUREMENTS, each with its options: arguments of `measure_attention`, `validate_atlas`.
        step: its place in a series, such as the steps of a training run; None if it has none.
    """

    name: str
    source: str
    options: dict[str, Any]
    measurements: dict[str, dict[str, Any]] = field(default_factory=dict)
    step: int | None = None


def read_model_list(path: str | Path) -> list[ListedModel]:
    """Read a list of models.

    ```toml
    relations = "mine.json"     # settings for all; paths are relative to this file
    attention = { seeds = 2 }   # also measured: where heads look

    [[model]]
    name = "step-1000"          # the name of its atlas's folder
    source = "org/model@step1000"
    step = 1000                 # its place in a film
    k = 5                       # this model's own
    ```

    Raises:
        SettingsError: the file cannot be read, or an entry cannot be meant; says which and why.
    """
    path = Path(path)
    try:
        # A threshold is a decimal, not the binary number next to it.
        content = read_toml(path, parse_float=str)
    except OSError as error:
        raise SettingsError(f"{path}: expected a list of models (TOML), cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise SettingsError(f"{path}: expected a list of models (TOML), found another file: {error}.") from error
    entries = content.pop("model", None)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise SettingsError(f"{path}: expected at least one [[model]] with a name and a source, found none.")
    measurements = _measurements(content, path, str(path))
    shared = _settings(content, path, str(path))
    models = [_model(entry, number, path, shared, measurements) for number, entry in enumerate(entries, start=1)]
    first: dict[str, int] = {}
    of_step: dict[int, str] = {}
    for number, model in enumerate(models, start=1):
        if model.step is not None and (there := of_step.setdefault(model.step, model.name)) != model.name:
            raise SettingsError(
                f"{path}: model {number} ({model.name}): step: expected a place of its own, found {model.step}, that "
                f"of {there}."
            )
        # Some file systems do not tell upper from lower case.
        if (there := first.setdefault(model.name.lower(), number)) != number:
            raise SettingsError(
                f"{path}: model {number}: expected a name of its own, found {model.name!r} like model {there}."
            )
    return models


def _model(
    entry: dict[str, Any],
    number: int,
    path: Path,
    shared: dict[str, Any],
    measurements: dict[str, dict[str, Any] | None],
) -> ListedModel:
    where = f"{path}: model {number}"
    entry = dict(entry)
    name, source, adapter, step = (entry.pop(key, None) for key in ("name", "source", "adapter", "step"))
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SettingsError(
            f"{where}: name: expected up to 100 letters, digits and ._+@=- that can name a folder, found {name!r}."
        )
    where += f" ({name})"
    if not isinstance(source, str) or not source.strip():
        raise SettingsError(f"{where}: source: expected a path, a name on the hub or an address, found {source!r}.")
    options: dict[str, Any] = {"model": _source(source, path.parent)}
    if adapter is not None:
        options["adapter"] = _expect(adapter, PATH, f"{where}: adapter", path.parent)
    if step is not None:
        step = _expect(step, COUNT, f"{where}: step", path.parent)
    measurements = measurements | _measurements(entry, path, where)
    wanted = {name: given for name, given in measurements.items() if given is not None}
    return ListedModel(name, source, shared | options | _settings(entry, path, where), wanted, step)


def _measurements(given: dict[str, Any], path: Path, where: str) -> dict[str, dict[str, Any] | None]:
    """Take the measurements out of an entry; None is one that is switched off."""
    found: dict[str, dict[str, Any] | None] = {}
    for name, options in MEASUREMENTS.items():
        if name not in given:
            continue
        value = given.pop(name)
        if isinstance(value, bool):
            found[name] = {} if value else None
        elif isinstance(value, dict):
            for option in value:
                if option not in options:
                    raise SettingsError(f"{where}: {name}: expected one of {', '.join(options)}, found {option!r}.")
            found[name] = {
                option: _expect(each, options[option], f"{where}: {name}.{option}", path.parent)
                for option, each in value.items()
            }
        else:
            raise SettingsError(
                f"{where}: {name}: expected true, false or a table of {', '.join(options)}, found {value!r}."
            )
    return found


def _settings(given: dict[str, Any], path: Path, where: str) -> dict[str, Any]:
    for name in given:
        if name not in SETTINGS:
            known = ", ".join([*SETTINGS, *MEASUREMENTS])
            raise SettingsError(f"{where}: expected one of {known}, found {name!r}.")
    settings = {name: _expect(value, SETTINGS[name], f"{where}: {name}", path.parent) for name, value in given.items()}
    checked = ("profile", "rule", "k", "threshold", "contextualize")
    try:
        Settings.of_profile(LARGE_VOCABULARY, **{name: settings[name] for name in checked if name in settings})
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None
    return settings


def _expect(value: Any, kind: str, where: str, folder: Path) -> Any:
    """The value as `map_heads` takes it."""
    is_whole = type(value) is int
    if kind == PATHS:
        paths: list[Any] = value if isinstance(value, list) else [value]
        if paths and all(isinstance(path, str) and path for path in paths):
            return [folder / at_home(path) for path in paths]
    elif kind == PATH and isinstance(value, str) and value:
        return folder / at_home(value)
    elif (
        (kind == WHOLE and is_whole and value > 0)
        or (kind == COUNT and is_whole and value >= 0)
        or (kind == NUMBER and (is_whole or isinstance(value, str)))
        or (kind == TEXT and isinstance(value, str))
        or (kind == SWITCH and isinstance(value, bool))
    ):
        return value
    raise SettingsError(f"{where}: expected {kind}, found {value!r}.")


def _source(source: str, folder: Path) -> str | Path:
    """What `open_checkpoint` is given: relative to the list, not to where the command was started."""
    from headatlas.checkpoints.open import DEMO, looks_like_a_path
    from headatlas.checkpoints.remote.names import is_remote

    if source == DEMO:
        return DEMO
    path = folder / at_home(source)
    if is_remote(source) or (not os.path.exists(path) and not looks_like_a_path(source)):
        # A folder of this name where the command was started is not what the list means.
        return f"hf://{source}" if os.path.exists(source) else source
    return path
