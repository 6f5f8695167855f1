"""Checkpoints with the shape of a known model, random weights and planted hits, in bf16.

They contain only the tensors that a map reads. With the profile `maps`, these are embedding, unembedding, first MLP
with its norm, and the values and outputs of the layers; with `alone`, whole layers and the final norm. Hits are planted
by adding a low-rank map to the output factor of a head, which takes the values of chosen sources to the unembedding
rows of their targets. The shares of hits are those of the demo model's heads.

Real weights have more near misses than these checkpoints; the share of logits looked at in each row shows the
difference.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from headatlas.architectures import head_inputs
from headatlas.measuring.prefix import choose_prefix
from headatlas.measuring.session import Session
from headatlas.relations import EncodedRelation, builtin_relations, encode_relations
from headatlas.settings import Settings

MOST_BYTES = 6_000_000_000
"""Largest checkpoint on disk with the profile `maps`; layers that do not fit are left out."""

LAYERS_OF_ALONE = 2
"""Layers of a checkpoint with the profile `alone`, each of which takes minutes to pass through."""

SPARE_BYTES = 1_000_000_000
"""Free space that must remain in addition to a checkpoint."""

SIGMA = 0.02
"""Standard deviation of the random weights, as in the initialisation of both families."""

SIGNAL = 8.0
"""Logit of a planted target in standard deviations of the others; the highest of 128,000 tokens reaches about 4.5."""


@dataclass(frozen=True)
class Shape:
    """A model's shape.

    Args:
        name: of the row.
        model_type: `llama` or `gpt_neox`, as in transformers.
        n_layers: of the real model; the checkpoint may have fewer.
        d_mlp: width of the MLPs.
        settings: further values of the config.
    """

    name: str
    model_type: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_mlp: int
    d_vocab: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    def base(self, profile: str = "maps") -> dict[str, tuple[int, ...]]:
        """Names and sizes of the tensors outside all layers that a profile reads; with `maps`, of the first MLP too."""
        d, mlp = self.d_model, self.d_mlp
        if self.model_type == "gpt_neox":
            first = "gpt_neox.layers.0"
            return {
                "gpt_neox.embed_in.weight": (self.d_vocab, d),
                "embed_out.weight": (self.d_vocab, d),
                f"{first}.post_attention_layernorm.weight": (d,),
                f"{first}.post_attention_layernorm.bias": (d,),
                f"{first}.mlp.dense_h_to_4h.weight": (mlp, d),
                f"{first}.mlp.dense_h_to_4h.bias": (mlp,),
                f"{first}.mlp.dense_4h_to_h.weight": (d, mlp),
                f"{first}.mlp.dense_4h_to_h.bias": (d,),
            }
        embeddings = {"model.embed_tokens.weight": (self.d_vocab, d), "lm_head.weight": (self.d_vocab, d)}
        if profile == "alone":
            return embeddings | {"model.norm.weight": (d,)}
        return embeddings | self._mlp(0)

    def _mlp(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The MLP of a Llama with its norm."""
        path, d, mlp = f"model.layers.{layer}", self.d_model, self.d_mlp
        return {
            f"{path}.post_attention_layernorm.weight": (d,),
            f"{path}.mlp.gate_proj.weight": (mlp, d),
            f"{path}.mlp.up_proj.weight": (mlp, d),
            f"{path}.mlp.down_proj.weight": (d, mlp),
        }

    def layer(self, layer: int, profile: str = "maps") -> dict[str, tuple[int, ...]]:
        """Names and sizes of the tensors of a layer that a profile reads: first values, then outputs."""
        d = self.d_model
        if self.model_type == "gpt_neox":
            path = f"gpt_neox.layers.{layer}.attention"
            return {
                f"{path}.query_key_value.weight": (3 * d, d),
                f"{path}.dense.weight": (d, d),
                f"{path}.query_key_value.bias": (3 * d,),
                f"{path}.dense.bias": (d,),
            }
        path, of_kv = f"model.layers.{layer}.self_attn", (self.n_kv_heads * self.d_head, d)
        sizes: dict[str, tuple[int, ...]] = {f"{path}.v_proj.weight": of_kv, f"{path}.o_proj.weight": (d, d)}
        if profile == "alone":
            sizes |= {f"{path}.q_proj.weight": (d, d), f"{path}.k_proj.weight": of_kv}
            sizes |= {f"model.layers.{layer}.input_layernorm.weight": (d,)} | self._mlp(layer)
        return sizes

    def values(self, weight: torch.Tensor) -> torch.Tensor:
        """W_V from the weight that contains the values: Float[Tensor, "n_kv_heads d_model d_head"]."""
        if self.model_type == "gpt_neox":  # of each head: query, key, value
            weight = weight.view(self.n_heads, 3, self.d_head, self.d_model)[:, 2]
        return weight.reshape(self.n_kv_heads, self.d_head, self.d_model).transpose(1, 2).float()

    def config(self, n_layers: int):
        """The config of the family, with the number of layers that are written."""
        from transformers import AutoConfig

        config = AutoConfig.for_model(
            self.model_type,
            num_hidden_layers=n_layers,
            num_attention_heads=self.n_heads,
            hidden_size=self.d_model,
            intermediate_size=self.d_mlp,
            vocab_size=self.d_vocab,
            tie_word_embeddings=False,
            **({} if self.model_type == "gpt_neox" else {"num_key_value_heads": self.n_kv_heads}),
            **self.settings,
        )
        config.architectures = ["GPTNeoXForCausalLM" if self.model_type == "gpt_neox" else "LlamaForCausalLM"]
        return config

    def n_bytes(self, n_layers: int, profile: str = "maps") -> int:
        """Size of a checkpoint with this number of layers."""
        layer = sum(map(math.prod, self.layer(0, profile).values()))
        return 2 * (sum(map(math.prod, self.base(profile).values())) + n_layers * layer)

    def n_layers_within(self, most_bytes: int) -> int:
        """The number of layers that fit in a checkpoint of this size, at most that of the real model."""
        per_layer = self.n_bytes(1) - self.n_bytes(0)
        return max(0, min(self.n_layers, (most_bytes - self.n_bytes(0)) // per_layer))


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("pythia-6.9b", "gpt_neox", 32, 32, 32, 4096, 16384, 50432, {"use_parallel_residual": True}),
        Shape("llama-3.1-8b", "llama", 32, 32, 8, 4096, 14336, 128256, {"rms_norm_eps": 1e-5}),
        Shape("llama-70b", "llama", 80, 64, 8, 8192, 28672, 128256, {"rms_norm_eps": 1e-5}),
    )
}


@dataclass(frozen=True)
class HitShares:
    """The share of pairs that each head of a map promotes and suppresses; one number per head each."""

    promoted: tuple[float, ...]
    suppressed: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Share of hits among (head, pair), both sides together."""
        return (sum(self.promoted) + sum(self.suppressed)) / len(self.promoted)

    def spread_over(self, n_heads: int, mean: float, chance: random.Random) -> list[tuple[float, float]]:
        """Shares for `n_heads` heads in random order, with the given mean and about the same spread."""
        ordered = sorted(zip(self.promoted, self.suppressed, strict=True), key=sum)
        heads = [ordered[(2 * number + 1) * len(ordered) // (2 * n_heads)] for number in range(n_heads)]
        chance.shuffle(heads)
        factor = max(0.0, mean) * n_heads / (sum(map(sum, heads)) or 1.0)
        return [(promoted * factor, suppressed * factor) for promoted, suppressed in heads]


@contextmanager
def checkpoint_of(
    shape: Shape, shares: HitShares, n_layers: int | None, scratch: Path, profile: str = "maps"
) -> Iterator[Path]:
    """A folder with a checkpoint of the shape, which is removed at the end, even after an error.

    Args:
        shares: of the hits to plant.
        n_layers: layers to write; default: as many as fit in MOST_BYTES, or, for `alone`, LAYERS_OF_ALONE.
        scratch: the folder's parent.

    Raises:
        SystemExit: no layer fits, or the disk has not enough free space.
    """
    if profile == "alone":
        n_layers = n_layers or LAYERS_OF_ALONE
    else:
        n_layers = min(n_layers or shape.n_layers, shape.n_layers_within(MOST_BYTES))
    if not n_layers:
        raise SystemExit(f"{shape.name}: expected one layer or more within {MOST_BYTES:,} bytes, found none.")
    needed, free = shape.n_bytes(n_layers, profile) + SPARE_BYTES, shutil.disk_usage(scratch).free
    if free < needed:
        raise SystemExit(f"{scratch}: {shape.name} needs {needed:,} free bytes, found {free:,}. Use --scratch DIR.")
    with tempfile.TemporaryDirectory(prefix="headatlas-benchmark-", dir=scratch) as folder:
        write_checkpoint(shape, Path(folder), shares, n_layers, profile)
        yield Path(folder)


def write_checkpoint(
    shape: Shape, folder: Path, shares: HitShares, n_layers: int, profile: str = "maps", seed: int = 0
) -> None:
    """Write config, tokenizer and weights; then plant hits, layer by layer, as each is read behind the planted ones."""
    words = sorted({word for relation in builtin_relations() for pair in relation.pairs for word in pair})
    shape.config(n_layers).save_pretrained(folder)
    make_tokenizer(words, shape.d_vocab).save_pretrained(folder)
    numbers = torch.Generator().manual_seed(seed)
    files = {
        f"base-{number}.safetensors": {name: size} for number, (name, size) in enumerate(shape.base(profile).items())
    }
    files |= {_file_of(layer): shape.layer(layer, profile) for layer in range(n_layers)}
    for file, sizes in files.items():
        _save(folder / file, _random(sizes, numbers))
    index = {"metadata": {}, "weight_map": {name: file for file, sizes in files.items() for name in sizes}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")

    session = Session(folder, profile=profile)
    settings = Settings.of_profile(shape.d_vocab, profile)
    relations = encode_relations(builtin_relations(), session.tokenizer, shape.d_vocab, settings)
    sources = sorted({token for each in relations for token in each.source_ids})
    prefix = choose_prefix(session, sources)
    chance = random.Random(seed)
    planting = _Planting(
        shape, relations, {token: row for row, token in enumerate(sources)}, session.heads.W_U(), chance
    )
    wanted = shares.spread_over(n_layers * shape.n_heads, shares.mean - planting.share_by_chance, chance)
    for layer in range(n_layers):
        model = Session(folder, profile=profile).heads  # its files have changed
        ((_, x),) = head_inputs(model, torch.tensor(sources), [layer], None if prefix is None else prefix.token)
        tensors = {name: model.checkpoint.read(name).to(torch.bfloat16) for name in files[_file_of(layer)]}
        values, outputs, *_ = tensors
        heads = wanted[layer * shape.n_heads : (layer + 1) * shape.n_heads]
        planting.plant(tensors[values], tensors[outputs], x, heads)
        _save(folder / _file_of(layer), tensors)


def _file_of(layer: int) -> str:
    return f"layer-{layer:02}.safetensors"


def make_tokenizer(words: Sequence[str], d_vocab: int):
    """A byte-level tokenizer of d_vocab tokens with one token for each word after a space, at ids spread evenly."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = [1 + number * (d_vocab - 1) // len(words) for number in range(len(words))]
    random.Random(0).shuffle(ids)
    known = {token: f"Ġ{_in_bytes(word)}" for token, word in zip(ids, words, strict=True)}
    vocab = {"<|end|>": 0} | {known.get(token, f"<|{token}|>"): token for token in range(1, d_vocab)}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<|end|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<|end|>", eos_token="<|end|>")


@dataclass
class _Planting:
    """Plants hits in the layers of a model.

    Args:
        relations: encoded.
        place: row of each source's id among the input vectors.
        W_U: the unembedding as rows, Float[Tensor, "d_vocab d_model"].
    """

    shape: Shape
    relations: list[EncodedRelation]
    place: dict[int, int]
    W_U: torch.Tensor
    chance: random.Random

    def __post_init__(self) -> None:
        """Keep the unembedding rows of the targets."""
        targets = sorted({token for each in self.relations for token in each.target_ids})
        self.target_row = {token: row for row, token in enumerate(targets)}
        self.W_U = self.W_U[targets]
        self.n_pairs = sum(len(each.pairs) for each in self.relations)
        # How often a random head has a target among its k highest or lowest logits.
        k = sum(each.k * len(each.pairs) for each in self.relations) / self.n_pairs
        self.share_by_chance = 2 * k / self.shape.d_vocab

    def plant(
        self, values: torch.Tensor, outputs: torch.Tensor, x: torch.Tensor, heads: list[tuple[float, float]]
    ) -> None:
        """Add planted maps to a layer's outputs, in place.

        Args:
            values, outputs: the layer's stored weights.
            x: input vectors, Float[Tensor, "n_sources d_model"].
            heads: the shares of pairs that each head shall promote and suppress.
        """
        W_V, per_group = self.shape.values(values), self.shape.n_heads // self.shape.n_kv_heads
        columns = outputs.view(self.shape.d_model, self.shape.n_heads, self.shape.d_head)
        for head, (promoted, suppressed) in enumerate(heads):
            chosen = self._choose(round(promoted * self.n_pairs), round(suppressed * self.n_pairs))
            if chosen:
                W_O = columns[:, head].float().T + self._map(chosen, x, W_V[head // per_group])
                columns[:, head] = W_O.T.to(outputs.dtype)

    def _choose(self, n_promoted: int, n_suppressed: int) -> list[tuple[int, int, float]]:
        """Pairs of random relations, one relation after the other, as (source's row, target's row, sign)."""
        relations = self.chance.sample(self.relations, len(self.relations))
        pairs = [pair for each in relations for pair in zip(each.source_ids, each.target_ids, strict=True)]
        # With one target per source and head, planted pairs do not compete with each other.
        first = list({self.place[source]: self.target_row[target] for source, target in reversed(pairs)}.items())[::-1]
        signs = [1.0] * n_promoted + [-1.0] * n_suppressed
        return [(source, target, sign) for (source, target), sign in zip(first, signs, strict=False)]

    def _map(self, chosen: list[tuple[int, int, float]], x: torch.Tensor, W_V: torch.Tensor) -> torch.Tensor:
        """The least-squares map from the sources' values to their targets' rows: Float[Tensor, "d_head d_model"]."""
        sources, targets, signs = (list(column) for column in zip(*chosen, strict=True))
        value, wanted = x[sources] @ W_V, self.W_U[targets] * torch.tensor(signs)[:, None]
        square = value.T @ value
        square += torch.eye(len(square)) * square.trace() / len(square) * 0.01
        solved = torch.linalg.solve(square, value.T)
        share = (value * solved.T).sum(1).median()  # of a source's own target in what the map gives it
        lengths = torch.linalg.vector_norm(value, dim=1).median(), torch.linalg.vector_norm(wanted, dim=1).median()
        return solved @ wanted * (SIGNAL * SIGMA * lengths[0] / (lengths[1] * share))


def _random(sizes: dict[str, tuple[int, ...]], numbers: torch.Generator) -> dict[str, torch.Tensor]:
    """Normal weights in bf16 around 0, and around 1 for the gain of a norm."""
    return {
        name: torch.empty(size, dtype=torch.bfloat16).normal_(
            float(name.endswith("layernorm.weight")), SIGMA, generator=numbers
        )
        for name, size in sizes.items()
    }


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Save the tensors, and wait until they are on disk, so that nothing is written during a measurement."""
    from safetensors.torch import save_file

    save_file(tensors, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _in_bytes(word: str) -> str:
    """A word in the alphabet of byte-level tokenizers."""
    from tokenizers import pre_tokenizers

    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)
    return "".join(piece for piece, _ in pieces)
