"""The command that says what changed from a base model to a tuned one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.options import (
    PROFILES,
    RULES,
    AddRelations,
    DeviceOption,
    Font,
    FontOption,
    JsonOption,
    Palette,
    ThreadsOption,
    WidthOption,
    inches_or_name,
)
from headatlas.cli.screen import Bar, print_json, print_message, print_note, show_table
from headatlas.relations import relation_title

if TYPE_CHECKING:
    from headatlas.analysis.audit import Audit, RelationAudit

MOST_NAMES, MOST_RELATIONS = 6, 15
"""Heads, and relations, that are named; --json has all."""


@command("audit", resumes=True)
def audit_command(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The model before, as for `headatlas map`.")],
    tuned: Annotated[
        str | None, typer.Argument(metavar="[TUNED]", help="The model after: a fine-tune, a merge, a quantisation.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A LoRA adapter of BASE instead of TUNED.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for maps, tables and the picture.")
    ] = None,
    relations: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="Relations instead of the built-in ones; repeatable.")
    ] = None,
    add_relations: AddRelations = None,
    threshold: Annotated[
        str | None, typer.Option(metavar="SHARE", help="A head implements a relation above this; default 0.15.")
    ] = None,
    rule: Annotated[str, typer.Option(metavar=RULES, help="How heads are classified.")] = "plain",
    profile: Annotated[str, typer.Option(metavar=PROFILES, help="How heads are read.")] = "alone",
    seeds: Annotated[int, typer.Option(metavar="N", min=2, help="Random directions of the noise.")] = 3,
    words: Annotated[
        int, typer.Option(metavar="N", min=1, help="Words of the vocabulary besides those of relations.")
    ] = 2048,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    palette: Annotated[Palette, typer.Option(help="Of the picture.")] = Palette.paper,
    width: WidthOption = "screen",
    font: FontOption = Font.sans,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture again in these settings: .png, .svg or .pdf.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another audit in DIR.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What a fine-tune or a quantisation changed in the heads, and which words moved, against noise of its size."""
    from headatlas.measuring.audit import PICTURE, audit_models

    with Bar() as bar:
        found = audit_models(
            base,
            tuned,
            output,
            adapter=adapter,
            relations=relations or None,
            add_relations=add_relations or None,
            threshold=threshold,
            rule=rule,
            profile=profile,
            seeds=seeds,
            words=words,
            device=device,
            threads=threads,
            overwrite=overwrite,
            progress=bar.show,
        )
    given = palette is not Palette.paper or width != "screen" or font is not Font.sans
    if picture is not None or (output is not None and given):
        from headatlas.figures import draw_audit, save_figure

        drawn = draw_audit(found, palette=palette.value, width=inches_or_name(width), font=font.value)
        for path in (None if output is None else output / PICTURE, picture):
            if path is not None:
                save_figure(drawn, path)
    if as_json:
        print_json(found.as_dict())
        return
    _show(found)
    if output is not None:
        print_message(f"Maps, words of each head and picture: {output}")


def _show(found: Audit) -> None:
    _show_heads(found)
    rows = [_relation_row(each) for each in found.heads.relations if each.is_beyond]
    if rows:
        columns = ["relation", "base", "tuned", "noise", "changed most", "score", "noise"]
        show_table("Relations whose scores changed beyond the noise", columns, rows[:MOST_RELATIONS], (1, 2, 3, 6))
    more = f" {len(rows) - MOST_RELATIONS} more are in --json." if len(rows) > MOST_RELATIONS else ""
    print_note(
        f"{len(rows)} of {len(found.heads.relations)} relations have a head whose score changed by more than "
        f"{found.heads.noise_change:.2f}, the largest change of the noise.{more}"
    )
    _show_words(found)


def _show_heads(found: Audit) -> None:
    heads = found.heads
    rows = [
        [
            each.category,
            str(each.base),
            str(each.tuned),
            f"{each.gained} ({each.noise_gained})",
            f"{each.lost} ({each.noise_lost})",
            _named(each.gained_heads, each.lost_heads),
        ]
        for each in heads.categories
    ]
    title = f"From {found.base} to {found.tuned} ({heads.side} above {heads.threshold}, {heads.rule})"
    show_table(title, ["category", "base", "tuned", "gained", "lost", "beyond the noise"], rows, (1, 2, 3, 4))
    by = "all 0 in the base" if found.relative_change is None else f"by {found.relative_change:.1%} of their norm"
    print_note(
        f"In brackets: the most in {found.seeds} models that differ from the base by as much in random directions. "
        f"{found.changed} of {found.parameters} parameters differ, {by}."
    )


def _named(gained: tuple[str, ...], lost: tuple[str, ...]) -> str:
    names = [f"{sign}{name}" for sign, heads in (("+", gained), ("-", lost)) for name in heads]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}" if names else "none"


def _relation_row(each: RelationAudit) -> list[str]:
    return [
        relation_title(each.relation),
        str(each.base),
        str(each.tuned),
        f"{each.noise[0]}-{each.noise[1]}",
        each.head or "none",
        f"{each.before:.2f} to {each.after:.2f}",
        f"{each.noise_change:.2f}",
    ]


def _show_words(found: Audit) -> None:
    rows = [
        [each.word.strip(), f"{each.movement:.2f}", each.head, each.raised_by, _joined(each.raised)]
        for each in found.words
        if each.is_beyond
    ]
    if rows:
        show_table("Words that moved most", ["word", "moved", "head", "by", "raised"], rows, (1,))
    print_note(
        f"{found.words_beyond:,} of {found.words_compared:,} words moved beyond the noise (moved above 1), as a random "
        f"change does for any word in about one of 100 audits. head: where the word moved most, compared with the "
        f"head's other words. raised: what rose most in the head (by) that moves its logits most."
    )


def _joined(texts: tuple[str, ...]) -> str:
    return ", ".join(text.strip() for text in texts)
