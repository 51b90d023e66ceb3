"""What an HL7 message costs, in one run: ``python bench/hl7_in.py [--cpu 0] [--seconds 20]``.

An ORU^R01 of 20 OBX as gateways send it (about 2.6 kB), every one a numeric of another kind or channel:

- messages/s on one core for tokenising (``wire.hl7v2.parse``) beside the ``hl7`` package's ``parse`` (needs the dev
  extra), for decoding to typed observations, and for the whole of a message: decoded, taken by a rim, acknowledged;
- µs from the bytes written on a loopback socket by another process until a rim has the numerics, p50, p99 and maximum,
  at the pace of 64 beds that send once a second, and messages/s where the sender does not wait.

``--cpu`` keeps this process on one processor; the sender runs on another where there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from edgeward.bedside.source.hl7 import Hl7Listener
from edgeward.bedside.source.hl7_receive import Receiver
from edgeward.bedside.source.hl7_settings import Hl7Settings
from edgeward.bedside.source.reading import Receipt
from edgeward.bedside.system import SystemClock
from edgeward.inference.latency import LatencyHistogram
from edgeward.wire import mllp
from edgeward.wire.codes import CodeTable
from edgeward.wire.hl7v2 import parse
from edgeward.wire.hl7v2_decode import decode
from edgeward.wire.hl7v2_header import read_header
from edgeward.wire.hl7v2_observation import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.source.reading import Reading

BEDS = 64
_CODES = (
    *(
        "147842^MDC_ECG_HEART_RATE 75 264864^MDC_DIM_BEAT_PER_MIN",
        "150456^MDC_PULS_OXIM_SAT_O2 97 262688^MDC_DIM_PERCENT",
    ),
    *(
        "149530^MDC_PULS_OXIM_PULS_RATE 74 264864^MDC_DIM_BEAT_PER_MIN",
        "150488^MDC_BLD_PERF_INDEX 1.7 262688^MDC_DIM_PERCENT",
    ),
    *(
        "151578^MDC_TTHOR_RESP_RATE 17 264928^MDC_DIM_RESP_PER_MIN",
        "148066^MDC_ECG_V_P_C_RATE 1 264864^MDC_DIM_BEAT_PER_MIN",
    ),
    *("150033^MDC_PRESS_BLD_ART_SYS 121 266016^MDC_DIM_MMHG", "150034^MDC_PRESS_BLD_ART_DIA 68 266016^MDC_DIM_MMHG"),
    *(
        "150035^MDC_PRESS_BLD_ART_MEAN 86 266016^MDC_DIM_MMHG",
        "150021^MDC_PRESS_BLD_NONINV_SYS 118 266016^MDC_DIM_MMHG",
    ),
    *(
        "150022^MDC_PRESS_BLD_NONINV_DIA 70 266016^MDC_DIM_MMHG",
        "150023^MDC_PRESS_BLD_NONINV_MEAN 88 266016^MDC_DIM_MMHG",
    ),
    *("150087^MDC_PRESS_BLD_VEN_CENT_MEAN 6 266016^MDC_DIM_MMHG", "150344^MDC_TEMP 36.8 268192^MDC_DIM_DEGC"),
    *(
        "151708^MDC_CONC_AWAY_CO2_ET 4.9 265987^MDC_DIM_KILO_PASCAL",
        "152196^MDC_CONC_AWAY_O2_INSP 40 262688^MDC_DIM_PERCENT",
    ),
    *("159748^MDC_CONC_PH_ART 7.38 262656^MDC_DIM_DIMLESS", "159752^MDC_CONC_PCO2_ART 5.2 265987^MDC_DIM_KILO_PASCAL"),
    *(
        "159756^MDC_CONC_PO2_ART 12.1 265987^MDC_DIM_KILO_PASCAL",
        "188736^MDC_MASS_BODY_ACTUAL 81 263875^MDC_DIM_KILO_G",
    ),
)


def message(control: str = "1", place: str = "ICU^^5") -> bytes:
    """One message of 20 OBX, made now."""
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S.%f")[:-2] + "+0000"
    gateway = "GATEWAY^00A03700273EDE18^EUI-64"
    profile = "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO"
    rows = [
        f"MSH|^~\\&|{gateway}|MAKER|||{now}||ORU^R01^ORU_R01|{control}|P|2.6|||AL|NE||UNICODE UTF-8|||{profile}",
        "PID|||MRN4711^^^HOSP^MR||Muster^Erika^^^^^L||19540721|F",
        f"PV1||I|{place}",
        f"OBR|1|{control}^{gateway}|{control}^{gateway}|182777000^monitoring of patient^SCT|||{now}",
    ]
    unit_id = "00A0370027^UNIT^00A0370027^EUI-64"
    for number, line in enumerate(_CODES, 1):
        code, value, unit = line.split(" ")
        rows.append(f"OBX|{number}|NM|{code}^MDC|1.{number}.1.1|{value}|{unit}^MDC|||||R|||{now}||||{unit_id}")
    return "".join(row + "\r" for row in rows).encode()


class _Rim:
    """Takes everything and notes when; ``place`` carries the moment of writing."""

    def __init__(self) -> None:
        self.latency = LatencyHistogram()
        self.taken = self.numerics = 0

    def take(self, reading: Reading) -> Receipt:
        now = time.monotonic_ns()
        self.taken += 1
        self.numerics += len(reading.numerics)
        if reading.place.isdecimal():
            self.latency.record(now - int(reading.place))
        return Receipt.TAKEN

    def peer(self, source: str, peer: str, *, connected: bool) -> None:
        """Nothing to note."""


def main() -> int:
    """Measure and print; exit code 1 where a numeric was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", type=int, help="keep this process on one processor")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the socket measurement")
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--flood", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        return _send(arguments.send, arguments.seconds, flood=arguments.flood)
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    content = message()
    print(f"one message: {len(content):,} bytes, {len(_CODES)} OBX; load average {os.getloadavg()[0]:.1f}")
    _in_process(content)
    lost = 0
    for flood in (False, True):
        lost += asyncio.run(_over_socket(arguments.seconds, flood=flood, cpu=arguments.cpu))
    return 1 if lost else 0


def _in_process(content: bytes) -> None:
    reader, clock = Reader(CodeTable()), SystemClock()
    rim = _Rim()
    receiver = Receiver(rim, clock, CodeTable())
    bare = content.replace(b"|1|P|", b"||P|")  # without a control id nothing is taken for repeated

    def to_observations() -> None:
        parsed = parse(content)
        decode(parsed, read_header(parsed), reader, time.time_ns())

    ours = _rate("tokenise: wire.hl7v2.parse", lambda: parse(content))
    try:
        import hl7 as package
    except ImportError:
        print("the hl7 package is not installed (dev extra): no comparison")
    else:
        text = content.decode()
        theirs = _rate(f"tokenise: hl7 {version('hl7')}", lambda: package.parse(text), repeats=3, calls=60)
        print(f"  {ours / theirs:.0f} times as fast")
    _rate("decode to typed observations", to_observations)
    _rate("decode, take, acknowledge", lambda: receiver.receive(bare, "bench"))
    print(f"  {rim.numerics / rim.taken:.0f} numerics of each message, {receiver.counts.taken:,} messages taken")


def _rate(name: str, call: Callable[[], object], repeats: int = 15, calls: int = 1000) -> float:
    """Best of several rounds, by processor time: other jobs on the machine only ever slow a round down."""
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - begin) / calls)
    print(f"{name:<34}{1 / best:>10,.0f} messages/s {1e6 * best:>9.1f} µs")
    return 1 / best


async def _over_socket(seconds: float, *, flood: bool, cpu: int | None) -> int:
    rim = _Rim()
    listener = Hl7Listener(rim, SystemClock(), Hl7Settings(port=0))
    await listener.start()
    command = [sys.executable, __file__, "--send", str(listener.port), "--seconds", str(seconds)]
    others = os.sched_getaffinity(0) if cpu is None else set(range(os.cpu_count() or 1)) - {cpu}
    sender = await asyncio.create_subprocess_exec(
        *command,
        *(["--flood"] if flood else []),
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, others) if others else None,
    )
    begin = time.monotonic()
    out, _ = await sender.communicate()
    took_s = time.monotonic() - begin
    await listener.close()
    sent = int(out)
    if flood:
        print(f"{'socket, a sender that does not wait':<34}{rim.taken / took_s:>10,.0f} messages/s")
    else:
        seen = rim.latency.snapshot()
        print(
            f"socket to numerics, {BEDS} messages/s: p50 {seen.p50_us:.0f} µs, p99 {seen.p99_us:.0f} µs, "
            f"max {seen.max_us:.0f} µs ({rim.taken:,} messages)"
        )
    if sent != rim.taken:
        print(f"  {sent - rim.taken} messages lost")
    return sent - rim.taken


def _send(port: int, seconds: float, *, flood: bool) -> int:
    """The sender's process: paced like 64 beds, or as fast as answers allow with 64 messages on their way."""
    decoder = mllp.Decoder()
    sent = answered = 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            if not flood:
                time.sleep(max(0.0, begin + sent / BEDS - time.monotonic()))
            while sent - answered < (BEDS if flood else 1):
                place = "FLOOD" if flood else str(time.monotonic_ns())
                connection.sendall(mllp.encode(message(str(sent), place)))
                sent += 1
            answered += len(decoder.feed(connection.recv(1 << 16)))
        while answered < sent:
            answered += len(decoder.feed(connection.recv(1 << 16)))
    print(sent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
