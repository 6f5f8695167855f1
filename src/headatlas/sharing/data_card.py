"""The card of a published atlas: what the hub shows on the page of the data set, and reads for its viewer."""

from __future__ import annotations

from headatlas.analysis.findings import analyse
from headatlas.atlas import Atlas
from headatlas.atlas.manifest import HITS, PAIRS, SCORES
from headatlas.printable import printable
from headatlas.reports import provenance
from headatlas.reports.blocks import Block, Code, CodeBlock, Inline, Picture, Title, heading, line, paragraph, table
from headatlas.reports.markdown import to_markdown
from headatlas.reports.model_card import summary
from headatlas.reports.text import listed

ROWS = {
    SCORES: "relation, layer and head: the score, its chance level and what copying explains",
    HITS: "hit: a pair of words that a head promotes or suppresses",
    PAIRS: "pair of words that was measured",
    "salient.parquet": "head, salient token, side and mapped token",
    "similar.parquet": "head and similar head",
    "descriptions.parquet": "head: a sentence from a rule, with its confidence",
    "validation.parquet": "relation, head and condition in the running model",
    "ablation.parquet": "relation, task and number of heads removed",
    "attention.parquet": "head, input and behaviour: where it looks",
    "removal.parquet": "head that was removed: what copying from context lost",
    "reading_words.parquet": "head and word that it looks for",
    "composition.parquet": "head: predicted induction",
    "edges.parquet": "sender and later head that reads it",
    "paths.parquet": "edge that was removed",
    "headvis.parquet": "head: HeadVis' metrics as imported",
    "written.parquet": "head: a language model's sentence",
}
"""What a row of each table is about."""

CC0 = "CC0-1.0"


def default_licence(atlas: Atlas) -> str:
    """`cc0-1.0` if all words of the tables are (those of the built-in relations), otherwise `other`."""
    return "cc0-1.0" if {item.license for item in atlas.manifest.relations.items} == {CC0} else "other"


def write_data_card(atlas: Atlas, name: str, licence: str, pictures: dict[str, str], tables: list[str]) -> str:
    """The card in Markdown, with the front matter that the hub reads.

    Args:
        name: of the data set, such as `org/name`.
        licence: as the hub names it, such as `cc0-1.0`.
        pictures: file -> description of the pictures, the map first.
        tables: files of the tables.
    """
    from huggingface_hub import DatasetCardData

    model = atlas.manifest.model
    data = DatasetCardData(
        license=licence,
        pretty_name=f"Attention heads of {printable(atlas.name)[:200]}",
        tags=["headatlas", "interpretability", "attention-heads"],
        configs=[
            {"config_name": file.removesuffix(".parquet"), "data_files": file} | ({"default": True} if not at else {})
            for at, file in enumerate(tables)
        ],
    )
    found, note = analyse(atlas), f"{model.note} " if model.note else ""
    (map_file, map_text), *others = pictures.items()
    blocks: list[Block] = [
        Title(line(f"Attention heads of {atlas.name}")),
        Picture(map_text, map_file),
        *provenance.warning(atlas),
        *summary(atlas, found.classification),
        paragraph("Model: ", Code(model.source), f", {model.n_layers:,} layers x {model.n_heads:,} heads. {note}"
                  "All findings with their tests are in ", Code("report.md"), "."),
        *(Picture(text, file) for file, text in others),
        heading("Use"),
        CodeBlock(f"pip install headatlas\nheadatlas pull {name} -o atlas\nheadatlas explore atlas", "shell"),
        paragraph("This writes the explorer, the figures and the report anew from the tables, after checking them. The "
                  "tables can be read without headatlas too:"),
        CodeBlock(f'import pandas as pd\n\nscores = pd.read_parquet("hf://datasets/{name}/{SCORES}")', "python"),
        heading("Tables"),
        table(["table", "one row per"], [[Code(file.removesuffix(".parquet")), ROWS[file]] for file in tables]),
        *provenance.citation(atlas),
        *_licences(atlas, licence),
        *provenance.limits(atlas, found),
    ]  # fmt: skip
    return f"---\n{data.to_yaml()}\n---\n\n{to_markdown(blocks)}"


def _licences(atlas: Atlas, licence: str) -> list[Block]:
    """Of the data set, of the words in it, and that the model has its own."""
    of_words = sorted({item.license for item in atlas.manifest.relations.items if item.license})
    pieces: list[Inline] = [f"This data set: {licence}."]
    if of_words:
        pieces.append(f" The words of its relations: {listed(of_words)}.")
    pieces.append(" The model itself, which is not part of it, has a licence of its own.")
    return [heading("Licence"), paragraph(*pieces)]
