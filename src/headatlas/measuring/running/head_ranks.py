"""Whether targets are among the k highest (lowest) logits of the outputs of heads, by the search that scores weights.

Knows arrays, as that search does.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.scoring import RankSearch


class HeadRanks:
    """Decide every task for every head of a layer: `logits = z @ W_O @ W_U`.

    Args:
        W_U: unembedding as rows, Float[Tensor, "d_vocab d_model"], on the device that does the work.
        row: of each task, the row of z, Int[Tensor, "n_tasks"].
        target_ids, k: of each task.
        threads: heads that are searched at once.
    """

    def __init__(self, W_U: Tensor, row: Tensor, target_ids: Tensor, k: Tensor, threads: int = 1) -> None:
        from headatlas.scoring import RankSearch

        threads = threads if W_U.device.type == "cpu" else 1
        self.n_tasks = len(row)
        self._free: SimpleQueue[RankSearch] = SimpleQueue()
        for _ in range(threads):
            self._free.put(RankSearch(W_U, row, target_ids, k))
        self._workers = ThreadPoolExecutor(threads)

    def layer(self, z: Tensor, W_O: Tensor) -> tuple[Tensor, Tensor]:
        """All heads of a layer.

        Args:
            z: Float[Tensor, "n_rows n_heads d_head"].
            W_O: Float[Tensor, "n_heads d_head d_model"].

        Returns:
            promoted, suppressed: Bool[Tensor, "n_heads n_tasks"], on the CPU.

        Raises:
            HeadOverflowError: the output of a head exceeds what float32 can hold.
        """
        import torch

        from headatlas.scoring import MISS, HeadOverflowError

        identity = torch.eye(z.shape[2], device=z.device)[None]

        def search(head: int) -> tuple[Tensor, Tensor]:
            ranks = self._free.get()
            try:
                found = ranks.pairs(ranks.heads(z[:, head].contiguous(), identity, W_O[head][None], [0]))
                return found[0] != MISS, found[1] != MISS
            except HeadOverflowError as error:
                raise HeadOverflowError(head) from error
            finally:
                self._free.put(ranks)

        promoted, suppressed = zip(*self._workers.map(search, range(len(W_O))), strict=True)
        return torch.cat(promoted), torch.cat(suppressed)
