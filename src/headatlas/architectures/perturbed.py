"""How much each parameter differs between two models, and a model that differs by as much in random directions.

A random direction of a matrix has about the same rank as the difference that it stands for: a low-rank change moves
some words much more than others, whatever it does. The rank counted is `norm(D)**4 / norm(D.T @ D)**2` for a
difference `D`, which is the rank if all its singular values are equal, and less otherwise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas.architectures.heads import HeadModel
from headatlas.architectures.module_tree import ROWS_AT_ONCE, ModuleTree
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PROBES = 32
"""Random vectors from which a rank is estimated."""

FULL = 0.25
"""Share of the largest possible rank above which a random direction has full rank."""

BLOCK = 4096
"""Rows of a random direction that are drawn together."""


@dataclass(frozen=True)
class Difference:
    """How one parameter differs between two models.

    Args:
        norm: Frobenius norm of the difference, above 0.
        size: Frobenius norm of the parameter in the first model.
        rank: about its rank; None for full rank, and for what is no matrix.
    """

    norm: float
    size: float
    rank: int | None


def differences(
    base: HeadModel, other: HeadModel, progress: Callable[[int, int], None] | None = None
) -> dict[str, Difference]:
    """Each parameter that a map reads and that differs, by its name in `base`.

    Raises:
        ArchitectureError: a parameter has another shape in `other`, or is missing there.
    """
    names = list(dict.fromkeys(part.parameter for part in base.parts()))
    found = {}
    for done, name in enumerate(names):
        if progress is not None:
            progress(done, len(names))
        difference = _difference(base.tree, other.tree, name, _name_in(base.tree, other.tree, name))
        if difference is not None:
            found[name] = difference
    if progress is not None:
        progress(len(names), len(names))
    return found


def perturbed_model(base: HeadModel, found: Mapping[str, Difference], seed: int) -> HeadModel:
    """The base model with each of its parameters moved by as much as `found` says, in a random direction.

    Nothing is written: the random numbers are drawn again whenever a parameter is read, the same for the same seed.
    """
    return HeadModel(PerturbedTree(base.tree, found, seed), base.family, base.terms, base.contextualize)


class PerturbedTree(ModuleTree):
    """The modules of a model, whose parameters are read with a random direction added to them."""

    def __init__(self, base: ModuleTree, found: Mapping[str, Difference], seed: int) -> None:
        super().__init__(base.checkpoint)
        self._found, self._seed = found, seed

    def read(self, parameter: str, rows: slice | None = None) -> Tensor:
        values = super().read(parameter, rows)
        if (difference := self._found.get(parameter)) is None:
            return values
        # Not in place: what was read may be the file's own memory.
        return values + self._direction(parameter, difference, rows)

    def _direction(self, parameter: str, difference: Difference, rows: slice | None) -> Tensor:
        import torch

        shape = self.shape(parameter)
        start, stop, _ = (rows or slice(None)).indices(shape[0] if shape else 1)
        if difference.rank is not None:
            generator = self._generator(parameter)
            left = torch.randn(shape[0], difference.rank, generator=generator)
            right = torch.randn(difference.rank, shape[1], generator=generator)
            norm = ((left.T @ left) * (right @ right.T)).sum().sqrt()
            return left[start:stop] @ (right * (difference.norm / norm))
        width = math.prod(shape[1:])
        scale = difference.norm / math.sqrt(shape[0] * width if shape else 1)
        parts = []
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            first, last = block * BLOCK, min((block + 1) * BLOCK, shape[0] if shape else 1)
            drawn = torch.randn(last - first, width, generator=self._generator(f"{parameter} {block}"))
            parts.append(drawn[max(0, start - first) : stop - first])
        drawn = torch.cat(parts) if parts else torch.empty(0, width)
        return drawn.mul_(scale).view(stop - start, *shape[1:]) if shape else drawn.mul_(scale).view(())

    def _generator(self, name: str) -> torch.Generator:
        import torch

        digest = hashlib.sha256(f"{self._seed} {name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))


def _name_in(base: ModuleTree, other: ModuleTree, name: str) -> str:
    """The other model's name for a parameter; they differ if only one of them ties its embeddings."""
    if name == base.embedding:
        return other.embedding
    return other.unembedding if name == base.unembedding else other.stored_as(name)


def _difference(base: ModuleTree, other: ModuleTree, name: str, other_name: str) -> Difference | None:
    import torch

    shape = base.shape(name)
    if other_name not in other or other.shape(other_name) != shape:
        found = other.shape(other_name) if other_name in other else "none"
        raise ArchitectureError(
            f"{other.checkpoint.source}: expected a parameter {name!r} of shape {shape}, as in "
            f"{base.checkpoint.source}, found {found}. Two models of one architecture can be compared."
        )
    is_matrix = len(shape) == 2 and min(shape) > 1
    n_rows = shape[0] if shape else 1
    plain = base.is_plain(name) and other.is_plain(other_name)
    at_once = ROWS_AT_ONCE if shape and plain else max(1, n_rows)
    squares = size = 0.0
    probes = torch.randn(shape[1], PROBES, generator=torch.Generator().manual_seed(0)) if is_matrix else None
    product = torch.zeros(shape[1], PROBES, dtype=torch.float64) if is_matrix else None
    for start in range(0, n_rows, at_once):
        rows = None if at_once >= n_rows else slice(start, min(start + at_once, n_rows))
        before = base.read(name, rows)
        change = other.read(other_name, rows) - before
        squares += float(change.double().square().sum())
        size += float(before.double().square().sum())
        if probes is not None and product is not None:
            product += (change.T @ (change @ probes)).double()
    if squares == 0:
        return None
    rank = None
    if product is not None:
        counted = squares**2 * PROBES / max(float(product.square().sum()), 1e-300)
        rank = max(1, round(counted)) if counted <= FULL * min(shape) else None
    return Difference(math.sqrt(squares), math.sqrt(size), rank)
