"""The page of a film in a real browser, offline: `explorer/tests/film.mjs` uses it, this file says what is true."""

from __future__ import annotations

import json
import subprocess

import pytest

from atlases import HOSTILE, make_atlas, make_evidence
from headatlas.analysis.film import Scene, make_film
from headatlas.explorer import write_film
from needs import ROOT, find_browser, need_node

pytestmark = pytest.mark.system


def test_the_film_by_keyboard_by_pointer_and_in_both_themes(tmp_path):
    browser = find_browser()
    need_node()
    categories = ("Algorithmic", "Knowledge", "Linguistic")
    relations = ("copying", HOSTILE[0], "old_older")
    atlases = [
        make_evidence(
            make_atlas(7, 5, categories, relations=relations, chance=True, seed=seed, share=0.02 + 0.1 * seed)
        )
        for seed in range(4)
    ]
    film = make_film([Scene(f"step-{at}", 1000 * at, atlas) for at, atlas in enumerate(atlases)])
    first, last = film.functions[0], film.functions[-1]
    heads = [{f"L{layer}H{head}" for each in film.functions if each.category in categories
              for layer, head in each.moments[at].has} for at in range(4)]  # fmt: skip
    given = {
        "browser": browser,
        "page": str(write_film(tmp_path / "film.html", film)),
        "function": first.function,
        "sentence": first.sentence,
        "behaviour": last.sentence,
        "hostile": HOSTILE[0],
        "heads": [len(each) for each in heads],
        "appearing": sum(each.appears is not None for each in film.functions),
        "scores": [round(float(atlas.scores.values[0, 0, 0]), 2) for atlas in atlases],
    }
    (tmp_path / "given.json").write_text(json.dumps(given), "utf-8")
    command = ["node", "explorer/tests/film.mjs", str(tmp_path / "given.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"problems": []}
