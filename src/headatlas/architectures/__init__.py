"""Architectures know transformers: where each family keeps its embedding, heads and first MLP."""

from headatlas.architectures.alone import FirstPass
from headatlas.architectures.families import KNOWN_MODEL_TYPES, VALIDITIES, Family, Validity
from headatlas.architectures.heads import HeadModel
from headatlas.architectures.inputs import head_inputs, word_inputs
from headatlas.architectures.open import open_model
from headatlas.architectures.self_check import LayerCheck, check_circuits
from headatlas.architectures.terms import NO_TERMS, Terms

__all__ = [
    "KNOWN_MODEL_TYPES",
    "NO_TERMS",
    "VALIDITIES",
    "Family",
    "FirstPass",
    "HeadModel",
    "LayerCheck",
    "Terms",
    "Validity",
    "check_circuits",
    "head_inputs",
    "open_model",
    "word_inputs",
]
