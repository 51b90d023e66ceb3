"""The downloader: what a cut, a kill, a full disk or an odd server leaves, and how it goes on."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import ConfigError, EdgewardError, TrustError
from edgeward.testing.repository import FaultyServer
from edgeward.trust import download as module
from edgeward.trust.download import Blob, DownloadReport, StoppedError, discard, download, held_bytes
from edgeward.trust.transport import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RAW = random.Random(2).randbytes(300_000)
SHA = hashlib.sha256(RAW).hexdigest()
CHECKPOINT = 40_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyServer]:
    folder = tmp_path / "repo" / "targets"
    folder.mkdir(parents=True)
    (folder / f"{SHA}.x.ewb").write_bytes(RAW)
    with FaultyServer(tmp_path / "repo") as running:
        yield running


def blob_of(server: FaultyServer) -> Blob:
    return Blob(f"{server.url}targets/{SHA}.x.ewb", len(RAW), SHA)


def get(server: FaultyServer, dest: Path) -> DownloadReport:
    return download(blob_of(server), dest, timeout_s=5.0, checkpoint_bytes=CHECKPOINT, pause=lambda _: None)


def give_up(server: FaultyServer, dest: Path, after: int) -> None:
    """Leave a part of ``after`` bytes behind."""
    server.faults.cut_after, server.faults.status = after, None
    server.faults.cuts = 1
    good = server.faults.status
    with pytest.raises(UnreachableError):
        download(
            blob_of(server), dest, timeout_s=5.0, checkpoint_bytes=CHECKPOINT, pause=lambda _: break_server(server)
        )
    server.faults.status, server.faults.cut_after = good, None
    server.faults.requests.clear()


def break_server(server: FaultyServer) -> None:
    server.faults.status = 503


def test_truncated_download_resumes_to_the_byte(server: FaultyServer, tmp_path: Path) -> None:
    """After a broken connection the next run asks from exactly the byte that is missing, for the same content only."""
    dest = tmp_path / "x.ewb"
    give_up(server, dest, 123_457)
    assert held_bytes(dest) == 123_457
    assert not dest.exists()
    assert get(server, dest) == DownloadReport(123_457, len(RAW) - 123_457, 0)
    assert server.faults.requests[0]["range"] == "bytes=123457-"
    assert server.faults.requests[0]["if-range"] == f'"{SHA}"'
    assert dest.read_bytes() == RAW
    assert sorted(p.name for p in tmp_path.iterdir()) == ["repo", "x.ewb"]


def test_broken_connections_within_one_run_are_taken_up_again(server: FaultyServer, tmp_path: Path) -> None:
    """A server that breaks every connection after 70,000 bytes still delivers within one call."""
    server.faults.cut_after = 70_000
    assert get(server, tmp_path / "x.ewb") == DownloadReport(0, len(RAW), 0)
    assert [r.get("range") for r in server.faults.requests] == [
        None, "bytes=70000-", "bytes=140000-", "bytes=210000-", "bytes=280000-",
    ]  # fmt: skip


def test_finished_download_is_not_asked_for_again(server: FaultyServer, tmp_path: Path) -> None:
    """With the right file in place nothing is requested."""
    get(server, tmp_path / "x.ewb")
    server.faults.requests.clear()
    assert get(server, tmp_path / "x.ewb") == DownloadReport(len(RAW), 0, 0)
    assert server.faults.requests == []


KILLED = """
import os, signal, sys
from pathlib import Path
from edgeward.trust import download as module
from edgeward.trust.download import Blob, download
url, length, sha, dest, at, how = sys.argv[1:]
def strike(offset):
    if offset >= int(at):
        os.kill(os.getpid(), int(how))
download(Blob(url, int(length), sha), Path(dest), checkpoint_bytes=40_000, progress=strike)
"""


def strike_child(server: FaultyServer, dest: Path, at: int, how: int) -> int:
    blob = blob_of(server)
    command = [sys.executable, "-c", KILLED, blob.url, str(blob.length), blob.digest, str(dest), str(at), str(int(how))]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode


def test_download_resumes_after_sigkill(server: FaultyServer, tmp_path: Path) -> None:
    """A process killed by SIGKILL loses at most what came since its last checkpoint."""
    dest = tmp_path / "x.ewb"
    dest.write_bytes(b"the old one")
    assert strike_child(server, dest, 200_000, signal.SIGKILL) == -signal.SIGKILL
    assert dest.read_bytes() == b"the old one"
    report = get(server, dest)
    assert 200_000 - 2 * 65_536 <= report.resumed_bytes <= 262_144
    assert report.resumed_bytes + report.fetched_bytes == len(RAW)
    assert server.faults.requests[-1]["range"] == f"bytes={report.resumed_bytes}-"
    assert dest.read_bytes() == RAW


def test_download_resumes_after_ctrl_c_to_the_byte(server: FaultyServer, tmp_path: Path) -> None:
    """Ctrl-C saves every byte that came before the process ends."""
    dest = tmp_path / "x.ewb"
    assert strike_child(server, dest, 200_000, signal.SIGINT) != 0
    held = held_bytes(dest)
    assert held >= 200_000
    assert get(server, dest) == DownloadReport(held, len(RAW) - held, 0)


class Counted:
    """A pace that counts what is spent and reads by small parts."""

    def __init__(self) -> None:
        self.spent: list[int] = []
        self.part_bytes = 7_000

    def spend(self, count: int) -> None:
        self.spent.append(count)


def test_download_keeps_to_a_pace(server: FaultyServer, tmp_path: Path) -> None:
    """Every byte is paid for, in parts no larger than the pace asks for."""
    pace = Counted()
    download(blob_of(server), tmp_path / "x.ewb", pace=pace)
    assert sum(pace.spent) == len(RAW)
    assert max(pace.spent) <= 7_000


def test_caller_that_stops_a_download_loses_no_byte(server: FaultyServer, tmp_path: Path) -> None:
    """StoppedError passes through, and the next run goes on from the last byte that came."""
    dest = tmp_path / "x.ewb"

    def stop(held: int) -> None:
        if held > 100_000:
            raise StoppedError

    with pytest.raises(StoppedError):
        download(blob_of(server), dest, progress=stop)
    held = held_bytes(dest)
    assert held > 100_000
    assert get(server, dest) == DownloadReport(held, len(RAW) - held, 0)


def test_server_without_range_begins_anew(server: FaultyServer, tmp_path: Path) -> None:
    """A server that answers 200 to a range request is taken from the first byte."""
    dest = tmp_path / "x.ewb"
    give_up(server, dest, 100_000)
    server.faults.ignore_range = True
    assert get(server, dest) == DownloadReport(0, len(RAW), 1)
    assert dest.read_bytes() == RAW


def test_server_without_range_that_always_breaks_is_given_up(server: FaultyServer, tmp_path: Path) -> None:
    """Beginning anew for ever is no progress: after a few tries it is repository-unreachable."""
    server.faults.ignore_range, server.faults.cut_after = True, 100_000
    with pytest.raises(UnreachableError):
        get(server, tmp_path / "x.ewb")
    assert len(server.faults.requests) <= 6


def test_dripping_server_is_given_up(server: FaultyServer, tmp_path: Path) -> None:
    """A server that gives a few bytes per connection is left after a few connections."""
    server.faults.cut_after = 10
    with pytest.raises(UnreachableError):
        get(server, tmp_path / "x.ewb")
    assert held_bytes(tmp_path / "x.ewb") == 10 * len(server.faults.requests)


def test_changed_etag_begins_anew(server: FaultyServer, tmp_path: Path) -> None:
    """When the server's content is another one, nothing of the part is kept."""
    dest = tmp_path / "x.ewb"
    give_up(server, dest, 100_000)
    server.faults.etag = '"another"'
    assert get(server, dest) == DownloadReport(0, len(RAW), 1)
    assert dest.read_bytes() == RAW


def test_etag_that_changes_under_a_206_begins_anew(server: FaultyServer, tmp_path: Path) -> None:
    """A server that ignores If-Range is caught by the ETag of its partial answer."""
    dest = tmp_path / "x.ewb"
    give_up(server, dest, 100_000)
    server.faults.etag, server.faults.ignore_if_range = '"another"', True
    assert get(server, dest) == DownloadReport(0, len(RAW), 1)


def test_same_bundle_at_another_address_is_resumed(server: FaultyServer, tmp_path: Path) -> None:
    """What was fetched from one address goes on at another: the signed hash names the bytes, not the address."""
    dest = tmp_path / "x.ewb"
    give_up(server, dest, 100_000)
    other = Blob(f"file://{blob_file(server)}", len(RAW), SHA)
    assert download(other, dest) == DownloadReport(100_000, len(RAW) - 100_000, 0)


def test_part_of_another_bundle_is_not_resumed(server: FaultyServer, tmp_path: Path) -> None:
    """The part of a bundle with another hash is dropped."""
    dest = tmp_path / "x.ewb"
    give_up(server, dest, 100_000)
    (tmp_path / "other").write_bytes(b"other")
    blob = Blob((tmp_path / "other").as_uri(), 5, hashlib.sha256(b"other").hexdigest())
    assert download(blob, dest) == DownloadReport(0, 5, 0)


def test_slow_server_is_given_up(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the lowest rate a connection is left, and what came is kept."""
    monkeypatch.setattr(module, "SLOW_AFTER_S", 0.0)
    monkeypatch.setattr(module, "RATE_MIN_BYTES_PER_S", 1e15)
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    monkeypatch.setattr(module, "CHUNK_BYTES", 1000)
    server.faults.cut_after = 900
    with pytest.raises(UnreachableError):
        get(server, tmp_path / "x.ewb")
    assert held_bytes(tmp_path / "x.ewb") == 900


def test_mixed_content_without_etag_is_fetched_once_more(server: FaultyServer, tmp_path: Path) -> None:
    """Old bytes of another content, on a server without ETags, cost one new start and nothing else."""
    dest = tmp_path / "x.ewb"
    server.faults.no_etag, server.faults.replace = True, b"\1" * len(RAW)
    give_up(server, dest, 100_000)
    server.faults.replace = None
    assert get(server, dest) == DownloadReport(0, 2 * len(RAW) - 100_000, 1)
    assert dest.read_bytes() == RAW


def test_wrong_content_is_refused_and_thrown_away(server: FaultyServer, tmp_path: Path) -> None:
    """Bytes that are not the signed ones never reach the destination, and none are kept."""
    dest = tmp_path / "in" / "x.ewb"
    dest.parent.mkdir()
    dest.write_bytes(b"the old one")
    server.faults.replace = b"\1" * len(RAW)
    with pytest.raises(TrustError) as caught:
        get(server, dest)
    assert caught.value.code == "download-hash"
    assert [p.name for p in dest.parent.iterdir()] == ["x.ewb"]
    assert dest.read_bytes() == b"the old one"


def test_endless_bundle_is_refused(server: FaultyServer, tmp_path: Path) -> None:
    """One byte more than was signed is download-too-long."""
    server.faults.replace = RAW + b"\0"
    with pytest.raises(TrustError) as caught:
        get(server, tmp_path / "in" / "x.ewb")
    assert caught.value.code == "download-too-long"
    assert list((tmp_path / "in").iterdir()) == []


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "download-refused"),
        (302, "download-refused"),
        (416, "download-refused"),
        (206, "download-refused"),
        (503, "repository-unreachable"),
        (429, "repository-unreachable"),
    ],
)
def test_odd_status_is_said(server: FaultyServer, tmp_path: Path, status: int, code: str) -> None:
    """Redirects are not followed, refusals are final, overload may be tried again."""
    server.faults.status = status
    if status == 206:
        server.faults.replace = RAW[:-1]  # so that the Content-Range cannot fit
    with pytest.raises(EdgewardError) as caught:
        get(server, tmp_path / "x.ewb")
    assert caught.value.code == code


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_part_or_journal_never_reaches_the_destination(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever a power cut made of part and journal, the next run ends with the right file."""
    folder = tmp_path / "d"
    folder.mkdir(exist_ok=True)
    source = tmp_path / "source"
    source.write_bytes(RAW)
    blob, dest = Blob(source.as_uri(), len(RAW), SHA), folder / "x.ewb"
    dest.unlink(missing_ok=True)
    discard(dest)
    stop = data.draw(st.integers(0, len(RAW)))

    def strike(offset: int) -> None:
        if offset >= stop:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        download(blob, dest, checkpoint_bytes=CHECKPOINT, progress=strike)
    for name in data.draw(st.sets(st.sampled_from(["part", "journal"]))):
        path = dest.with_name(f"x.ewb.{name}")
        raw = bytearray(path.read_bytes())
        cut = data.draw(st.integers(0, len(raw)))
        tail = data.draw(st.sampled_from([b"", b"\0" * 10_000, b"40000 " + b"0" * 64 + b"\n", b"\n\n{"]))
        raw[cut:] = tail
        if raw and data.draw(st.booleans()):
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= 0x10
        path.write_bytes(raw)
    report = download(blob, dest, checkpoint_bytes=CHECKPOINT)
    assert dest.read_bytes() == RAW
    assert report.resumed_bytes + report.fetched_bytes >= len(RAW)
    assert [p.name for p in folder.iterdir()] == ["x.ewb"]


def test_intact_checkpoints_before_a_damaged_one_are_kept(tmp_path: Path) -> None:
    """A flip in the middle of the part costs only what came after the last checkpoint before it."""
    source, dest = tmp_path / "source", tmp_path / "x.ewb"
    source.write_bytes(RAW)
    blob = Blob(source.as_uri(), len(RAW), SHA)

    def strike(offset: int) -> None:
        if offset > 250_000:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        download(blob, dest, checkpoint_bytes=1, progress=strike)
    part = tmp_path / "x.ewb.part"
    raw = bytearray(part.read_bytes())
    raw[150_000] ^= 1
    part.write_bytes(raw)
    assert download(blob, dest).resumed_bytes == 131_072
    assert dest.read_bytes() == RAW


def test_torn_journal_line_does_not_hide_later_checkpoints(tmp_path: Path) -> None:
    """A line that a power cut tore is cut off, so that what is saved after it counts at the next resumption."""
    source, dest = tmp_path / "source", tmp_path / "x.ewb"
    source.write_bytes(RAW)
    blob = Blob(source.as_uri(), len(RAW), SHA)

    def strike_after(count: int) -> Callable[[int], None]:
        def strike(offset: int) -> None:
            if offset > count:
                raise RuntimeError

        return strike

    with pytest.raises(RuntimeError):
        download(blob, dest, checkpoint_bytes=1, progress=strike_after(65_536))
    with (tmp_path / "x.ewb.journal").open("ab") as journal:
        journal.write(b"131072 0123")
    with pytest.raises(RuntimeError):
        download(blob, dest, checkpoint_bytes=1, progress=strike_after(200_000))
    assert download(blob, dest).resumed_bytes == 262_144


LIMITED = """
import resource, sys
from pathlib import Path
from edgeward.kernel.errors import EdgewardError
from edgeward.trust import download as module
from edgeward.trust.download import Blob, download
url, length, sha, dest, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    download(Blob(url, int(length), sha), Path(dest), checkpoint_bytes=40_000)
except EdgewardError as error:
    print(type(error).__name__, error.code)
"""


def test_full_disk_while_downloading_pauses(server: FaultyServer, tmp_path: Path) -> None:
    """A disk that takes no more is disk-full; the part stays and the next run goes on from it."""
    dest, blob = tmp_path / "x.ewb", blob_of(server)
    command = [sys.executable, "-c", LIMITED, blob.url, str(blob.length), blob.digest, str(dest), "200000"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "ConfigError disk-full\n"
    assert not dest.exists()
    report = get(server, dest)
    assert report.resumed_bytes >= 120_000
    assert dest.read_bytes() == RAW


def tiny_disk(kib: int, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` with a real tmpfs of ``kib`` KiB mounted for it alone; the mount's folder is its last argument."""
    script = f'mount -t tmpfs -o size={kib}k tmpfs "$0" && exec "$@" "$0"'
    folder = arguments[-1]
    command = ["unshare", "-Urm", "sh", "-c", script, folder, sys.executable, "-c", code, *arguments[:-1]]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture
def can_mount(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = tiny_disk(64, "pass", str(folder))
    except FileNotFoundError:
        pytest.skip("NO TINY DISK: unshare(1) is not there")
    if done.returncode != 0:
        pytest.skip("NO TINY DISK: this machine lets nobody mount a tmpfs of their own")
    return folder


TINY = """
import os, sys
from pathlib import Path
from edgeward.kernel.errors import EdgewardError
from edgeward.trust import download as module
from edgeward.trust import download as module
from edgeward.trust.download import Blob, download, held_bytes
url, length, sha, folder = sys.argv[1:]
dest = Path(folder) / "x.ewb"
blob = Blob(url, int(length), sha)
for room in (module.ROOM_BYTES, -int(length)):  # as it is, then as if another process took the room after the check
    module.ROOM_BYTES = room
    try:
        download(blob, dest, checkpoint_bytes=40_000)
    except EdgewardError as error:
        print(error.code, held_bytes(dest) > 100_000, dest.exists(), sep=" ")
os.system(f"mount -o remount,size=2m {folder}")
print(download(blob, dest).resumed_bytes > 100_000, dest.exists())
"""


def test_real_full_disk_while_downloading_pauses(server: FaultyServer, can_mount: Path) -> None:
    """On a real disk of 256 KiB: refused before the first byte, paused when it fills, finished once there is room."""
    blob = blob_of(server)
    done = tiny_disk(256, TINY, f"file://{blob_file(server)}", str(blob.length), blob.digest, str(can_mount))
    assert done.stdout.splitlines() == ["disk-full False False", "disk-full True False", "True True"], done.stderr


def blob_file(server: FaultyServer) -> str:
    return str(server._server.RequestHandlerClass.repo_dir / "targets" / f"{SHA}.x.ewb")  # type: ignore[attr-defined]


def test_read_only_folder_is_said(tmp_path: Path) -> None:
    """A folder that is no folder is disk-error."""
    (tmp_path / "file").write_bytes(b"")
    source = tmp_path / "source"
    source.write_bytes(RAW)
    with pytest.raises(ConfigError) as caught:
        download(Blob(source.as_uri(), len(RAW), SHA), tmp_path / "file" / "x.ewb")
    assert caught.value.code == "disk-error"
