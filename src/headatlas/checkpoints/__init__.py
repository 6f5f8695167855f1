"""Files know tensors: where weights come from, one file per format, and nothing about transformers' layers."""

from headatlas.checkpoints.checkpoint import Checkpoint
from headatlas.checkpoints.open import DEMO_FILE, DEMO_PACKAGE, demo_model, looks_like_a_path, open_checkpoint
from headatlas.checkpoints.remote.names import is_remote

__all__ = ["DEMO_FILE", "DEMO_PACKAGE", "Checkpoint", "demo_model", "is_remote", "looks_like_a_path", "open_checkpoint"]
