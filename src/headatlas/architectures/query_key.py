"""Scores before the softmax from queries and keys, computed here, and compared with what the attention modules do.

`s_ij = scale * q_i . k_j`, with `q = norm(x @ W_Q + b_Q)`, `k = norm(x @ W_K + b_K)`, both turned by the rotary angles
of their positions, a cap, or ALiBi's `-slope * (i - j)`. Which of these a layer does is tried; the comparison decides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headatlas.architectures.layouts import concatenated, grouped, one_or_grouped, separate
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.architectures.heads import HeadModel

TOLERANCE = 1e-3
"""Largest difference of scores that agree, relative to the largest score of the head, or to 1 if that is smaller."""

NORMS = (("q_norm", "k_norm"), ("q_layernorm", "k_layernorm"), ("query_layernorm", "key_layernorm"))
HALF, INTERLEAVED, NO_POSITIONS, ALIBI, ALIBI_SPLIT = "rotary halves", "rotary pairs", "none", "ALiBi", "ALiBi, split"
"""How a layer knows positions: dimensions `i` and `i + d / 2`, or `2 i` and `2 i + 1`, are turned together; learned
positions are part of the input."""


@dataclass(frozen=True)
class Understood:
    """How a layer's scores were found to be computed, and how well that agrees.

    Args:
        positions: one of the names above.
        error: largest difference of a head's scores, relative to its largest score.
        head: the head with that difference.
    """

    positions: str
    error: float
    head: int

    @property
    def agrees(self) -> bool:
        return self.error <= TOLERANCE


def understand_scores(
    model: HeadModel, layer: int, module: Any, x: Tensor, logs: Tensor, visible: Tensor
) -> Understood:
    """The way of computing scores that agrees best with a layer's attention in one sequence.

    Args:
        module: the layer's attention with its weights, for the norms of queries and keys.
        x: what it read, Float[Tensor, "n_tokens d_model"], at positions 0, 1, ...
        logs: logarithms of its attention, Float[Tensor, "n_heads n_tokens n_tokens"].
        visible: the tokens that each may see, Bool[Tensor, "n_tokens n_tokens"].
    """
    best = Understood("not known", math.inf, 0)
    real = _centred(logs.double(), visible)
    size = real.abs().amax((1, 2)).clamp_min(1)
    for positions, scores in _possible(model, layer, module, x):
        off = ((_centred(scores, visible) - real).abs().amax((1, 2)) / size).nan_to_num(math.inf)
        found = Understood(positions, float(off.max()), int(off.argmax()))
        best = min(best, found, key=lambda each: each.error)
        if best.agrees:
            break
    return best


def _centred(scores: Tensor, visible: Tensor) -> Tensor:
    rows = visible.double()
    scores = scores.masked_fill(~visible, 0)
    return (scores - scores.sum(-1, keepdim=True) / rows.sum(-1, keepdim=True)) * rows


def _possible(model: HeadModel, layer: int, module: Any, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Positions and scores, Float64[Tensor, "n_heads n_tokens n_tokens"], of each way that can be meant."""
    import torch

    config, n = model.tree.config, len(x)
    try:
        found = _latent(model, layer, module, x) if model.family.latent else _queries_and_keys(model, layer, x)
    except (ArchitectureError, AttributeError, ValueError, RuntimeError):  # modules of other names or shapes
        return
    q, k, parts = found
    group = model.n_heads // k.shape[0]
    cap = next((getattr(config, name, None) for name in ("attn_logit_softcapping", "attention_logit_cap")), None)
    known = (getattr(module, name, None) for name in ("scaling", "softmax_scale", "inv_norm_factor"))
    scales = dict.fromkeys([*(each for each in known if isinstance(each, float)), q.shape[-1] ** -0.5, 1.0])
    angles = list(_angles(model, layer, q[..., parts].shape[-1], n))
    ways = [(HALF, each) for each in angles] + [(INTERLEAVED, each) for each in angles]
    ways += [(each, None) for each in (NO_POSITIONS, ALIBI, ALIBI_SPLIT)]
    for (positions, angle), first, scale in itertools.product(ways, (True, False), scales):
        a, b = q, k
        if first:
            a, b = _normed(module, a, b)
        if angle is not None:
            a, b = (_turned(each, angle, positions, parts) for each in (a, b))
        if not first:
            if _norms_of(module) is None:
                continue
            a, b = _normed(module, a, b)
        scores = scale * a @ b.repeat_interleave(group, 0).mT
        if cap:
            scores = cap * torch.tanh(scores / cap)
        if positions in (ALIBI, ALIBI_SPLIT):
            at = torch.arange(n, dtype=torch.float64)
            scores = scores - _slopes(model.n_heads, positions)[:, None, None] * (at[:, None] - at)
        yield positions, scores


def _queries_and_keys(model: HeadModel, layer: int, x: Tensor) -> tuple[Tensor, Tensor, slice]:
    """Queries and keys by head, Float64[Tensor, "heads n_tokens d"], and the dimensions that positions may turn."""
    attention, tree, sizes = model.attention, model.tree, model.attention.sizes(layer)
    path, family = attention.path(layer), model.family

    def read(name: str) -> Tensor:
        parameter = f"{tree.path_of(f'{path}.{name}')}"
        weight = tree.read(f"{parameter}.weight").double()
        weight = weight.T if attention.is_transposed(f"{path}.{name}") else weight
        out = x.double() @ weight.T
        return out + tree.read(f"{parameter}.bias").double() if f"{parameter}.bias" in tree else out

    if family.layout is separate:
        queries, keys = read("q_proj"), read("k_proj")
        n_kv, n_heads = sizes.n_kv_heads, sizes.n_heads
        k = keys.view(len(x), n_kv, -1)
        q = queries.view(len(x), n_heads, -1)[..., : k.shape[-1]]  # a gate of each head may follow its query
    else:
        fused, d = read(family.value), sizes.d_head
        limit = getattr(getattr(tree.config, "attn_config", tree.config), "clip_qkv", None)
        if limit:
            fused = fused.clamp(-limit, limit)
        if family.layout is concatenated or (family.layout is one_or_grouped and sizes.n_kv_heads == 1):
            q = fused[:, : sizes.n_heads * d].reshape(len(x), sizes.n_heads, d)
            k = fused[:, sizes.n_heads * d :][:, : sizes.n_kv_heads * d].reshape(len(x), sizes.n_kv_heads, d)
        else:
            assert family.layout in (grouped, one_or_grouped)
            by_group = fused.view(len(x), sizes.n_kv_heads, -1, d)
            q, k = by_group[:, :, :-2].reshape(len(x), sizes.n_heads, d), by_group[:, :, -2]
        return q.transpose(0, 1), k.transpose(0, 1), slice(None)
    limit = getattr(tree.config, "clip_qkv", None)
    if limit:
        q, k = q.clamp(-limit, limit), k.clamp(-limit, limit)
    return q.transpose(0, 1), k.transpose(0, 1), slice(None)


def _latent(model: HeadModel, layer: int, module: Any, x: Tensor) -> tuple[Tensor, Tensor, slice]:
    """The same of multi-head latent attention: each head's key, and a part that all heads share and positions turn."""
    import torch

    config, n = model.tree.config, len(x)
    rope, nope = config.qk_rope_head_dim, config.qk_nope_head_dim
    with torch.no_grad():
        x = x.to(next(module.parameters()).device)
        whole = getattr(module, "q_proj", None)
        q = module.q_b_proj(module.q_a_layernorm(module.q_a_proj(x))) if whole is None else whole(x)
        latent, shared = module.kv_a_proj_with_mqa(x).split([config.kv_lora_rank, rope], -1)
        k = module.kv_b_proj(module.kv_a_layernorm(latent)).view(n, model.n_heads, -1)[..., :nope]
    k = torch.cat([k, shared[:, None].expand(-1, model.n_heads, -1)], -1)
    q = q.view(n, model.n_heads, -1)
    return q.transpose(0, 1).double().cpu(), k.transpose(0, 1).double().cpu(), slice(nope, None)


def _norms_of(module: Any) -> tuple[Any, Any] | None:
    for names in NORMS:
        pair = tuple(getattr(module, name, None) for name in names)
        if all(pair):
            return pair  # type: ignore[return-value]
    return None


def _normed(module: Any, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys behind the model's own norms of them, per head or over all heads, if it has them."""
    import torch

    if (norms := _norms_of(module)) is None:
        return q, k
    found = []
    for norm, each in zip(norms, (q, k), strict=True):
        width = next((parameter.shape[-1] for parameter in norm.parameters()), each.shape[-1])
        joined = each.transpose(0, 1)
        if width != each.shape[-1]:
            joined = joined.flatten(1)
        with torch.no_grad():
            out = norm(joined.float()).double()
        found.append(out.view(each.shape[1], each.shape[0], -1).transpose(0, 1))
    return found[0], found[1]


def _angles(model: HeadModel, layer: int, d: int, n: int) -> Iterator[tuple[Tensor, float]]:
    """Angles by position, Float64[Tensor, "n_tokens d/2"], and a factor of both sides, by the config's settings.

    Frequencies of the plain and the linear kind are computed here, those of others by transformers' function.

    Args:
        d: dimensions that positions may turn.
    """
    import torch

    config = model.tree.config
    settings = getattr(config, "rope_parameters", None) or {}
    types = getattr(config, "layer_types", None)
    if types and isinstance(settings.get(types[layer]), dict):
        settings = settings[types[layer]]
    theta = settings.get("rope_theta") or getattr(config, "rope_theta", None) or 10_000.0
    share = settings.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0
    turned = getattr(config, "rotary_dim", None) or int(d * share)
    kind, factor = settings.get("rope_type", "default"), 1.0
    if kind in ("default", "linear"):
        frequencies = float(theta) ** (-torch.arange(0, turned, 2, dtype=torch.float64) / turned)
        frequencies = frequencies / (settings.get("factor", 1.0) if kind == "linear" else 1.0)
    else:
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        try:
            frequencies, factor = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
        except Exception:  # settings that are not for the whole model (Gemma 4)
            return
    yield torch.arange(n, dtype=torch.float64)[:, None] * frequencies.double(), float(factor)


def _turned(each: Tensor, by: tuple[Tensor, float], positions: str, parts: slice) -> Tensor:
    """Queries or keys, turned by the angles of their positions."""
    import torch

    angles, factor = by
    still, moved = each[..., : parts.start or 0], each[..., parts]
    n = 2 * angles.shape[-1]
    moved, rest = moved[..., :n], moved[..., n:]
    if positions == HALF:
        first, second = moved.chunk(2, -1)
    else:
        first, second = moved[..., ::2], moved[..., 1::2]
    cos, sin = factor * angles.cos(), factor * angles.sin()
    return torch.cat([still, first * cos - second * sin, second * cos + first * sin, rest], -1)


def _slopes(n_heads: int, positions: str) -> Tensor:
    """ALiBi's slopes; for a number of heads that is no power of 2 there are two orders."""
    import torch

    def of(n: int) -> Tensor:
        return 2.0 ** (-8.0 / n * torch.arange(1, n + 1, dtype=torch.float64))

    power = 2 ** math.floor(math.log2(n_heads))
    if power == n_heads:
        return of(n_heads)
    double = of(2 * power)
    if positions == ALIBI:
        return torch.cat([of(power), double[::2]])[:n_heads]
    return torch.cat([double[1::2], double[::2]])[:n_heads]
