"""Scores of words against the attention of the same modules on sequences in which the two words have those places."""

import pytest
import torch

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.measuring.running.attention import most_tokens, watch_attention
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.predicted import PredictedInputs
from headatlas.measuring.running.word_scores import DISTANCES, KEY_AT, distances_for, score_words
from headatlas.scoring.word_pairs import take_apart
from models import CASES, D_MODEL, make_model, save_model

CHOSEN = [
    "llama", "gpt2", "gptj", "gpt_neo", "gpt_neox", "gpt_bigcode", "bloom", "mpt", "opt", "falcon-new", "gemma2",
    "gemma3_text", "gemma4_text-shared", "deepseek_v3", "llama4_text", "gpt_oss", "qwen2_vl", "qwen3_next", "cohere2",
    "olmo3", "phi", "persimmon", "stablelm", "granite",
]  # fmt: skip
N_WORDS = 5
SIZE = 0.3
"""Of inputs, so that no attention is too small to have a logarithm."""

WINDOW = 16
"""Of the sliding layers of the cases."""


def test_the_chosen_cases_exist():
    assert set(CHOSEN) <= set(CASES)


@pytest.mark.parametrize("case", CHOSEN)
def test_scores_are_those_of_sequences_with_the_words_at_their_places(tmp_path, case):
    heads = open_model(open_checkpoint(save_model(make_model(case), tmp_path)))
    running, most = RunningModel(heads), most_tokens(heads)
    numbers = torch.Generator().manual_seed(0)
    words = torch.arange(1, N_WORDS + 1)
    of_tokens = {layer: SIZE * torch.randn(N_WORDS, D_MODEL, generator=numbers) for layer in running.layers}
    first = {layer: SIZE * torch.randn(D_MODEL, generator=numbers) for layer in running.layers}
    inputs = PredictedInputs(words, of_tokens, first)
    found = {}
    score_words(running, 0, inputs, most, lambda layer, scores: found.update({layer: scores}))
    distances = distances_for(most)
    assert set(found) == set(running.layers) and distances == DISTANCES
    counted = {layer: set() for layer in running.layers}
    expected = {layer: torch.zeros(heads.n_heads, N_WORDS, N_WORDS) for layer in running.layers}
    for distance in distances:
        for query in range(N_WORDS):
            # A sequence for each key; all other tokens are like the first one.
            ids = torch.zeros(N_WORDS, KEY_AT + distance + 1, dtype=torch.long)
            given = {}
            for layer in running.layers:
                x = first[layer].repeat(*ids.shape, 1)
                x[:, KEY_AT], x[:, -1] = of_tokens[layer], of_tokens[layer][query]
                given[layer] = x

            def see(layer, real, visible, attention, query=query, distance=distance):
                logs = attention[:, :, -1].log()
                if visible[0, -1, KEY_AT]:
                    # Another visible token, which is the same in all sequences, takes off what softmax adds.
                    expected[layer][:, query] += (logs[..., KEY_AT] - logs[..., KEY_AT + 1]).T
                    counted[layer].add(distance)

            watch_attention(running, ids, see, [given])
    for layer, scores in found.items():
        assert counted[layer] == set(distances) or counted[layer] == {each for each in distances if each < WINDOW}
        for one, other in zip(take_apart(scores), take_apart(expected[layer] / len(counted[layer])), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", ["gpt_neo", "mpt"])
def test_words_in_parts_have_the_scores_of_words_at_once(tmp_path, monkeypatch, case):
    """GPT-Neo's own mask hides far tokens, so that its keys come in parts."""
    from headatlas.measuring.running import word_scores

    heads = open_model(open_checkpoint(save_model(make_model(case), tmp_path)))
    running, numbers = RunningModel(heads), torch.Generator().manual_seed(0)
    of_tokens = {layer: SIZE * torch.randn(13, D_MODEL, generator=numbers) for layer in running.layers}
    inputs = PredictedInputs(torch.arange(13), of_tokens, {layer: torch.ones(D_MODEL) for layer in running.layers})

    def scores():
        found = {}
        score_words(running, 0, inputs, most_tokens(heads), lambda layer, each: found.update({layer: each}))
        return found

    whole = scores()
    monkeypatch.setattr(word_scores, "_most_keys", lambda module, n_words: 4)
    for layer, each in scores().items():
        torch.testing.assert_close(each, whole[layer], rtol=1e-3, atol=1e-4)
    assert float(whole[0].abs().max()) > 0.1
