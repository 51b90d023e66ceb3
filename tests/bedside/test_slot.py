"""The slots: whole at every instant, on a disk in memory and on a real one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgeward.bedside.files import RealFiles
from edgeward.bedside.sealed import seal
from edgeward.bedside.slot import INTERRUPTIONS_MAX, SlotStore
from edgeward.kernel.errors import BundleError, ConfigError
from edgeward.testing.files import After, MemoryFiles, PowerCut
from edgeward.testing.repository import tiny_bundle

ROOT = Path("/device/slots")
INBOX = Path("/inbox")
VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0", "2.0.0")
CUTS = [(After.LOST, 0), (After.KEPT, 0), (After.REORDERED, 0), *((After.TORN, seed) for seed in range(3))]


def disk_with(*installed: str) -> MemoryFiles:
    files = MemoryFiles()
    for version in VERSIONS:
        files.put(INBOX / f"{version}.ewb", tiny_bundle(version))
    if installed:
        with SlotStore(ROOT, files) as store:
            for version in installed:
                install(store, version)
    return files


def install(store: SlotStore, version: str) -> None:
    store.commit(store.stage(INBOX / f"{version}.ewb"))


def version_of(store: SlotStore) -> str | None:
    slot = store.active()
    return slot.version if slot else None


def life(store: SlotStore, done: list[str | None]) -> None:
    """Everything a store does; ``done`` gets the version that runs after each finished action."""
    done.append(version_of(store))
    install(store, "1.1.0")
    done.append(version_of(store))
    refused = store.stage(INBOX / "1.2.0.ewb")
    done.append(version_of(store))
    store.refuse(refused.sha256, "golden-mismatch")
    done.append(version_of(store))
    install(store, "1.3.0")
    done.append(version_of(store))
    store.revert("engine-crashed")
    done.append(version_of(store))


EXPECTED = ["1.0.0", "1.1.0", "1.1.0", "1.1.0", "1.3.0", "1.1.0"]


def steps_of_a_life() -> int:
    files = disk_with("1.0.0")
    before = files.steps
    done: list[str | None] = []
    with SlotStore(ROOT, files) as store:
        life(store, done)
    assert done == EXPECTED
    return files.steps - before


def live_until_struck(files: MemoryFiles) -> list[str | None]:
    done: list[str | None] = []
    try:
        with SlotStore(ROOT, files) as store:
            life(store, done)
    except (PowerCut, KeyboardInterrupt, ConfigError):
        return done
    raise AssertionError("nothing struck")


def assert_runs_what_it_should(files: MemoryFiles, done: list[str | None]) -> None:
    """The store opens with what ran at the last finished action or what the next one would have made run."""
    allowed = {EXPECTED[max(len(done) - 1, 0)], EXPECTED[min(len(done), len(EXPECTED) - 1)]}
    with SlotStore(ROOT, files) as store:
        slot = store.active()
        assert slot is not None
        assert slot.version in allowed, done
        assert store.read(slot).manifest.version == slot.version
        install(store, "2.0.0")
    with SlotStore(ROOT, files) as store:
        assert version_of(store) == "2.0.0"


@pytest.mark.parametrize(("after", "seed"), CUTS)
def test_power_cut_at_each_operation_leaves_a_bundle_that_runs(after: After, seed: int) -> None:
    """A power cut at any operation of install, trial, refusal and return leaves a whole, committed bundle active."""
    start = disk_with("1.0.0")
    steps = steps_of_a_life()
    assert steps > 60
    for cut in range(1, steps + 1):
        files = start.copy()
        files.cut_at, files.after, files.seed = files.steps + cut, after, seed
        done = live_until_struck(files)
        files.reboot()
        assert_runs_what_it_should(files, done)


def test_second_power_cut_while_recovering_loses_nothing() -> None:
    """A power cut at any operation of the opening that follows a power cut still leaves a bundle that runs."""
    start, tried = disk_with("1.0.0"), 0
    for cut in range(1, steps_of_a_life() + 1):
        first = start.copy()
        first.cut_at, first.after, first.seed = first.steps + cut, After.TORN, cut
        done = live_until_struck(first)
        first.reboot()
        for second_cut in range(1, 100):
            files = first.copy()
            files.cut_at = files.steps + second_cut
            try:
                SlotStore(ROOT, files).open()
            except PowerCut:
                files.reboot()
                assert_runs_what_it_should(files, done)
                tried += 1
            else:
                break
    assert tried > 100


@pytest.mark.parametrize(("after", "seed"), CUTS)
def test_power_cut_during_the_first_install_is_nothing_or_everything(after: After, seed: int) -> None:
    """On an empty device a cut leaves no bundle or the whole one, and after commit returned always the whole one."""
    cut = 0
    while True:
        cut += 1
        files = disk_with()
        files.cut_at, files.after, files.seed = cut, after, seed
        try:
            with SlotStore(ROOT, files) as store:
                install(store, "1.0.0")
        except PowerCut:
            files.reboot()
        else:
            break
        with SlotStore(ROOT, files) as store:
            slot = store.active()
            assert slot is None or store.read(slot).manifest.version == "1.0.0"
            install(store, "1.1.0")
            assert version_of(store) == "1.1.0"
    files.cut_at = files.steps + 1
    with pytest.raises(PowerCut):
        files.fsync_dir(ROOT)
    files.reboot()
    with SlotStore(ROOT, files) as store:
        assert version_of(store) == "1.0.0"
    assert cut > 20


@pytest.mark.parametrize("after", [After.LOST, After.KEPT])
def test_ctrl_c_at_each_operation_leaves_a_bundle_that_runs(after: After) -> None:
    """KeyboardInterrupt before or after any operation leaves slots that open with a whole, committed bundle."""
    start = disk_with("1.0.0")
    for at in range(1, steps_of_a_life() + 1):
        files = start.copy()
        files.interrupt_at, files.after = files.steps + at, after
        done = live_until_struck(files)
        assert_runs_what_it_should(files, done)


def test_full_disk_at_each_write_keeps_the_active_bundle() -> None:
    """A disk that is full from any write on gives disk-full, and the store opens with what ran before."""
    start = disk_with("1.0.0")
    struck, codes = 0, set()
    for at in range(1, steps_of_a_life() + 1):
        files = start.copy()
        files.full_from = files.steps + at
        done: list[str | None] = []
        try:
            with SlotStore(ROOT, files) as store:
                life(store, done)
        except ConfigError as error:
            codes.add(error.code)
            struck += 1
        with SlotStore(ROOT, files) as store:  # still full: it opens and runs all the same
            slot = store.active()
            assert slot is not None
            assert store.read(slot).manifest.version in EXPECTED[max(len(done) - 1, 0) : len(done) + 1]
        files.full_from = 0
        assert_runs_what_it_should(files, done)
    assert struck > 20
    assert codes == {"disk-full"}


def test_no_room_is_said_before_the_previous_bundle_is_given_up() -> None:
    """Staging without room raises disk-full and keeps both slots."""
    files = disk_with("1.0.0", "1.1.0")
    files.capacity = sum(len(inode.content) for inode in files.names.values()) + 1000
    with SlotStore(ROOT, files) as store:
        with pytest.raises(ConfigError) as caught:
            store.stage(INBOX / "1.2.0.ewb")
        assert caught.value.code == "disk-full"
        previous = store.previous()
        assert previous is not None
        assert store.read(previous).manifest.version == "1.0.0"


def test_each_flipped_byte_in_the_active_slot_runs_the_previous_bundle() -> None:
    """Whichever byte of the active bundle flips, opening says slot-damaged and runs the previous bundle."""
    start = disk_with("1.0.0", "1.1.0")
    path = ROOT / "b" / "bundle.ewb"
    raw = start.read(path)
    for index in range(len(raw)):
        files = start.copy()
        files.put(path, raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :])
        store = SlotStore(ROOT, files)
        opening = store.open()
        assert opening.code == "slot-damaged"
        assert opening.active is not None
        assert opening.active.version == "1.0.0"


def test_flip_while_running_is_seen_when_the_slot_is_read() -> None:
    """A slot that is damaged after opening is refused with slot-damaged, and the next opening runs the previous."""
    files = disk_with("1.0.0", "1.1.0")
    with SlotStore(ROOT, files) as store:
        slot = store.active()
        assert slot is not None
        files.put(slot.path, b"\0" + files.read(slot.path)[1:])
        with pytest.raises(BundleError) as caught:
            store.read(slot)
        assert caught.value.code == "slot-damaged"
    with SlotStore(ROOT, files) as store:
        assert version_of(store) == "1.0.0"


def test_both_slots_damaged_is_said_and_nothing_runs() -> None:
    """With no readable slot the store opens without a bundle and can be installed into again."""
    files = disk_with("1.0.0", "1.1.0")
    for key in "ab":
        files.put(ROOT / key / "bundle.ewb", b"dust")
    store = SlotStore(ROOT, files)
    opening = store.open()
    assert (opening.active, opening.code) == (None, "slot-damaged")
    install(store, "1.2.0")
    assert version_of(store) == "1.2.0"


@pytest.mark.parametrize("name", ["state.json", "state.copy.json"])
def test_each_flipped_byte_in_one_state_file_changes_nothing(name: str) -> None:
    """One damaged copy of the state is overruled by the other."""
    start = disk_with("1.0.0", "1.1.0")
    raw = start.read(ROOT / name)
    for index in range(len(raw)):
        files = start.copy()
        files.put(ROOT / name, raw[:index] + bytes([raw[index] ^ 4]) + raw[index + 1 :])
        store = SlotStore(ROOT, files)
        assert store.open().code == ""
        assert version_of(store) == "1.1.0"


def test_both_state_files_damaged_is_said() -> None:
    """Without any whole state nothing is guessed: no bundle runs, and the reason is state-unreadable."""
    files = disk_with("1.0.0")
    for name in ("state.json", "state.copy.json"):
        files.put(ROOT / name, b"{}")
    assert SlotStore(ROOT, files).open().code == "state-unreadable"


def test_damaged_active_slot_is_the_one_overwritten_not_the_previous() -> None:
    """When the active slot breaks while running, staging gives up the broken slot and keeps the good one."""
    files = disk_with("1.0.0", "1.1.0")
    with SlotStore(ROOT, files) as store:
        files.put(ROOT / "b" / "bundle.ewb", b"dust")
        slot = store.stage(INBOX / "1.2.0.ewb")
        assert slot.key == "b"
        assert version_of(store) == "1.0.0"


def test_trial_that_is_cut_short_is_kept_counted_and_at_last_refused() -> None:
    """The old bundle runs, the trial may be taken up again, and the third cut in a row refuses its bundle."""
    files = disk_with("1.0.0")
    with SlotStore(ROOT, files) as store:
        slot = store.stage(INBOX / "1.1.0.ewb")
    for cut in range(1, INTERRUPTIONS_MAX + 1):
        store = SlotStore(ROOT, files)
        assert store.open().code == "trial-interrupted"
        assert (version_of(store), store.trial()) == ("1.0.0", slot)
        last = cut == INTERRUPTIONS_MAX
        assert store.resume(slot.sha256) == (None if last else slot)
        assert store.refused(slot.sha256) == ("trial-interrupted" if last else "")
        store.close()
    store = SlotStore(ROOT, files)
    assert store.open().code == ""


def test_trial_that_rested_is_not_counted() -> None:
    """A device that stops in order takes its trial up again, however often; the next cut is its first."""
    files = disk_with("1.0.0")
    with SlotStore(ROOT, files) as store:
        slot = store.stage(INBOX / "1.1.0.ewb")
        store.rest()
    for _ in range(5):
        store = SlotStore(ROOT, files)
        assert store.open().code == ""
        assert store.resume(slot.sha256) == slot
        store.rest()
        store.close()


def test_trial_whose_bytes_do_not_hold_is_not_taken_up() -> None:
    """A damaged candidate is forgotten without a judgement on its bundle."""
    files = disk_with("1.0.0")
    with SlotStore(ROOT, files) as store:
        slot = store.stage(INBOX / "1.1.0.ewb")
    files.put(slot.path, b"dust")
    with SlotStore(ROOT, files) as store:
        assert store.resume(slot.sha256) is None
        assert (store.trial(), store.refused(slot.sha256)) == (None, "")


def test_return_while_another_is_on_trial_leaves_the_trial_alone() -> None:
    """What is on trial lies where the previous bundle lay: there is nothing to return to, and nothing is refused."""
    files = disk_with("1.0.0", "1.1.0")
    with SlotStore(ROOT, files) as store:
        slot = store.stage(INBOX / "1.2.0.ewb")
        with pytest.raises(BundleError) as caught:
            store.revert("engine-crashed")
        assert caught.value.code == "no-previous"
        assert (version_of(store), store.trial(), store.refused(slot.sha256)) == ("1.1.0", slot, "")


def test_state_of_an_earlier_edgeward_is_read() -> None:
    """A state without the later fields opens as if they said nothing."""
    files = disk_with("1.0.0", "1.1.0")
    for name in ("state.json", "state.copy.json"):
        body = json.loads(files.read(ROOT / name))
        for key in ("check", "interruptions", "resting"):
            del body[key]
        files.put(ROOT / name, seal(body))
    with SlotStore(ROOT, files) as store:
        assert version_of(store) == "1.1.0"


def test_return_without_a_previous_bundle_is_refused() -> None:
    """revert with nothing to go back to raises no-previous and keeps the active bundle."""
    with SlotStore(ROOT, disk_with("1.0.0")) as store:
        with pytest.raises(BundleError) as caught:
            store.revert("engine-crashed")
        assert caught.value.code == "no-previous"
        assert version_of(store) == "1.0.0"


def test_return_from_a_damaged_slot_does_not_refuse_its_bundle() -> None:
    """A flipped byte is the disk's fault: after the return the same bundle may be installed again."""
    files = disk_with("1.0.0", "1.1.0")
    with SlotStore(ROOT, files) as store:
        slot = store.active()
        assert slot is not None
        files.put(slot.path, b"dust")
        store.revert("slot-damaged")
        assert (version_of(store), store.refused(slot.sha256)) == ("1.0.0", "")


def test_a_commit_judges_what_is_on_trial_when_its_turn_comes() -> None:
    """A refusal that holds the slots when a commit comes is over before the commit looks."""
    told: list[str] = []
    with SlotStore(ROOT, disk_with("1.0.0")) as store:
        staged = store.stage(INBOX / "1.1.0.ewb")

        def commit() -> None:
            try:
                store.commit(staged)
            except ConfigError as error:
                told.append(error.code)

        committing = threading.Thread(target=commit)
        with store.unchanged():
            committing.start()
            committing.join(0.2)
            store.refuse(staged.sha256, "golden-failed")
        committing.join(20)
        assert told == ["slot-not-on-trial"]
        assert (version_of(store), store.refused(staged.sha256)) == ("1.0.0", "golden-failed")


def test_look_needs_no_lock_and_changes_nothing() -> None:
    """A second process may look at the slots of a running device, also in the middle of a trial."""
    files = disk_with("1.0.0")
    with SlotStore(ROOT, files) as store:
        staged = store.stage(INBOX / "1.1.0.ewb")
        before = files.steps
        seen = SlotStore(ROOT, files).look()
        assert (seen["active"], seen["previous"], seen["trial"]) == (store.active(), None, staged)
        assert files.steps == before
        store.commit(staged)


def test_second_process_on_the_same_slots_is_refused(tmp_path: Path) -> None:
    """A second device process gets slots-in-use with the first one's number; a killed holder leaves no lock."""
    code = (
        "import sys, pathlib, time\nfrom edgeward.bedside.slot import SlotStore\n"
        "SlotStore(pathlib.Path(sys.argv[1])).open(); print('open', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "slots")], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(ConfigError) as caught:
            SlotStore(tmp_path / "slots").open()
        assert caught.value.code == "slots-in-use"
        assert str(holder.pid) in str(caught.value)
    finally:
        holder.kill()
        holder.communicate()
    with SlotStore(tmp_path / "slots") as store:
        assert store.active() is None


def test_real_disk_installs_and_returns(tmp_path: Path) -> None:
    """On a real disk: install, install, return, reopen."""
    for version in ("1.0.0", "1.1.0"):
        (tmp_path / version).write_bytes(tiny_bundle(version))
        with SlotStore(tmp_path / "slots") as store:
            store.commit(store.stage(tmp_path / version))
    with SlotStore(tmp_path / "slots") as store:
        assert version_of(store) == "1.1.0"
        store.revert("engine-crashed")
    with SlotStore(tmp_path / "slots") as store:
        assert version_of(store) == "1.0.0"
        assert sorted(p.name for p in store.root.iterdir()) == [
            "a", "b", "incoming", "lock", "state.copy.json", "state.json",
        ]  # fmt: skip


def test_real_full_disk_while_installing_keeps_the_active_bundle(tmp_path: Path) -> None:
    """A kernel that refuses to let the file grow gives disk-full; the active bundle still runs, no draft is left."""
    small, large = tmp_path / "small.ewb", tmp_path / "large.ewb"
    small.write_bytes(tiny_bundle("1.0.0"))
    large.write_bytes(tiny_bundle("1.1.0", filler=b"x" * 300_000))
    code = (
        "import sys, pathlib, resource\nfrom edgeward.bedside.slot import SlotStore\n"
        "from edgeward.kernel.errors import EdgewardError\nroot, small, large = map(pathlib.Path, sys.argv[1:])\n"
        "with SlotStore(root) as store:\n    store.commit(store.stage(small))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "    try:\n        store.stage(large)\n    except EdgewardError as error:\n        print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "slots"), str(small), str(large)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "disk-full\n"
    with SlotStore(tmp_path / "slots") as store:
        assert version_of(store) == "1.0.0"
    assert list((tmp_path / "slots" / "b").iterdir()) == []


def test_real_files_keep_the_port_s_promises(tmp_path: Path) -> None:
    """The real adapter: write, rename over, list, size, unlink of nothing, and a lock that is taken once."""
    files = RealFiles()
    files.write_new(tmp_path / "new", b"two")
    files.write_new(tmp_path / "old", b"one")
    files.rename(tmp_path / "new", tmp_path / "old")
    files.fsync_dir(tmp_path)
    assert (files.read(tmp_path / "old"), files.list(tmp_path)) == (b"two", ["old"])
    assert (files.size(tmp_path / "old"), files.size(tmp_path / "none")) == (3, 0)
    files.unlink(tmp_path / "none")
    assert files.free_bytes(tmp_path) > 0
