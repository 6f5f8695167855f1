"""Direct logit attribution: a logit of the running model as a sum over its heads, MLPs, biases and the embedding.

Everything that a part writes goes on to the logits along the residual, with each norm on that way as the linear map
that it is at this prompt; what later heads and MLPs make of it is theirs. The sum is compared with the model's logit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

from headatlas.architectures.terms import linear_part_of
from headatlas.errors import ArchitectureError
from headatlas.measuring.running.model import RunningModel

if TYPE_CHECKING:
    from torch import Tensor, nn

LINEAR = 1e-4
"""Largest difference of a norm from its linear map, relative to its output."""

EXACT = 1e-4
"""Largest difference between sum and logit, relative to the sum of the parts' sizes."""


@dataclass(frozen=True)
class DirectParts:
    """The parts of `logit(token) - baseline` for some prompts, in units of the model's logits.

    Args:
        value: Float64[Tensor, "n_prompts"], the sum of all parts up to rounding.
        heads: Float64[Tensor, "n_prompts n_layers n_heads"]; NaN in layers without heads.
        mlps: of everything else in a layer that has weights, Float64[Tensor, "n_prompts n_layers"].
        biases: of output projections and of norms in a layer, as `mlps`.
        embedding: with positions, Float64[Tensor, "n_prompts"].
        last: biases of the final norm and of the unembedding, Float64[Tensor, "n_prompts"].
        outputs: layer -> what each head hands to the output projection, Float[Tensor, "n_prompts n_heads d_head"].
        logits: the model's own, Float[Tensor, "n_prompts d_vocab"].
        capped: the model changes its logits after the unembedding by more than a factor; the parts are those before.
    """

    value: Tensor
    heads: Tensor
    mlps: Tensor
    biases: Tensor
    embedding: Tensor
    last: Tensor
    outputs: dict[int, Tensor]
    logits: Tensor
    capped: bool

    @property
    def total(self) -> Tensor:
        """The sum of all parts: Float64[Tensor, "n_prompts"]."""
        return self.heads.nansum((1, 2)) + self.mlps.sum(1) + self.biases.sum(1) + self.embedding + self.last


def split_logit(running: RunningModel, ids: Tensor, token: int, against: int | None = None) -> DirectParts:
    """Split the logit of a token behind each prompt, minus a baseline, into direct contributions.

    Args:
        ids: Int[Tensor, "n_prompts n_tokens"].
        token: whose logit.
        against: the token whose logit is the baseline; None: the mean of the logits of all tokens.

    Raises:
        ArchitectureError: the parts do not add up to the logit, so that this family hands more on than its residual.
    """
    import torch

    cuts = _Cuts(running, len(ids))
    running.model.requires_grad_(False)
    with cuts.hooked():
        raw, logits = running.traced_logits(ids)
    with torch.no_grad():
        factor = float((logits * raw).sum() / raw.square().sum())
        capped = bool((logits - factor * raw).norm() > LINEAR * logits.norm())
    raw = raw if capped else raw * factor
    value = raw[:, token] - (raw.mean(-1) if against is None else raw[:, against])
    gradients = torch.autograd.grad(value.sum(), [leaf.values for leaf in cuts.leaves], allow_unused=True)
    heads = running.heads
    n_prompts, n_layers = len(ids), heads.n_layers
    found = {name: torch.zeros(n_prompts, n_layers + 1, dtype=torch.float64) for name in ("mlp", "bias", "embedding")}
    of_heads = torch.full((n_prompts, n_layers, heads.n_heads), torch.nan, dtype=torch.float64)
    outputs = {}
    for leaf, gradient in zip(cuts.leaves, gradients, strict=True):
        values = cuts.last(leaf.values.detach())
        products = torch.zeros_like(values) if gradient is None else values * cuts.last(gradient)
        if leaf.kind == "head":
            of_heads[:, leaf.layer] = products.view(n_prompts, heads.n_heads, -1).sum(-1)
            outputs[leaf.layer] = values.view(n_prompts, heads.n_heads, -1).float()
        else:
            found[leaf.kind][:, leaf.layer] += products.sum(-1)
    parts = DirectParts(
        value.detach().double().cpu(), of_heads, found["mlp"][:, :-1], found["bias"][:, :-1],
        found["embedding"].sum(1), found["bias"][:, -1], outputs, logits.detach().float(), capped,
    )  # fmt: skip
    sizes = parts.heads.abs().nansum((1, 2)) + sum(each.abs().sum(1) for each in found.values())
    off = (parts.total - parts.value).abs() / sizes.clamp(min=1e-12)
    if not (off <= EXACT).all():
        raise ArchitectureError(
            f"{heads.checkpoint.source}: expected that heads, MLPs, biases and the embedding add up to the logit, "
            f"found a difference of {float(off.max()):.2g} of their sizes. This family hands more from layer to layer "
            f"than a residual, so that contributions to its logits are not known."
        )
    return parts


@dataclass(frozen=True)
class _Leaf:
    kind: str
    layer: int
    values: Tensor


@dataclass
class _Cuts:
    """The hooks of one run: parts become leaves of the graph, norms their linear maps. Values stay as they are."""

    running: RunningModel
    n_prompts: int
    leaves: list[_Leaf] = field(default_factory=list)

    def last(self, values: Tensor) -> Tensor:
        """At the last token of each prompt, Float64[Tensor, "n_prompts width"], on the CPU."""
        return values.reshape(self.n_prompts, -1, values.shape[-1])[:, -1].double().cpu()

    @contextmanager
    def hooked(self) -> Iterator[None]:
        running = self.running
        family, base, attention = running.heads.family, running.base, running.heads.attention
        layers = list(base.get_submodule(family.layers).children())
        hooks = [layers[0].register_forward_pre_hook(self._begin, with_kwargs=True)]
        for number, layer in enumerate(layers):
            own = family.attention.split(".")[0] if running.heads.has_heads(number) else None
            for name, module in layer.named_children():
                if name == own:
                    continue
                if _is_norm(module):
                    hooks.append(module.register_forward_hook(self._linearise(number)))
                elif any(parameter.dim() > 1 for parameter in module.parameters()):
                    hooks.append(module.register_forward_hook(self._cut(number), with_kwargs=True))
            if own is not None:
                output = base.get_submodule(attention.output_path(number))
                hooks.append(output.register_forward_pre_hook(self._cut_heads(number)))
                hooks.append(output.register_forward_hook(self._cut_bias(number)))
        for name, module in base.named_modules():
            if _is_norm(module) and not name.startswith(f"{family.layers}."):
                hooks.append(module.register_forward_hook(self._linearise(len(layers))))
        if (unembedding := running.model.get_output_embeddings()) is not None:
            hooks.append(unembedding.register_forward_hook(self._cut_bias(len(layers))))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _leaf(self, kind: str, layer: int, values: Tensor) -> Tensor:
        leaf = values.detach().clone().requires_grad_()
        self.leaves.append(_Leaf(kind, layer, leaf))
        return leaf

    def _begin(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            return (self._leaf("embedding", 0, args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self._leaf("embedding", 0, kwargs["hidden_states"])}

    def _cut(self, layer: int) -> Any:
        def cut(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
            whole = output[0] if isinstance(output, tuple) else output
            residual: Any = 0
            # BLOOM's and MPT's MLPs add the residual themselves.
            if list(signature(module.forward).parameters)[1:2] == ["residual"]:
                residual = args[1] if len(args) > 1 else kwargs["residual"]
            new = self._leaf("mlp", layer, whole - residual) + residual
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return cut

    def _cut_heads(self, layer: int) -> Any:
        return lambda module, args: (self._leaf("head", layer, args[0]), *args[1:])

    def _cut_bias(self, layer: int) -> Any:
        def cut(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            bias: Any = getattr(module, "bias", None)
            if bias is None:
                return output
            leaf = self._leaf("bias", layer, bias.detach().expand(output.shape))
            return output + (leaf - leaf.detach())

        return cut

    def _linearise(self, layer: int) -> Any:
        def linearise(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            import torch

            x = args[0]
            part = linear_part_of(module.forward, x.shape[-1], x.device)  # without its hooks
            with torch.no_grad():
                constant = module.forward(torch.zeros(1, x.shape[-1], device=x.device))[0]
                linear = part.of_outputs(x)
                rest = output - constant
                scale = (rest * linear).sum(-1, keepdim=True) / linear.square().sum(-1, keepdim=True).clamp(min=1e-30)
                off = self.last(rest - scale * linear).norm(dim=-1) / self.last(output).norm(dim=-1).clamp(min=1e-30)
            if not (off <= LINEAR).all():
                raise ArchitectureError(
                    f"{self.running.heads.checkpoint.source}: {type(module).__name__} is no norm that is linear up to "
                    f"a factor per token, so that contributions to the logits are not known."
                )
            new = part.of_outputs(x) * scale
            if constant.any():
                new = new + self._leaf("bias", layer, constant.expand(output.shape))
            return output.detach() + (new - new.detach())

        return linearise


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()
