"""Names that the shell completes, from the manifest of the atlas on the line; nothing heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MANIFEST = "atlas.json"
"""That of `headatlas.atlas`, whose import takes longer than a shell should wait."""

LARGEST, MOST = 64_000_000, 400
"""Bytes of a manifest that is read, and names that are offered."""

SAFE = re.compile(r"[\w.+@=-]+")
"""A manifest comes from anywhere: other names could mean something to the shell or the terminal."""


def complete_relation(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Relations of the atlas; of the package where there is none."""
    return _matching(_of_items(ctx, "relation") or _builtin("relation"), incomplete)


def complete_category(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Categories of the atlas; of the package where there is none."""
    return _matching(_of_items(ctx, "category") or _builtin("category"), incomplete)


def complete_head(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Heads of the atlas, such as L23H4; layers first where there are many."""
    model = _manifest(ctx).get("model")
    counts = [model.get(name) for name in ("n_layers", "n_heads")] if isinstance(model, dict) else []
    known = [each for each in counts if isinstance(each, int) and 0 < each <= 10_000]
    if len(known) != 2:
        return []
    n_layers, n_heads = known
    layers = [layer for layer in range(n_layers) if f"l{layer}".startswith(incomplete.lower().partition("h")[0])]
    names = (f"L{layer}H{head}" for layer in layers for head in range(n_heads))
    found = _matching(names, incomplete)
    return found if len(found) < MOST else _matching((f"L{layer}H" for layer in layers), incomplete)


def complete_reading(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Ways of reading, such as induction."""
    from headatlas.analysis.reading import BEHAVIOURS

    return _matching((each.name for each in BEHAVIOURS), incomplete)


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    """The names that begin so, whatever their case; shells only take what begins exactly as it was typed."""
    typed = incomplete.casefold()
    found = []
    for name in dict.fromkeys(names):
        if name.casefold().startswith(typed) and SAFE.fullmatch(name):
            found.append(incomplete + name[len(incomplete) :])
            if len(found) == MOST:
                break
    return found


def _manifest(ctx: Any) -> dict[str, Any]:
    """The manifest of the atlas on the line, unchecked; empty if there is none."""
    import json

    named = [ctx.params.get(name) for name in ("atlas", "source")]
    # Where an option still lacks its value, arguments are not parsed yet.
    folder = next((each for each in (*named, *getattr(ctx, "args", ())) if each), None)
    try:
        path = Path(str(folder)) / MANIFEST
        if folder is None or path.stat().st_size > LARGEST:
            return {}
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_items(ctx: Any, what: str) -> list[str]:
    relations = _manifest(ctx).get("relations")
    items = relations.get("items") if isinstance(relations, dict) else None
    names = [item.get(what) for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return [name for name in names if isinstance(name, str)]


def _builtin(what: str) -> list[str]:
    """The package's own names: relations are files."""
    if what == "category":
        from headatlas.relations.relation import CATEGORIES

        return list(CATEGORIES)
    return sorted(path.stem for path in (Path(__file__).parents[1] / "relations" / "data").glob("*.json"))
