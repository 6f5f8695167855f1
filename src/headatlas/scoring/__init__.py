"""Arrays in, arrays out: which pairs each head maps."""

from headatlas.scoring.rank_search import RankSearch, Work

__all__ = ["RankSearch", "Work"]
