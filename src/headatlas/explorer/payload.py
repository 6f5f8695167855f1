"""What the explorer shows of atlases: the facts of `message.Header`, and the arrays behind them."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from headatlas._version import __version__
from headatlas.analysis.ablation import is_random_order
from headatlas.analysis.assumed_input import input_warning
from headatlas.analysis.attribution import sentences_of, shown_checks, shown_words
from headatlas.analysis.sentences import Sentences
from headatlas.atlas import COPYING_VARIABLES, HITS_VARIABLES, SIDES, Atlas
from headatlas.atlas.evidence import CONDITIONS, TOKENS
from headatlas.errors import AtlasError
from headatlas.explorer import message
from headatlas.explorer.packing import NOTHING, Arrays, Words
from headatlas.printable import printable
from headatlas.reports import blocks
from headatlas.reports.report import build_report
from headatlas.settings import MAX_Q, MIN_EXCESS, MIN_UNCOPIED, parse_threshold

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from headatlas.analysis.attribution import LogitAttribution
    from headatlas.figures.palettes import Palette

FORMAT = 1
LINK = "https://arxiv.org/abs/2412.11965"
"""What a reader of the page can open: the paper that defines the scores. Nothing is fetched before a click."""


def build_payload(
    atlases: list[Atlas], reports: Sequence[blocks.Blocks] | None = None, prompt: LogitAttribution | None = None
) -> bytes:
    """The data of one atlas, or of two that are compared, compressed by gzip.

    Two atlases whose heads correspond are shown head by head, others by what their heads do with the same words.

    Args:
        reports: the report of each atlas; default: they are built.
        prompt: what the heads of the first atlas do at a prompt.

    Raises:
        AtlasError: two atlases that cannot be compared, or a prompt that another model read.
    """
    from headatlas.analysis.compare import heads_correspond

    functions = None
    if len(atlases) == 2 and not heads_correspond(atlases[0], atlases[1], _choice(atlases[0])):
        functions = _functions(atlases[0], atlases[1])
    if reports is None:
        reports = [build_report(atlas) for atlas in atlases]
    arrays = Arrays()
    words = Words()
    facts = [
        _atlas(atlas, report, None if number else prompt, f"{number}.", arrays, words)
        for number, (atlas, report) in enumerate(zip(atlases, reports, strict=True))
    ]
    header = message.Header(
        format=FORMAT,
        atlases=facts,
        functions=functions,
        words=words.all,
        palettes=_palettes(atlases),
        readingPalettes=_reading_palettes(),
        maxQ=MAX_Q,
        minExcess=MIN_EXCESS,
        minUncopied=MIN_UNCOPIED,
        version=__version__,
        link=LINK,
        arrays=arrays.places,
    )
    return gzip.compress(arrays.pack(header), compresslevel=6, mtime=0)


def _choice(first: Atlas) -> dict[str, str]:
    """The page has one threshold and one rule for both atlases: at the beginning, those of the first."""
    return {"threshold": first.threshold, "rule": first.rule}


def _atlas(
    atlas: Atlas,
    report: blocks.Blocks,
    prompt: LogitAttribution | None,
    prefix: str,
    arrays: Arrays,
    words: Words,
) -> message.AtlasFacts:
    import numpy as np

    for side in SIDES if atlas.has_suppression else SIDES[:1]:
        if atlas.counts_known:
            hits = atlas.data[HITS_VARIABLES[side]].values
            arrays.add(f"{prefix}{side}.hits", hits.astype("uint32"))
        else:
            arrays.add(f"{prefix}{side}.share", np.nan_to_num(atlas.share(side).values).astype("float64"))
        chance, q_values, exact = atlas.chance(side), atlas.q_values(side), atlas.chance_exact(side)
        if chance is not None and q_values is not None and exact is not None:
            arrays.add(f"{prefix}{side}.chance", np.nan_to_num(chance.values).astype("float64"))
            arrays.add(f"{prefix}{side}.q", np.nan_to_num(q_values.values, nan=1.0).astype("float64"))
            arrays.add(f"{prefix}{side}.exact", exact.values.astype("uint8"))
        uncopied, q_values = atlas.uncopied_chance(side), atlas.uncopied_q_values(side)
        if uncopied is not None and q_values is not None:
            hits = atlas.data[COPYING_VARIABLES[side][0]].values
            arrays.add(f"{prefix}{side}.uncopied.hits", hits.astype("uint32"))
            # A level that is not known is exceeded by no share.
            arrays.add(f"{prefix}{side}.uncopied.chance", np.nan_to_num(uncopied.values, nan=1.0).astype("float64"))
            arrays.add(f"{prefix}{side}.uncopied.q", np.nan_to_num(q_values.values, nan=1.0).astype("float64"))
    if atlas.copied is not None:
        arrays.add(f"{prefix}copied", atlas.copied.values.astype("uint32"))
    _sentences(atlas, prefix, arrays, words)
    items = {item.relation: item for item in atlas.manifest.relations.items}
    relations = [
        message.Relation(
            name=name,
            category=str(atlas.data["category"].values[number]),
            k=int(atlas.data["k"].values[number]),
            pairs=int(atlas.data["pairs"].values[number]),
            description=items[name].description or "",
            copying=bool(items[name].is_copying),
        )
        for number, name in enumerate(atlas.relations)
    ]
    model = atlas.manifest.model
    return message.AtlasFacts(
        prefix=prefix,
        name=atlas.name,
        measure=atlas.measure,
        label=atlas.label,
        threshold=_threshold(atlas.threshold),
        rule=cast(message.Rule, atlas.rule),
        layers=atlas.n_layers,
        heads=atlas.n_heads,
        kvHeads=model.n_kv_heads,
        note=model.note or "",
        warning=printable(str(input_warning(atlas) or "")),
        validity=atlas.validity,
        validityGroups=[
            message.Validity(kind=each.kind, why=each.why, layers=list(each.layers)) for each in model.validity
        ],
        hasHeads=atlas.has_heads.tolist(),
        relations=relations,
        notMeasured=[
            message.Unmeasured(name=item.relation, category=item.category, pairs=item.pairs)
            for item in items.values()
            if item.relation not in atlas.relations
        ],
        hasCounts=atlas.counts_known,
        pairs=_pair_hits(atlas, prefix, arrays, words),
        salient=_salient(atlas, prefix, arrays, words),
        similar=_similar(atlas, prefix, arrays),
        descriptions=_descriptions(atlas, prefix, arrays, words),
        written=_written(atlas, prefix, arrays, words),
        prompt=None if prompt is None else _prompt(atlas, prompt),
        validation=_validation(atlas, prefix, arrays),
        ablation=_ablation(atlas),
        reading=_reading(atlas, prefix, arrays),
        readingWords=_reading_words(atlas, prefix, arrays, words),
        composition=_composition(atlas, prefix, arrays),
        report=[_block(block) for block in report if not isinstance(block, blocks.Picture)],
    )


def _threshold(threshold: str) -> str:
    """The same value as the page writes it: decimal with up to 15 digits, or a ratio such as 1/3."""
    exact = parse_threshold(threshold)
    digits = next((n for n in range(1, 16) if 10**n % exact.denominator == 0), None)
    if digits is None:
        return f"{exact.numerator}/{exact.denominator}"
    decimal = f"{exact.numerator * 10**digits // exact.denominator:0{digits}}"
    return f"0.{decimal}" if exact else "0"


def _pair_hits(atlas: Atlas, prefix: str, arrays: Arrays, words: Words) -> bool:
    """Pairs that any head hits, and which head hits which."""
    import numpy as np

    hits = atlas.pair_hits
    if hits is None:
        return False
    key = ["relation", "source_id", "target_id"]
    pairs = hits.drop_duplicates(key).reset_index(drop=True)
    number = hits[key].merge(pairs[key].assign(number=range(len(pairs))), on=key, how="left")["number"].to_numpy()
    place = _places(hits, atlas)
    order = np.lexsort((number, place))
    arrays.add(f"{prefix}pair.relation", _indices(pairs, "relation", atlas.relations).astype("uint32"))
    arrays.add(f"{prefix}pair.source", words.numbers(pairs, "source"))
    arrays.add(f"{prefix}pair.target", words.numbers(pairs, "target"))
    arrays.add(f"{prefix}hit.place", place[order].astype("uint32"))
    arrays.add(f"{prefix}hit.pair", number[order].astype("uint32"))
    arrays.add(f"{prefix}hit.side", (hits["side"].to_numpy() == "suppressed")[order].astype("uint8"))
    return True


def _salient(atlas: Atlas, prefix: str, arrays: Arrays, words: Words) -> message.Salient | None:
    import numpy as np

    table = atlas.evidence("salient")
    if table is None or not len(table):
        return None
    n_places, place = atlas.n_layers * atlas.n_heads, _places(table, atlas)
    rank, to_rank = table["rank"].to_numpy(), table["to_rank"].to_numpy()
    n_tokens, n_mapped = int(rank.max()) + 1, int(to_rank.max()) + 1
    side = (table["side"].to_numpy() == "suppressed").astype(int)
    tokens = np.full((n_places, n_tokens), NOTHING, "uint32")
    tokens[place, rank] = words.numbers(table, "token")
    amplification = np.zeros((n_places, n_tokens), "float32")
    amplification[place, rank] = table["amplification"].to_numpy()
    mapped = np.full((n_places, n_tokens, 2, n_mapped), NOTHING, "uint32")
    mapped[place, rank, side, to_rank] = words.numbers(table, "to_token")
    arrays.add(f"{prefix}salient.token", tokens)
    arrays.add(f"{prefix}salient.amplification", amplification)
    arrays.add(f"{prefix}salient.mapped", mapped)
    return message.Salient(tokens=n_tokens, mapped=n_mapped)


def _similar(atlas: Atlas, prefix: str, arrays: Arrays) -> int:
    import numpy as np

    table = atlas.evidence("similar")
    if table is None or not len(table):
        return 0
    rank, place = table["rank"].to_numpy(), _places(table, atlas)
    most = int(rank.max()) + 1
    others = np.full((atlas.n_layers * atlas.n_heads, most), NOTHING, "uint32")
    others[place, rank] = _places(table, atlas, "other_")
    values = np.zeros(others.shape, "float32")
    values[place, rank] = table["similarity"].to_numpy()
    arrays.add(f"{prefix}similar.place", others)
    arrays.add(f"{prefix}similar.value", values)
    return most


def _descriptions(atlas: Atlas, prefix: str, arrays: Arrays, words: Words) -> bool:
    import numpy as np

    table = atlas.evidence("descriptions")
    if table is None:
        return False
    place = _places(table, atlas)
    for name in ("description", "rule"):
        column = np.full(atlas.n_layers * atlas.n_heads, NOTHING, "uint32")
        column[place] = words.numbers(table, name)
        arrays.add(f"{prefix}{name}", column)
    confidence = np.zeros(atlas.n_layers * atlas.n_heads, "float32")
    confidence[place] = table["confidence"].to_numpy()
    arrays.add(f"{prefix}confidence", confidence)
    return True


def _written(atlas: Atlas, prefix: str, arrays: Arrays, words: Words) -> message.Written | None:
    """The sentences of a language model, and how often each, and the rules' sentence, led to the right answer."""
    import numpy as np

    from headatlas.analysis.written import CHANCE, read_written

    rows, facts = read_written(atlas), atlas.manifest.evidence.written
    if not rows or facts is None:
        return None
    sentences = np.full(atlas.n_layers * atlas.n_heads, NOTHING, "uint32")
    right = np.zeros((atlas.n_layers * atlas.n_heads, 3), "uint32")
    for (layer, head), row in rows.items():
        place = layer * atlas.n_heads + head
        sentences[place] = words.number(row.sentence)
        right[place] = row.correct, row.rules_correct, row.questions
    arrays.add(f"{prefix}written.sentence", sentences)
    arrays.add(f"{prefix}written.right", right)
    return message.Written(model=printable(facts.model), chance=CHANCE)


def _prompt(atlas: Atlas, found: LogitAttribution) -> message.Prompt:
    """Raises `AtlasError` if another model read the prompt."""
    if found.fingerprint != atlas.manifest.model.fingerprint:
        raise AtlasError(
            f"{atlas.name}: expected a prompt of the atlas's model, found one of {found.model}, which differs."
        )
    heads = []
    for each in found.strongest():
        raises, written = shown_words(each)
        low, _, high = each.controls or (None, None, None)
        head = message.PromptHead(
            place=each.layer * atlas.n_heads + each.head,
            adds=each.contribution,
            low=low,
            high=high,
            attention=[round(share, 4) for share in each.attention],
            rank=each.rank,
            lowers=not raises,
            words=[printable(word) for word in written],
            checks=[
                message.PromptCheck(title=printable(check.title), agrees=check.agrees) for check in shown_checks(each)
            ],
        )
        heads.append(head)
    return message.Prompt(
        text=printable(found.prompt),
        token=printable(found.token.text),
        tokens=[printable(token) for token in found.tokens],
        rule=found.rule,
        controls=found.n_controls,
        sentences=[printable(sentence) for sentence in sentences_of(found)],
        heads=heads,
    )


def _validation(atlas: Atlas, prefix: str, arrays: Arrays) -> bool:
    """Scores of the running model, (relation, condition, length of sources, place); NaN if not measured."""
    import numpy as np
    import pandas as pd

    table = atlas.evidence("validation")
    if table is None:
        return False
    table = pd.DataFrame(table[table["relation"].isin(atlas.relations) & table["condition"].isin(CONDITIONS)])
    where = (
        _indices(table, "relation", atlas.relations),
        _indices(table, "condition", CONDITIONS),
        _indices(table, "tokens", TOKENS),
        _places(table, atlas),
    )
    shape = (len(atlas.relations), len(CONDITIONS), len(TOKENS), atlas.n_layers * atlas.n_heads)
    for side in SIDES:
        values = np.full(shape, np.nan, "float32")
        values[where] = table[side].to_numpy()
        arrays.add(f"{prefix}validation.{side}", values)
    return True


def _ablation(atlas: Atlas) -> list[message.Curve] | None:
    table = atlas.evidence("ablation")
    if table is None:
        return None
    curves = []
    for names, rows in table.groupby(["relation", "task", "order"], sort=False):
        relation, task, order = map(str, names)  # type: ignore[arg-type]
        rows = rows.sort_values("removed")
        curves.append(
            message.Curve(
                relation=relation,
                task=task,
                order=order,
                random=is_random_order(order),
                removed=rows["removed"].astype(int).tolist(),
                correct=rows["correct"].astype(int).tolist(),
                prompts=rows["prompts"].astype(int).tolist(),
            )
        )
    return curves


def _sentences(atlas: Atlas, prefix: str, arrays: Arrays, words: Words) -> None:
    """What each head does; none for layers without heads."""
    import numpy as np

    sentences = Sentences(atlas)
    every = [sentences.of(layer, head) for layer in range(atlas.n_layers) for head in range(atlas.n_heads)]
    numbers = [NOTHING if each is None else words.number(each) for each in every]
    arrays.add(f"{prefix}sentence", np.array(numbers, dtype="uint32"))
    if atlas.evidence("descriptions") is not None:
        shown = [sentences.shown(layer, head) for layer in range(atlas.n_layers) for head in range(atlas.n_heads)]
        for name in ("sentence", "description"):
            arrays.add(f"{prefix}{name}.shown", np.array([name in each for each in shown], dtype="uint8"))


def _reading(atlas: Atlas, prefix: str, arrays: Arrays) -> list[message.Behaviour] | None:
    """Where the heads look, (behaviour, place); NaN if not measured."""
    from headatlas.analysis.reading import BEHAVIOURS, find_reading

    found = find_reading(atlas)
    if found is None:
        return None
    shape = (len(BEHAVIOURS), atlas.n_layers * atlas.n_heads)
    for name, values in (("value", found.value), ("chance", found.chance), ("q", found.q)):
        arrays.add(f"{prefix}reading.{name}", values.reshape(shape).astype("float64"))
    arrays.add(f"{prefix}reading.has", found.has.reshape(shape).astype("uint8"))
    return [message.Behaviour(name=each.name, title=each.title, limit=found.limits[each.name]) for each in BEHAVIOURS]


def _reading_words(atlas: Atlas, prefix: str, arrays: Arrays, words: Words) -> message.ReadingWords | None:
    """The words that heads look for, (place, rank) and (place, query, rank), and their agreement with text."""
    import numpy as np

    from headatlas.analysis.reading_words import CERTAIN, KINDS

    table: Any = atlas.evidence("reading_words")
    attention: Any = atlas.evidence("attention")
    if table is None or attention is None:
        return None
    n_places, sizes = atlas.n_layers * atlas.n_heads, []
    for kind in KINDS:
        rows = table[table["kind"] == kind]
        at = _places(rows, atlas), rows["rank"].to_numpy(), rows["key_rank"].to_numpy()
        shape = (n_places, *(int(each.max(initial=0)) + 1 for each in at[1:]))
        for name, kind_of, column in (("key", "uint32", "key"), ("query", "uint32", "query"), ("score", "float32", "")):
            values = np.full(shape, NOTHING if column else 0, kind_of)
            values[at] = words.numbers(rows, column) if column else rows["score"].to_numpy()
            if (kind, name) != ("any", "query"):
                arrays.add(f"{prefix}words.{kind}.{name}", values[..., 0] if name == "query" else values)
        sizes += shape[1:]
    agreement = np.full((len(KINDS), n_places), np.nan)
    control = agreement.copy()
    for number, behaviour in enumerate(KINDS.values()):
        rows = attention[attention["behaviour"] == behaviour]
        agreement[number, _places(rows, atlas)] = rows["value"]
        control[number, _places(rows, atlas)] = rows["chance"]
    arrays.add(f"{prefix}words.agreement", agreement)
    arrays.add(f"{prefix}words.control", control)
    return message.ReadingWords(keys=sizes[1], queries=sizes[2], ofQuery=sizes[3], certain=CERTAIN)


def _composition(atlas: Atlas, prefix: str, arrays: Arrays) -> message.Composition | None:
    """The edges that are named, in the order of `find_composition`, and the predicted shares by place."""
    import numpy as np

    from headatlas.analysis.composition import KINDS, TITLES, Removed, find_composition

    found = find_composition(atlas)
    if found is None:
        return None
    for name in ("previous", "share", "chance", "q", "measured"):
        arrays.add(f"{prefix}composed.{name}", getattr(found, name).ravel().astype("float64"))
    edges, about = found.edges, list(TITLES)
    for end in ("sender", "receiver"):
        places = [layer * atlas.n_heads + head for layer, head in (getattr(each, end) for each in edges)]
        arrays.add(f"{prefix}edge.{end}", np.array(places, dtype="uint32"))
    arrays.add(f"{prefix}edge.kind", np.array([KINDS.index(each.kind) for each in edges], dtype="uint8"))
    arrays.add(f"{prefix}edge.about", np.array([about.index(each.about) for each in edges], dtype="uint8"))
    for name in ("strength", "chance", "q"):
        arrays.add(f"{prefix}edge.{name}", np.array([getattr(each, name) for each in edges], dtype="float64"))
    names = [each.name for each in fields(Removed)]
    removed = [[getattr(each.removed, name, None) for name in names] for each in edges]
    arrays.add(f"{prefix}edge.removed", np.array(removed, dtype="float64").reshape(len(edges), len(names)))
    return message.Composition(tried=found.n_edges, edges=len(edges), kinds=list(KINDS), about=list(TITLES.values()))


def _functions(first: Atlas, second: Atlas) -> dict[str, message.Functions]:
    """By side: the strongest heads of each relation that both measured, and the heads that do the same."""
    from headatlas.analysis.compare_functions import FEWEST_HITS, Strongest, compare_functions

    def strongest(atlas: Atlas, found: Strongest) -> message.Strongest:
        place = None if found.layer is None or found.head is None else found.layer * atlas.n_heads + found.head
        return message.Strongest(place=place, score=found.score, chance=found.chance, copying=found.copying)

    sides = {}
    for side in SIDES if first.has_suppression and second.has_suppression else SIDES[:1]:
        found = compare_functions(first, second, side=side, threshold=first.threshold, rule=first.rule)
        sides[side] = message.Functions(
            relations=[
                message.SharedRelation(
                    name=each.relation,
                    category=each.category,
                    pairs=each.pairs,
                    first=strongest(first, each.first),
                    second=strongest(second, each.second),
                )
                for each in found.relations
            ],
            onlyFirst=list(found.only_first),
            onlySecond=list(found.only_second),
            matched=[
                message.Matched(
                    first=each.first[0] * first.n_heads + each.first[1],
                    second=each.second[0] * second.n_heads + each.second[1],
                    similarity=each.similarity,
                    q=each.q_value,
                    common=each.common,
                    expected=each.expected_common,
                )
                for each in found.matched
            ],
            tried=len(found.matches),
            fewestHits=FEWEST_HITS,
            byChance=found.by_chance,
        )
    return sides


def _places(table: pd.DataFrame, atlas: Atlas, prefix: str = "") -> np.ndarray:
    """Layer x n_heads + head of each row: Int[ndarray, "n_rows"]."""
    return table[f"{prefix}layer"].to_numpy() * atlas.n_heads + table[f"{prefix}head"].to_numpy()


def _indices(table: pd.DataFrame, column: str, names: Sequence[str]) -> np.ndarray:
    """The index in `names` of each row's word: Int[ndarray, "n_rows"]."""
    import numpy as np

    number = {name: at for at, name in enumerate(names)}
    return np.array([number[str(word)] for word in table[column].to_numpy()], dtype="int64")


def _block(
    block: blocks.Title | blocks.Heading | blocks.Paragraph | blocks.BulletList | blocks.Table | blocks.CodeBlock,
) -> message.Block:
    match block:
        case blocks.Title(text):
            return message.TextBlock(type="title", text=_pieces(text))
        case blocks.Heading(text):
            return message.TextBlock(type="heading", text=_pieces(text))
        case blocks.Paragraph(text):
            return message.TextBlock(type="paragraph", text=_pieces(text))
        case blocks.BulletList(items):
            return message.ListBlock(type="list", items=[_pieces(item) for item in items])
        case blocks.Table(header, rows, right):
            return message.TableBlock(
                type="table",
                header=[_pieces(cell) for cell in header],
                rows=[[_pieces(cell) for cell in row] for row in rows],
                right=list(right),
            )
        case blocks.CodeBlock(text):
            return message.CodeBlock(type="code", text="\n".join(map(printable, text.split("\n"))))


def _pieces(line: blocks.Text) -> list[message.Piece]:
    """The pieces of a line, printable as the page needs them, which escapes nothing else: it shows no markup."""
    found: list[message.Piece] = []
    for piece in line:
        match piece:
            case blocks.Code(text):
                found.append({"style": "code", "text": printable(text)})
            case blocks.Strong(text):
                found.append({"style": "strong", "text": printable(text)})
            case text:
                found.append({"style": "plain", "text": printable(text)})
    return found


def _palettes(atlases: list[Atlas]) -> dict[str, message.Palette]:
    """The colours of the figures, for the categories of all atlases."""
    from headatlas.analysis.categories import classify
    from headatlas.figures import PALETTES

    names = tuple(dict.fromkeys(name for atlas in atlases for name in classify(atlas, rule="plain").categories))
    return {name: _palette(palette, names) for name, palette in PALETTES.items()}


def _reading_palettes() -> dict[str, message.Palette]:
    """The colours of the figures for where heads look."""
    from headatlas.figures.palettes import READING_PALETTES

    return {name: _palette(palette, tuple(palette.categories)) for name, palette in READING_PALETTES.items()}


def _palette(palette: Palette, names: tuple[str, ...]) -> message.Palette:
    """Colours by name, with the continuous scale as 256 colours."""
    import matplotlib
    from matplotlib.colors import to_hex

    colour_of = matplotlib.colormaps[palette.scale]  # a copy, whose first use computes all its colours
    return message.Palette(
        categories=list(palette.of_categories(names).items()),
        counts=[palette.of_count(count) for count in range(2, max(3, len(names) + 1))],
        unclassified=palette.unclassified,
        notApplicable=palette.not_applicable,
        scale=[to_hex(colour_of(step / 255)) for step in range(256)],
    )
