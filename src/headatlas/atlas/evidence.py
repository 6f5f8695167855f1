"""Tables that other measurements add to an atlas; their columns are in docs/folder.md."""

from __future__ import annotations

from headatlas.errors import SettingsError

EVIDENCE = {
    "salient": "salient",
    "similar": "salient",
    "descriptions": "salient",
    "validation": "validate",
    "ablation": "ablate",
}
"""Tables that other measurements add to an atlas, see docs/folder.md, and the command that gathers each."""


def check_evidence(name: str) -> None:
    """Raise `SettingsError` if there is no such table of evidence."""
    if name not in EVIDENCE:
        raise SettingsError(f"evidence: expected one of {', '.join(EVIDENCE)}, found {name!r}.")
