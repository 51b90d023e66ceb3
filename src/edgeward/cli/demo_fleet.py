"""The demo's last act: a fleet server, three wards, a good bundle that reaches all, a bad one that stops at the first.

Server and wards are processes of their own; devices enrol by one-time tokens and speak TLS 1.3. The bad bundle is
signed like any other: its golden vectors do not give the scores that it says they give.
"""

from __future__ import annotations

import importlib.util
import io
import json
import ssl
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bundle.archive import hash_members, read_bundle, write_bundle
from edgeward.cli.demo_children import Children
from edgeward.cli.shipped import shipped_bundle
from edgeward.inference.golden import EXPECTED_PREFIX
from edgeward.kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

FAMILY = "sepsis-risk"
WARDS = ("A", "B", "C")
PLAN = {
    "silent": "5 min",
    "shadow": "0 s",
    "soak": "2 s",
    "stage": [
        {"name": "one ward", "count": 1, "success": "100 %", "errors": "0 %"},
        {"name": "the others", "success": "100 %"},
    ],
}
DEADLINE_MS = 150.0
"""Of the bundles here: what shares its cores with a whole demo must not fail for its slowness."""
_STEP_S = 90.0
_TELLS = ("staged", "committed", "failed", "rolled-back")


class FleetAct:
    """Run it once; ``checks`` says what was to happen and whether it did. ``python``: with the fleet extra."""

    def __init__(self, folder: Path, python: str, tell: Callable[[str], None]) -> None:
        self._folder, self._python, self._tell = folder, python, tell
        self._children = Children(self._heard)
        self._states: dict[str, dict[str, str]] = {ward: {} for ward in WARDS}
        self._enrolled: set[str] = set()
        self._repository, self._keys = folder / "fleet-repository", folder / "fleet-keys"
        self._versions = _next_versions(shipped_bundle(FAMILY))
        self._server: dict[str, Any] = {}
        self._url = ""
        self._root = Path()
        self._completed = self._halted = False

    def run(self) -> None:
        """All of it. Raises ``EngineError`` ``demo-stuck`` when a step does not come."""
        try:
            self._serve()
            for ward in WARDS:
                self._enrol(ward)
            self._until("three wards with a bundle", lambda: self._all_at(self._versions[0], "committed"))
            good, bad = self._versions[1:]
            number = self._roll_out(good)
            self._until(f"{good} on every ward", lambda: self._all_at(good, "committed"))
            self._until(f"the rollout of {good} is over", lambda: self._status(number) == "completed")
            self._completed = True
            self._tell(f"rollout {number}: completed, {FAMILY} {good} serves on {len(WARDS)} wards")
            number = self._roll_out(bad, golden_shift=0.25)
            self._until(f"the rollout of {bad} is halted", lambda: self._status(number) == "halted")
            self._halted = True
            asked = ", ".join(ward for ward in WARDS if bad in self._states[ward])
            self._tell(f"rollout {number}: halted by its own gate; only ward {asked} was ever asked")
        finally:
            self.stop()

    def stop(self) -> None:
        """End every process of it."""
        self._children.stop()

    def checks(self) -> dict[str, bool]:
        """What was to happen, and whether it did."""
        _, good, bad = self._versions
        ended = [states[bad] for states in self._states.values() if bad in states]
        return {
            f"fleet: {len(WARDS)} wards enrolled over TLS 1.3": len(self._enrolled) == len(WARDS),
            f"fleet: {FAMILY} {good} rolled out to every ward": self._completed and self._all_at(good, "committed"),
            f"fleet: one ward refused {bad}, the others never saw it": self._halted and ended == ["failed"],
        }

    # --- the steps

    def _serve(self) -> None:
        from edgeward.trust.publish import Publisher

        self._root = Publisher(self._repository, self._keys).init()
        self._publish(self._versions[0])
        verb = ["-m", "edgeward.cli.demo_server", str(self._folder / "fleet"), str(self._repository)]
        verb += [str(self._root), str(self._keys)]
        server = self._children.spawn("server", [*verb, str(len(WARDS))], python=self._python)
        self._server = json.loads(self._children.await_line(server, "{"))
        self._url = self._children.await_line(server, "fleet: ").removeprefix("fleet: ")
        self._tell(f"fleet server at {self._url}, an authority of its own, an operator and an approver")

    def _enrol(self, ward: str) -> None:
        folder = self._folder / f"ward-{ward}"
        folder.mkdir()
        token, settings = folder / "token", folder / "ward.toml"
        token.touch(mode=0o600)
        token.write_text(self._server["tokens"][WARDS.index(ward)])
        settings.write_text(
            f'[ward]\nname = "Ward {ward}"\nstate_dir = "{folder / "state"}"\npage = false\ntasks = ["{FAMILY}"]\n'
            f'repository = "{self._url}/repository"\ntrusted_root = "{self._root}"\n'
            f'[fleet]\nurl = "{self._url}"\nca = "{self._server["ca"]}"\nfirst_s = 0.0\n'
        )
        enrolling = self._children.spawn(
            f"enrol {ward}", ["device", "enrol", "--settings", str(settings), "--token-file", str(token)]
        )
        self._children.await_line(enrolling, "accepted as ")
        self._children.spawn(ward, ["ward", "run", "--settings", str(settings), "--hl7-port", "0"])

    def _publish(self, version: str, *, golden_shift: float = 0.0) -> None:
        from edgeward.trust.publish import Publisher

        path = self._folder / f"{FAMILY}-{version}.ewb"
        path.write_bytes(_repacked(shipped_bundle(FAMILY), version, golden_shift))
        with_return = None if version == self._versions[0] else ""
        Publisher(self._repository, self._keys).add(path, with_return=with_return)

    def _roll_out(self, version: str, *, golden_shift: float = 0.0) -> int:
        self._publish(version, golden_shift=golden_shift)
        self._call("operator", "/api/v1/releases/look", {})  # the server looks by itself once a minute
        number = int(self._call("operator", "/api/v1/rollouts", {"family": FAMILY, "plan": PLAN})["id"])
        self._call("approver", f"/api/v1/rollouts/{number}/approve", {})
        self._tell(f"published {FAMILY} {version}; rollout {number} drafted by one person, approved by another")
        return number

    def _status(self, number: int) -> str:
        return str(self._call("operator", f"/api/v1/rollouts/{number}")["rollout"]["status"])

    def _call(self, who: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._server['people'][who]}", "Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310  (our own server, by https)
            self._url + path, None if body is None else json.dumps(body).encode(), headers
        )
        context = ssl.create_default_context(cafile=self._server["ca"])
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:  # noqa: S310
            said = answer.read()
        return json.loads(said) if said else None

    # --- what is heard

    def _until(self, what: str, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _STEP_S
        while not true():
            if time.monotonic() > deadline:
                raise EngineError("demo-stuck", f"the demo's fleet did not get there: {what}")
            self._children.take(0.5)

    def _all_at(self, version: str, state: str) -> bool:
        return all(states.get(version) == state for states in self._states.values())

    def _heard(self, name: str, line: str) -> None:
        text = line.removeprefix("edgeward: ")
        if name.startswith("enrol ") and text.startswith(("fingerprint", "accepted")):
            ward = name.removeprefix("enrol ")
            if text.startswith("accepted"):
                self._enrolled.add(ward)
            self._tell(f"ward {ward}: {' '.join(text.split())[:60]}")
        elif name in WARDS and text.startswith(f"update: {FAMILY} "):
            version, state = text.removeprefix(f"update: {FAMILY} ").split(" ", 2)[:2]
            state = state.rstrip(":")
            self._states[name][version] = state
            if state in _TELLS:
                self._tell(f"ward {name}: {text.removeprefix('update: ')}")


def python_with_fleet(named: str | None) -> str | None:
    """The interpreter that the fleet server can run with: the one named, else this one; None where it cannot."""
    if named:
        return named if Path(named).exists() else None
    needed = ("fastapi", "sqlalchemy", "uvicorn", "argon2")
    return sys.executable if all(importlib.util.find_spec(name) for name in needed) else None


def _next_versions(bundle: Path) -> tuple[str, str, str]:
    """Three patches of the shipped version."""
    major, minor, patch = (int(part) for part in read_bundle(bundle.read_bytes()).manifest.version.split("."))
    first, good, bad = (f"{major}.{minor}.{patch + more}" for more in (1, 2, 3))
    return first, good, bad


def _repacked(bundle: Path, version: str, golden_shift: float) -> bytes:
    """The same bundle as another version; with ``golden_shift`` added to every score that it says it gives."""
    found = read_bundle(bundle.read_bytes())
    members = dict(found.members)
    if golden_shift:
        name = found.manifest.golden.member
        with np.load(io.BytesIO(members[name])) as arrays:
            shifted = {
                key: array + np.float32(golden_shift) if key.startswith(EXPECTED_PREFIX) else array
                for key, array in arrays.items()
            }
        buffer = io.BytesIO()
        np.savez(buffer, **shifted)
        members[name] = buffer.getvalue()
    manifest = replace(found.manifest, version=version, deadline_ms=DEADLINE_MS, hashes=hash_members(members))
    return write_bundle(manifest, members)
