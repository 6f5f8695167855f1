"""Commands that publish an atlas on the hub, and pull one from there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headatlas.cli.app import command
from headatlas.cli.formats import format_bytes
from headatlas.cli.options import AtlasFolder, JsonOption
from headatlas.cli.screen import print_json, print_message, print_note, show_table

DataSet = Annotated[str, typer.Argument(metavar="ORG/NAME", help="A data set on the Hugging Face hub.")]


@command("publish")
def publish_command(
    atlas: AtlasFolder,
    name: DataSet,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a new data set; default: as the hub decides.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="As the hub names it, such as cc-by-4.0.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another atlas that is there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be published; no network.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish an atlas as a data set on the hub, with a card; log in with `hf auth login` first."""
    from headatlas.atlas import load_atlas
    from headatlas.sharing.publish import publish_atlas

    found = publish_atlas(
        load_atlas(atlas), name, private=private, licence=licence, overwrite=overwrite, dry_run=dry_run
    )
    if as_json:
        print_json(found.as_dict())
        return
    rows = [[file, format_bytes(size)] for file, size in found.files.items()]
    rows += [[file, "removed there"] for file in found.removed]
    show_table(f"{len(found.files)} files of {found.name}", ["file", "size"], rows, right=(1,))
    for each in found.replaced:
        print_message(f"Local path left out: {each.key} is {each.after!r} there, not {each.before!r}.")
    print_note(
        f"Licence on its card: {found.licence}. The explorer is not published: who pulls the atlas writes it anew."
    )
    if dry_run:
        print_message(f"Nothing was published. Without --dry-run it would be {found.url}")
        return
    seen = {True: "private", False: "public", None: "as visible as the hub makes new ones"}[found.private]
    print_message(f"Published: {found.url} ({seen})")
    print_message(f"Commit: {found.commit}")


@command("pull")
def pull_command(
    name: DataSet,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for the atlas; default: NAME.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="A branch, a tag or a commit; default: the newest.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download a published atlas, check it, and write its figures, report and explorer anew."""
    from headatlas.measuring.output import PAGE
    from headatlas.sharing.pull import pull_atlas

    atlas = pull_atlas(name, output, revision=revision)
    manifest = atlas.manifest
    if as_json:
        print_json(
            {
                "folder": str(atlas.folder),
                "model": manifest.model.name,
                "source": manifest.model.source,
                "n_layers": atlas.n_layers,
                "n_heads": atlas.n_heads,
                "relations": len(atlas.relations),
                "measure": atlas.measure,
                "label": atlas.label,
                "evidence": list(manifest.evidence.names),
            }
        )
        return
    print_message(
        f"{atlas.name}: {atlas.n_layers} layers x {atlas.n_heads} heads, {len(atlas.relations)} relations, "
        f"{atlas.measure}, {atlas.label}"
    )
    print_message(
        f"The atlas names {manifest.model.source!r} as its model. Commands that need it ask for it with --model."
    )
    print_message(f"Checked, and written anew: {atlas.folder}/{PAGE}")
