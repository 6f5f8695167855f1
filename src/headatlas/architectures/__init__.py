"""Architectures know transformers: where each family keeps its embedding, heads and first MLP."""

from headatlas.architectures.families import KNOWN_MODEL_TYPES, VALIDITIES, Family, Validity
from headatlas.architectures.heads import HeadModel
from headatlas.architectures.open import open_model
from headatlas.architectures.self_check import LayerCheck, check_circuits
from headatlas.architectures.terms import Terms

__all__ = [
    "KNOWN_MODEL_TYPES",
    "VALIDITIES",
    "Family",
    "HeadModel",
    "LayerCheck",
    "Terms",
    "Validity",
    "check_circuits",
    "open_model",
]
