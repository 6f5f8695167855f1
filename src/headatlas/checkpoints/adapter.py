"""A LoRA adapter in PEFT's layout, added to the tensors that it changes when they are read.

A weight `W (out, in)` becomes `W + scale * lora_B @ lora_A`, where `lora_A` is `(rank, in)`, `lora_B` is `(out, rank)`
and `scale` is `lora_alpha / rank`, or `lora_alpha / sqrt(rank)` with `use_rslora`. An embedding `(d_vocab, d_model)`
is changed by the transpose of `lora_embedding_B (d_model, rank) @ lora_embedding_A (rank, d_vocab)`. Tensors that the
adapter stores whole (`modules_to_save`, biases) replace those of the model.

Every other feature of PEFT is refused by name: an adapter that is added only in part would be another model.
See PEFT's documentation of its LoRA config, and Hu et al., 2021, https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.checkpoints.checkpoint import Checkpoint
from headatlas.checkpoints.config import read_json
from headatlas.checkpoints.families import Families
from headatlas.checkpoints.quantised import PLAIN
from headatlas.checkpoints.safetensors.local import SafetensorsFile
from headatlas.checkpoints.tensor_store import BytesProgress, TensorStore, open_files
from headatlas.checkpoints.torch_bin.files import TorchFile
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

CONFIG = "adapter_config.json"
FILES = {"adapter_model.safetensors": SafetensorsFile, "adapter_model.bin": TorchFile}
PREFIX = "base_model.model."

FACTORS = {
    ".lora_A.weight": ("A", False),
    ".lora_B.weight": ("B", False),
    ".lora_embedding_A": ("A", True),
    ".lora_embedding_B": ("B", True),
}
"""End of a tensor's name -> which factor it is, and whether it belongs to an embedding."""

ACCEPTED = {
    *("peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping"),
    *("peft_version", "lora_dropout", "exclude_modules", "layers_to_transform", "layers_pattern", "megatron_core"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config", "qalora_group_size"),
    *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "target_modules"),
    *("modules_to_save", "bias", "init_lora_weights"),
}
"""Settings that are read here, or that matter only during the training of an adapter."""

PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Initialisations (`init_lora_weights`) that do not change the model's own weights."""

LONGEST_NAME = 300


class AdaptedCheckpoint:
    """A checkpoint with an adapter added to it; see `Checkpoint`.

    Args:
        checkpoint: the model that the adapter was trained on.
        adapter: a folder with `adapter_config.json` and `adapter_model.safetensors` (or `.bin`).
        families: which modules store their weight transposed.

    Raises:
        CheckpointError: the adapter is damaged, does not fit the checkpoint, or holds what cannot be added exactly.
    """

    def __init__(self, checkpoint: Checkpoint, adapter: Path, families: Families) -> None:
        self.base = checkpoint
        self._families = families
        self.folder = adapter
        self.source = checkpoint.source
        self.name = f"{checkpoint.name} + {adapter.resolve().name}"
        self.model_type = checkpoint.model_type
        if not (adapter / CONFIG).exists():
            raise CheckpointError(f"{adapter}: expected an adapter's folder with {CONFIG}, found none.")
        self._config = _Config(adapter / CONFIG)
        self._store = _find_store(adapter)
        self.size = checkpoint.size + self._store.size
        self._replaced: dict[str, str] = {}
        self._changes: dict[str, _Change] = {}
        self._names = _Names(checkpoint)
        for name in self._store.names():
            self._take(name)
        self._check()

    @property
    def is_local(self) -> bool:
        return self.base.is_local

    @property
    def why_not_run(self) -> str | None:
        return self.base.why_not_run

    @property
    def note(self) -> str | None:
        added = f"The LoRA adapter {self.folder.resolve().name} is added."
        return f"{self.base.note} {added}" if self.base.note else added

    @property
    def config(self) -> PretrainedConfig:
        return self.base.config

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        return self.base.load_tokenizer()

    def names(self) -> Iterable[str]:
        return self.base.names()

    def __contains__(self, name: str) -> bool:
        return name in self.base

    def shape(self, name: str) -> tuple[int, ...]:
        return self.base.shape(name)

    def n_bytes(self, name: str) -> int:
        n_bytes = 0 if name in self._replaced else self.base.n_bytes(name)
        return n_bytes + sum(self._store.n_bytes(part) for part in self._parts(name))

    def file_of(self, name: str) -> str:
        return self.base.file_of(name)

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        if name in self._replaced:
            values = self._store.read(self._replaced[name], rows).float()
        else:
            values = self.base.read(name, rows)
        if name in self._changes:
            values = values + self._changes[name].read(self._store, rows)
        return values

    def fetch(self, wanted: Iterable[tuple[str, slice | None]], progress: BytesProgress | None = None) -> None:
        self.base.fetch([(name, rows) for name, rows in wanted if name not in self._replaced], progress)

    def _parts(self, name: str) -> list[str]:
        """The tensors of the adapter that are read together with a tensor of the model."""
        parts = [self._replaced[name]] if name in self._replaced else []
        return parts + (list(self._changes[name].factors.values()) if name in self._changes else [])

    def _take(self, name: str) -> None:
        """Find which tensor of the model one of the adapter's tensors changes."""
        if not name.startswith(PREFIX) or len(name) > LONGEST_NAME:
            raise self._refused(name, "does not have a name of PEFT's LoRA, and cannot be added exactly")
        if (dtype := self._store.dtype(name)) not in PLAIN:
            raise self._refused(name, f"has the type {dtype}; expected one of {', '.join(PLAIN)}")
        path = name.removeprefix(PREFIX)
        end = next((end for end in FACTORS if path.endswith(end)), None)
        if end is None:
            if "lora_" in path or not path.endswith((".weight", ".bias")):
                raise self._refused(name, "belongs to a kind of LoRA that cannot be added exactly")
            target = self._target(name, path.replace(".base_layer.", "."))
            self._claim(target, self._replaced, name)
            if self._store.shape(name) != self.base.shape(target):
                raise self._refused(
                    name,
                    f"has shape {self._store.shape(name)}, and the model's {target!r} {self.base.shape(target)}",
                )
            return
        factor, of_embedding = FACTORS[end]
        module = path.removesuffix(end)
        target = self._target(name, f"{module}.weight")
        if not self._config.targets(module):
            raise self._refused(name, f"belongs to a module that target_modules in {CONFIG} does not name")
        change = self._changes.setdefault(target, _Change(module, of_embedding, self._is_transposed(module)))
        if change.module != module or change.of_embedding != of_embedding or factor in change.factors:
            raise self._refused(name, f"changes {target!r}, which another of the adapter's tensors changes too")
        change.factors[factor] = name

    def _claim(self, target: str, taken: dict[str, str], name: str) -> None:
        if target in taken:
            raise self._refused(name, f"replaces {target!r}, as does {taken[target]!r}")
        taken[target] = name

    def _target(self, name: str, path: str) -> str:
        found = self._names.find(path)
        if len(found) != 1:
            problem = f"fits {len(found)} tensors" if found else "fits no tensor"
            raise self._refused(name, f"{problem} of the model {self.base.name}. Was it trained on this model?", "")
        return found[0]

    def _is_transposed(self, module: str) -> bool:
        return self._families.is_transposed(self.model_type, module)

    def _check(self) -> None:
        """Refuse factors without their pair, shapes that do not fit, and missing tensors."""
        for target, change in self._changes.items():
            name = next(iter(change.factors.values()))
            if len(change.factors) != 2:
                raise self._refused(name, "has no second factor")
            (rank, n_in), (n_out, other) = (
                shape if len(shape) == 2 else (-1, -1)
                for shape in (self._store.shape(change.factors[factor]) for factor in "AB")
            )
            expected = self._config.rank(change.module)
            if not rank == other == expected:
                raise self._refused(name, f"has the rank {rank} (and the other factor {other}); expected {expected}")
            shape = (n_in, n_out) if change.is_transposed else (n_out, n_in)
            if shape != self.base.shape(target):
                raise self._refused(
                    name, f"gives a change of shape {shape}, and the model's {target!r} has {self.base.shape(target)}"
                )
            change.scale = self._config.scale(change.module)
            if self._config.transposed and not change.is_transposed and not change.of_embedding and n_in == n_out:
                raise self._refused(
                    name, f"is transposed by fan_in_fan_out in {CONFIG}, which this model's weights are not"
                )
        if not self._changes and not self._replaced:
            raise CheckpointError(f"{self.folder}: expected an adapter's tensors, found none.")
        for module in self._config.saved:
            if not any(f".{module}." in f".{name.removeprefix(PREFIX)}" for name in self._replaced.values()):
                raise CheckpointError(
                    f"{self.folder}: expected a tensor of {module!r}, which modules_to_save names, found none."
                )
        self._check_ties()

    def _check_ties(self) -> None:
        """Refuse changes of tied tensors: PEFT adds a change to one of the two, which are then no longer the same."""
        touched = [*self._changes, *self._replaced]
        config = self.base.config.get_text_config()
        if not getattr(config, "tie_word_embeddings", False):
            return
        for target in touched:
            shape = self.base.shape(target)
            if len(shape) == 2 and shape[0] == getattr(config, "vocab_size", None):
                name = self._parts(target)[0]
                raise self._refused(
                    name, f"changes {target!r}, which the model uses as embedding and as unembedding", UNTIE
                )

    def _refused(self, name: str, what: str, remedy: str | None = None) -> CheckpointError:
        ending = f". {MERGE if remedy is None else remedy}" if remedy != "" else ""
        return CheckpointError(f"{self._store.file_of(name)}: tensor {name[:LONGEST_NAME]!r} {what}{ending}")


MERGE = "Merge the adapter into the model with PEFT's merge_and_unload, and give that model."
UNTIE = f"Untie the model's embeddings. {MERGE}"


@dataclass
class _Change:
    """A change that is added to one tensor."""

    module: str
    of_embedding: bool
    is_transposed: bool
    factors: dict[str, str] = field(default_factory=dict)
    scale: float = 0.0

    def __post_init__(self) -> None:
        self.is_transposed |= self.of_embedding

    def read(self, store: TensorStore, rows: slice | None) -> torch.Tensor:
        if self.is_transposed:
            columns = store.read(self.factors["A"]).float()
            columns = columns if rows is None else columns[:, rows]
            return columns.T @ store.read(self.factors["B"]).float().T * self.scale
        return store.read(self.factors["B"], rows).float() @ store.read(self.factors["A"]).float() * self.scale


class _Names:
    """Finds the model's tensor for a name in the adapter: the same name, or one that differs by a prefix."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._longer: dict[str, list[str]] | None = None

    def find(self, path: str) -> list[str]:
        if path in self._checkpoint:
            return [path]
        # The model may have been saved without its head, and so without a prefix such as `model.`
        shorter = path
        while "." in shorter:
            first, _, shorter = shorter.partition(".")
            if first.isdigit() or shorter.count(".") < 1:
                break
            if shorter in self._checkpoint:
                return [shorter]
        # Or the adapter may have been.
        if self._longer is None:
            self._longer = {}
            for name in self._checkpoint.names():
                rest = name
                while "." in rest and not rest.split(".", 1)[0].isdigit():
                    rest = rest.partition(".")[2]
                    self._longer.setdefault(rest, []).append(name)
        return self._longer.get(path, [])


class _Config:
    """`adapter_config.json`, after refusing what cannot be added exactly."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = content = read_json(path)
        if (kind := content.get("peft_type")) != "LORA":
            raise self._unfit("peft_type", "'LORA'", kind)
        if content.get("use_dora"):
            raise self._unread("use_dora")
        for key, value in content.items():
            if key not in ACCEPTED and value not in (None, False, [], {}):
                raise self._unread(key)
        if (start := content.get("init_lora_weights", True)) not in PLAIN_STARTS:
            raise self._unread(f"init_lora_weights = {str(start)[:60]}")
        self.transposed = self._typed("fan_in_fan_out", bool, False)
        self._rank = self._typed("r", int, 8)
        self._alpha = self._typed("lora_alpha", (int, float), 8)
        self._rslora = self._typed("use_rslora", bool, False)
        self._ranks = self._patterns("rank_pattern", int)
        self._alphas = self._patterns("alpha_pattern", (int, float))
        self.saved = self._words("modules_to_save")
        target = content.get("target_modules")
        self._targets = None if target is None or isinstance(target, str) else self._words("target_modules")

    def targets(self, module: str) -> bool:
        """Whether PEFT would add an adapter to a module; if the config has a pattern, the file decides."""
        if self._targets is None:
            return True
        return any(f".{module}".endswith(f".{target}") for target in self._targets)

    def rank(self, module: str) -> int:
        return self._of(self._ranks, module, self._rank)

    def scale(self, module: str) -> float:
        rank = self.rank(module)
        return self._of(self._alphas, module, self._alpha) / (math.sqrt(rank) if self._rslora else rank)

    @staticmethod
    def _of(patterns: dict[re.Pattern[str], Any], module: str, default: Any) -> Any:
        return next((value for pattern, value in patterns.items() if pattern.fullmatch(module)), default)

    def _typed(self, key: str, kind: Any, default: Any) -> Any:
        value = self._content.get(key, default)
        value = default if value is None and kind is bool else value
        self._check_value(key, kind, value)
        return value

    def _check_value(self, key: str, kind: Any, value: Any) -> None:
        if kind is bool:
            if not isinstance(value, bool):
                raise self._unfit(key, "true or false", value)
        elif isinstance(value, bool) or not isinstance(value, kind) or not 0 < abs(value) < 1 << 31:
            raise self._unfit(key, "a positive whole number" if kind is int else "a number other than 0", value)
        elif kind is int and value < 0:
            raise self._unfit(key, "a positive whole number", value)

    def _patterns(self, key: str, kind: Any) -> dict[re.Pattern[str], Any]:
        """PEFT uses the first pattern that matches a module's whole name, or its end after a dot."""
        content = self._content.get(key) or {}
        if not isinstance(content, dict):
            raise self._unfit(key, "patterns and numbers", content)
        patterns = {}
        for pattern, value in content.items():
            self._check_value(f"{key}: {pattern[:60]}", kind, value)
            # Matching a longer pattern could take forever.
            if len(pattern) > LONGEST_NAME or "(" in pattern or sum(map(pattern.count, "*+?{")) > 2:
                raise self._unfit(key, "names of modules, or patterns without groups", pattern)
            try:
                patterns[re.compile(rf"(.*\.)?({pattern})")] = value
            except re.error:
                raise self._unfit(key, "names of modules, or patterns without groups", pattern) from None
        return patterns

    def _words(self, key: str) -> list[str]:
        content = self._content.get(key) or []
        if not isinstance(content, list) or not all(isinstance(word, str) and word for word in content):
            raise self._unfit(key, "a list of modules", content)
        return content

    def _unfit(self, key: str, expected: str, found: Any) -> CheckpointError:
        return CheckpointError(f"{self._path}: expected {expected} for {key!r}, found {_short(found)}.")

    def _unread(self, key: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: adapters with {key!r} cannot be added exactly. {MERGE}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _find_store(folder: Path) -> TensorStore:
    for file, open_file in FILES.items():
        if (folder / file).exists():
            return open_files(folder, [file], open_file)
    raise CheckpointError(f"{folder}: expected {' or '.join(FILES)}, found neither.")
