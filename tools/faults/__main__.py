"""Break every command that writes, as machines do, and see what readers and the next run of the command find.

    python tools/faults FAULT[,FAULT...] [COMMAND ...] [--moments N] [--seed S] [--every K]

FAULT is one of

- `kill`: SIGKILL at N random moments of each command, also of the runs that go on after a kill;
- `full`: from the K-th, 2K-th, ... step of writing on (file made, its content, its flushing, its renaming, folder
  made), nothing fits on the disk any more;
- `power`: the machine stops after each step of writing, and of the changes of folders that were not flushed, only
  some are on the disk, and files that were not flushed are empty;
- `watch`: another process reads every file over and over while the command runs;
- `read-only`: the folder cannot be written;
- `moved`: the folder is moved between a kill and the run that goes on;
- `two`: the same command twice at the same time;
- `clock`: the clock is set back by ten years between a kill and the run that goes on.

After each fault, every file has to be whole, every atlas has to load with all its tables, and the same command has to
give what an uninterrupted run gives, without measuring a finished part again. Prints a row for each command, and what
was wrong; exits with 1 if something was. The models are tiny, and commands run in forks of one process that has
imported everything, so that thousands of faults take minutes. Needs a system with `fork`.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from case import Case, Found
from full_disk import full
from interruptions import clock, kill, moved, read_only, two, watch
from power_loss import power
from world import COMMANDS, World

FAULTS: dict[str, Callable[..., None]] = {
    "kill": kill, "full": full, "power": power, "watch": watch, "read-only": read_only, "moved": moved, "two": two,
    "clock": clock,
}  # fmt: skip


def break_commands(
    faults: Iterable[str], names: Iterable[str], *, moments: int = 100, seed: int = 0, every: int = 1
) -> list[Found]:
    """What each fault did to each command, printed as a row for each."""
    every_found, names = [], list(names)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headatlas-faults-")))
        os.environ |= {"HEADATLAS_CACHE": f"{place}/cache", "HF_HOME": f"{place}/huggingface", "MPLBACKEND": "Agg"}
        place.chmod(0o755)  # for another user, of `read-only`
        torch.set_num_threads(1)
        world = World(place)
        world.prepare()
        if {"publish", "pull"} & {*names}:
            world.open_hub(stack)
        print("fault      command      seconds  faults  missed  parts lost   wrong", flush=True)
        for name in names:
            case = Case(world, name)
            for fault in faults:
                case.found = found = Found()
                FAULTS[fault](case, moments=moments, chance=random.Random(f"{seed} {fault} {name}"), every=every)
                row = f"{fault:<10} {name:<12} {case.seconds:7.2f} {found.faults:7} {found.missed:7} {found.lost:11}"
                print(f"{row} {len(found.wrong):7}", *(f"  {each}" for each in found.wrong[:20]), sep="\n", flush=True)
                every_found.append(found)
    return every_found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", metavar="FAULT", help=f"some of {', '.join(FAULTS)}, with commas between them")
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"default: all: {', '.join(COMMANDS)}")
    parser.add_argument("--moments", type=int, default=100, help="of kill, moved, two and clock; default: 100")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    parser.add_argument("--every", type=int, default=1, help="of full: test each K-th step; default: 1")
    asked = parser.parse_args()
    faults = asked.faults.split(",")
    if unknown := ({*faults} - {*FAULTS}) | ({*asked.commands} - {*COMMANDS}):
        parser.error(f"no faults or commands: {', '.join(sorted(unknown))}")
    started = time.monotonic()
    all_found = break_commands(
        faults, asked.commands or COMMANDS, moments=asked.moments, seed=asked.seed, every=asked.every
    )
    print(f"seed {asked.seed}, {time.monotonic() - started:.0f} s")
    sys.exit(any(each.wrong for each in all_found))
