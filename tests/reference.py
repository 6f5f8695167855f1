"""The plainest loops: what the fast search must agree with, hit by hit."""

from __future__ import annotations

import torch


def plain_loop(x, W_V, W_O, W_U, source, target_ids, k: int):
    """One relation and one head: two `topk` over the whole vocabulary, ties against the target.

    Args:
        x: Float[Tensor, "n_sources d_model"]; W_V: (d_model, d_head); W_O: (d_head, d_model); W_U: (d_vocab, d_model).
        source, target_ids: Int[Tensor, "n_pairs"].

    Returns:
        promoted, suppressed: Bool[Tensor, "n_pairs"].
    """
    logits = ((x[source] @ W_V) @ W_O) @ W_U.T
    own = logits.gather(1, target_ids[:, None])[:, 0]
    # The (k+1)-th highest is below the target's own logit just when fewer than k others reach it.
    promoted = own > logits.topk(k + 1).values[:, k]
    suppressed = own < logits.topk(k + 1, largest=False).values[:, k]
    return promoted, suppressed


def plain_layer(x, W_V, W_O, W_U, source, target_ids, k, kv_head):
    """All heads of a layer, `k` per pair: Bool[Tensor, "n_heads n_pairs"] twice."""
    promoted = torch.zeros(len(W_O), len(source), dtype=torch.bool)
    suppressed = torch.zeros_like(promoted)
    for head, kv in enumerate(kv_head):
        for each in k.unique().tolist():
            chosen = k == each
            promoted[head, chosen], suppressed[head, chosen] = plain_loop(
                x, W_V[kv], W_O[head], W_U, source[chosen], target_ids[chosen], each
            )
    return promoted, suppressed


def load_by_transformers(path):
    """The model of a GGUF file, read by transformers' own loader, which would ask for another package to open it."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path.parent, gguf_file=path.name))
    tensors = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected  # tied to the embedding
    return model.eval()


def looked_at(name, ids, words, delimiters, i):
    """The places that a behaviour of reading names for token i of one sequence, in the words of the documentation.

    Args:
        ids, words, delimiters: of all tokens of the sequence.
    """
    before = range(1, i)  # the first token is for the sink alone
    return {
        "previous": [j for j in before if j == i - 1],
        "induction": [j for j in before if ids[j - 1] == ids[i]],
        "duplicate": [j for j in before if ids[j] == ids[i]],
        "same_word": [j for j in before if words[j] == words[i] and words[i] >= 0],
        "self": [i],
        "near": [j for j in before if 2 <= i - j <= 8],
        "middle": [j for j in before if 9 <= i - j <= 64],
        "long": [j for j in before if i - j >= 65],
        "local": [j for j in before if i - j <= 8],
        "delimiter": [j for j in before if delimiters[j]],
    }[name]
