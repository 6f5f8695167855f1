"""Descriptions of heads for blind marking: sentences in random order with their pairs, and the count of the marks.

    python tools/mark_descriptions.py write ATLAS SHEET.csv --seed 1
    python tools/mark_descriptions.py changes ATLAS SHEET.csv --marks MARKS.csv --key KEY.csv --seed 1
    python tools/mark_descriptions.py count ATLAS MARKS.csv

A sheet has no names of heads; an `id` is a hash of the head's name. The criterion is docs/descriptions.md. Of changed
sentences, the key says which `id` is the old or the new version of which sentence (`of`).
MARKS.csv has the columns `id`, `sentence`, `first`, `second`: the marks of two readings, `useful`, `borderline`,
`noise` or `silent`. The count is made for all heads, and for even layers (on which the rules were developed) and odd
ones (on which they were not).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import random
from collections import Counter
from pathlib import Path

from headatlas.analysis.descriptions.describing import operations_of
from headatlas.analysis.descriptions.finding import Operation
from headatlas.atlas import Atlas, head_name, load_atlas

MARKS = ("useful", "borderline", "noise", "silent")
PAIRS, PROMOTED, SUPPRESSED = 12, 5, 5


def key(layer: int, head: int) -> str:
    return hashlib.sha256(head_name(layer, head).encode()).hexdigest()[:8]


def shown(operations: list[Operation]) -> str:
    """A head's pairs: 12 tokens with the words that are promoted | suppressed, and the other tokens."""
    lines = [
        f"{each.token!r} > {' '.join(repr(word)[1:-1] for _, word in each.promoted[:PROMOTED])}"
        f" | {' '.join(repr(word)[1:-1] for _, word in each.suppressed[:SUPPRESSED])}"
        for each in operations[:PAIRS]
    ]
    return "\n".join([*lines, "also " + " ".join(each.token.strip() for each in operations[PAIRS:])])


def sentences(atlas: Atlas) -> dict[str, tuple[int, int, str]]:
    table = atlas.evidence("descriptions")
    assert table is not None
    rows = zip(table["layer"], table["head"], table["description"], strict=True)
    return {key(int(layer), int(head)): (int(layer), int(head), str(text)) for layer, head, text in rows}


def write(atlas: Atlas, sheet: Path, seed: int) -> None:
    salient = atlas.evidence("salient")
    assert salient is not None
    pairs = {place: shown(operations_of(rows.to_dict("records"))) for place, rows in salient.groupby(["layer", "head"])}
    items = sorted(sentences(atlas).items())
    random.Random(seed).shuffle(items)
    with sheet.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("number", "id", "sentence", "pairs"))
        for number, (name, (layer, head, text)) in enumerate(items, start=1):
            writer.writerow((number, name, text, pairs[layer, head]))


def changes(atlas: Atlas, sheet: Path, seed: int, marks: Path, key_file: Path) -> None:
    """Write the sentences of an atlas that are not those of the marks, in both versions, and which version each is.

    A version has an id of its own; the old and the new one of a head are anywhere among all.
    """
    salient = atlas.evidence("salient")
    assert salient is not None
    pairs = {place: shown(operations_of(rows.to_dict("records"))) for place, rows in salient.groupby(["layer", "head"])}
    marked = {row["id"]: row["sentence"] for row in csv.DictReader(marks.open(newline="", encoding="utf-8"))}
    items = []
    for name, (layer, head, text) in sorted(sentences(atlas).items()):
        if text != marked[name]:
            for version, sentence in (("old", marked[name]), ("new", text)):
                of_version = hashlib.sha256(f"{name} {sentence}".encode()).hexdigest()[:8]
                items.append((of_version, sentence, pairs[layer, head], name, version, layer % 2))
    random.Random(seed).shuffle(items)
    with sheet.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("number", "id", "sentence", "pairs"))
        writer.writerows((number, *item[:3]) for number, item in enumerate(items, start=1))
    with key_file.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "of", "version", "layers"))
        writer.writerows(sorted((item[0], item[3], item[4], ("even", "odd")[item[5]]) for item in items))
    print(f"{len(items) // 2} sentences differ, {sum(item[5] for item in items) // 2} of them of odd layers")


def count(atlas: Atlas, marks: Path) -> None:
    known = sentences(atlas)
    rows = list(csv.DictReader(marks.open(newline="", encoding="utf-8")))
    changed = sum(known[row["id"]][2] != row["sentence"] for row in rows)
    print(f"{len(rows)} sentences, of which {changed} are not those of this atlas")
    for title, parity in (("all", (0, 1)), ("even layers", (0,)), ("odd layers", (1,))):
        chosen = [row for row in rows if known[row["id"]][0] % 2 in parity]
        for reading in ("first", "second"):
            counts = Counter(row[reading] for row in chosen)
            print(f"{title}, {reading}: " + ", ".join(f"{mark} {counts[mark]}" for mark in MARKS))
        both = Counter(row["first"] for row in chosen if row["first"] == row["second"])
        same = sum(both.values())
        print(f"{title}, both: {same} of {len(chosen)} alike; " + ", ".join(f"{mark} {both[mark]}" for mark in MARKS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "changes", "count"))
    parser.add_argument("atlas", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--marks", type=Path, help="changes: the marks of the sentences before")
    parser.add_argument("--key", type=Path, help="changes: a file for which version each sentence is")
    given = parser.parse_args()
    if given.what == "changes" and not (given.marks and given.key):
        parser.error("changes needs --marks and --key")
    atlas = load_atlas(given.atlas)
    if given.what == "write":
        write(atlas, given.file, given.seed)
    elif given.what == "changes":
        changes(atlas, given.file, given.seed, given.marks, given.key)
    else:
        count(atlas, given.file)


if __name__ == "__main__":
    main()
