"""Arrays in, arrays out: ranks of targets, chance levels and salient operations of attention heads."""

from headatlas.scoring.chance import Chance, ChanceLevels
from headatlas.scoring.copying import Copying, hit_by_vectors
from headatlas.scoring.extremes import HeadOverflowError
from headatlas.scoring.rank_search import MISS, RankSearch
from headatlas.scoring.ranks import TargetRanks
from headatlas.scoring.salient import extreme_logits, most_amplified
from headatlas.scoring.scan import Work

__all__ = [
    "MISS",
    "Chance",
    "ChanceLevels",
    "Copying",
    "HeadOverflowError",
    "RankSearch",
    "TargetRanks",
    "Work",
    "extreme_logits",
    "hit_by_vectors",
    "most_amplified",
]
