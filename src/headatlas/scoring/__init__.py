"""Arrays in, arrays out: which pairs each head maps, how many it would by chance, and what it does most."""

from headatlas.scoring.chance import Chance, ChanceLevels
from headatlas.scoring.rank_search import MISS, RankSearch, Work
from headatlas.scoring.ranks import target_ranks
from headatlas.scoring.salient import extreme_logits, most_amplified

__all__ = ["MISS", "Chance", "ChanceLevels", "RankSearch", "Work", "extreme_logits", "most_amplified", "target_ranks"]
