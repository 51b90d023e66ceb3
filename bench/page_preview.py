"""Feed the pages with made-up patients, to look at them: ``python bench/page_preview.py --scene all``.

Scenes of one bed with an ECG: live (AI local), threshold (AI stopped, alerts go on), leadoff (one lead off, then
samples missing), noai, all (one after another). Scenes of a ward: busy, calm. All made up; the pages say SIMULATED.

    python bench/page_preview.py --scene busy --beds 16
    python bench/page_preview.py --scene busy --shots docs/img     # the pictures of docs/pages.md, by a real Chromium
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.bedside.page import PageServer, WardServer
from edgeward.testing.ward import Player, ScriptedWard
from edgeward.testing.ward_patients import SCENES as WARD_SCENES

RATE_HZ = 250
BLOCK = 32
SCENES = ("live", "threshold", "leadoff", "noai")
CLASSES = "NNNNSNNVNNFNNVVVNNQ"
Note = dict[str, Any]


def beat_wave(t_s: float, ventricular: bool) -> float:
    """One heart beat in mV at ``t_s`` from its R peak: a sum of Gaussians; a wide one for a ventricular beat."""
    bumps = ((-0.17, 0.022, 0.12), (-0.028, 0.009, -0.1), (0.0, 0.01, 1.15), (0.03, 0.011, -0.25), (0.24, 0.05, 0.28))
    if ventricular:
        bumps = ((0.0, 0.035, 1.5), (0.09, 0.03, -0.5), (0.3, 0.07, -0.4))
    return sum(mv * math.exp(-0.5 * ((t_s - at) / width) ** 2) for at, width, mv in bumps)


class Patient:
    """Endless two-lead ECG with a beat list that repeats."""

    def __init__(self) -> None:
        self.index = 0
        self.noise = np.random.default_rng(7)
        self.beats: list[tuple[int, str]] = []
        self.count = 0
        self._extend(60)

    def _extend(self, seconds: float) -> None:
        at = self.beats[-1][0] if self.beats else 100
        end = self.index + seconds * RATE_HZ
        while at < end:
            cls = CLASSES[self.count % len(CLASSES)]
            self.count += 1
            at += round(RATE_HZ * {"N": 0.80, "S": 0.55, "V": 0.52, "F": 0.7, "Q": 0.8}[cls])
            self.beats.append((at, cls))

    def block(self) -> tuple[list[list[int]], list[tuple[int, str]]]:
        """BLOCK samples of both leads in µV, and the beats whose class is known by now (0.9 s behind)."""
        self._extend(3)
        start, stop = self.index, self.index + BLOCK
        near = [(at, cls) for at, cls in self.beats if start - 200 < at < stop + 200]
        values = [
            1000 * sum(beat_wave((k - at) / RATE_HZ, cls in "VF") for at, cls in near) + 60 * math.sin(k / 300)
            for k in range(start, stop)
        ]
        noise = self.noise.normal(0, 12, BLOCK)
        known = [(at, cls) for at, cls in self.beats if start - 225 <= at < stop - 225]
        self.beats = [beat for beat in self.beats if beat[0] > start - 2000]
        self.index = stop
        second = [round(-0.35 * value + float(n)) for value, n in zip(values, noise[::-1], strict=True)]
        return [[round(value + float(n)) for value, n in zip(values, noise, strict=True)], second], known


def note(key: str, text: str, priority: str, ago_s: float, active: bool = True) -> Note:
    return {"id": key, "code": key, "text": text, "priority": priority, "raised_ms_ago": ago_s * 1000, "active": active}


def set_scene(page: PageServer, scene: str) -> None:
    """Publish what is said once on entering a scene."""
    modes = {"live": ("LOCAL", ""), "threshold": ("THRESHOLD_ONLY", "engine_crashed"), "leadoff": ("LOCAL", "")}
    mode, reason = modes.get(scene, ("NO_AI", "lead_off"))
    page.publish("mode", {"mode": mode, "reason": reason, "since_ms": 0 if scene != "live" else 754_000})
    off = scene == "leadoff"
    page.publish(
        "quality", {"leads": {"II": "lead_off" if scene == "noai" else "ok", "V1": "lead_off" if off else "ok"}}
    )
    live = scene == "live"
    page.publish("advisory", note("veb-run", "Run of 3 ventricular beats", "medium", 42, live))
    page.publish("advisory", note("frequent-sveb", "Frequent supraventricular ectopic beats", "low", 320, live))
    page.publish("advisory", note("frequent-veb", "Frequent ventricular ectopic beats", "medium", 900, False))
    page.publish("alert", note("hr-high", "Heart rate above 120 /min", "medium", 15, scene == "threshold"))
    page.publish("alert", note("hr-extreme", "Heart rate above 140 /min", "high", 5, scene == "threshold"))
    page.publish("alert", note("leads", "A lead is off", "low", 3, off or scene == "noai"))


def latency(scene: str, number: int) -> dict[str, Any]:
    stages = [("resample", 60, 140, 410), ("QRS", 90, 210, 600), ("window", 45, 95, 220), ("model", 620, 1180, 2900)]
    rows = [{"name": n, "p50_us": a, "p99_us": b, "max_us": c, "count": number} for n, a, b, c in stages]
    total = {
        "name": "total",
        "p50_us": 830,
        "p99_us": 4630 if scene == "threshold" else 1720,
        "max_us": 9400,
        "count": number,
    }
    return {"stages": [*rows, total], "budget_ms": 4.0, "late": 3 if scene == "threshold" else 0}


def feed(page: PageServer, scene: str, seconds: float, patient: Patient, *, backlog_s: float = 0.0) -> None:
    """Publish one scene in real time; ``backlog_s`` of it at once, as if the page had been up before."""
    set_scene(page, scene)
    started, first = time.monotonic() - backlog_s, patient.index
    last_second = -1
    while patient.index - first < (seconds + backlog_s) * RATE_HZ:
        values, known = patient.block()
        off = scene == "noai"
        bad = [off, off or (scene == "leadoff" and patient.index - first > 4 * RATE_HZ)]
        missing = scene == "leadoff" and 10 < (patient.index - first) / RATE_HZ < 12
        if not missing:
            page.publish("wave", {"i": patient.index - BLOCK, "v": values, "bad": bad})
        for at, cls in known:
            page.publish("beat", verdict(scene, at, cls))
            page.publish("qrs", {"i": at})
        second = int(time.monotonic() - started)
        if second != last_second:
            last_second = second
            rate = {"threshold": 146, "noai": None}.get(scene, 78)
            page.publish("rate", {"hr_bpm": rate, "age_ms": 0})
            page.publish("latency", latency(scene, patient.index // 200))
        time.sleep(max(0.0, started + (patient.index - first) / RATE_HZ - time.monotonic()))


def verdict(scene: str, at: int, cls: str) -> dict[str, Any]:
    if scene in ("threshold", "noai"):
        return {"i": at, "cls": "?", "rr_ms": 800, "verdict": "fallback", "why": "engine_crashed"}
    if at % 7 == 0:
        return {"i": at, "cls": "?", "rr_ms": 800, "verdict": "withheld", "why": "noise"}
    return {"i": at, "cls": cls, "rr_ms": 800, "verdict": "accepted", "why": ""}


def show_ward(chosen: argparse.Namespace) -> None:
    """Play a ward with four hours behind it, to look at or to take pictures of."""
    ward = ScriptedWard(chosen.scene, chosen.beds)
    with (
        WardServer(port=chosen.port, hello=ward.hello(), act=ward.act) as server,
        Player(ward, server.publish, minutes=240),
    ):
        print(f"page: {server.url}", flush=True)
        if chosen.shots is None:
            time.sleep(chosen.seconds)
        else:
            take_pictures(server.url, chosen.shots)


def take_pictures(url: str, folder: Path) -> None:
    """The ward and its bleeding bed, as a wall screen shows them."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "bedside" / "page"))
    from page_chromium import Chromium, find_chromium

    binary = find_chromium()
    if binary is None:
        raise SystemExit("pictures need a Chromium; apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Chromium(binary, Path(profile)) as browser:
        for name, path in (("ward", ""), ("bed", "beds/Bed%207")):
            tab = browser.page()
            tab.size(1600, 900)
            tab.prefer(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
            tab.open(url + path)
            tab.wait("document.body.dataset.link === 'live' && document.querySelector('.num').textContent")
            time.sleep(3.0)
            tab.screenshot(folder / f"{name}.png")
            print(folder / f"{name}.png", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", choices=(*SCENES, "all", *WARD_SCENES), default="all")
    parser.add_argument("--port", type=int, default=8600)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each scene")
    parser.add_argument("--backlog", type=float, default=0.0, help="seconds published at once at the start")
    parser.add_argument("--beds", type=int, default=12, help="of a ward, up to 64")
    parser.add_argument("--shots", type=Path, help="take pictures of a ward's pages into this folder, then end")
    chosen = parser.parse_args()
    if chosen.scene in WARD_SCENES:
        show_ward(chosen)
    else:
        show_strip(chosen)


def show_strip(chosen: argparse.Namespace) -> None:
    """Play one bed with an ECG."""
    hello = {
        "site": "Demo ward", "bed": "Bed 4", "leads": ["II", "V1"], "rate_hz": RATE_HZ, "budget_ms": 4.0,
        "simulated": True, "bundle": {"name": "ecg-beats", "version": "1.2.0", "hash8": "3fa94c1e"},
    }  # fmt: skip
    with PageServer(port=chosen.port, hello=hello) as page:
        print(f"page: {page.url}", flush=True)
        patient = Patient()
        for scene in SCENES if chosen.scene == "all" else (chosen.scene,):
            feed(page, scene, chosen.seconds, patient, backlog_s=chosen.backlog)


if __name__ == "__main__":
    main()
