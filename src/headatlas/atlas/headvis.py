"""The per-head metrics of HeadVis, as Neuronpedia's `compute-head-metrics` defines them.

They are means over the tokens of ordinary texts, the first token included, on which heads rest what they do not use.
So they are not the shares of `headatlas attention`, which leave it out, and stand apart from them.
"""

from __future__ import annotations

METRICS = {
    "self_attention_score": "Mean attention of a token on itself.",
    "prev_token_score": "Mean attention on the token before.",
    "pattern_entropy": "Mean Shannon entropy of a token's attention, in nats.",
    "qk_distance": "Mean distance in tokens, weighted by attention; the first token included.",
    "qk_distance_variance": "Variance of that distance, in tokens squared.",
    "induction_score": "Mean attention on the tokens behind earlier copies of the token.",
}
"""HeadVis' names, and what each is."""

SHARES = ("self_attention_score", "prev_token_score", "induction_score")
"""The metrics that are shares of attention."""
