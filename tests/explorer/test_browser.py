"""The explorer's page in a real browser, offline: `explorer/tests/page.mjs` uses it, this file says what is true."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from atlases import HOSTILE, WRITTEN, make_atlas, make_evidence, make_others, make_removal, with_model
from headatlas.analysis.attribution import Check, HeadAttribution, LogitAttribution, NextToken, sentences_of
from headatlas.analysis.categories import classify
from headatlas.analysis.compare_functions import compare_functions
from headatlas.analysis.composition import find_composition
from headatlas.analysis.reading import find_reading
from headatlas.analysis.written import COLUMNS
from headatlas.atlas import Atlas, head_name
from headatlas.explorer import write_page
from headatlas.figures import PALETTES
from headatlas.printable import printable
from needs import ROOT, find_browser, need_node

pytestmark = pytest.mark.system
WITHOUT = 4
WORD = "Ljubljana"
FORMULA = "=1+1"
CHECKS = (
    "opens with a panel per category",
    "recounts the heads at each threshold, side and rule",
    "palette and theme change the picture",
    "shows one relation as a scale",
    "where heads look: switch, card, search",
    "search: head, relation, category, word, nothing",
    "sorts the table by any column",
    "the report is in a tab",
    "saves SVG, PNG and CSV",
    "the map by keyboard: arrows, Enter, Escape",
    "pointer and click: tooltip, mark in every panel, card",
    "a card shows its evidence and links to other heads",
    "which heads feed a head: named, marked in the map, links",
    "the address holds the view",
    "hostile tokens are text",
    "a narrow window: no sideways scrolling, head and card seen together",
    "nothing covers the card's name and its cross",
    "what the keyboard reaches is not under the controls",
    "back undoes a step, not each tick of the slider",
    "a tooltip stays in the window",
    "a search shows its strongest matches next to the map; Enter opens the first",
    "what was not measured says so",
    "a prompt: sentences, a map, tokens, checks, and the card of its heads",
    "two atlases: each, both and their difference",
    "two models by function: tables, partners in the other map, cards",
    "two atlases: a click opens the card of the atlas that was clicked",
    "no violation that axe finds, light",
    "no violation that axe finds, dark",
)


def with_pairs(atlas: Atlas) -> Atlas:
    """Pair hits of each head that implements a relation: its own number of pairs, some of them hostile."""
    words = (FORMULA, f" {WORD}", *HOSTILE, *(f" word{number}" for number in range(40)))
    rows = []
    for side, variable in (("promoted", "hits"), ("suppressed", "suppression_hits")):
        for number, layer, head in np.argwhere(atlas.data[variable].values > 0):
            count = int(atlas.data[variable].values[number, layer, head])
            # Only heads with at least 7 hits reach the first pairs, so that those of the word are few.
            first = 0 if count >= 7 else len(words) - count
            for pair in range(first, first + count):
                source, target = words[pair], words[min(pair + 1, len(words) - 1)]
                rows.append((atlas.relations[number], source, target, pair, pair + 1, layer, head, side, 0))
    names = ("relation", "source", "target", "source_id", "target_id", "layer", "head", "side", "rank")
    return Atlas(atlas.data, atlas.manifest, pd.DataFrame(rows, columns=list(names)))


def make_attribution(atlas: Atlas) -> LogitAttribution:
    """What the heads do at a prompt of hostile tokens; the first head stands out."""
    tokens, n = (" The", *HOSTILE), 1 + len(HOSTILE)
    checks = (Check("relation", "country_to_capital", True), Check("reading", "induction", False))
    places = [(int(layer), head) for layer in np.flatnonzero(atlas.has_heads) for head in range(atlas.n_heads)]
    heads = tuple(
        HeadAttribution(
            layer, head, 0.1 if number else 1.5, (-0.25, 0.0, 0.5), 3 + number,
            tuple((0.5 if at == 0 else 0.5 / (n - 1)) for at in range(n)), HOSTILE, HOSTILE, (), (), (),
            () if number else checks,
        )
        for number, (layer, head) in enumerate(places)
    )  # fmt: skip
    token = NextToken(5, HOSTILE[0], 0.5, 1, 9.0)
    model = atlas.manifest.model
    return LogitAttribution(
        model=atlas.name, fingerprint=model.fingerprint, note=None, prompt="".join(tokens), tokens=tokens,
        next=(token,), token=token, d_vocab=101, of_several=False, against=None, value=2.0, capped=False, heads=heads,
        mlps=(0.1,), biases=(0.0,), embedding=0.2, last=0.0, n_controls=7, random_removals=(), relations=(),
        left_out=(), rule="plain",
    )  # fmt: skip


def with_sentence(atlas: Atlas, head: HeadAttribution) -> Atlas:
    """The atlas with a language model's sentence about a head."""
    row = (head.layer, head.head, "It names capitals.", "relation", 3, 2, 3, "Nothing", 1, 3)
    table = pd.DataFrame([row], columns=list(COLUMNS))
    return atlas.with_evidence({"written": (table, replace(WRITTEN, model="a <b>model</b>"))})


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each check found wrong; '' if nothing."""
    browser, folder = find_browser(), tmp_path_factory.mktemp("explorer")
    need_node()
    sizes = {"n_layers": 13, "n_heads": 6, "without_heads": (WITHOUT,)}
    atlas = make_evidence(with_pairs(make_atlas(**sizes, chance=True)), n_tokens=12)  # type: ignore[arg-type]
    does = np.argwhere(classify(atlas).implements[0])
    atlas = make_removal(atlas, {(int(does[0][0]), int(does[0][1])): 0.3})
    other = make_atlas(**sizes, chance=True, seed=1)  # type: ignore[arg-type]
    bare = with_model(make_atlas(**sizes, unmeasured=("Geometry",)), n_kv_heads=None)  # type: ignore[arg-type]
    prompt = make_attribution(atlas)
    pages = {
        "single": write_page(folder / "single.html", atlas),
        "bare": write_page(folder / "bare.html", bare),
        "double": write_page(folder / "double.html", atlas, other),
        "others": write_page(folder / "others.html", *(pair := make_others())),
        "prompt": write_page(folder / "prompt.html", with_sentence(atlas, prompt.heads[0]), prompt=prompt),
    }
    functions = compare_functions(*pair)
    (match,) = functions.matched
    first, reading = classify(atlas), find_reading(atlas)
    assert reading is not None
    composition = find_composition(atlas)
    assert composition is not None
    (edge,) = composition.edges
    relation = atlas.relations[0]
    hits = atlas.pair_hits
    assert hits is not None
    writes = hits[(hits["relation"] == relation) & (hits["side"] == "promoted")]
    writes = writes[(writes["source"].str.strip() == WORD) | (writes["target"].str.strip() == WORD)]
    given = {
        "browser": browser,
        "pages": {name: str(path) for name, path in pages.items()},
        "categories": first.categories,
        "palettes": list(PALETTES),
        "relation": relation,
        "implementing": len(does),
        "head": f"L{does[0][0]}H{does[0][1]}",
        "word": WORD,
        "writers": sorted({f"L{row.layer}H{row.head}" for row in writes.itertuples()}),
        "formula": FORMULA,
        "hostile": HOSTILE,
        "prompt": {
            "sentences": [printable(sentence) for sentence in sentences_of(prompt)],
            "heads": len(prompt.heads),
            "tokens": len(prompt.tokens),
            "attention": [f"{share:.2f}" for share in prompt.heads[0].attention],
            "first": prompt.heads[0].name,
        },
        "size": atlas.n_layers * atlas.n_heads,
        "without": WITHOUT,
        "behaviours": reading.names,
        "reading": reading.n_named,
        "induction": list(reading.places("induction")),
        "feeder": head_name(*edge.sender),
        "fed": head_name(*edge.receiver),
        "shared": len(functions.relations),
        "match": {
            "first": head_name(*match.first),
            "second": head_name(*match.second),
            "similarity": match.similarity,
        },
        "second": int(classify(other).has.any(0).sum()),
        "views": [
            {"side": side, "rule": rule, "threshold": threshold, "heads": int(found.has.any(0).sum())}
            for side in ("score", "suppression")
            for rule in ("plain", "calibrated")
            for threshold in ("0", "0.05", "0.17", "0.5")
            for found in [classify(atlas, threshold, side, rule)]
        ],
    }
    (folder / "given.json").write_text(json.dumps(given), "utf-8")
    command = ["node", "explorer/tests/page.mjs", str(folder / "given.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["problems"]


@pytest.mark.parametrize("check", CHECKS)
def test_page(check, problems):
    assert problems[check] == "", problems[check]


def test_every_check_is_asked_for(problems):
    assert set(problems) == set(CHECKS)
