"""Commands that write are killed, meet a full disk, lose power and so on; more of each by hand: tools/faults."""

import re
import subprocess
import sys

import pytest

from needs import ROOT

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and /proc"),
]


@pytest.mark.parametrize(
    ("faults", "commands", "options"),
    [
        ("kill,full", "map ablate pull", "--moments 5 --every 40"),
        ("power,watch,read-only,moved,clock,two", "ablate", "--moments 2"),
    ],
    ids=["kill", "power"],
)
def test_nothing_is_lost(faults, commands, options):
    command = [sys.executable, ROOT / "tools" / "faults", faults, *commands.split(), *options.split()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=1800)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    rows = re.findall(r"^([\w-]+) +(\w+) +[\d.]+ +(\d+) +\d+ +(\d+) +(\d+)$", done.stdout, re.MULTILINE)
    assert [(fault, name) for fault, name, *_ in rows] == [
        (fault, name) for name in commands.split() for fault in faults.split(",")
    ]
    for *_, n, lost, wrong in rows:
        assert int(n) > 0 and (lost, wrong) == ("0", "0")
