"""Print the lowest version of each dependency that pyproject.toml allows, as constraints for pip.

torch keeps the version of constraints.txt, since older builds are gigabytes: LOWEST_TORCH=1 takes its lowest, too.
"""

import os
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lowest_versions(extras: tuple[str, ...] = ("dev",)) -> list[str]:
    """`name==version` of every declared lower bound, of the package and of these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    declared = [*project["dependencies"], *(need for extra in extras for need in optional[extra])]
    lines = dict(re.match(r"([\w.-]+)>=([\w.]+)", need).groups() for need in declared)
    if not os.environ.get("LOWEST_TORCH"):
        pinned = (ROOT / "constraints.txt").read_text("utf-8")
        lines["torch"] = re.search(r"^torch==(\S+)$", pinned, re.M)[1]
    return [f"{name}=={version}" for name, version in sorted(lines.items())]


if __name__ == "__main__":
    print("\n".join(lowest_versions()))
