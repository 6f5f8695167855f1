"""What a map shows, computed instead of read off the picture.

Atlas in, frozen dataclasses out. Every statistical test names its null hypothesis and its source. Random draws are
seeded, so that the same atlas gives the same numbers.
"""

from headatlas.analysis.arrangements import Arrangement
from headatlas.analysis.beyond_chance import BeyondChance, Unproven, count_classified
from headatlas.analysis.boundaries import Boundary, best_boundary
from headatlas.analysis.coverage import Coverage
from headatlas.analysis.exceptional import Apart, Strongest
from headatlas.analysis.findings import Findings, analyse
from headatlas.analysis.meetings import Meeting, overlap_in_layers
from headatlas.analysis.significance import DRAWS, holm
from headatlas.analysis.spans import Span

__all__ = [
    "DRAWS",
    "Apart",
    "Arrangement",
    "BeyondChance",
    "Boundary",
    "Coverage",
    "Findings",
    "Meeting",
    "Span",
    "Strongest",
    "Unproven",
    "analyse",
    "best_boundary",
    "count_classified",
    "holm",
    "overlap_in_layers",
]
