"""The explorer of a large model in a real browser: page size, time until it is drawn, time of a slider step.

The atlas is synthetic: 80 x 64 heads, 40 relations with chance levels, 30 salient tokens for each head with 5 mapped
tokens on each side, and as many hits per head as the demo model has. Needs Chromium and `npm ci`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from atlases import make_atlas
from headatlas.atlas import Atlas
from headatlas.explorer import write_page

N_LAYERS, N_HEADS, N_RELATIONS, N_TOKENS, N_MAPPED = 80, 64, 40, 30, 5
HITS_PER_HEAD, VOCABULARY = 70, 100_000
CATEGORIES = ("Algorithmic", "Knowledge", "Linguistic", "Translation")


def make_large_atlas(seed: int = 0) -> Atlas:
    """The atlas; a tenth of its heads is classified."""
    generator = np.random.default_rng(seed)
    names = tuple(f"relation_{number}" for number in range(N_RELATIONS))
    categories = tuple(CATEGORIES[number % 4] for number in range(N_RELATIONS))
    atlas = make_atlas(N_LAYERS, N_HEADS, categories, share=0.003, name="large", relations=names, chance=True)
    n_places = N_LAYERS * N_HEADS
    place = np.arange(n_places).repeat(N_TOKENS * 2 * N_MAPPED)
    rank = np.tile(np.arange(N_TOKENS).repeat(2 * N_MAPPED), n_places)
    token = generator.integers(0, VOCABULARY, n_places * N_TOKENS).repeat(2 * N_MAPPED)
    mapped = generator.integers(0, VOCABULARY, len(place))
    operations = {
        "layer": place // N_HEADS, "head": place % N_HEADS, "rank": rank, "token_id": token,
        "token": np.char.add(" token", token.astype(str)), "amplification": 20 - rank / 3,
        "side": np.tile(np.array(["promoted", "suppressed"]).repeat(N_MAPPED), n_places * N_TOKENS),
        "to_rank": np.tile(np.arange(N_MAPPED), n_places * N_TOKENS * 2), "to_id": mapped,
        "to_token": np.char.add(" token", mapped.astype(str)),
    }  # fmt: skip
    atlas = atlas.with_evidence({"salient": (pd.DataFrame(operations), {})})
    n_hits = n_places * HITS_PER_HEAD
    pair = generator.integers(0, 140, n_hits)
    where, relation = generator.integers(0, n_places, n_hits), generator.integers(0, N_RELATIONS, n_hits)
    pair_hits = pd.DataFrame(
        {
            "relation": np.array(names)[relation], "source": np.char.add("source", pair.astype(str)),
            "target": np.char.add("target", pair.astype(str)), "source_id": pair, "target_id": pair,
            "layer": where // N_HEADS, "head": where % N_HEADS,
            "side": np.where(generator.random(n_hits) < 0.8, "promoted", "suppressed"), "rank": pair % 10,
        }
    )  # fmt: skip
    return replace(atlas, pair_hits=pair_hits)


def main() -> int:
    """Print the table and return the exit code."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("No browser found. On Debian run: apt-get install chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        page = write_page(Path(folder) / "large.html", make_large_atlas())
        size = page.stat().st_size
        script = Path(__file__).with_name("explorer.mjs")
        done = subprocess.run(
            ["node", str(script), browser, str(page)], capture_output=True, encoding="utf-8", check=True
        )
    found = json.loads(done.stdout)
    rows = [
        ("page size", f"{size / 1e6:.1f} MB", "15 MB"),
        ("time until the map is drawn", f"{found['opened']:.0f} ms", "2,000 ms"),
        ("slider step, median of 20", f"{found['median']:.0f} ms", "50 ms"),
        ("slider step, slowest of 20", f"{found['slowest']:.0f} ms", ""),
        ("script memory", f"{found['heap'] / 1e6:.0f} MB", ""),
    ]
    print("| what | measured | goal |\n|---|---:|---:|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(f"\n{N_LAYERS} x {N_HEADS} heads, {N_RELATIONS} relations, all cards; {found['browser']}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
