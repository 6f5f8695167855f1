"""The running model: does it do what its weights say (`validate_atlas`), and does it matter (`ablate_heads`)?"""

from headatlas.running.ablation import ablate_heads, wilson
from headatlas.running.correlations import ALL, correlate, mean_over_relations
from headatlas.running.model import Continuations, RunningModel, Watched, batches
from headatlas.running.validation import CONDITIONS, PAIRS, validate_atlas

__all__ = [
    "ALL",
    "CONDITIONS",
    "PAIRS",
    "Continuations",
    "RunningModel",
    "Watched",
    "ablate_heads",
    "batches",
    "correlate",
    "mean_over_relations",
    "validate_atlas",
    "wilson",
]
