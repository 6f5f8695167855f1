"""A sentence of each head from its salient operations and scores, by rules."""
