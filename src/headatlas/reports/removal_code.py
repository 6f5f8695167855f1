"""Code that switches chosen heads off: a Python file for torch, nnsight, nnterp, TransformerLens or Inspect.

A head's output is a slice of the *input* of the layer's output projection. In the projection's output all heads are
mixed, and nothing of a single one can be removed.
"""

from __future__ import annotations

import pprint
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from headatlas.analysis.card import parse_head
from headatlas.architectures.families import Family, find_family
from headatlas.atlas import Atlas
from headatlas.checkpoints.open import DEMO, DEMO_FILE
from headatlas.errors import AtlasError, SettingsError

CODE_FORMATS = ("torch", "nnsight", "nnterp", "transformer-lens", "inspect")

DEMO_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The demo model as other tools find it."""


def choose_heads(
    atlas: Atlas,
    category: str | None = None,
    relation: str | None = None,
    reads: str | None = None,
    names: Sequence[str] = (),
    rule: str | None = None,
    side: str = "score",
) -> dict[int, list[int]]:
    """Layer -> heads: those of a category or relation, those that look at something, or named ones.

    Args:
        category, relation, rule, side: as for `Atlas.heads`.
        reads: a way of reading, such as `induction`; together with a category or relation, the heads that do both.
        names: such as `L23H4`; nothing else can be given with them.

    Raises:
        SettingsError: nothing is given, an unknown name, or no head is left.
        AtlasError: where heads look was not measured, or a named head's layer has no attention heads.
    """
    by_function = [each for each in (category, relation, reads) if each is not None]
    if bool(names) == bool(by_function):
        raise SettingsError(
            "heads: expected --relation, --category or --reads, or the names of heads with --heads. All classified "
            "heads together are most of what a model does."
        )
    places = {parse_head(atlas, name) for name in names}
    if category is not None or relation is not None:
        rows = atlas.heads(category, relation, side=side, rule=rule)
        places = set(zip(rows["layer"].tolist(), rows["head"].tolist(), strict=True))
    if reads is not None:
        from headatlas.analysis.reading import measured_reading

        looking = {parse_head(atlas, name) for name in measured_reading(atlas).places(reads)}
        places = looking if len(by_function) == 1 else places & looking
    if not places:
        raise SettingsError(f"{atlas.name}: no head is both above its threshold and as asked for; nothing is removed.")
    found: dict[int, list[int]] = defaultdict(list)
    for layer, head in sorted(places):
        found[int(layer)].append(int(head))
    return dict(found)


def removal_code(atlas: Atlas, fmt: str, heads: Mapping[int, Iterable[int]]) -> str:
    """A Python file that removes heads, or puts their mean in their place.

    Args:
        fmt: one of CODE_FORMATS.
        heads: layer -> heads.

    Raises:
        SettingsError: another format.
        AtlasError: the modules of the model's family are not known here.
    """
    if fmt not in CODE_FORMATS:
        raise SettingsError(f"format: expected one of {', '.join(CODE_FORMATS)}, found {fmt!r}.")
    family = _family(atlas)
    chosen = {int(layer): sorted(map(int, each)) for layer, each in sorted(heads.items())}
    path = rf"(?:.*\.)?{re.escape(family.layers)}\.(\d+)\.{re.escape(family.attention)}\.{re.escape(family.output)}"
    # Inside of the layer's attention, which nnterp calls `self_attn` in every family.
    inner = ".".join([*family.attention.split(".")[1:], family.output])
    constants = {
        "MODEL": f"{_model(atlas)!a}  # as the tool finds it: a name on the hub, or a folder",
        "N_HEADS": str(atlas.n_heads),
        "HEADS": pprint.pformat(chosen, width=110, compact=True),
        "OUTPUT": ascii(path),
        "INNER": ascii(inner),
    }
    used = [name for name in constants if name in _BODIES[fmt] + (_CORE if fmt in _ON_CORE else "")]
    lines = "\n".join(f"{name} = {constants[name]}" for name in used)
    imports, body = _IMPORTS[fmt], _BODIES[fmt]
    core = f"{_CORE}\n\n" if fmt in _ON_CORE else ""
    return f'"""{_ABOUT[fmt]}\n\n{_NOTE}\n"""\n\n{imports}\n\n{lines}\n\n\n{core}{body}'


def _family(atlas: Atlas) -> Family:
    model = atlas.manifest.model
    family = find_family(model.model_type or "")
    if family is None:
        raise AtlasError(
            f"{atlas.name}: expected a model of a known family, whose modules have names that are known here, found "
            f"{model.model_type or 'none'!r}. The format heads lists the heads of any atlas."
        )
    return family


def _model(atlas: Atlas) -> str:
    source = atlas.manifest.model.source
    return DEMO_ON_HUB if source == DEMO or source.endswith(DEMO_FILE) else source


_NOTE = """Written by headatlas. A head's output is a slice of the *input* of the output projection, of width d_head; in
the projection's output, all heads are mixed. Layers and heads are counted from 0."""

_ABOUT = {
    "torch": "Switches attention heads off in a model of transformers.",
    "nnsight": "Switches attention heads off in nnsight.",
    "nnterp": "Switches attention heads off in nnterp.",
    "transformer-lens": "Switches attention heads off in TransformerLens' bridge.",
    "inspect": "Evaluates a model in Inspect with attention heads off.",
}

_ON_CORE = ("torch", "inspect")

_IMPORTS = {
    "torch": "import re\nfrom contextlib import contextmanager",
    "nnsight": "import re",
    "nnterp": "from operator import attrgetter",
    "transformer-lens": "from functools import partial",
    "inspect": "import re\nfrom contextlib import contextmanager",
}

_CORE = '''def output_projections(model):
    """The output projection of each layer that loses heads, by layer."""
    found = {}
    for name, module in model.named_modules():
        match = re.fullmatch(OUTPUT, name)
        if match and int(match[1]) in HEADS:
            if int(match[1]) in found:
                raise ValueError("several parts of the model have such layers: give the language model inside it")
            found[int(match[1])] = module
    if len(found) < len(HEADS):
        raise ValueError(f"expected output projections in layers {list(HEADS)}, found them in {list(found)}")
    return found


def without_heads(z, layer, mean=None):
    """The input of an output projection with zeros, or a mean, in place of the heads: (..., N_HEADS * d_head)."""
    z = z.clone()
    by_head = z.view(*z.shape[:-1], N_HEADS, -1)
    for head in HEADS[layer]:
        by_head[..., head, :] = 0 if mean is None else mean.view(N_HEADS, -1)[head].to(z)
    return z


@contextmanager
def heads_off(model, means=None):
    """Inside the block the model runs without the heads; `means` (see mean_inputs) instead of zeros."""
    hooks = []
    try:
        for layer, module in output_projections(model).items():

            def hook(module, args, layer=layer):
                return (without_heads(args[0], layer, None if means is None else means[layer]), *args[1:])

            hooks.append(module.register_forward_pre_hook(hook))
        yield model
    finally:
        for each in hooks:
            each.remove()


def mean_inputs(model, batches):
    """The mean input of each output projection over all tokens of some batches, such as tokenised texts, by layer."""
    sums, count, hooks = {}, {}, []
    for layer, module in output_projections(model).items():

        def hook(module, args, layer=layer):
            rows = args[0].detach().flatten(0, -2).double()
            sums[layer] = sums.get(layer, 0) + rows.sum(0)
            count[layer] = count.get(layer, 0) + len(rows)

        hooks.append(module.register_forward_pre_hook(hook))
    try:
        for batch in batches:
            model(**batch)
    finally:
        for each in hooks:
            each.remove()
    return {layer: sums[layer] / count[layer] for layer in sums}
'''

_BODIES = {
    "torch": """if __name__ == "__main__":
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(MODEL), AutoTokenizer.from_pretrained(MODEL)
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    with heads_off(model):
        print(tokenizer.decode(model(**inputs).logits[0, -1].argmax()))
""",
    "nnsight": '''def output_projections(model):
    """The path of the output projection of each layer that loses heads, by layer, in the model's own order."""
    found = {}
    for name, _ in model._module.named_modules():
        match = re.fullmatch(OUTPUT, name)
        if match and int(match[1]) in HEADS:
            found[int(match[1])] = name
    if len(found) < len(HEADS):
        raise ValueError(f"expected output projections in layers {list(HEADS)}, found them in {list(found)}")
    return found


def remove_heads(model, means=None):
    """Call this inside `with model.trace(...)`; `means`: layer -> the mean input, (N_HEADS * d_head), or zeros."""
    for layer, path in sorted(output_projections(model).items()):
        module = model.get(path)
        z = module.input.clone()  # the input, not the output
        by_head = z.view(*z.shape[:-1], N_HEADS, -1)
        for head in HEADS[layer]:
            by_head[..., head, :] = 0 if means is None else means[layer].view(N_HEADS, -1)[head].to(z)
        module.input = z


if __name__ == "__main__":
    from nnsight import LanguageModel

    model = LanguageModel(MODEL, dispatch=True)
    with model.trace("The capital of France is"):
        remove_heads(model)
        logits = model.output.logits.save()
    print(model.tokenizer.decode(logits[0, -1].argmax()))
''',
    "nnterp": '''def remove_heads(model, means=None):
    """Call this inside `with model.trace(...)`; `means`: layer -> the mean input, (N_HEADS * d_head), or zeros."""
    for layer in sorted(HEADS):
        module = attrgetter(INNER)(model.layers[layer].self_attn)
        z = module.input.clone()  # the input of the output projection, not model.attentions_output
        by_head = z.view(*z.shape[:-1], N_HEADS, -1)
        for head in HEADS[layer]:
            by_head[..., head, :] = 0 if means is None else means[layer].view(N_HEADS, -1)[head].to(z)
        module.input = z


if __name__ == "__main__":
    from nnterp import StandardizedTransformer

    model = StandardizedTransformer(MODEL)
    with model.trace("The capital of France is"):
        remove_heads(model)
        logits = model.logits.save()
    print(model.tokenizer.decode(logits[0, -1].argmax()))
''',
    "transformer-lens": '''def remove_heads(z, hook, heads, mean=None):
    """`hook_z` with zeros, or a mean, in place of some heads; by head, or all heads one after the other."""
    by_head = z.clone().view(*z.shape[:2], N_HEADS, -1)
    for head in heads:
        by_head[:, :, head] = 0 if mean is None else mean.view(N_HEADS, -1)[head].to(z)
    return by_head.view(z.shape)


def hooks_of(means=None):
    """For `run_with_hooks(tokens, fwd_hooks=hooks_of())`; `means`: layer -> the mean of `hook_z`, or zeros."""
    return [
        (
            f"blocks.{layer}.attn.hook_z",
            partial(remove_heads, heads=heads, mean=None if means is None else means[layer]),
        )
        for layer, heads in HEADS.items()
    ]


if __name__ == "__main__":
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_transformers(MODEL)
    logits = model.run_with_hooks("The capital of France is", fwd_hooks=hooks_of())
    print(model.tokenizer.decode(logits[0, -1].argmax()))
''',
    "inspect": '''def load(name=f"hf/{MODEL}", **options):
    """A model of Inspect's provider `hf` whose heads are off as long as it lives; compare it with get_model(name)."""
    from inspect_ai.model import get_model

    # Not the cached model, which other evaluations would get without its heads.
    model = get_model(name, memoize=False, **options)
    model.heads_off = heads_off(model.api.model)
    model.heads_off.__enter__()
    return model


if __name__ == "__main__":
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate

    task = Task([Sample("The capital of France is", target="Paris")], solver=generate(), scorer=includes())
    eval(task, model=[f"hf/{MODEL}", load()])
''',
}
