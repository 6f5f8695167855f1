"""Files know tensors: where weights come from, one file per format, and nothing about transformers' layers."""

from headatlas.checkpoints.checkpoint import Checkpoint
from headatlas.checkpoints.opening import DEMO_PACKAGE, demo_model, open_checkpoint

__all__ = ["DEMO_PACKAGE", "Checkpoint", "demo_model", "open_checkpoint"]
