"""The command about relations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headatlas.cli.app import command
from headatlas.cli.completion import complete_relation
from headatlas.cli.options import JsonOption
from headatlas.cli.screen import print_json, print_message, show_table


@command("relations")
def relations_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", autocompletion=complete_relation, help="Show this relation's pairs."),
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Check a relation file or folder instead of the built-in ones.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Say what this model's tokenizer keeps, such as demo's."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the relations, show one, or check a file of your own."""
    from headatlas.relations import builtin_relations, find_relation, load_relations

    known = builtin_relations() if check is None else load_relations(check)
    name = None if name is None else find_relation("relations", name, [each.name for each in known])
    chosen = [relation for relation in known if name in (None, relation.name)]
    coverage = None if model is None else _coverage(chosen, model)
    if as_json:
        print_json(_relation_records(chosen, coverage, with_pairs=name is not None or check is not None))
    elif name is not None:
        _show_relation(chosen[0], coverage)
    else:
        _show_relations(chosen, coverage)


def _coverage(relations: list, model: str) -> list:
    from headatlas.architectures.open import open_checkpoint
    from headatlas.relations import encode_relations
    from headatlas.settings import Settings

    checkpoint = open_checkpoint(model)
    d_vocab = checkpoint.config.get_text_config().vocab_size
    return encode_relations(relations, checkpoint.load_tokenizer(), d_vocab, Settings.of_profile(d_vocab))


def _relation_records(relations: list, coverage: list | None, with_pairs: bool) -> list[dict[str, Any]]:
    from headatlas.relations import DROP_REASONS

    names = ("name", "category", "k", "description", "source", "license", "hash")
    records = []
    for number, relation in enumerate(relations):
        record = {name: getattr(relation, name) for name in names} | {"in_file": len(relation.pairs)}
        if coverage is not None:
            of_model = coverage[number]
            record |= {"k": of_model.k, "kept": len(of_model.pairs), "measurable": of_model.measurable}
            record |= {f"dropped_{reason}": of_model.count_dropped(reason) for reason in DROP_REASONS}
        if with_pairs:
            record["pairs"] = relation.pairs if coverage is None else coverage[number].pairs
            record |= {} if coverage is None else {"dropped": coverage[number].dropped}
        records.append(record)
    return records


def _show_relations(relations: list, coverage: list | None) -> None:
    if coverage is None:
        rows = [[r.name, r.category, str(r.k), str(len(r.pairs)), r.license or "-"] for r in relations]
        show_table(f"{len(relations)} relations", ["relation", "category", "k", "pairs", "licence"], rows, right=(3,))
        return
    rows = [
        [c.name, c.relation.category, str(len(c.relation.pairs)), str(len(c.pairs)), str(c.count_dropped("source")),
         str(c.count_dropped("target")), "yes" if c.measurable else "no"]
        for c in coverage
    ]  # fmt: skip
    columns = ["relation", "category", "pairs", "kept", "source", "target", "measurable"]
    measurable = sum(c.measurable for c in coverage)
    show_table(f"{measurable} of {len(coverage)} relations measurable", columns, rows, right=(2, 3, 4, 5))
    print_message("source, target: pairs left out since that word is not one token. A relation's name shows which.")


def _show_relation(relation: Any, coverage: list | None) -> None:
    from headatlas.printable import printable

    for what in ("name", "category", "k", "description", "source", "license"):
        print_message(f"{what:12}{getattr(relation, what)}")
    if coverage is None:
        print_message(f"{'pairs':12}{len(relation.pairs)}")
        rows = list(relation.pairs)
    else:
        (of_model,) = coverage
        print_message(f"{'pairs':12}{len(relation.pairs)}, of which this model keeps {len(of_model.pairs)}")
        reasons = {"duplicate": "the same tokens again"}
        rows = [(*pair, "kept") for pair in of_model.pairs]
        rows += [
            (source, target, f"left out: {reasons.get(why, f'the {why} is not one token')}")
            for source, target, why in of_model.dropped
        ]
    for row in rows:
        typer.echo("\t".join(printable(cell) for cell in row))
