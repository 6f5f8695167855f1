#!/bin/sh
# Installs the wheel of dist/ into an environment of its own, away from the sources, and runs it.
set -eu
wheel=$(realpath dist/headatlas-*.whl)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet "$wheel"
cd "$place"
venv/bin/headatlas --version
venv/bin/headatlas --help >help.txt
venv/bin/headatlas relations >relations.txt
grep -q country_to_capital relations.txt
venv/bin/python -c 'import headatlas; [getattr(headatlas, name) for name in headatlas.__all__]'
echo "$(basename "$wheel"): installs and runs"
