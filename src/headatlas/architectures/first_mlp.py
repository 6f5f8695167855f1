"""The first layer's MLP, whose output (without the residual) is the input of later layers in MAPS."""

from __future__ import annotations

from headatlas.architectures.module_tree import ModuleTree
from headatlas.architectures.structure import FirstMlp
from headatlas.errors import ArchitectureError


def first_mlp_paths(tree: ModuleTree, layers: str, modules: FirstMlp) -> list[str]:
    """Paths of the modules that compute the later layers' input from the first layer's, in the base model.

    Args:
        layers: path of the list of layers in the base model.
        modules: their names in the first layer, from `find_first_mlp`.

    Raises:
        ArchitectureError: the checkpoint has tensors under these paths that no module of this config takes.
    """
    names = [*([] if modules.norm is None else [modules.norm]), *modules.parts]
    paths = [f"{layers}.0.{name}" for name in names]
    for path in paths:
        if unused := tree.unused(path):
            raise ArchitectureError(
                f"{tree.checkpoint.file_of(unused[0])}: tensor {unused[0]!r} has no place in the model that this "
                f"config describes; expected none. Is config.json from the same model?"
            )
    return paths
