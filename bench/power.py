"""Every power cut of an update on a simulated disk, every second cut while it recovers, and SIGKILL of a real process.

    python bench/power.py [--points] [--story WORDS] [--stride 1] [--kills 40] [--seed 1]

``--points`` prints every mutating step that is cut at; ``--stride N`` takes every Nth second cut (1: all of them, an
hour for all stories); ``--kills`` at random calls that change the disk, each call once: as many as there are, and every
one is tried. Exit code 1 when a device did not boot into a whole bundle that it may trust, or its update did not end.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.testing.killed import KilledDevice
from edgeward.testing.power import AFTERS, STORIES, Story, points, recover, second_cuts, survive

if TYPE_CHECKING:
    from edgeward.testing.files import After


def main() -> int:
    """Try them all and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", action="store_true")
    parser.add_argument("--story", default="", help="only stories whose name has these words")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    failed = 0
    for story in [story for story in STORIES if arguments.story in story.name]:
        names = points(story)
        print(f"{story.name}: {len(names)} points", flush=True)
        if arguments.points:
            for number, name in enumerate(names, 1):
                print(f"  {number:3} {name}")
        for after, seed in AFTERS:
            failed += _story(story, len(names), after, seed, arguments.stride)
    if arguments.kills:
        failed += _kills(arguments.kills, random.Random(arguments.seed))
    return 1 if failed else 0


def _story(story: Story, steps: int, after: After, seed: int, stride: int) -> int:
    began = time.perf_counter()
    start = story.disk()
    tried, survived, told = [0, 0], [0, 0], []
    for cut in range(1, steps + 1):
        left = survive(story, start, cut, after, seed)
        only = None if stride == 1 else range(1 + cut % stride, 1_000, stride)
        for order, files in [(0, left.copy()), *((1, second) for second in second_cuts(story, left, only))]:
            tried[order] += 1
            try:
                recover(story, files)
                survived[order] += 1
            except Exception as error:  # noqa: BLE001  (whatever does not hold is counted)
                told.append(f"cut {cut}, {'first' if order == 0 else 'second'}: {error}")
    took = time.perf_counter() - began
    print(
        f"  {after.value:9} seed {seed}: survived {survived[0]} of {tried[0]} cuts "
        f"and {survived[1]} of {tried[1]} second cuts ({took:.0f} s)",
        flush=True,
    )
    for line in told[:10]:
        print(f"    FAIL {line}")
    return len(told)


def _kills(count: int, dice: random.Random) -> int:
    """Kill a real updater at random moments; each start must find a whole bundle, and the last one must end."""
    with tempfile.TemporaryDirectory(prefix="edgeward-power-") as folder:
        device = KilledDevice(Path(folder))
        at, survived, count = [], 0, min(count, device.points)
        for number, point in enumerate(dice.sample(range(1, device.points + 1), count), 1):
            device.publish(f"1.{number}.0")
            at.append(device.run(kill_at=point))
            survived += device.check()
        device.run()
        ended = device.check(at_end=True)
    struck = [name for name in at if not name.isdigit()]  # an update that needed fewer calls was not killed
    print(f"SIGKILL at {len(struck)} of {device.points} calls: survived {survived - count + len(struck)}", flush=True)
    print(f"  the last update came to its end: {'yes' if ended else 'NO'}")
    print("  at: " + "; ".join(f"{name} ×{struck.count(name)}" for name in sorted(set(struck))))
    return count - survived + (not ended)


if __name__ == "__main__":
    sys.exit(main())
