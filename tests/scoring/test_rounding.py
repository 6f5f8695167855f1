"""The margin for rounding against the largest difference of float32 and float64 logits."""

import torch

from headatlas.scoring.rounding import Reach, certain_margin, error_lengths, vector_margin


def test_errors_stay_far_below_the_allowance():
    g = torch.Generator().manual_seed(0)
    x, W_V, W_O, W_U = (torch.randn(*shape, generator=g) for shape in ((31, 23), (4, 23, 7), (4, 7, 23), (20_011, 23)))
    for head in range(4):
        value = x @ W_V[head]
        margin = certain_margin(error_lengths(x, W_V[head], value), W_O[head], Reach.of(W_U))
        exact = x.double() @ W_V[head].double() @ W_O[head].double() @ W_U.double().T
        for logits in (value @ W_O[head] @ W_U.T, value @ (W_O[head] @ W_U.T)):
            error = (logits - exact).abs().amax(1) / (margin / 2)
            assert 0 < error.max() < 0.1


def test_channels_of_very_different_sizes():
    """As behind Gemma's norms: gains of 500 in some channels, which the unembedding hardly reads."""
    g = torch.Generator().manual_seed(1)
    x, W_V, W_O, W_U = (torch.randn(*shape, generator=g) for shape in ((31, 23), (23, 7), (7, 23), (20_011, 23)))
    x[:, 3], W_V[3], W_O[:, 5], W_U[:, 5] = x[:, 3] * 1e4, W_V[3] * 1e-4, W_O[:, 5] * 1e3, W_U[:, 5] * 1e-4
    value = x @ W_V
    reach = Reach.of(W_U)
    margin = certain_margin(error_lengths(x, W_V, value), W_O, reach)
    outputs = value @ W_O
    exact = x.double() @ W_V.double() @ W_O.double() @ W_U.double().T
    for logits in (outputs @ W_U.T, value @ (W_O @ W_U.T)):
        assert 0 < ((logits - exact).abs().amax(1) / (margin / 2)).max() < 0.1
    assert (margin < 1e-3 * exact.std(1)).all()
    error = (outputs @ W_U.T - outputs.double() @ W_U.double().T).abs().amax(1)
    assert 0 < (error / (vector_margin(outputs, reach) / 2)).max() < 0.3


def test_the_reach_is_a_bound_and_zeros_do_no_harm():
    g = torch.Generator().manual_seed(2)
    W_U, sizes = torch.randn(301, 9, generator=g), torch.rand(5, 9, generator=g)
    W_U[:, 4] = 0
    assert (Reach.of(W_U).farthest(sizes) >= (sizes @ W_U.abs().T).amax(1) * (1 - 1e-6)).all()
