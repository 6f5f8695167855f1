"""Arrays in, arrays out: which pairs each head maps, and how many it would by chance."""

from headatlas.scoring.chance import Chance, ChanceLevels
from headatlas.scoring.rank_search import MISS, RankSearch, Work

__all__ = ["MISS", "Chance", "ChanceLevels", "RankSearch", "Work"]
"""Arrays in, arrays out: which pairs each head maps, and what it does most."""

from headatlas.scoring.rank_search import RankSearch, Work
from headatlas.scoring.ranks import target_ranks
from headatlas.scoring.salient import extreme_logits, most_amplified

__all__ = ["RankSearch", "Work", "extreme_logits", "most_amplified", "target_ranks"]
