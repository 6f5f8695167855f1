"""Compare the wheels of a folder with hashes.txt, before `make` installs them.

    python tools/check_hashes.py FOLDER [HASHES]

It needs the standard library alone, and does not know where a wheel comes from or what it contains.
"""

import hashlib
import re
import sys
from pathlib import Path

HASHES = Path(__file__).parents[1] / "hashes.txt"


def normalized(name: str) -> str:
    """As package indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def check_hashes(folder: Path, hashes: Path = HASHES) -> tuple[int, list[str]]:
    """The number of wheels whose SHA-256 is in `hashes`, and `name version` of those it cannot have a hash of.

    It has none of packages that it does not name, and of versions with a local label (`2.13.0+cpu`), which no public
    index has. Raises `SystemExit` with a sentence for any other wheel.
    """
    text = hashes.read_text("utf-8")
    names = {normalized(name) for name in re.findall(r"^([\w.-]+)==", text, re.M)}
    known = set(re.findall(r"\bsha256:([0-9a-f]{64})\b", text))
    n_known, unknown = 0, []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        with wheel.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 in known:
            n_known += 1
        elif "+" in version or normalized(name) not in names:
            unknown.append(f"{name} {version}")
        else:
            raise SystemExit(
                f"{wheel}: expected a file of {name} {version} whose SHA-256 is in {hashes.name}, found {sha256}. "
                f"It was not installed. If constraints.txt has changed, make {hashes.name} anew "
                "(CONTRIBUTING.md); if your index builds its own wheels and you trust it, run make with HASHES=no."
            )
    return n_known, unknown


if __name__ == "__main__":
    n_known, unknown = check_hashes(*map(Path, sys.argv[1:]))
    print(f"Wheels with a SHA-256 of hashes.txt: {n_known}; not compared: {', '.join(unknown) or 'none'}.")
