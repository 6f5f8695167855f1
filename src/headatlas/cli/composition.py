"""The command that finds which heads feed which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headatlas.cli.app import command
from headatlas.cli.options import AdapterOption, AtlasFolder, DeviceOption, JsonOption, ModelOption, ThreadsOption
from headatlas.cli.screen import Bar, print_json, print_message, show_table

if TYPE_CHECKING:
    from headatlas.analysis.composition import Composition
    from headatlas.atlas import Atlas

SHOWN = 8
"""Edges of each kind, and predicted induction heads."""


@command("composition", resumes=True)
def composition_command(
    atlas: AtlasFolder,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Of random tokens, four sequences each.")] = 2,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict induction heads from weights, and find which heads feed them."""
    from headatlas.analysis.composition import measured_composition
    from headatlas.atlas import load_atlas, records
    from headatlas.atlas.json_facts import write_facts
    from headatlas.measuring.composition import measure_composition

    loaded = load_atlas(atlas)
    with Bar() as bar:
        loaded = measure_composition(
            loaded, model=model, adapter=adapter, seeds=seeds, device=device, threads=threads, progress=bar.show
        )
    found, facts = measured_composition(loaded), loaded.manifest.evidence.composition
    assert facts is not None
    if as_json:
        heads: Any = loaded.evidence("composition")
        content = {
            "induction": [head_name_of(each) for each in found.strongest()],
            "edges": [each.as_dict() for each in found.edges],
            "tried": found.n_edges,
            "heads": records(heads),
        }
        print_json(write_facts(facts) | content)
        return
    show_composition(loaded, found)
    print_message(
        f"Of the {len(found.highest(found.share))} heads with the highest predicted share, "
        f"{found.n_highest_in_both} are among as many with the highest measured one; correlation over all heads "
        f"{found.agreement:.2f}."
    )
    print_message(
        f"{facts.sequences} sequences of {facts.random_tokens} random tokens, shown twice; {facts.draws} random "
        f"senders of each layer; {facts.seconds:.0f} s."
    )
    print_message(f"Picture: {atlas / 'composition.png'}")


def head_name_of(place: tuple[int, int, float]) -> str:
    from headatlas.atlas import head_name

    return head_name(place[0], place[1])


def show_composition(atlas: Atlas, found: Composition) -> None:
    from headatlas.analysis.composition import KINDS, TITLES
    from headatlas.atlas import head_name

    rows = [
        [head_name(layer, head), f"{share:.2f}", f"{found.measured[layer, head]:.2f}"]
        for layer, head, share in found.strongest()[:SHOWN]
    ]
    show_table(
        f"{atlas.name}: {len(found.strongest())} predicted induction heads; {len(found.edges)} of {found.n_edges} "
        f"edges between heads are beyond random pairs",
        ["induction head", "predicted share", "measured"],
        rows,
        right=(1, 2),
    )
    rows = []
    for kind in KINDS:
        of_kind = [each for each in found.edges if each.kind == kind]
        rows += [
            [
                kind if not number else "",
                f"{head_name(*each.sender)} ({TITLES[each.about]})",
                head_name(*each.receiver),
                f"{each.strength:.2f}",
                f"{each.q:.2g}",
            ]
            for number, each in enumerate(of_kind[:SHOWN])
        ]
    show_table("Strongest edges", ["read by", "from", "to", "strength", "q"], rows, right=(3, 4))
