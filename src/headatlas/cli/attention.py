"""The command that measures where heads look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headatlas.cli.app import command
from headatlas.cli.options import AdapterOption, AtlasFolder, DeviceOption, JsonOption, ModelOption, ThreadsOption
from headatlas.cli.screen import Bar, print_json, print_message, show_table

if TYPE_CHECKING:
    from headatlas.analysis.reading import Reading
    from headatlas.atlas import Atlas

SHOWN = 5
"""Heads of each behaviour."""


@command("attention", resumes=True)
def attention_command(
    atlas: AtlasFolder,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Of random tokens, four sequences each.")] = 8,
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A plain text of your own instead of the package's.")
    ] = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure where the heads of the running model look, and predict it from weights."""
    from headatlas.analysis.prediction import GOOD, find_prediction
    from headatlas.analysis.reading import find_reading
    from headatlas.analysis.reading_words import CERTAIN, summarise_words
    from headatlas.atlas import load_atlas, records
    from headatlas.atlas.evidence import unread_layers
    from headatlas.atlas.json_facts import write_facts
    from headatlas.measuring.attention import measure_attention

    loaded = load_atlas(atlas)
    with Bar() as bar:
        loaded = measure_attention(
            loaded,
            model=model,
            adapter=adapter,
            seeds=seeds,
            text=text,
            device=device,
            threads=threads,
            progress=bar.show,
        )
    reading, facts = find_reading(loaded), loaded.manifest.evidence.attention
    assert reading is not None and facts is not None
    if as_json:
        table: Any = loaded.evidence("attention")
        facts_of_removal, without = loaded.manifest.evidence.removal, loaded.evidence("removal")
        removed = None
        if facts_of_removal is not None and without is not None:
            removed = write_facts(facts_of_removal) | {"rows": records(without)}
        words = loaded.evidence("reading_words")
        print_json(
            write_facts(facts)
            | {"named": named_heads(reading), "rows": records(table), "removal": removed}
            | {"words": None if words is None else records(words)}
        )
        return
    show_reading(loaded, reading)
    show_removal(loaded, reading)
    without = [str(layer) for layer in range(loaded.n_layers) if not loaded.has_heads[layer]]
    if without:
        print_message(f"Not measured, because they have no softmax attention: layers {', '.join(without)}.")
    if (prediction := find_prediction(loaded)) is not None:
        print_message(
            f"By the weights alone: attention on text, predicted from each token by itself, agrees with real attention "
            f"with a mean correlation of {prediction.mean:.2f} (tokens in shuffled order: "
            f"{prediction.control_mean:.2f}); {prediction.good:.0%} of the heads are above {GOOD:g}."
        )
    if (words := summarise_words(loaded)) is not None:
        print_message(
            f"Words that heads look for, by the weights alone: they agree with real attention with a mean correlation "
            f"of {words.mean['any']:.2f} whoever asks, and of {words.mean['pair']:.2f} for pairs of words (other "
            f"words: {words.control['any']:.2f} and {words.control['pair']:.2f}); above {CERTAIN:g} in "
            f"{words.certain['any']} and {words.certain['pair']} heads. `headatlas head` names the words."
        )
    if not_read := unread_layers(facts.scores_check):
        print_message(
            f"Not read: how layers {', '.join(map(str, not_read))} compute scores from queries and keys. Their "
            f"attention is the model's own; the map of writing stays as it is."
        )
    print_message(
        f"{facts.sequences} sequences of {facts.random_tokens} random tokens, shown twice; {facts.text_tokens} tokens "
        f"of text in {facts.pieces} pieces; {facts.seconds:.0f} s."
    )
    print_message(f"Picture: {atlas / 'reading.png'}")


def named_heads(reading: Reading) -> dict[str, list[str]]:
    """The heads of each behaviour, the strongest first."""
    from headatlas.atlas import head_name

    return {name: [head_name(layer, head) for layer, head, _ in reading.strongest(name)] for name in reading.names}


def show_reading(atlas: Atlas, reading: Reading) -> None:
    from headatlas.analysis.reading import BEHAVIOURS
    from headatlas.atlas import head_name

    n_heads, n_named = reading.n_heads, reading.n_named
    only = int(reading.only("sink").sum())
    rows = []
    for each in BEHAVIOURS:
        strongest = reading.strongest(each.name)
        shown = [f"{head_name(layer, head)} {share:.2f}" for layer, head, share in strongest[:SHOWN]]
        rows.append([each.title, str(len(strongest)), f"{reading.limits[each.name]:g}", ", ".join(shown)])
    show_table(
        f"{atlas.name}: {n_named} of {n_heads} heads ({n_named / n_heads:.0%}) have a named way of reading, {only} of "
        f"them only a sink",
        ["looks at", "heads", "share above", "the strongest, with the share of their attention"],
        rows,
        right=(1, 2),
    )


def show_removal(atlas: Atlas, reading: Reading) -> None:
    """What in-context copying loses without the heads of each behaviour."""
    from headatlas.analysis.reading import find_behaviour
    from headatlas.analysis.removal import find_removal

    removal = find_removal(atlas)
    if removal is None or not removal.facts.together:
        return
    facts = removal.facts
    whole = f"repeated tokens have a probability of {facts.probability:.2f}"
    if not removal.can_tell:
        print_message(f"What copying from context loses without these heads is not measurable: {whole} only.")
        return
    rows = []
    for each in facts.together:
        single = removal.strongest(reading.heads_of(each.behaviour))
        rows.append(
            [
                find_behaviour(each.behaviour).title,
                str(each.heads),
                f"{each.probability:.2f}",
                f"{each.control_probability:.2f} ({each.controls})",
                ", ".join(f"{name} {value:.2f}" for name, value in single[:SHOWN]) or "-",
            ]
        )
    show_table(
        f"Copying from context: {whole} ({facts.accuracy:.0%} right)",
        ["without all", "heads", "probability", "other heads", "falls without single heads"],
        rows,
        right=(1, 2, 3),
    )
