"""What heads read in a loaded model of transformers, which runs the sequences of one length together."""

from __future__ import annotations

import torch

from headatlas.architectures.run_modules import in_float64


def read_by_transformers(reference, ours, sequences):
    """What the value projections of a loaded model read at the last token, by layer: Float64[Tensor, "n d_model"]."""
    base = next(module for module in reference.modules() if type(module) is type(ours.tree.base))
    reads = {layer: [None] * len(sequences) for layer in range(ours.n_layers) if ours.has_heads(layer)}
    together: list[int] = []
    hooks = []
    for layer in reads:
        module = base.get_submodule(ours.attention.value_reader(layer))

        def note(module, args, kwargs, layer=layer):
            x = args[0] if args else kwargs["hidden_states"]
            last = x.reshape(len(together), -1, x.shape[-1])[:, -1]
            for number, row in zip(together, last, strict=True):
                reads[layer][number] = row

        hooks.append(module.register_forward_pre_hook(note, with_kwargs=True))
    for module in base.modules():
        if isinstance(module, torch.nn.Embedding):
            module.double()
    lengths = {len(sequence) for sequence in sequences}
    with torch.no_grad(), in_float64(throughout=True):
        for length in lengths:
            together[:] = [number for number, sequence in enumerate(sequences) if len(sequence) == length]
            base(input_ids=torch.tensor([sequences[number] for number in together]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return {layer: torch.stack(rows) for layer, rows in reads.items()}
