"""What compression does to the functions of heads: a table and a picture, from a GGUF model.

    python tools/compression.py MODEL OUT [ADAPTER]

Each variant is written as GGUF, mapped, run on tasks and text, and removed; so is, as its control, the model with
random noise of the same norm in each matrix. Q8_0, Q5_0 and Q4_0 are quantised by gguf; it has no writer for 3 and 2
bits, so these are rounded by the rule of Q4_0 with fewer levels. OUT keeps finished rows in `compression.json`, where
the same command goes on, and gets `compression.png`. With ADAPTER, a LoRA fine-tune such as that of
`tools/false_capitals.py`, a merge is measured too: the mean of the weights of the model and of the fine-tune.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from safetensors.torch import load_file, save_file

import headatlas
from headatlas.analysis.categories import classify
from headatlas.atlas import Atlas
from headatlas.measuring.quality import measure_quality
from headatlas.measuring.session import Session
from headatlas.relations import builtin_relations

RELATIONS = {
    "adj_to_adverb", "adj_to_noun", "adverb_to_adj", "capital_to_country", "city_to_country", "copying",
    "country_to_continent", "country_to_demonym", "demonym_to_country", "english_to_french",
    "english_to_italian", "english_to_spanish", "german_to_english", "italian_to_english", "item_to_preceding",
    "name_copying", "noun_to_adj", "noun_to_pronoun", "object_to_superclass", "person_to_occupation",
    "portuguese_to_english", "spanish_to_english", "us_state_to_abbreviation",
}  # fmt: skip
"""Those of docs/evidence.md, so that a variant takes a minute instead of four."""

BLOCK = 32
"""Weights that share a scale of 16 bits."""

Change = Callable[[np.ndarray], np.ndarray]


def quantised(kind: Type) -> Change:
    return lambda weight: gguf.dequantize(gguf.quantize(weight, kind), kind)


def rounded(bits: int) -> Change:
    """By the rule of Q4_0: the scale maps the block's largest weight, with its sign, to the lowest level."""

    def change(weight: np.ndarray) -> np.ndarray:
        blocks = weight.reshape(-1, BLOCK)
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
        lowest = 2 ** (bits - 1)
        scale = (largest / -lowest).astype(np.float16).astype(np.float32)
        levels = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale != 0)
        return (np.clip(np.rint(levels), -lowest, lowest - 1) * scale).reshape(weight.shape)

    return change


def fp8(weight: np.ndarray) -> np.ndarray:
    """E4M3, with a scale for each matrix."""
    scale = np.abs(weight).max() / torch.finfo(torch.float8_e4m3fn).max or 1.0
    return torch.from_numpy(weight / scale).to(torch.float8_e4m3fn).float().numpy() * scale


def pruned(share: float) -> Change:
    """Without the smallest weights of each matrix."""
    return lambda weight: np.where(np.abs(weight) >= np.quantile(np.abs(weight), share), weight, np.float32(0))


VARIANTS: dict[str, tuple[float | None, Change]] = {
    "Q8_0": (8.5, quantised(Type.Q8_0)),
    "fp8": (8.0, fp8),
    "Q5_0": (5.5, quantised(Type.Q5_0)),
    "Q4_0": (4.5, quantised(Type.Q4_0)),
    "3 bits": (3.5, rounded(3)),
    "2 bits": (2.5, rounded(2)),
    "pruned 30 %": (None, pruned(0.3)),
    "pruned 50 %": (None, pruned(0.5)),
}
"""Bits per weight, None if it does not save bits, and what happens to a matrix."""


MERGED = "merged with a fine-tune"
"""The variant that needs an adapter."""


def noisy(change: Change) -> Change:
    """Random weights with the norm of what a variant changes, from a fixed seed for each shape."""

    def change_randomly(weight: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(weight.shape).standard_normal(weight.shape, np.float32)
        size = np.linalg.norm((change(weight) - weight).astype(np.float64))
        return weight + noise * np.float32(size / np.linalg.norm(noise.astype(np.float64)))

    return change_randomly


def write_variant(source: Path, target: Path, change: Change) -> float:
    """Write a model with changed matrices, as float32, and return the relative change of all of them together."""
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name == "general.architecture" or name.startswith("GGUF."):
            continue
        kind = field.types[0]
        writer.add_key_value(name, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    moved = size = 0.0
    for tensor in reader.tensors:
        weight = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if weight.ndim == 2:
            new = change(weight)
            moved += float(np.sum((new - weight).astype(np.float64) ** 2))
            size += float(np.sum(weight.astype(np.float64) ** 2))
            weight = new
        writer.add_tensor(tensor.name, np.ascontiguousarray(weight, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (moved / size) ** 0.5


def write_merge(source: Path, adapter: Path, target: Path, by_chance: bool) -> float:
    """Write an adapter that gives the mean of a model and its fine-tune, and return the relative change.

    Args:
        by_chance: change each matrix by as much, with the same rank, in a random direction instead.
    """
    target.mkdir(exist_ok=True)
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    if any(config.get(name) for name in ("alpha_pattern", "rank_pattern", "use_rslora", "modules_to_save")):
        raise SystemExit(f"{adapter}: expected a LoRA adapter with one rank and one alpha for all matrices.")
    config["lora_alpha"] /= 2
    (target / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    tensors = load_file(adapter / "adapter_model.safetensors")
    numbers, moved = torch.Generator().manual_seed(0), 0.0
    for name in [name for name in tensors if ".lora_A." in name]:
        other = name.replace(".lora_A.", ".lora_B.")
        size = float((tensors[other].double() @ tensors[name].double()).norm())
        if by_chance:
            for each in (name, other):
                tensors[each] = torch.randn(tensors[each].shape, generator=numbers)
            tensors[other] *= size / float((tensors[other].double() @ tensors[name].double()).norm())
        moved += (size * config["lora_alpha"] / config["r"]) ** 2
    save_file(tensors, target / "adapter_model.safetensors")
    weights = [tensor for tensor in GGUFReader(source).tensors if len(tensor.shape) == 2]
    size = sum(float(np.sum(gguf.dequantize(each.data, each.tensor_type).astype(np.float64) ** 2)) for each in weights)
    return (moved / size) ** 0.5


def measure(source: Path, base: Atlas | None, adapter: Path | None = None) -> tuple[Atlas, dict[str, Any]]:
    """The map of a model, and what it can do: functions are those above the threshold, beyond chance and copying."""
    relations = [each for each in builtin_relations() if each.name in RELATIONS]
    atlas = headatlas.map_heads(source, adapter=adapter, relations=relations)
    quality = measure_quality(atlas, Session(source, adapter))
    functions = classify(atlas, rule="calibrated").implements
    row: dict[str, Any] = {"perplexity": quality.perplexity, "accuracy": quality.mean_accuracy}
    row |= {"functions": int(functions.sum()), "heads": int(functions.any(0).sum())}
    if base is not None:
        before = classify(base, rule="calibrated").implements
        scores = [each.scores.values for each in (base, atlas)]
        known = np.isfinite(scores[0]) & np.isfinite(scores[1])
        row |= {"kept": int((before & functions).sum()), "gained": int((functions & ~before).sum())}
        row["r"] = float(np.corrcoef(scores[0][known], scores[1][known])[0, 1])
    return atlas, row


def main(source: Path, out: Path, adapter: Path | None) -> None:
    """Measure all variants, and print the table."""
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "compression.json"
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    base, row = measure(source, None)
    rows["base"] = row
    for name, (bits, change) in VARIANTS.items():
        for shown, how in ((name, change), (f"noise: {name}", noisy(change))):
            if shown in rows:
                continue
            file = out / "variant.gguf"
            relative = write_variant(source, file, how)
            _, row = measure(file, base)
            rows[shown] = row | {"bits": bits, "relative_change": relative}
            kept.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
            file.unlink()
    for shown in (MERGED, f"noise: {MERGED}") if adapter is not None else ():
        if shown not in rows:
            folder = out / "merged"
            relative = write_merge(source, adapter, folder, by_chance=shown != MERGED)
            _, row = measure(source, base, folder)
            rows[shown] = row | {"bits": None, "relative_change": relative}
            kept.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
            shutil.rmtree(folder)
    print(table(rows))
    draw(rows, out / "compression.png")


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as Markdown; in brackets, those of noise with the same norm."""
    base = rows["base"]
    lines = [
        "| variant | bits | change | functions kept | gained | r | perplexity | accuracy |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| base | | | {base['functions']} | | | {base['perplexity']:.1f} | {base['accuracy']:.2f} |",
    ]
    for name in [*VARIANTS, *([MERGED] if MERGED in rows else [])]:
        row, noise = rows[name], rows[f"noise: {name}"]
        cells = [name, "" if row["bits"] is None else f"{row['bits']:g}", f"{row['relative_change']:.3f}"]
        cells += [f"{row[key]} ({noise[key]})" for key in ("kept", "gained")]
        cells += [f"{row['r']:.3f} ({noise['r']:.3f})", f"{row['perplexity']:.1f} ({noise['perplexity']:.1f})"]
        lines.append("| " + " | ".join([*cells, f"{row['accuracy']:.2f} ({noise['accuracy']:.2f})"]) + " |")
    return "\n".join(lines)


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Functions that are kept, and perplexity, of each variant and of noise with the same norm."""
    import matplotlib.pyplot as plt

    base, places = rows["base"], range(len(VARIANTS))
    pruned_from = [bits is None for bits, _ in VARIANTS.values()].index(True)
    figure, panels = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
    quantities = (("kept", "functions kept", base["functions"]), ("perplexity", "perplexity", base["perplexity"]))
    for panel, (key, label, of_base) in zip(panels, quantities, strict=True):
        for kind, mark, colour in (("", "o-", "#1b6ca8"), ("noise: ", "x--", "#888888")):
            values = [rows[kind + variant][key] for variant in VARIANTS]
            name = "noise of the same norm" if kind else "compressed"
            # Pruning is no further step of rounding: its line begins anew.
            panel.plot(places[:pruned_from], values[:pruned_from], mark, color=colour, label=name)
            panel.plot(places[pruned_from:], values[pruned_from:], mark, color=colour)
        panel.axhline(of_base, color="black", linewidth=0.8, linestyle=":", label="base")
        panel.set_xticks(places, list(VARIANTS), rotation=45, ha="right", fontsize=8)
        panel.set_ylabel(label)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(0)
    panels[1].set_yscale("log")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=200)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) == 4 else None)
