"""Power cuts and full disks at every step of an update: the device boots into a whole bundle that it may trust.

``bench/power.py`` tries every second cut too; here they are sampled. Downloads make their own system calls
(``trust.download``), which ``tests/trust/test_download.py`` kills and cuts; here a download is steps of the port.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgeward.exchange.words import UpdateState, Why
from edgeward.testing.files import After, MemoryFiles
from edgeward.testing.killed import KilledDevice
from edgeward.testing.power import AFTERS, NEW, OLD, STORIES, Story, points, recover, second_cuts, survive
from edgeward.testing.updates import MemoryDevice, MemoryRepository

stories = pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)


@stories
@pytest.mark.parametrize(("after", "seed"), AFTERS, ids=lambda value: str(value))
def test_power_cut_at_each_step_boots_a_bundle_and_the_update_ends(story: Story, after: After, seed: int) -> None:
    """Cut anywhere, with unsynced writes lost, kept, reordered or torn: whole, trusted, and on to the end."""
    start, steps = story.disk(), len(points(story))
    assert steps > 10
    for cut in range(1, steps + 1):
        recover(story, survive(story, start, cut, after, seed))


@stories
def test_second_power_cut_during_recovery_boots_a_bundle_too(story: Story) -> None:
    """A cut at the steps of the recovery from a cut, sampled: the same holds."""
    start, steps, tried = story.disk(), len(points(story)), 0
    for cut in range(1, steps + 1, 5):
        after, seed = AFTERS[cut % len(AFTERS)]
        left = survive(story, start, cut, after, seed)
        for files in second_cuts(story, left, range(1 + cut % 5, 400, 9)):
            recover(story, files)
            tried += 1
    assert tried >= 3


@pytest.mark.parametrize("story", [story for story in STORIES if not story.reverts], ids=lambda story: story.name)
def test_disk_that_is_full_from_any_step_on_keeps_the_bundle_in_use(story: Story) -> None:
    """It ends without the new bundle or with all of it, boots on the full disk, and takes the next with room again."""
    start, steps, whys = story.disk(), len(points(story)), set()
    for at in range(1, steps + 1):
        files = start.copy()
        device = story.device(files)
        updater = device.boot()
        files.full_from = files.steps + at
        story.play(device, updater)
        whys.add(updater.record.why)
        device.slots.close()
        device = story.device(files)
        updater = device.boot()
        active = device.slots.active()
        assert active is not None or story.first
        if active is not None:
            assert device.slots.read(active).manifest.version in ({OLD, NEW} if story.commits else {OLD})
            if active.version == NEW:
                assert updater.record.state is UpdateState.COMMITTED
        device.slots.close()
        files.full_from = 0
        again = MemoryDevice(files, MemoryRepository.of(files, "1.2.0"))
        assert again.install(3).state is UpdateState.COMMITTED
    assert Why.DISK_FULL in whys


def test_sigkill_at_random_calls_of_a_real_device(tmp_path: Path) -> None:
    """A real folder, repository, downloader: killed at six calls that change the disk, it opens with a whole bundle."""
    device, dice = KilledDevice(tmp_path), random.Random(20)
    assert device.points > 80
    for number in range(6):
        device.publish(f"1.{number + 1}.0")
        assert device.run(kill_at=dice.randrange(1, device.points + 1))
        assert device.check()
    device.run()
    assert device.check(at_end=True)


def test_memory_disk_that_reorders_keeps_the_newest_name_alone() -> None:
    """Two unsynced renames: after the cut only the later one happened."""
    files = MemoryFiles(after=After.REORDERED)
    for name in ("a", "b"):
        files.write_new(Path(f"/d/{name}.new"), name.encode())
        files.fsync_dir(Path("/d"))
    for name in ("a", "b"):
        files.rename(Path(f"/d/{name}.new"), Path(f"/d/{name}"))
    files.reboot()
    assert files.list(Path("/d")) == ["a.new", "b"]
