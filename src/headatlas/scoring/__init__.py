"""Arrays in, arrays out: which pairs each head maps, and how many it would by chance."""

from headatlas.scoring.chance import Chance, ChanceLevels
from headatlas.scoring.rank_search import MISS, RankSearch, Work

__all__ = ["MISS", "Chance", "ChanceLevels", "RankSearch", "Work"]
