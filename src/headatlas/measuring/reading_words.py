"""Which words each head looks for: chosen words, their scores from weights, and what attention on text says of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.predicted import PredictedInputs
from headatlas.measuring.running.word_scores import score_words
from headatlas.scoring.word_pairs import products, strongest_keys, strongest_pairs, take_apart, take_apart_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

MOST_WORDS, OF_TEXT = 512, 256
"""Words that are compared, and those of them that are the most frequent tokens of the text."""

KEYS = 10
"""Words that a head looks for whoever asks."""

QUERIES, KEYS_OF_QUERY = 8, 5
"""Words that look for something most, and the words that each looks for."""

COLUMNS = {
    "layer": "int64", "head": "int64", "kind": "str", "rank": "int64", "query_id": "int64", "query": "str",
    "key_rank": "int64", "key_id": "int64", "key": "str", "score": "float64", "real": "float64", "seen": "int64",
}  # fmt: skip
"""Of the table `reading_words`, with their types."""


def choose_words(
    text: Sequence[int], ordinary: Iterable[int], pairs: Sequence[Sequence[tuple[int, int]]], words: Iterable[int]
) -> list[int]:
    """The words that are compared, in ascending order; no junk.

    The most frequent tokens of the text (punctuation is among them), then words of the relations, a pair of each
    relation in turn, then further tokens of the text, then words of the vocabulary.

    Args:
        text: its tokens.
        ordinary: all tokens that are not junk.
        pairs: sources and targets of each relation.
        words: of the vocabulary, the most common first.

    >>> choose_words([7, 5, 7, 3], range(1, 100), [[(8, 9)]], [20])
    [3, 5, 7, 8, 9, 20]
    """
    known = set(ordinary)
    frequent = [token for token, _ in Counter(text).most_common() if token in known]
    in_turn = (word for each in itertools.zip_longest(*pairs) for pair in each for word in pair or () if word in known)
    wanted = itertools.chain(frequent[:OF_TEXT], in_turn, frequent[OF_TEXT:], (word for word in words if word in known))
    return sorted(itertools.islice(dict.fromkeys(wanted), MOST_WORDS))


@dataclass(frozen=True)
class Named:
    """What the heads of the layers look for; arrays of all layers with heads, heads of a layer, and ranks.

    Args:
        keys, key_scores: looked for whoever asks, places among the words and scores, (layer, head, KEYS).
        queries: that look for something most, (layer, head, QUERIES).
        pair_keys, pair_scores: what each of them looks for, (layer, head, QUERIES, KEYS_OF_QUERY).
    """

    keys: np.ndarray
    key_scores: np.ndarray
    queries: np.ndarray
    pair_keys: np.ndarray
    pair_scores: np.ndarray


class WordScores:
    """Scores of all pairs of words, by layer, and their comparison with attention on text.

    Args:
        words: token ids in ascending order.
        inputs: predicted for tokens among which the words are.
        text: tokens of the text; only words among them are compared with it.
        most: tokens that the model reads at once; None: any number.

    Attributes:
        named: what the heads look for.
    """

    def __init__(
        self,
        running: RunningModel,
        prefix: int,
        inputs: PredictedInputs,
        words: Sequence[int],
        text: Tensor,
        most: int | None,
    ) -> None:
        import numpy as np
        import torch

        ids = torch.tensor(words)
        self._in_text = torch.isin(ids, text.unique()).nonzero()[:, 0]
        self._ids = ids[self._in_text]
        numbers = torch.Generator().manual_seed(0)
        self._shuffled = [torch.randperm(len(self._ids), generator=numbers) for _ in range(2)]
        self._preferences: dict[int, Tensor] = {}
        self._pairs: dict[int, Tensor] = {}
        found: dict[int, tuple[Tensor, ...]] = {}

        def see(layer: int, scores: Tensor) -> None:
            preference, pairs = take_apart(scores)
            key_scores, keys = strongest_keys(preference, KEYS)
            queries, pair_scores, pair_keys = strongest_pairs(pairs, QUERIES, KEYS_OF_QUERY)
            found[layer] = keys, key_scores, queries, pair_keys, pair_scores
            self._preferences[layer] = preference[:, self._in_text].half()
            self._pairs[layer] = pairs[:, self._in_text][:, :, self._in_text].half()

        score_words(running, prefix, inputs.only(ids), most, see)
        arrays = zip(*(found[layer] for layer in running.layers), strict=True)
        self.named = Named(*(np.stack([each.numpy() for each in of_layers]) for of_layers in arrays))
        self._place = {layer: place for place, layer in enumerate(running.layers)}

    def compare(self, layer: int, attention: Tensor, visible: Tensor, ids: Tensor) -> dict[str, np.ndarray]:
        """How far the scores agree with the attention of a layer on text.

        Args:
            attention: Float[Tensor, "n_sequences n_heads n_tokens n_tokens"].
            visible: the tokens that each may see, Bool[Tensor, "n_sequences n_tokens n_tokens"].
            ids: Int[Tensor, "n_sequences n_tokens"].

        Returns:
            `keys`, `pairs`: the sums of `products` for preferences and for pairs, (sequence, head, 3), and with
            `_shuffled` for the scores of other words; `named_keys`, `named_pairs`: sums of the attention's own
            preferences and pairs for what is named, and how often it occurs, (sequence, head, 2, ...).
        """
        import numpy as np

        parts = [self._compare_one(layer, *each) for each in zip(attention, visible, ids, strict=True)]
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}

    def _compare_one(self, layer: int, attention: Tensor, visible: Tensor, ids: Tensor) -> dict[str, np.ndarray]:
        import torch

        places = torch.searchsorted(self._ids, ids).clamp_max(len(self._ids) - 1)
        known = self._ids[places] == ids
        known[0] = False  # the prefix
        at = known.nonzero()[:, 0]
        places = places[at]
        logs = attention[:, at.to(attention.device)][:, :, at.to(attention.device)].float().cpu()
        seen = visible.cpu()[at][:, at].tril(-1)
        weight = seen.sum(0)
        real = take_apart_text(logs.clamp_min(torch.finfo(torch.float32).tiny).log(), seen)
        found = {}
        for name, (queries, keys) in {
            "": (places, places),
            "_shuffled": [each[places] for each in self._shuffled],
        }.items():
            scores = self._pairs[layer][:, queries][:, :, keys].float() + self._preferences[layer][:, None, keys]
            expected = take_apart_text(scores, seen)
            for what, one, other, of in (("keys", real[0], expected[0], weight), ("pairs", real[1], expected[1], None)):
                found[f"{what}{name}"] = products(one, other, of).T.numpy()
        return found | self._find_named(layer, places, seen, *real)

    def _find_named(
        self, layer: int, places: Tensor, seen: Tensor, preference: Tensor, pairs: Tensor
    ) -> dict[str, np.ndarray]:
        import torch

        words, place = self._in_text[places], self._place[layer]
        keys, queries, pair_keys = (
            torch.from_numpy(each[place]) for each in (self.named.keys, self.named.queries, self.named.pair_keys)
        )
        weight = seen.sum(0).double()
        is_key = (words == keys[..., None]) * weight
        of_keys = [(is_key * preference[:, None].double()).sum(-1), is_key.sum(-1)]
        is_query = (words == queries[..., None]).double()  # (head, query, token)
        is_key = (words == pair_keys[..., None]).double()  # (head, query, key, token)
        sums = [
            torch.einsum("hqi,hij,hqkj->hqk", is_query, each.double(), is_key)
            for each in (pairs, seen.expand_as(pairs))
        ]
        return {
            "named_keys": torch.stack(of_keys, 1).numpy(),
            "named_pairs": torch.stack(sums, 1).numpy(),
        }


def table_of(
    named: Named, on_keys: np.ndarray, on_pairs: np.ndarray, layers: Sequence[int], words: Sequence[int],
    texts: Sequence[str], least: float,
) -> pd.DataFrame:  # fmt: skip
    """The table `reading_words`: what has at least a score of `least`.

    Args:
        on_keys, on_pairs: sums and counts over the text, (layer, head, 2, ...).
        texts: of all tokens.
    """
    import numpy as np
    import pandas as pd

    rows: list[dict[str, Any]] = []

    def add(
        place: tuple[int, int], rank: int, query: int | None, key_rank: int, key: int, score: float, on: Any
    ) -> None:
        total, n_seen = on
        rows.append(
            {
                "layer": layers[place[0]],
                "head": place[1],
                "kind": "any" if query is None else "pair",
                "rank": rank,
                "query_id": -1 if query is None else words[query],
                "query": "" if query is None else texts[words[query]],
                "key_rank": key_rank,
                "key_id": words[key],
                "key": texts[words[key]],
                "score": score,
                "real": total / n_seen if n_seen else np.nan,
                "seen": int(n_seen),
            }
        )

    n_layers, n_heads = named.keys.shape[:2]
    for place in itertools.product(range(n_layers), range(n_heads)):
        for rank, (key, score) in enumerate(zip(named.keys[place], named.key_scores[place], strict=True)):
            if score >= least:
                add(place, 0, None, rank, key, score, on_keys[place][:, rank])
        for rank, query in enumerate(named.queries[place]):
            for key_rank, key in enumerate(named.pair_keys[place][rank]):
                score = named.pair_scores[place][rank, key_rank]
                if score >= least:
                    add(place, rank, query, key_rank, key, score, on_pairs[place][:, rank, key_rank])
    # A table without rows has the same types.
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
