"""The attention of the running model, handed over layer by layer, so that no more than one layer's is in memory.

Knows modules and token ids. Weights come from transformers' own modules, after caps, masks and softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from headatlas.errors import ArchitectureError
from headatlas.measuring.running.model import RunningModel

if TYPE_CHECKING:
    from torch import Tensor

    from headatlas.architectures import HeadModel

NONE = 1e-6
"""Most attention on a token that the mask hides."""


def watch_attention(
    running: RunningModel,
    ids: Tensor,
    see: Callable[..., None],
    instead: Sequence[Mapping[int, Tensor]] = (),
) -> None:
    """Run sequences of one length and show the attention of each layer to `see` as soon as it is there.

    Args:
        ids: Int[Tensor, "n_sequences n_tokens"].
        see: called with the layer, its attention, Float[Tensor, "n_sequences n_heads n_tokens n_tokens"], the tokens
            that each token may see, Bool[Tensor, "n_sequences n_tokens n_tokens"], and what the attention would be for
            each of `instead`.
        instead: other inputs of the attention; layer -> Float[Tensor, "n_sequences n_tokens d_model"]. The model runs
            on with its own. For a layer without another input, `see` gets None.

    Raises:
        ArchitectureError: a module does not hand out its attention, or it is not what its mask allows.
    """
    import torch

    n_sequences, n_tokens = ids.shape
    source = running.heads.checkpoint.source
    hooks = []
    # Layers that hand keys and values on to later ones do so in a dictionary of their own for each input.
    shared: list[dict[str, Any]] = [{} for _ in instead]

    for layer in running.layers:

        def show(module: Any, args: tuple, kwargs: dict[str, Any], output: Any, layer: int = layer) -> None:
            attention = attention_in(running, module, output, n_sequences, n_tokens)
            visible = visible_tokens(module, kwargs.get("attention_mask"), attention)
            hidden = attention.masked_fill(visible[:, None], 0)
            if not torch.isfinite(attention).all() or float(hidden.abs().max()) > NONE:
                raise ArchitectureError(
                    f"{source}: layer {layer}: expected attention to tokens that the mask shows, found other values. "
                    f"Are the weights damaged?"
                )
            others = [
                None
                if layer not in x
                else attention_in(
                    running, module, call_again(module, args, kwargs, x[layer], own), n_sequences, n_tokens
                )
                for x, own in zip(instead, shared, strict=True)
            ]
            see(layer, attention, visible, *others)

        module = running.base.get_submodule(running.heads.attention.path(layer))
        hooks.append(module.register_forward_hook(show, with_kwargs=True))
    try:
        with torch.inference_mode():
            running.base(input_ids=ids.to(running.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()


def most_tokens(heads: HeadModel) -> int | None:
    """Most tokens that a model reads at once, by its config; None if that has no limit."""
    config = heads.tree.config
    known = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len"))
    return min((each for each in known if isinstance(each, int) and each > 0), default=None)


def attention_in(running: RunningModel, module: Any, output: Any, n_sequences: int, n_tokens: int) -> Tensor:
    """The attention in the output of a module: Float[Tensor, "n_sequences n_heads n_tokens n_tokens"].

    Raises:
        ArchitectureError: there is none.
    """
    expected = (n_sequences, running.heads.n_heads, n_tokens, n_tokens)
    parts = output if isinstance(output, tuple) else ()
    attention = next((part for part in parts if getattr(part, "shape", None) == expected), None)
    if attention is None:
        raise ArchitectureError(
            f"{running.heads.checkpoint.source}: transformers' {type(module).__name__} does not hand out its "
            f"attention, so where its heads look cannot be measured."
        )
    return attention


def call_again(module: Any, args: tuple, kwargs: dict[str, Any], x: Tensor, own: dict[str, Any]) -> Any:
    """What a module gives out for another input, with the arguments that it was called with.

    Args:
        x: Float[Tensor, "n_sequences n_tokens d_model"].
        own: dictionaries in which layers hand on keys and values of this input, by the argument's name.
    """
    handed = {
        name: own.setdefault(name, dict(value)) for name, value in kwargs.items() if isinstance(value, MutableMapping)
    }
    x = x.to(next(module.parameters()).device)
    if args:
        return module.forward(x, *args[1:], **kwargs | handed)
    return module.forward(**kwargs | handed | {"hidden_states": x})


def visible_tokens(module: Any, mask: Any, attention: Tensor) -> Tensor:
    """The tokens that each token may see: before it and itself, without those that a mask hides."""
    import torch

    n_sequences, _, n_tokens, _ = attention.shape
    visible = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=attention.device).tril()
    if isinstance(mask, torch.Tensor) and mask.dim() == 4:
        mask = mask[:, 0, :, :n_tokens]
        # A token always sees itself; some masks are true where a token is hidden, others where it is seen.
        visible = visible & (mask == mask[:, :1, :1] if mask.dtype == torch.bool else mask > mask.new_tensor(-1e9))
    kept = getattr(module, "bias", None)
    if isinstance(kept, torch.Tensor) and kept.dtype == torch.bool and kept.dim() == 4:
        visible = visible & kept[0, :, :n_tokens, :n_tokens]  # the window of GPT-Neo's local layers
    return visible.expand(n_sequences, -1, -1)
