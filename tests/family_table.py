"""The documentation's table of families, computed from the tests' models: `python tests/family_table.py` writes it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from headatlas.architectures import HeadModel, check_circuits, open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import HeadatlasError
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.scores_check import check_scores
from models import CASES, STRUCTURE_CASES, UNSUPPORTED_CASES, make_model, save_model

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
BEGIN, END = "<!-- made by tests/family_table.py -->\n", "<!-- end -->\n"
HEADER = ("model type", "values", "later layers' input", "heads are", "agrees to rounding in", "queries and keys")
N_ROUNDINGS = 64
"""A relative difference below this many machine epsilons of a float type is its rounding: 1.4e-14 or 7.6e-06."""
ROUNDING = {f"float{bits}": N_ROUNDINGS * torch.finfo(getattr(torch, f"float{bits}")).eps for bits in (64, 32)}
LAYOUTS = {
    "separate": "separate",
    "concatenated": "after all queries and keys",
    "grouped": "per key-value head",
    "one_or_grouped": "after all queries, or per head",
}


def measure(case: str) -> tuple[HeadModel, float, list[str]]:
    """A tiny model of a case, the largest relative error of its circuits, and how its scores are read by layer."""
    with tempfile.TemporaryDirectory() as folder:
        model = open_model(open_checkpoint(save_model(make_model(case), Path(folder))))
        error = max(check.error for check in check_circuits(model))
        model.parts()  # finds the first MLP while the files are there
        return model, error, how_scores_are_read(model)


def how_scores_are_read(model: HeadModel) -> list[str]:
    """How each kind of scores knows positions, or `not read`."""
    try:
        found = check_scores(RunningModel(model), torch.arange(3, 24))
    except HeadatlasError:  # Falcon with ALiBi hands out no attention
        return ["not read"]
    return [each.positions if each.agrees else "not read" for each in found.values()]


def row(model_type: str, cases: list[str]) -> tuple[list[str], float, str]:
    """The cells of one model type, all its cases together, its largest error, and how its scores are read."""
    measured = [measure(case) for case in cases]
    values = "latent" if measured[0][0].family.latent else LAYOUTS[measured[0][0].family.layout.__name__]
    inputs = dict.fromkeys(
        " then ".join([*([] if mlp.norm is None else [mlp.norm]), "mlp" if len(mlp.parts) == 1 else "fc1, fc2"])
        for model, _, _ in measured
        for mlp in [model.first_mlp_modules]
    )
    validities = dict.fromkeys(
        validity.kind + (f" ({_general(validity.why)})" if validity.why else "")
        for model, _, _ in measured
        for validity in model.validity
    )
    read = "; ".join(dict.fromkeys(positions for _, _, found in measured for positions in found))
    joined = "; ".join(inputs).replace("_", r"\_")
    return [f"`{model_type}`", values, joined, "; ".join(validities)], max(error for _, error, _ in measured), read


def _general(why: str) -> str:
    """The reason without the numbers of one config."""
    return " ".join("X" if word.replace(".", "").isdigit() else word for word in why.split())


def table(cases: dict[str, tuple[str, dict]]) -> list[tuple[list[str], float, str]]:
    types: dict[str, list[str]] = {}
    for case, (model_type, config) in sorted(cases.items()):
        text = config.get("text_config")
        name = model_type if text is None else text.get("model_type", f"{model_type}_text")
        types.setdefault(name, []).append(case)
    return [row(model_type, names) for model_type, names in sorted(types.items())]


def agreement(error: float) -> str:
    """The most precise float type whose rounding explains an error; the error itself differs between processors."""
    return next(name for name, bound in ROUNDING.items() if error < bound)


def markdown(rows: list[tuple[list[str], float, str]]) -> str:
    lines = [HEADER, ["---"] * len(HEADER), *([*cells, agreement(error), read] for cells, error, read in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write() -> None:
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    entries, structure = table(CASES), table(STRUCTURE_CASES)
    refused = ", ".join(f"`{name}`" for name in sorted(UNSUPPORTED_CASES))
    text = (
        f"### With an entry: {len(entries)} model types\n\n{markdown(entries)}\n"
        f"### By module structure, tried: {len(structure)} model types\n\n{markdown(structure)}\n"
        f"### Refused, tried\n\n{refused}\n"
    )
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    write()
