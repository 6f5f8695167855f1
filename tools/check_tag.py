"""Exit with an error where a tag is not `v` and the version of the package: `python tools/check_tag.py v0.1.0`."""

import re
import sys
from pathlib import Path

VERSION = Path(__file__).parents[1] / "src" / "headatlas" / "_version.py"


def version() -> str:
    """The version that the package's one home of it states, read without importing the package."""
    found = re.search(r'^__version__ = "([^"]+)"$', VERSION.read_text("utf-8"), re.M)
    if not found:
        sys.exit(f'{VERSION}: expected a line __version__ = "...", found none.')
    return found[1]


if __name__ == "__main__":
    (tag,) = sys.argv[1:]
    if tag != f"v{version()}":
        sys.exit(f"Expected the tag v{version()}, as in {VERSION.name}, found {tag}: change one of them.")
