"""Tiny models whose heads were made by hand to look at known tokens, with learned, rotary and ALiBi positions.

A residual is `[u, -u]`, so that LayerNorm's centring changes nothing. `u` holds the code of the token, the code of the
previous token (written by the planted head of layer 0), a position, a constant, and the code of the token that the
planted induction head hands on.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch

from models import make_model, save_model
from planted import WORDS

PREFIX = "the"
N_TOKENS, N_PLACES = 101, 64
FREQUENCIES = torch.tensor([0.11, 0.31, 0.73, 1.17, 1.61, 1.93, 2.27, 2.71])
ROPE, FAST, SLOW = 1e6, list(range(8)), [*range(20, 32), *range(52, 64)]
"""Rotary positions: the dimensions of the fastest pairs (and 32 behind) tell positions, the slow ones contents."""

SHARP = 3000.0
"""Of scores before the softmax."""

SURE = 3.0
"""Of the logits of the model with rotary positions, which says what the planted induction head writes."""

_HEADS = {"previous": (0, 1), "duplicate": (0, 3), "induction": (1, 2), "sink": (1, 0)}
PLANTED = {
    "learned": _HEADS,
    "rotary": _HEADS,
    # The steepest slope, which the previous token needs, is that of head 0.
    "alibi": {"previous": (0, 0), "induction": (1, 5), "sink": (1, 6)},
    "alibi copies": {"duplicate": (1, 7)},
}
"""Positions -> behaviour -> layer and head; all other heads attend as their positions alone let them.

ALiBi puts a token before its earlier copies, so that a head of one layer cannot prefer these. `alibi copies` has a
`clock` for it in the layer before."""

CLOCK = (0, 7)
"""Looks at all tokens alike and writes the prefix's share of its attention: less, the later a token is."""


@dataclass
class Sizes:
    """Of a kind of positions: numbers of a code, of half a residual, and of a head."""

    code: int
    half: int
    d_head: int

    @property
    def token(self) -> slice:
        return slice(0, self.code)

    @property
    def before(self) -> slice:
        return slice(self.code, 2 * self.code)

    @property
    def place(self) -> slice:
        return slice(2 * self.code, 2 * self.code + 16)

    @property
    def constant(self) -> int:
        return 2 * self.code + 16

    @property
    def answer(self) -> slice:
        return slice(self.constant + 1, self.constant + 1 + self.code)


SIZES = {"learned": Sizes(24, 96, 48), "rotary": Sizes(24, 96, 64), "alibi": Sizes(N_TOKENS, 448, 112)}
SIZES["alibi copies"] = SIZES["alibi"]


class Head:
    """Queries, keys, values and outputs of one head, each Float[Tensor, "half d_head"]."""

    def __init__(self, sizes: Sizes) -> None:
        self.Q, self.K, self.V, self.W_O = (torch.zeros(sizes.half, sizes.d_head) for _ in range(4))


def make_codes(n_numbers: int) -> torch.Tensor:
    """A code of length 1 for each token, no two of them near: Float[Tensor, "N_TOKENS n_numbers"]."""
    if n_numbers == N_TOKENS:
        return torch.eye(N_TOKENS)
    generator = torch.Generator().manual_seed(3)
    chosen: list[torch.Tensor] = []
    while len(chosen) < N_TOKENS:
        drawn = torch.nn.functional.normalize(torch.randn(n_numbers, generator=generator), dim=0)
        if all(drawn @ other < 0.6 for other in chosen):
            chosen.append(drawn)
    return torch.stack(chosen)


def make_heads(kind: str, prefix: torch.Tensor) -> dict[str, Head]:
    """The planted heads by behaviour.

    Args:
        prefix: code of the prefix token.
    """
    sizes = SIZES[kind]
    heads = {name: Head(sizes) for name in _places(kind)}
    same = torch.eye(sizes.code)
    dims = SLOW if kind == "rotary" else list(range(sizes.code))

    def match(head: Head, query: slice, key: slice, sign: float = 1.0) -> None:
        head.Q[query, dims], head.K[key, dims] = sign * SHARP * same, same

    if kind == "alibi copies":
        duplicate, clock, early = heads["duplicate"], heads["clock"], sizes.place.start
        clock.V[sizes.token, 0], clock.W_O[early, 0] = prefix, 0.02  # little, so that all residuals are of one length
        match(duplicate, sizes.token, sizes.token)
        duplicate.Q[sizes.constant, sizes.code], duplicate.K[early, sizes.code] = SHARP / 2, 1
        return heads
    previous, sink = heads["previous"], heads["sink"]
    previous.V[sizes.token, : sizes.code] = previous.W_O[sizes.before, : sizes.code] = same
    induction = heads["induction"]
    match(induction, sizes.token, sizes.before)
    induction.V[sizes.token, : sizes.code] = induction.W_O[sizes.answer, : sizes.code] = same
    sink.Q[sizes.constant, dims], sink.K[sizes.token, dims] = SHARP, torch.diag(prefix)
    if kind == "alibi":
        match(previous, sizes.token, sizes.token, sign=-1.0)  # the token itself loses, so the one before is nearest
        return heads
    duplicate = heads["duplicate"]
    match(duplicate, sizes.token, sizes.token)
    if kind == "learned":
        # The code of a place, turned back by one step.
        cos, sin = FREQUENCIES.cos().diag(), FREQUENCIES.sin().diag()
        step = torch.cat([torch.cat([cos, -sin], 1), torch.cat([sin, cos], 1)])
        previous.Q[sizes.place, :16], previous.K[sizes.place, :16] = SHARP * step, torch.eye(16)
        own = slice(sizes.code, sizes.code + 16)
        duplicate.Q[sizes.place, own], duplicate.K[sizes.place, own] = -SHARP * torch.eye(16), torch.eye(16)
    else:
        step, second = torch.tensor([ROPE ** (-pair / 32) for pair in FAST]), [32 + pair for pair in FAST]
        previous.Q[sizes.constant, FAST], previous.Q[sizes.constant, second] = SHARP * step.cos(), -SHARP * step.sin()
        previous.K[sizes.constant, FAST] = 1
        duplicate.Q[sizes.constant, FAST], duplicate.K[sizes.constant, FAST] = -SHARP / len(FAST), 1
    return heads


def make_reading_model(kind: str):
    """A model with planted heads: `learned` positions (GPT-2), `rotary` (Llama), `alibi` or `alibi copies` (MPT)."""
    sizes = SIZES[kind]
    width = 2 * sizes.half
    if kind == "learned":
        model = make_model("gpt2", n_embd=width, n_head=4, n_inner=8, n_layer=2, n_positions=N_PLACES)
        base = model.transformer
    elif kind == "rotary":
        model = make_model(
            "llama-ungrouped", hidden_size=width, num_attention_heads=4, num_key_value_heads=4, head_dim=64,
            num_hidden_layers=2, rope_theta=ROPE, max_position_embeddings=128,
        )  # fmt: skip
        base = model.model
    else:
        model = make_model("mpt", d_model=width, n_heads=8, n_layers=2, max_seq_len=N_PLACES)
        base = model.transformer
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            is_norm = ("norm" in name or "ln_" in name) and name.endswith("weight")
            parameter.fill_(1.0 if is_norm else 0.0)
        u = torch.zeros(N_TOKENS, sizes.half)
        u[:, sizes.token], u[:, sizes.constant] = make_codes(sizes.code), 1
        base.get_input_embeddings().weight.copy_(torch.cat([u, -u], 1))
        if kind == "learned":
            angles = torch.arange(N_PLACES)[:, None] * FREQUENCIES
            place = torch.zeros(N_PLACES, sizes.half)
            place[:, sizes.place] = torch.cat([angles.cos(), angles.sin()], 1) / math.sqrt(len(FREQUENCIES))
            base.wpe.weight.copy_(torch.cat([place, -place], 1))
        prefix = 1 + [*WORDS, PREFIX].index(PREFIX)
        if kind == "rotary":
            answers = torch.zeros(N_TOKENS, sizes.half)
            answers[:, sizes.answer] = SURE * u[:, sizes.token]
            model.lm_head.weight.copy_(torch.cat([answers, -answers], 1))
        for name, head in make_heads(kind, u[prefix, sizes.token]).items():
            _plant(kind, base, *_places(kind)[name], head)
    return model


def _places(kind: str) -> dict[str, tuple[int, int]]:
    return PLANTED[kind] | ({"clock": CLOCK} if kind == "alibi copies" else {})


def _plant(kind: str, base, layer: int, number: int, head: Head) -> None:
    Q, K, V, W_O = (torch.cat([each, -each]) / 2 for each in (head.Q, head.K, head.V, head.W_O))
    width, d_head = Q.shape
    at = slice(number * d_head, (number + 1) * d_head)
    if kind == "rotary":
        attention = base.layers[layer].self_attn
        for module, each in ((attention.q_proj, Q), (attention.k_proj, K), (attention.v_proj, V)):
            module.weight[at] = each.T
        attention.o_proj.weight[:, at] = 4 * W_O
        return
    rows = [range(part * width + at.start, part * width + at.stop) for part in range(3)]
    places = torch.tensor([place for part in rows for place in part])
    if kind == "learned":
        base.h[layer].attn.c_attn.weight[:, places] = torch.cat([Q, K, V], 1)
        base.h[layer].attn.c_proj.weight[at] = 4 * W_O.T
    else:
        base.blocks[layer].attn.Wqkv.weight[places] = torch.cat([Q, K, V], 1).T
        base.blocks[layer].attn.out_proj.weight[:, at] = 4 * W_O


def save_reading_model(kind: str, folder: Path) -> Path:
    return save_model(make_reading_model(kind), folder, [*WORDS, PREFIX])


def save_uniform_model(folder: Path) -> Path:
    """A model whose heads look at all tokens alike."""
    model = make_model("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.zero_()
            layer.self_attn.q_proj.bias.zero_()
    return save_model(model, folder, WORDS)


def random_text(n_words: int = 700, seed: int = 0) -> str:
    """Words of the models in random order, which have no structure that a head could use."""
    return " " + " ".join(random.Random(seed).choices(WORDS, k=n_words))
