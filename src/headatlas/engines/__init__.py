"""Engines score layers: in this process, or on a Ray cluster."""

from headatlas.engines.engine import Engine, LayerResult, Task
from headatlas.engines.local import LocalEngine
from headatlas.engines.ray import RayEngine

__all__ = ["Engine", "LayerResult", "LocalEngine", "RayEngine", "Task"]
