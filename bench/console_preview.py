"""Fill a fleet with made-up devices and rollouts, and look at its console: ``python bench/console_preview.py``.

    python bench/console_preview.py                                    # serves until Ctrl-C; sign in as olga
    python bench/console_preview.py --shots docs/img --only overview   # a picture of every page, by a real Chromium

Everything is made up: no device, no bundle and no person is real.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argon2 import PasswordHasher
from sqlalchemy import insert, update

from edgeward.exchange.checkin import CheckIn, Deed, Evidence, Facts, FamilyReport, Held, Order, Progress
from edgeward.exchange.typed import encode
from edgeward.exchange.words import Accelerator, Machine, Rung, UpdateState, Why
from edgeward.fleet.accounts import Accounts, Role
from edgeward.fleet.api import rollouts
from edgeward.fleet.api.app import create_app
from edgeward.fleet.authority import Authority, write_new
from edgeward.fleet.conduct import people
from edgeward.fleet.conduct.book import Book
from edgeward.fleet.conduct.clock import Clock
from edgeward.fleet.parts import open_fleet
from edgeward.fleet.rollout.plan_text import read_plan
from edgeward.fleet.serve import listen, server_of, url_of
from edgeward.fleet.settings import FleetSettings
from edgeward.fleet.store.migrate import migrate
from edgeward.fleet.store.models import Certificate, Device, DeviceFamily, DeviceTag, Enrolment
from edgeward.fleet.web.console import ROUTERS
from edgeward.kernel.errors import ConfigError
from edgeward.trust.offer import Offer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

PASSWORD = "only for looking"
WARDS = ("ICU A", "ICU B", "Step-down", "Ward 3", "Ward 7", "Theatre")
FACTS = Facts(Machine.AARCH64, Accelerator.TENSORRT, 8, 15_600, 58_000, 8, "0.4.1")
FAMILIES = {"ecg-beat": ("1.4.2", "1.5.0"), "hypotension": ("0.9.0", "1.0.0"), "sepsis-risk": ("2.1.0", "2.2.0")}
ERRORS = (
    (UpdateState.FAILED, Why.GOLDEN_FAILED),
    (UpdateState.FAILED, Why.TOO_SLOW),
    (UpdateState.FAILED, Why.DISK_FULL),
    (UpdateState.ROLLED_BACK, Why.SOAK_FAILED),
    (UpdateState.FAILED, Why.SHADOW_DISAGREES),
)


def digest(family: str, version: str) -> str:
    return sha256(f"{family}/{version}".encode()).hexdigest()


class Desk:
    """A repository that names the newer version of every family, and whose online keys are elsewhere."""

    def __init__(self) -> None:
        self.current = {family: new for family, (_, new) in FAMILIES.items()}

    def offers(self) -> list[Offer]:
        """What it names."""
        return [Offer(family, version, digest(family, version), 2_000) for family, version in self.current.items()]

    def prepared(self, family: str) -> Offer | None:
        """The older version."""
        old = FAMILIES[family][0]
        return Offer(family, old, digest(family, old), 2_000, is_return=True)

    def go_back(self, family: str, sha256: str) -> None:  # noqa: ARG002
        """By hand for one family."""
        if family == "hypotension":
            raise ConfigError(
                "return-by-hand",
                "the keys of snapshot and timestamp are not on this server; where they are, run edgeward publish "
                f"--release-return {family}: the return goes on by itself afterwards",
            )


class Simulated:
    """A device that obeys, at its own pace."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.id = f"d-{sha256(str(number).encode()).hexdigest()[:16]}"
        self.ward = WARDS[number % len(WARDS)]
        self.label = f"{self.ward} · bed {number // len(WARDS) + 1}"
        self.chance = chance
        self.sequence = 0
        self.seen_s = 0
        self.held = {family: old for family, (old, _) in FAMILIES.items()}
        self.progress: dict[str, Progress] = {}
        self.bad = dict.fromkeys(FAMILIES, 0.0)
        self.rung = Rung.THRESHOLD_ONLY if chance.random() < 0.006 else Rung.LOCAL

    def report(self) -> CheckIn:
        """What it says now."""
        self.sequence += 1
        families = tuple(
            FamilyReport(
                family, Held(version, digest(family, version)), None, self.progress.get(family), self.rung,
                self.sequence * 240, self.sequence * 7, 0, 1_850 + 17 * (self.sequence % 9),
            )
            for family, version in self.held.items()
        )  # fmt: skip
        return CheckIn(3, self.sequence, 86_400, 1_800_000_000, 41_000, FACTS, families)

    def obey(self, order: Order) -> None:
        """Take an order."""
        known = self.progress.get(order.family)
        if order.deed is Deed.INSTALL and (known is None or known.rollout != order.rollout):
            self.progress[order.family] = Progress(
                order.rollout, order.sha256, UpdateState.DOWNLOADING, 1, None, 30, Evidence()
            )
        elif order.deed is Deed.WITHDRAW and known is not None:
            self.progress[order.family] = replace(known, state=UpdateState.FAILED, why=Why.WITHDRAWN)

    def work(self) -> None:
        """Get on with updates, at its own pace."""
        order = list(UpdateState)
        for family, known in self.progress.items():
            if known.state in {UpdateState.COMMITTED, UpdateState.FAILED, UpdateState.ROLLED_BACK}:
                continue
            if known.state is UpdateState.SOAKING:
                if self.chance.random() < 0.25:
                    continue
                evidence = Evidence(64, 1_900 + self.chance.randrange(300), 4_000, 84_000, 5_200, 21, 3_600)
                if self.chance.random() < self.bad[family]:
                    state, why = self.chance.choice(ERRORS)
                    self.progress[family] = replace(known, state=state, why=why, evidence=replace(evidence, soak_s=0))
                else:
                    done = replace(known, state=UpdateState.COMMITTED, percent=100, evidence=evidence)
                    self.progress[family] = done
                    versions = {digest(family, version): version for version in FAMILIES[family]}
                    self.held[family] = versions[known.sha256]
            elif self.chance.random() < 0.7:
                self.progress[family] = replace(known, state=order[order.index(known.state) + 1], percent=100)


class Preview:
    """A fleet in a temporary folder, filled with a story."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.now_s = int(time.time()) - 40_000
        self.folder = folder
        self.settings = FleetSettings(folder, name="St. Example Hospital", tls=False, port=0)
        authority = Authority.make(self.settings.name, self.now_s)
        certificate, key = self.settings.authority_files
        write_new(certificate, authority.pem.encode(), mode=0o644)
        write_new(key, authority.key_pem, mode=0o600)
        self.desk = Desk()
        fleet = open_fleet(self.settings, now_s=lambda: self.now_s)
        self.fleet = replace(fleet, desk=self.desk, accounts=Accounts(fleet.store, hasher=PasswordHasher(1, 64, 1)))
        migrate(self.fleet.store)
        self.book = Book()
        self.clock = Clock(self.fleet.store, self.desk, lambda: self.now_s, holder="preview")
        for name, role in (("olga", Role.OPERATOR), ("anton", Role.APPROVER), ("quinn", Role.AUDITOR)):
            self.fleet.accounts.add_user(name, role, PASSWORD, actor="cli:preview", now_s=self.now_s)
        chance = random.Random(11)
        self.devices = [Simulated(number, chance) for number in range(devices)]
        self.away = set(self.devices[5::97])
        self._enrol()

    def _enrol(self) -> None:
        rows, families, certificates, tags = [], [], [], []
        for number, one in enumerate(self.devices):
            rows.append(
                {
                    "id": one.id, "state": "active", "label": one.label, "group": one.ward, "enrolled_s": self.now_s,
                    "key_fingerprint": sha256(one.id.encode()).hexdigest(), "machine": "aarch64",
                    "accelerator": "tensorrt", "cores": 8, "memory_mib": 15_600, "disk_mib": 58_000, "beds": 8,
                    "software": FACTS.software, "free_mib": 41_000, "seen_s": self.now_s,
                }
            )  # fmt: skip
            families += [
                {"device_id": one.id, "family": name, "version": version, "sha256": digest(name, version),
                 "rung": one.rung.value}
                for name, version in one.held.items()
            ]  # fmt: skip
            certificates.append(
                {"fingerprint": sha256(f"c {one.id}".encode()).hexdigest(), "device_id": one.id, "key_fingerprint": "",
                 "serial": one.id, "issued_s": self.now_s, "expires_s": self.now_s + 45 * 86_400, "state": "current",
                 "pem": ""}
            )  # fmt: skip
            tags += [{"device_id": one.id, "tag": tag} for tag in ("canary", "two screens")[: number % 3]]
        with self.fleet.store.writing() as session:
            session.execute(insert(Device), rows)
            session.execute(insert(DeviceFamily), families)
            session.execute(insert(Certificate), certificates)
            session.execute(insert(DeviceTag), tags)
            for number in range(3):
                session.add(
                    Enrolment(
                        fingerprint=sha256(f"new {number}".encode()).hexdigest(), state="pending", csr="",
                        facts=encode(FACTS).decode(), first_s=self.now_s + 39_000 + 200 * number, asked_s=self.now_s,
                    )
                )  # fmt: skip

    def round(self, seconds: int = 300) -> None:
        """Everybody who is not away works and checks in; then the clock ticks."""
        self.now_s += seconds
        with self.fleet.store.writing() as session:
            for one in self.devices:
                if one not in self.away:
                    one.work()
                    self._check_in(session, one)
        self.clock.tick()

    def _check_in(self, session: Session, one: Simulated) -> None:
        report = one.report()
        told = {"seen_s": self.now_s, "report": encode(report).decode(), "boot": 3, "sequence": one.sequence}
        session.execute(update(Device).where(Device.id == one.id).values(**told))
        for family in report.families:
            progress = family.progress
            values: dict[str, Any] = {"version": family.current.version, "sha256": family.current.sha256}  # type: ignore[union-attr]
            if progress is not None:
                why = progress.why.value if progress.why else ""
                values |= {"rollout": progress.rollout, "update_state": progress.state.value, "why": why}
            mine = (DeviceFamily.device_id == one.id, DeviceFamily.family == family.family)
            session.execute(update(DeviceFamily).where(*mine).values(**values))
        for order in self.book.heard(session, one.id, report, self.now_s):
            one.obey(order)

    def draft(self, family: str, label: str, plan: dict[str, Any], *, approve: bool = True) -> int:
        """A rollout by olga, approved by anton."""
        wish = people.Wish(family, label=label, plan=read_plan(plan))
        number = people.create(self.fleet.store, self.desk, wish, by="olga", now_s=self.now_s)
        if approve:
            people.decide(self.fleet.store, number, "approve", by="anton", now_s=self.now_s)
        return number

    def story(self) -> None:
        """One rollout that goes well and is under way, one that its canary halted, one that waits for approval."""
        plan = {"shadow": "1 h", "soak": "1 h", "silent": "1 h"}
        for one in self.devices[3::41]:
            one.bad["ecg-beat"] = 1.0
        for one in self.devices:
            one.bad["hypotension"] = 0.35
        self.round()
        self.draft("hypotension", "first compressed version", plan)
        for _ in range(14):
            self.round()
        self.draft("ecg-beat", "smaller network, same figures", {
            **plan,
            "stage": [
                {"name": "canary", "count": 10, "share": "10 %", "errors": "10 %", "success": "90 %"},
                {"name": "up to 10 %", "share": "10 %"},
                {"name": "up to 50 %", "share": "50 %", "errors": "6 %"},
                {"name": "the rest", "errors": "6 %"},
            ],
        })  # fmt: skip
        for _ in range(35):
            self.round()
        self.draft("sepsis-risk", "trees retrained on this year's stays", plan, approve=False)
        self.round()


def serve(preview: Preview) -> tuple[Any, str]:
    listener = listen(preview.settings)
    server = server_of(create_app(preview.fleet, routers=(rollouts.router, *ROUTERS)), preview.settings)
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    return server, url_of(preview.settings, listener)


SHOTS = {
    "login": ("", "login", 900),
    "overview": ("quinn", "", 740),
    "devices": ("olga", "devices?rung=LOCAL", 900),
    "device": ("olga", "devices/{device}", 1070),
    "revoke": ("olga", "devices/{device}", 1100),
    "rollouts": ("olga", "rollouts", 700),
    "rollout": ("anton", "rollouts/2", 1210),
    "halted": ("olga", "rollouts/1", 1500),
    "draft": ("anton", "rollouts/3", 1300),
    "new": ("olga", "rollouts/new", 1000),
    "enrolments": ("olga", "enrolments", 900),
    "audit": ("quinn", "audit", 900),
}


def take_pictures(preview: Preview, url: str, folder: Path, only: list[str], theme: str, width: int) -> None:
    """Every page as its user sees it."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "bedside" / "page"))
    from page_chromium import Chromium, find_chromium

    binary = find_chromium()
    if binary is None:
        raise SystemExit("pictures need a Chromium; apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Chromium(binary, Path(profile)) as browser:
        tab = browser.page()
        tab.prefer(prefers_color_scheme=theme, prefers_reduced_motion="reduce")
        known = ""
        for name, (user, path, height) in SHOTS.items():
            if only and name not in only:
                continue
            tab.size(width, height)
            if user and user != known:
                if known:
                    tab.js("document.querySelector('.who').requestSubmit()")
                    tab.wait("document.querySelector('input[name=password]')")
                tab.open(f"{url}/login")
                tab.js(f"document.querySelector('input[name=name]').value = '{user}'")
                tab.js(f"document.querySelector('input[name=password]').value = '{PASSWORD}'")
                tab.js("document.querySelector('form.card').requestSubmit()")
                tab.wait("document.querySelector('nav')")
                known = user
            failing = next(one for one in preview.devices if one.progress.get("ecg-beat") and one.bad["ecg-beat"])
            tab.open(f"{url}/{path.format(device=failing.id)}")
            if tab.js("Boolean(document.querySelector('main[data-live]'))"):
                tab.wait("document.querySelector('.link').dataset.link === 'live'")
            if name == "revoke":
                tab.js("document.querySelector('#actions summary').click()")
            time.sleep(0.3)
            tab.screenshot(folder / f"console-{name}.png")
            print(folder / f"console-{name}.png", flush=True)
        for line in tab.complaints():
            print("complaint:", line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=3_600.0, help="how long it is served")
    parser.add_argument("--shots", type=Path, help="take pictures into this folder, then end")
    parser.add_argument("--only", nargs="*", default=[], choices=sorted(SHOTS), help="these pictures alone")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--width", type=int, default=1400)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        preview = Preview(Path(folder), chosen.devices)
        preview.story()
        server, url = serve(preview)
        print(f"console: {url}, as olga, anton or quinn with the password {PASSWORD!r}", flush=True)
        time.sleep(1.0)
        if chosen.shots is None:
            until = time.monotonic() + chosen.seconds
            while time.monotonic() < until:
                time.sleep(3.0)
                preview.round(60)
        else:
            take_pictures(preview, url, chosen.shots, chosen.only, chosen.theme, chosen.width)
        server.should_exit = True
        time.sleep(0.5)


if __name__ == "__main__":
    main()
