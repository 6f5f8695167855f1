"""Architectures know transformers: where each family keeps its embedding, heads and first MLP."""

from headatlas.architectures.families import KNOWN_MODEL_TYPES, Family
from headatlas.architectures.model import HeadModel, open_model

__all__ = ["KNOWN_MODEL_TYPES", "Family", "HeadModel", "open_model"]
