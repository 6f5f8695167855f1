"""The running model: does it do what its weights say (`validate`), and does it matter (`ablate`)?"""

from headatlas.running.model import Continuations, RunningModel, Watched, batches

__all__ = ["Continuations", "RunningModel", "Watched", "batches"]
