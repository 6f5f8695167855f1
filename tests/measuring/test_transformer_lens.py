"""Shares on random tokens are those of TransformerLens' head detector; skipped where that package is not installed.

`pip install transformer-lens` in an environment of its own; nothing else here needs it.
"""

import numpy as np
import pytest
import torch

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.measuring.running.attention import watch_attention
from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.running.passages import repeated_tokens
from headatlas.scoring.behaviours import find_matches, measure_rows
from models import make_model, save_model
from needs import need_demo_model
from planted import WORDS
from planted_attention import save_reading_model

detector = pytest.importorskip("transformer_lens.head_detector", reason="TransformerLens is not installed")
PATTERNS = {
    "previous": detector.get_previous_token_head_detection_pattern,
    "duplicate": detector.get_duplicate_token_head_detection_pattern,
    "induction": detector.get_induction_head_detection_pattern,
}


def compare(running, ids):
    """Every head, sequence and pattern; the detector's mean is over all rows, ours over those that can match."""
    matches, n_tokens = find_matches(ids), ids.shape[1]

    def see(layer, attention, visible):
        found = measure_rows(attention, visible, matches)
        for number, name in enumerate(matches):
            if name not in PATTERNS:
                continue
            for s, h in np.ndindex(*attention.shape[:2]):
                score = detector.compute_head_attention_similarity_score(
                    attention[s, h], PATTERNS[name](ids[s : s + 1]),
                    exclude_bos=False, exclude_current_token=False, error_measure="mul",
                )  # fmt: skip
                total = score * n_tokens
                # To the detector, the first token is the second's previous one; to us it is the sink.
                total -= attention[s, h, 1, 0].item() if name == "previous" else 0
                assert found.share[s, h, number] == pytest.approx(total / found.rows[s, number], abs=1e-5), (
                    layer,
                    name,
                )

    watch_attention(running, ids, see)


@pytest.mark.parametrize("case", ["llama", "gemma2", "bloom"])
def test_tiny_models(tmp_path, case):
    running = RunningModel(open_model(open_checkpoint(save_model(make_model(case), tmp_path, WORDS))))
    # Within the windows, which the detector does not know.
    compare(running, torch.stack([row[:15] for row in repeated_tokens(range(3, 70), 1, 15, 3, 0)]))


def test_planted_heads(tmp_path):
    running = RunningModel(open_model(open_checkpoint(save_reading_model("rotary", tmp_path))))
    compare(running, repeated_tokens(range(3, 70), 82, None, 2, 0))


@pytest.mark.system
def test_the_demo_model():
    need_demo_model()
    running = RunningModel(open_model(open_checkpoint("demo")))
    compare(running, repeated_tokens(range(300, 40_000), 260, None, 2, 0))
