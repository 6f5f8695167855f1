"""A model's embedding, unembedding, heads and first MLP, for every family and file format.

Weights are read on demand, checked against the config, and refused if they are not finite.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headatlas.architectures.attention import AttentionLayers
from headatlas.architectures.families import Family, Validity, clip_limit, find_family
from headatlas.architectures.fingerprint import (
    digest_parts,
    meaning_of_config,
    meaning_of_forward_pass,
    settings_of_modules,
)
from headatlas.architectures.first_mlp import first_mlp_paths
from headatlas.architectures.module_tree import ROWS_AT_ONCE, ModuleTree
from headatlas.architectures.ov_circuits import parts_of_layer, read_outputs, read_values
from headatlas.architectures.parts import Part, Role
from headatlas.architectures.run_modules import run_in_float64
from headatlas.architectures.structure import FirstMlp, find_first_mlp
from headatlas.architectures.terms import (
    NO_TERMS,
    LinearPart,
    Terms,
    attention_norm,
    check_terms,
    input_norm,
    left_out,
    linear_part,
    terms_of,
)
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor


class HeadModel:
    """The parts of a model that its map is computed from.

    Args:
        tree: the model's modules.
        family: the names and the layout of the modules.
        terms: what is counted in addition to the OV circuits; None: all terms that the model has.
        contextualize: what the heads read, one of `headatlas.settings.CONTEXTUALIZE`.

    Attributes:
        attention: the attention of each layer.
        n_layers, n_heads, n_kv_heads, d_model, d_head, d_vocab: counts and widths; n_kv_heads and d_head are those of
            the first layer that has heads.
        validity: one `Validity` per layer.
        name, note: from the checkpoint.
        model_type: the language model's, which differs from that of a multimodal model around it.

    Raises:
        ArchitectureError: the config contradicts itself or the checkpoint.
        SettingsError: a requested term does not exist in the model.
    """

    def __init__(
        self, tree: ModuleTree, family: Family, terms: Terms | None = NO_TERMS, contextualize: str = "first-mlp"
    ) -> None:
        self.tree, self.family, self.contextualize = tree, family, contextualize
        self.checkpoint = checkpoint = tree.checkpoint
        self.name, self.model_type, self.note = checkpoint.name, tree.config.model_type, checkpoint.note
        self.d_vocab, self.d_model = tree.shape(tree.embedding)[0], tree.config.hidden_size
        self.attention = AttentionLayers(tree, family)
        self.n_layers, self.n_heads = self.attention.n_layers, self.attention.n_heads
        if (beyond := tree.beyond(family.layers, self.n_layers)) is not None:
            raise ArchitectureError(
                f"{checkpoint.file_of(beyond)}: expected layers up to {self.n_layers - 1} (n_layers={self.n_layers} in "
                f"this config), found tensor {beyond!r}. Is config.json from the same model?"
            )
        self.validity = [self._validity(layer) for layer in range(self.n_layers)]
        first = next(sizes for sizes in self.attention.all_sizes if sizes is not None)
        self.n_kv_heads, self.d_head = first.n_kv_heads, first.d_head
        alone = contextualize == "alone"
        if terms is None:
            terms = terms_of(self.attention, alone)
        check_terms(terms, self.attention, alone)
        self.terms = terms
        self._W_U: Callable[[], Tensor | None] = lambda: None

    @property
    def alike(self) -> bool:
        """Whether all layers with heads have equally many kv heads of the same width."""
        return len({sizes for sizes in self.attention.all_sizes if sizes is not None}) == 1

    @property
    def has_entry(self) -> bool:
        """Whether the family is in the table of families, rather than read by module structure."""
        return find_family(self.tree.config.model_type) is self.family

    @property
    def value_limit(self) -> float | None:
        """The magnitude at which a running model clips its values; None if it does not clip them."""
        return clip_limit(self.tree.config) if self.has_entry else None

    def has_heads(self, layer: int) -> bool:
        """Whether the layer has softmax attention; a layer of linear attention or state space has none."""
        return self.attention.has_heads(layer)

    def kv_head_of(self, layer: int) -> Sequence[int]:
        """The kv head that each head of a layer reads, of length n_heads."""
        return self.attention.kv_head_of(layer)

    def validity_by_layers(self) -> list[dict[str, Any]]:
        """Each validity that occurs, as JSON types: `kind`, `why`, and the `layers` it applies to."""
        layers: dict[Validity, list[int]] = {}
        for layer, validity in enumerate(self.validity):
            layers.setdefault(validity, []).append(layer)
        return [{"kind": each.kind, "why": each.why, "layers": where} for each, where in layers.items()]

    def W_E(self, ids: Tensor) -> Tensor:
        """The first layer's input for some tokens, without positions: Float[Tensor, "n_ids d_model"].

        These are rows of the embedding after the scale, norm or projection that the family applies to them.
        """
        rows = self.tree.read_rows(self.tree.embedding, ids)
        rows *= self._embedding_scale()
        after = self.family.after_embedding
        if after is not None and self.tree.module(after) is not None:
            return run_in_float64(self.checkpoint.source, [self.tree.fill(after)], rows)
        return rows

    def W_U(self) -> Tensor:
        """The unembedding as rows, one tensor for all who use it at the same time: Float[Tensor, "d_vocab d_model"]."""
        if (W_U := self._W_U()) is None:
            W_U = self._read_W_U()
            self._W_U = weakref.ref(W_U)
        return W_U

    def _read_W_U(self) -> Tensor:
        import torch

        W_U, before = self.tree.read(self.tree.unembedding), self.family.before_unembedding
        if before is not None and self.tree.module(before) is not None:
            W_U = W_U @ self.tree.read(f"{self.tree.path_of(before)}.weight")
        if self.terms.final_norm_gain:
            norm = linear_part(self.tree, str(self.family.final_norm), self.d_model)
            # Not in place: a tensor that was read may be the file's own memory, which the embedding shares.
            stored, W_U = W_U, torch.empty_like(W_U)
            for rows, read in zip(W_U.split(ROWS_AT_ONCE), stored.split(ROWS_AT_ONCE), strict=True):
                rows.copy_(norm.of_directions(read))
        return W_U

    def outputs_like_rows(self, rows: Tensor) -> Tensor:
        """Outputs of a head whose logits are those of rows of the unembedding with each other, as they are stored.

        Where the final norm is counted, its gain is taken off both sides; channels with a gain of 0 are left out.

        Args:
            rows: of `W_U()`, Float[Tensor, "n_rows d_model"].
        """
        import torch

        if not self.terms.final_norm_gain:
            return rows
        gain = linear_part(self.tree, str(self.family.final_norm), self.d_model).gain
        return torch.where(gain == 0, torch.zeros_like(rows), rows / gain / gain)

    def values_and_outputs(self, layer: int) -> tuple[Tensor, Tensor]:
        """The factors of a layer's OV circuits.

        Returns:
            W_V: Float[Tensor, "n_kv_heads d_model d_head"]; with `terms.value_bias`, the bias is one more row.
            W_O: Float[Tensor, "n_heads d_head d_model"].
        """
        import torch

        W_V = read_values(self.attention, layer, self.terms.value_bias)
        if self.terms.input_norm_gain:
            of_input, bias = W_V[:, : self.d_model], W_V[:, self.d_model :]
            W_V = torch.cat([self.input_norm(layer).of_directions(of_input.mT).mT, bias], dim=1)
        W_O = read_outputs(self.attention, layer)
        return W_V, self.norm_of_attention(layer).of_outputs(W_O) if self.terms.attention_gain else W_O

    def norm_of_attention(self, layer: int) -> LinearPart:
        """The linear part of the norm after a layer's attention."""
        return linear_part(self.tree, str(attention_norm(self.attention, layer)), self.d_model)

    def input_norm(self, layer: int) -> LinearPart:
        """The linear part of the norm before a layer's attention."""
        return linear_part(self.tree, str(input_norm(self.attention, layer)), self.d_model)

    def left_out(self) -> tuple[str, ...]:
        """The names of the terms that the model has, that are not counted, and that may change ranks."""
        return left_out(self.attention, self.terms, self.contextualize == "alone")

    def first_mlp(self, embedding: Tensor) -> Tensor:
        """`MLP_0(norm_0(embedding))`, the output of the first layer's MLP alone: Float[Tensor, "n_ids d_model"].

        The model's own modules compute it in float64, so that the number of threads does not change the float32
        result.
        """
        filled = [self.tree.fill(path) for path in self._first_mlp_paths()]
        return run_in_float64(self.checkpoint.source, filled, embedding)

    @cached_property
    def first_mlp_modules(self) -> FirstMlp:
        """The modules of layer 0 that compute the later layers' input."""
        return find_first_mlp(self.tree, self.family.layers)

    def parts(self) -> list[Part]:
        """Exactly the parts that a map reads; the fingerprint covers them, and a remote model transfers them."""
        parts = [*self._parts_of_embedding(), *self._parts_of_unembedding(), *self._parts_of_input()]
        if self.contextualize != "alone":  # then, the parts of the input include all layers
            parts += [part for layer in range(self.n_layers) for part in self.parts_of(layer)]
        return _distinct(parts)

    def parts_of(self, layer: int | None) -> list[Part]:
        """The parts that the scores of a layer need in addition to its input; with None, those of all layers."""
        if layer is None:
            return _distinct([*self._parts_of_embedding(), *self._parts_of_unembedding()])
        if not self.has_heads(layer):
            return []
        parts = parts_of_layer(self.attention, layer, self.terms.value_bias)
        if self.terms.attention_gain:
            parts += self._weight_of(attention_norm(self.attention, layer), Role.ATTENTION_GAIN, layer)
        if self.terms.input_norm_gain:
            parts += self._weight_of(input_norm(self.attention, layer), Role.INPUT_NORM_GAIN, layer)
        return parts

    def stored(self, parts: Iterable[Part]) -> list[tuple[str, slice | None]]:
        """The stored tensors behind parts, for `Checkpoint.fetch`."""
        return [
            (name, part.rows if self.tree.is_plain(part.parameter) else None)
            for part in parts
            for name in self.tree.sources(part.parameter)
        ]

    def fingerprint(
        self, progress: Callable[[int, int], None] | None = None, parts: Sequence[Part] | None = None
    ) -> str:
        """SHA-256 of everything that a map reads: the tensors as float32, and the settings that change the map.

        It does not depend on the file format: the same weights in shards, in one file or in GGUF have the same
        fingerprint.

        Args:
            parts: cover only these parts.

        Raises:
            ArchitectureError: a tensor is missing, misshapen, or not finite.
        """
        sizes: list = [vars(each) if each is not None else None for each in self.attention.all_sizes]
        counts = {"n_layers": self.n_layers, "d_vocab": self.d_vocab}
        meaning = meaning_of_config(self.tree, counts, sizes)
        # The names that matter in an unknown family's config are not known, but its modules store what they use.
        if self.contextualize == "alone":
            meaning.append(meaning_of_forward_pass(self.tree))
        elif not self.has_entry:
            meaning.append(settings_of_modules(self.tree, self._first_mlp_paths()))
        return digest_parts(self.tree, meaning, self.parts() if parts is None else parts, progress)

    def _weight_of(self, norm: str | None, role: Role, layer: int) -> list[Part]:
        """The weight of a norm, unless it has none (OLMo)."""
        name = self.tree.path_of(f"{norm}.weight")
        return [Part(role, name, layer=layer)] if name in self.tree else []

    def _parts_of_embedding(self) -> list[Part]:
        after = self.family.after_embedding
        return [Part(Role.EMBEDDING, self.tree.embedding), *self._parts_of_modules([] if after is None else [after])]

    def _parts_of_unembedding(self) -> list[Part]:
        tree, family = self.tree, self.family
        role = Role.EMBEDDING if tree.unembedding == tree.embedding else Role.UNEMBEDDING
        before = [] if family.before_unembedding is None else [family.before_unembedding]
        norm = [str(family.final_norm)] if self.terms.final_norm_gain else []
        return [Part(role, tree.unembedding), *self._parts_of_modules([*before, *norm])]

    def _parts_of_input(self) -> list[Part]:
        """The parts, apart from the embedding, that the heads' input is computed from."""
        if self.contextualize == "alone":
            return self._parts_of_modules([""])
        return self._parts_of_modules(self._first_mlp_paths())

    def _parts_of_modules(self, paths: Iterable[str]) -> list[Part]:
        """All parameters of modules of the base model, which an empty path names; those that it lacks are skipped."""
        tree, parts = self.tree, []
        for path in paths:
            module = tree.module(path)
            for name in [] if module is None else module.state_dict():
                own = f"{path}.{name}".removeprefix(".")
                if (parameter := tree.path_of(own)) != tree.embedding and tree.stored_as(parameter) == parameter:
                    parts.append(Part(Role.MODULE, parameter, path=own))
        return parts

    def _first_mlp_paths(self) -> list[str]:
        return first_mlp_paths(self.tree, self.family.layers, self.first_mlp_modules)

    def _embedding_scale(self) -> float:
        embedding = self.tree.base.get_input_embeddings()
        return float(getattr(embedding, "scalar_embed_scale", 1)) * getattr(
            self.tree.config, "embedding_multiplier", 1.0
        )

    def _validity(self, layer: int) -> Validity:
        if self.has_heads(layer):
            return self.family.validity(self.tree.config, layer)
        types = getattr(self.tree.config, "layer_types", None)
        kind = str(types[layer]).replace("_", " ") if types else "no softmax attention"
        return Validity("not applicable", kind)


def _distinct(parts: list[Part]) -> list[Part]:
    """The parts in their order, each once; a part is not hashable, because its rows are a slice."""
    found = {(part.role, part.parameter, str(part.rows), part.layer): part for part in reversed(parts)}
    return list(reversed(found.values()))
