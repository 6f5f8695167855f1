"""The margin for rounding against the largest difference of float32 and float64 logits."""

import torch

from headatlas.scoring.rounding import certain_margin, error_lengths


def test_errors_stay_far_below_the_allowance():
    g = torch.Generator().manual_seed(0)
    x, W_V, W_O, W_U = (torch.randn(*shape, generator=g) for shape in ((31, 23), (4, 23, 7), (4, 7, 23), (20_011, 23)))
    largest_norm = torch.linalg.vector_norm(W_U, dim=1).max()
    for head in range(4):
        value = x @ W_V[head]
        margin = certain_margin(error_lengths(x, W_V[head], value), W_O[head], largest_norm)
        exact = x.double() @ W_V[head].double() @ W_O[head].double() @ W_U.double().T
        for logits in (value @ W_O[head] @ W_U.T, value @ (W_O[head] @ W_U.T)):
            error = (logits - exact).abs().amax(1) / (margin / 2)
            assert 0 < error.max() < 0.1
