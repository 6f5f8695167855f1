"""Commands that tell what single heads do: operations, head, find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.options import AdapterOption, AtlasFolder, DeviceOption, JsonOption, ModelOption, ThreadsOption
from headatlas.cli.screen import Bar, console, print_json, say, show_table, told_duration

if TYPE_CHECKING:
    from headatlas.atlas import Atlas

MOST_PAIRS = 8
"""Pairs whose ranks are shown; --json has all."""


@command("operations", goes_on=True)
def operations_command(
    atlas: AtlasFolder,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    tokens: Annotated[int, typer.Option(min=1, help="Salient tokens of each head.")] = 30,
    mapped: Annotated[int, typer.Option(min=1, help="Tokens that each is mapped to, promoted and suppressed.")] = 5,
    similar: Annotated[int, typer.Option(min=1, help="Heads most like each head.")] = 5,
    junk: Annotated[bool, typer.Option("--junk", help="Let bytes, special and unused tokens count too.")] = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Gather what every head does most, and which heads are alike, into an atlas."""
    from headatlas.atlas import Atlas
    from headatlas.measuring.salient import gather_operations

    loaded = Atlas.load(atlas)
    with Bar() as bar:
        gather_operations(
            loaded,
            model,
            adapter,
            tokens=tokens,
            mapped=mapped,
            similar=similar,
            junk=junk,
            device=device,
            threads=threads,
            progress=bar.show,
        )
    facts = loaded.manifest["evidence"]["operations"]
    say(
        f"{atlas}: {tokens} salient tokens of each head, of {facts['looked_at']:,} tokens "
        f"({sum(facts['junk_tokens'].values()):,} are junk{', counted too' if junk else ''}), in "
        f"{facts['seconds']:.0f} s. `headatlas head {atlas} L0H0` shows a head's card."
    )


def operations_after_map(
    folder: Path,
    model: str | None,
    adapter: Path | None,
    wanted: bool | None,
    device: str,
    threads: int | None,
    progress: Callable[[str, int, int], None],
) -> str:
    """Gather the operations of a map that was just made, where they are wanted or little work; else say how."""
    from headatlas.atlas import Atlas
    from headatlas.measuring.plan import operations_seconds
    from headatlas.measuring.salient import SMALL, gather_operations, work_of

    atlas = Atlas.load(folder)
    if atlas.evidence("operations") is not None:
        return ""
    work = work_of(atlas)
    if wanted or (wanted is None and work <= SMALL):
        gather_operations(atlas, model, adapter, device=device, threads=threads, progress=progress)
        return ""
    return (
        f"What each head does most was not measured: `headatlas operations {folder}` gathers it in about "
        f"{told_duration(operations_seconds(work, threads))} (estimate)."
    )


@command("head")
def head_command(
    source: Annotated[str, typer.Argument(metavar="MODEL_OR_ATLAS", help="Atlas folder; or a model, mapped first.")],
    name: Annotated[str, typer.Argument(metavar="HEAD", help="Such as L23H4: layer and head, counted from 0.")],
    profile: Annotated[
        str | None, typer.Option(help="What counts as implemented: maps or calibrated; default: the atlas's own.")
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: everything, for other programs.")] = False,
) -> None:
    """Show all that is known of one head."""
    from headatlas.errors import SettingsError

    if as_markdown and as_json:
        raise SettingsError("markdown, json: expected one of both, found both.")
    atlas = _atlas_of(source, name)
    card = atlas.head(name, profile)
    if as_json:
        print_json(card.as_dict())
    elif as_markdown:
        typer.echo(card.markdown(), nl=False)
    else:
        from headatlas.cli.card_screen import show_card
        from headatlas.figures import PALETTES

        names = tuple(dict.fromkeys(item["category"] for item in atlas.manifest["relations"]["items"]))
        show_card(card.as_dict(), PALETTES["paper"].of_categories(names), console())


def _atlas_of(source: str, name: str) -> Atlas:
    """The atlas in a folder, or one of a model that is measured now and kept in memory."""
    from headatlas.analysis.card import refuse_bad_name
    from headatlas.atlas import MANIFEST, Atlas
    from headatlas.checkpoints.open import DEMO
    from headatlas.measuring.map import map_heads
    from headatlas.measuring.salient import SMALL, gather_operations, work_of

    refuse_bad_name(name)
    if source != DEMO and (Path(source) / MANIFEST).is_file():
        return Atlas.load(source)
    with Bar() as bar:
        atlas = map_heads(source, progress=bar.show)
        atlas.head(name)  # a head that is not there is refused before more is measured
        if work_of(atlas) <= SMALL:
            gather_operations(atlas, source, progress=bar.show)
    return atlas


@command("find")
def find_command(
    source: Annotated[str, typer.Argument(metavar="MODEL_OR_ATLAS", help="Atlas folder, or a model.")],
    pairs: Annotated[list[str], typer.Argument(metavar="PAIR...", help="Such as 'France->Paris'.")],
    model: ModelOption = None,
    adapter: AdapterOption = None,
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="How many highest logits count; default: the atlas's.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many heads to show.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Rank the heads that map given words to given words."""
    from headatlas.measuring.find import find_heads, parse_pairs

    parse_pairs(pairs)
    with Bar() as bar:
        found = find_heads(source, pairs, model=model, adapter=adapter, k=k, progress=bar.show)
    for first, second, why in found.left_out:
        say(f"Left out: {first} -> {second}: {why}.", style="yellow")
    told = found.as_dict(top)
    if as_json:
        print_json(told)
        return
    rows = [
        [row["name"], f"{row['hits']} of {len(found.pairs)}", f"{row['median_rank']:,g}", _ranks(row["ranks"])]
        for row in told["heads"]
    ]
    title = f"{found.name}: {', '.join(f'{first} → {second}' for first, second in found.pairs[:MOST_PAIRS])}"
    title += f" and {len(found.pairs) - MOST_PAIRS} more" if len(found.pairs) > MOST_PAIRS else ""
    columns = ["head", f"among the {found.k} highest", "median rank", "rank of each target"]
    show_table(title, columns, rows, (1, 2))


def _ranks(ranks: list[int]) -> str:
    more = f" and {len(ranks) - MOST_PAIRS} more" if len(ranks) > MOST_PAIRS else ""
    return "  ".join(f"{rank:,}" for rank in ranks[:MOST_PAIRS]) + more
