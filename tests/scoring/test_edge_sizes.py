"""Factors at the edge of their type, against a loop in float64: tiny, denormal, huge, of one rank, zero, duplicated."""

import pytest
import torch

from headatlas.scoring import (
    MISS,
    HeadOverflowError,
    RankSearch,
    TargetRanks,
    extreme_logits,
    hit_by_vectors,
    most_amplified,
)
from headatlas.scoring.rounding import Reach, certain_margin, error_lengths, head_underflow
from headatlas.scoring.scaling import NOTHING, Scaled, power_above, power_of_outputs, shifted

N_HEADS, D_HEAD, D_MODEL, D_VOCAB, N_SOURCES = 4, 7, 23, 3_067, 19
KV_HEAD = [0, 0, 1, 1]


def draw(dtype=torch.float32, seed=0):
    """Factors x, W_V, W_O, W_U, as a file of this type holds them."""
    g = torch.Generator().manual_seed(seed)
    shapes = (N_SOURCES, D_MODEL), (2, D_MODEL, D_HEAD), (N_HEADS, D_HEAD, D_MODEL), (D_VOCAB, D_MODEL)
    return [torch.randn(*shape, generator=g).to(dtype).float() for shape in shapes]


def exact_logits(x, W_V, W_O, W_U):
    """In float64, in which equal rows of W_U have equal logits: Float64[Tensor, "n_heads n_sources d_vocab"]."""
    rows, place = W_U.double().unique(dim=0, return_inverse=True)
    outputs = [x.double() @ W_V[kv].double() @ W_O[head].double() for head, kv in enumerate(KV_HEAD)]
    return torch.stack([(each @ rows.T)[:, place] for each in outputs])


def questions(logits, seed=0):
    """Pairs of which most have a target near the top or the bottom of some head: source, target_ids, k."""
    g = torch.Generator().manual_seed(seed)
    source = torch.arange(N_SOURCES).repeat_interleave(24)
    target = torch.randint(D_VOCAB, source.shape, generator=g)
    for pair in range(0, len(source), 3):
        of_head = logits[pair % N_HEADS, source[pair]]
        target[pair] = of_head.topk(14, largest=pair % 5 < 3).indices[int(torch.randint(14, (), generator=g))]
    return source, target, torch.tensor([1, 10, 3])[torch.randint(3, source.shape, generator=g)]


def expected_hits(logits, source, target, k):
    """Fewer than k other tokens reach the target; promoted and suppressed."""
    of_pairs = logits[:, source]
    own = of_pairs.gather(2, target[None, :, None].expand(len(logits), -1, 1))
    return ((of_pairs >= own).sum(2) - 1 < k), ((of_pairs <= own).sum(2) - 1 < k)


def found_hits(x, W_V, W_O, W_U, source, target, k):
    search = RankSearch(W_U, source, target, k)
    promoted, suppressed = search.pairs(search.heads(x, W_V, W_O, KV_HEAD))
    return promoted != MISS, suppressed != MISS


def to_type(values, dtype):
    return values.to(dtype).float()


def scale_all(factors, dtype, *powers):
    return [to_type(each * 10.0**power, dtype) for each, power in zip(factors, powers, strict=True)]


def per_row(values, least, most):
    """The rows times very different sizes."""
    return values * torch.logspace(least, most, len(values), dtype=torch.float64)[
        torch.randperm(len(values), generator=torch.Generator().manual_seed(5))
    ].float().view(-1, *[1] * (values.ndim - 1))


def edge(name, dtype=torch.float32):
    x, W_V, W_O, W_U = factors = draw(dtype)
    match name:
        case "tiny outputs":
            return scale_all(factors, dtype, 0, 0, -37, 0)
        case "tiny everywhere":
            return scale_all(factors, dtype, -9, -12, -11, -13)
        case "denormal W_O":
            return scale_all(factors, dtype, 0, 0, -39, 0)
        case "denormal W_V":
            return scale_all(factors, dtype, 0, -39, 0, 0)
        case "denormal input":
            return scale_all(factors, dtype, -39, 0, 0, 0)
        case "denormal W_U":
            return scale_all(factors, dtype, 0, 0, 0, -39)
        case "huge logits":
            return scale_all(factors, dtype, 18, 0, 15, 30)
        case "huge times tiny":
            return scale_all(factors, dtype, 37, -38, 36, -37)
        case "rows of all sizes":
            return [per_row(x, -40, 3), W_V, per_row(W_O, -42, 4), W_U]
        case "tokens of all sizes":
            return [x, W_V, W_O, per_row(W_U, -40, 30)]
        case "channels of all sizes":
            by = torch.logspace(-30, 8, D_MODEL, dtype=torch.float64).float()
            return [x, W_V, W_O * by, W_U / by]
        case "only the smallest channels count":
            x[:, 2:], W_V[:, :2] = x[:, 2:] * 1e-42, 0
            return [x * 1e3, W_V, W_O, W_U]
        case "one rank":
            return [x, W_V, 1e-30 * W_O[:, :, :1] * 1e-9 * W_O[:, :1], W_U]
        case "zeros":
            x[3], W_V[0, :, :3], W_O[1], W_O[2, :, 5:], W_U[::7] = 0, 0, 0, 0, 0
            return [x, W_V, 1e-39 * W_O, W_U]
        case "duplicates":
            W_U[1::3] = W_U[::3][: len(W_U[1::3])]
            return [x, W_V, 1e-39 * W_O, W_U]
    raise AssertionError(name)


FLOAT32 = [
    "tiny outputs", "tiny everywhere", "denormal W_O", "denormal W_V", "denormal input", "denormal W_U", "huge logits",
    "huge times tiny", "rows of all sizes", "tokens of all sizes", "channels of all sizes",
    "only the smallest channels count", "one rank", "zeros", "duplicates",
]  # fmt: skip
CASES = [(name, torch.float32) for name in FLOAT32] + [(name, torch.bfloat16) for name in FLOAT32[:8]]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_hits_are_those_of_a_loop_in_float64(name, dtype):
    factors = edge(name, dtype)
    logits = exact_logits(*factors)
    asked = questions(logits)
    expected, found = expected_hits(logits, *asked), found_hits(*factors, *asked)
    assert expected[0].sum() > 10 and expected[1].sum() > 10
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@pytest.mark.parametrize("name", ["tiny everywhere", "denormal W_O", "huge logits", "tokens of all sizes", "zeros"])
def test_ranks_are_those_of_a_count_in_float64(name):
    x, W_V, W_O, W_U = edge(name)
    logits = exact_logits(x, W_V, W_O, W_U)
    source, target, _ = questions(logits)
    outputs = x.double() @ W_V[0].double() @ W_O[0].double()
    expected = (logits[0, source] >= logits[0, source].gather(1, target[:, None])).sum(1)
    assert torch.equal(TargetRanks(W_U).of(outputs[source], target), expected)


@pytest.mark.parametrize("name", ["tiny everywhere", "denormal W_U", "huge logits", "tokens of all sizes"])
def test_copying_is_decided_as_in_float64(name):
    x, _, _, W_U = edge(name)
    rows, place = W_U.double().unique(dim=0, return_inverse=True)
    logits = (x.double() @ rows.T)[:, place][None].expand(N_HEADS, -1, -1)
    source, target, k = questions(logits)
    expected, _ = expected_hits(logits[:1], source, target, k)
    assert expected.sum() > 20
    assert torch.equal(hit_by_vectors(RankSearch(W_U, source, target, k), x), expected[0])


@pytest.mark.parametrize("name", ["tiny outputs", "tiny everywhere", "denormal input", "denormal W_O", "denormal W_V"])
def test_salient_operations_are_those_in_float64(name):
    x, W_V, W_O, W_U = edge(name)
    outputs = torch.stack([x.double() @ W_V[kv].double() @ W_O[head].double() for head, kv in enumerate(KV_HEAD)])
    lengths = x.double().norm(dim=1)
    expected = (outputs.norm(dim=-1) / lengths).topk(5)
    rows, amplification, found = most_amplified(x, lengths, W_V, W_O, KV_HEAD, 5)
    assert torch.equal(rows, expected.indices)
    torch.testing.assert_close(amplification, expected.values, rtol=1e-9, atol=0)
    highest, lowest = extreme_logits(found.flatten(0, 1), W_U, torch.tensor([0]), 6)
    logits = (found.flatten(0, 1) @ W_U.double().T)[:, 1:]
    assert torch.equal(highest, 1 + logits.topk(6).indices) and torch.equal(lowest, 1 + (-logits).topk(6).indices)


def test_a_head_that_writes_nothing_in_float32_is_named_and_scored_exactly():
    x, W_V, W_O, W_U = draw()
    W_O[1] *= 1e-44  # its entries are numbers, but products with values below 1 are not
    x *= 1e-3
    W_O[3] = 0
    heads = RankSearch(W_U, torch.arange(N_SOURCES), torch.arange(N_SOURCES), torch.ones(N_SOURCES).long()).heads(
        x, W_V, W_O, KV_HEAD
    )
    assert heads.underflows == [1]
    logits = exact_logits(x, W_V, W_O, W_U)
    asked = questions(logits)
    expected, found = expected_hits(logits, *asked), found_hits(x, W_V, W_O, W_U, *asked)
    assert torch.equal(found[0], expected[0]) and expected[0][1].sum() > 5


def test_values_that_exceed_float32_name_the_head():
    x, W_V, W_O, W_U = draw()
    with pytest.raises(HeadOverflowError, match="head 2: its output exceeds"):
        found_hits(
            1e30 * x,
            W_V * torch.tensor([1e-30, 1e10])[:, None, None],
            1e-30 * W_O,
            W_U,
            *questions(exact_logits(x, W_V, W_O, W_U)),
        )


def test_a_value_that_only_float32_rounds_to_zero_is_no_silent_source():
    """1 + 2**-24 - 1 is 0 in float32; the head still writes something."""
    W_U = torch.randn(D_VOCAB, 2, generator=torch.Generator().manual_seed(1))
    x, W_V = torch.tensor([[1.0, 2.0**-25, 1.0]]), torch.tensor([[[1.0], [1.0], [-1.0]]])
    W_O = torch.tensor([[[1.0, 2.0]]])
    best = int((W_U.double() @ W_O[0, 0].double()).argmax())
    search = RankSearch(W_U, torch.tensor([0]), torch.tensor([best]), torch.tensor([1]))
    promoted, _ = search.pairs(search.heads(x, W_V, W_O, [0]))
    assert promoted.tolist() == [[0]]


def test_ordinary_factors_are_used_as_they_are():
    x = draw()[0] * 100
    assert Scaled.of(x).values is x and Scaled.of(x).below == int(power_above(x))
    assert RankSearch(W_U := draw()[3], *[torch.tensor([1])] * 3).W_U is W_U


@pytest.mark.parametrize("power", [-149, -130, -77, 3, 64, 127])
def test_powers_of_two_are_exact(power):
    values = torch.tensor([1.0, -0.75, 0.0]) * 2.0 ** max(power, -126) * 2.0 ** min(0, power + 126)
    above = power_above(values[:1])
    assert int(above) == power + 1
    assert shifted(values, -above).double().equal(values.double() * 2.0 ** -(power + 1))
    assert int(power_above(torch.zeros(2))) == NOTHING


def test_underflow_is_allowed_for_where_factors_lose_digits():
    """Errors that scaling cannot prevent stay below what is added to the margin."""
    x, W_V, W_O, W_U = edge("channels of all sizes")
    scaled = Scaled.of(x), Scaled.of(W_V), Scaled.of(W_O, power_of_outputs(int(power_above(W_U))))
    reach = Reach.of(W_U)
    for head, kv in enumerate(KV_HEAD):
        value = scaled[0].values @ scaled[1].values[kv]
        lengths = error_lengths(scaled[0].values, scaled[1].values[kv], value)
        margin = certain_margin(lengths, scaled[2].values[head], reach) + head_underflow(*scaled, reach)
        exact = exact_logits(x, W_V, W_O, W_U)[head] * 2.0 ** -scaled[2].power[head].double()
        error = (value @ scaled[2].values[head] @ W_U.T - exact).abs().amax(1)
        assert (error < margin / 2).all()
