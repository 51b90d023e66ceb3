"""What FHIR costs a device: Observations in, scores out, and the outbox between a score and the wire.

In: µs to read one Observation (``wire.fhir``) beside a validation by ``fhir.resources`` (needs the dev extra);
Observations/s and the delay that a sender sees, p50, p99 and maximum, over real HTTP on loopback from a process of its
own: one by one on one connection, in Bundles of 50, and at the pace of 64 beds that send once a second.
Out: µs to make a score's transaction, µs that ``put`` takes of its caller, items/s made durable.

    python bench/fhir_rest.py [--seconds 10] [--cpu 1]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bedside.output.outbox import Item, Outbox
from edgeward.bedside.source.fhir import FhirSettings, FhirSource
from edgeward.bedside.source.reading import Reading, Receipt
from edgeward.bedside.system import SystemClock
from edgeward.wire import fhir_out
from edgeward.wire.codes import CodeTable
from edgeward.wire.entries import Driver, Score
from edgeward.wire.fhir import Around, Reader
from edgeward.wire.fhir_json import At, parse
from edgeward.wire.fhir_out import Author

if TYPE_CHECKING:
    from collections.abc import Callable

BEDS = 64


def observation(value: float) -> dict[str, object]:
    """A heart rate as an EHR sends it."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "vital-signs",
                        "display": "Vital Signs",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]},
        "subject": {"identifier": {"system": "urn:oid:1.2.3", "value": "P1"}},
        "effectiveDateTime": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "valueQuantity": {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    }


class _Rim:
    """Takes everything."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, reading: Reading) -> Receipt:
        """One reading."""
        self.taken += len(reading.numerics)
        return Receipt.TAKEN

    def peer(self, source: str, peer: str, *, connected: bool) -> None:
        """Nobody asks."""


def send(port: int, seconds: float, bundle: int, pace_hz: float) -> None:
    """The sender's process: posts on one connection and prints each request's delay in ms."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    delays, number, began = [], 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        if pace_hz:
            time.sleep(max(0.0, began + number / pace_hz - time.perf_counter()))
        number += 1
        body: dict[str, object] = observation(60 + number % 50)
        if bundle:
            entry = {"resource": body, "request": {"method": "POST", "url": "Observation"}}
            body = {"resourceType": "Bundle", "type": "batch", "entry": [entry] * bundle}
        data = json.dumps(body)
        at = time.perf_counter()
        path = "/fhir" if bundle else "/fhir/Observation"
        connection.request("POST", path, data, {"Content-Type": "application/fhir+json"})
        response = connection.getresponse()
        response.read()
        assert response.status in {200, 201}, response.status
        delays.append((time.perf_counter() - at) * 1000)
    print(json.dumps(delays))


async def serve(seconds: float, cpu: int) -> None:
    """The endpoint on this process's loop; one line for each way of sending."""
    source = FhirSource(_Rim(), SystemClock(), FhirSettings(port=0, rate_hz=10_000, burst=100_000))
    await source.start()
    print(f"{'over HTTP':34} {'obs/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}  core %  obs per core-second")
    for name, bundle, pace_hz in (("one by one", 0, 0.0), ("bundles of 50", 50, 0.0), (f"{BEDS} a second", 0, BEDS)):
        command = [sys.executable, __file__, "--send", str(source.port), "--seconds", str(seconds)]
        used, began = time.process_time(), time.perf_counter()
        sender = await asyncio.create_subprocess_exec(
            *command, "--cpu", str(cpu), "--bundle", str(bundle), "--pace", str(pace_hz), stdout=subprocess.PIPE
        )
        output, _ = await sender.communicate()
        share = (time.process_time() - used) / (time.perf_counter() - began)
        delays = np.array(json.loads(output))
        p50, p99, worst = np.percentile(delays, [50, 99, 100])
        rate = len(delays) * max(1, bundle) / seconds
        print(
            f"{name:34} {rate:8.0f} {p50:8.2f} {p99:8.2f} {worst:8.2f} {100 * share:7.1f} {rate / share:11.0f}",
            flush=True,
        )
    await source.close()


def timed(name: str, work: Callable[[], object], seconds: float) -> None:
    """Median µs of ``work``."""
    work()
    took, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        at = time.perf_counter_ns()
        work()
        took.append(time.perf_counter_ns() - at)
    p50, p99 = np.percentile(np.array(took) / 1000, [50, 99])
    print(f"{name:34} {p50:8.1f} µs p50 {p99:8.1f} µs p99", flush=True)


def measure_pure(seconds: float) -> None:
    """Reading and writing alone."""
    data, reader, around = json.dumps(observation(72)).encode(), Reader(CodeTable(), "ehr"), Around()
    now_ns = time.time_ns()
    timed("read an Observation", lambda: reader.observation(At(parse(data), "Observation"), around, now_ns), seconds)
    try:
        from fhir.resources.R4B.observation import Observation
    except ImportError:
        print("fhir.resources: not installed (extra dev)")
    else:
        timed("the same by fhir.resources", lambda: Observation.model_validate_json(data), seconds)
    author = Author("bay-3", "1")
    who = fhir_out.subject(frozenset({"P1^^^HOSP^MR"}), author)
    assert who is not None
    drivers = tuple(Driver(name, name, 1.0, "mmol/L", 0.5) for name in ("lactate", "hr", "rr"))
    score = Score("1", "sepsis-risk", "1", "local", now_ns, "accepted", "", 0.4, "watch", drivers, 0.1, 0.1)
    timed("make a score's transaction", lambda: fhir_out.score(score, who, author), seconds)


def measure_outbox(seconds: float) -> None:
    """What ``put`` costs its caller, and how many items become durable."""
    payload, clock = b"x" * 3_000, SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder) / "out.db", clock)
        took, number, until = [], 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            at = time.perf_counter_ns()
            outbox.put(Item("ehr", str(number), "score", payload))
            took.append(time.perf_counter_ns() - at)
            number += 1
            if number % 500 == 0:
                outbox.flush(60)
        rate = number / seconds
        p50, p99 = np.percentile(np.array(took) / 1000, [50, 99])
        print(f"{'put into the outbox':34} {p50:8.1f} µs p50 {p99:8.1f} µs p99; {rate:.0f} items/s durable", flush=True)
        alone = []
        for one in range(50):
            at = time.perf_counter_ns()
            outbox.put(Item("ehr", f"alone-{one}", "score", payload))
            outbox.flush(60)
            alone.append((time.perf_counter_ns() - at) / 1e6)
        print(f"{'one item until it is on the disk':34} {np.median(alone):8.1f} ms p50 {max(alone):8.1f} ms max")
        outbox.close()


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--cpu", type=int, default=1)
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--pace", type=float, default=0.0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if chosen.send:
        os.sched_setaffinity(0, {core for core in range(os.cpu_count() or 1) if core != chosen.cpu} or {chosen.cpu})
        send(chosen.send, chosen.seconds, chosen.bundle, chosen.pace)
        return
    measure_pure(min(2.0, chosen.seconds))
    measure_outbox(min(5.0, chosen.seconds))
    if chosen.cpu in cores:
        os.sched_setaffinity(0, {chosen.cpu})
    asyncio.run(serve(chosen.seconds, chosen.cpu))


if __name__ == "__main__":
    main()
