"""Mutate real-shaped HL7 messages and hold the device to what it promises, by oracles of their own.

    python tests/fuzz/hl7_fuzz.py [--runs 1000000] [--seed 1]

Of every mutation: nothing raises and nothing counts as an internal fault; nothing takes a second of processor time;
what is answered is what the sender's MSH asks for (worked out here, apart from the code under test), names its control
id and carries a fault where the message was refused; every number is plausible and not of the future; and no number and
no identifier is given to a patient or place other than the seed's own, unless the segment that names it was mutated.
An input that breaks a promise is left under tests/fuzz/found/; what it taught goes to tests/fuzz/kept/.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hl7_seeds import names, seed

from edgeward.bedside.source.hl7_receive import Receiver
from edgeward.kernel.clock import NS_PER_S
from edgeward.signal.numeric import plausible
from edgeward.testing.clock import ManualClock
from edgeward.testing.rim import RecordingRim
from edgeward.wire.codes import CodeTable
from edgeward.wire.hl7v2_ack import CONDITIONS
from edgeward.wire.mllp import Broken, Decoder, encode

if TYPE_CHECKING:
    from edgeward.bedside.source.reading import Reading

FOUND = Path(__file__).with_name("found")
HANG_S = 1.0
MUTATIONS_MAX = 5

_SPECIAL = [
    b"|",
    b"^",
    b"~",
    b"\\",
    b"&",
    b"\r",
    b"\n",
    b"\r\n",
    b"\x00",
    b"\x0b",
    b"\x1c",
    b'""',
    b"\xff",
    b"\xd0\x98",
]
_FIELDS = [
    *(
        b"",
        b'""',
        b"0",
        b"-1",
        b"-100",
        b"-999",
        b"-99.9",
        b"999999999999999",
        b"1e308",
        b"nan",
        b"<5",
        b"^5",
        b"5^6~7",
    ),
    *(b"20260304101500", b"20260304101500.0000+0530", b"19000101", b"99991231235959", b"00000000000000", b"2026"),
    *(b"A" * 300, b"^" * 300, b"~" * 300, b"\\" * 301, b"\\F\\\\S\\\\X0D0A\\", b"\xcf\xf0\xe8", b"UNICODE UTF-16"),
    *(b"MDC", b"LN", b"AL", b"NE", b"ER", b"SU", b"X", b"F", b"T", b"ORU^R01", b"ADT^A01", b"ADT^A40", b"2.3", b"kPa"),
]


@dataclass(slots=True)
class Mutant:
    """A mutated message. ``local``: its segments still stand where they stood, so that ownership can be told."""

    content: bytes
    origin: str
    local: bool = True
    steps: list[str] = field(default_factory=list)


class Mutator:
    """Draws mutants from the seeds; the same ``random.Random`` draws the same mutants."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names = names()
        self._seeds = {name: seed(name) for name in self._names}
        self._lines = [line for content in self._seeds.values() for line in content.split(b"\r") if line]

    def draw(self) -> Mutant:
        """One mutant of one seed, by one to five steps."""
        rng = self._rng
        name = rng.choice(self._names)
        mutant = Mutant(self._seeds[name], name)
        for _ in range(rng.randint(1, MUTATIONS_MAX)):
            step = rng.choice(_STEPS)
            step(self, mutant)
            mutant.steps.append(step.__name__)
        return mutant

    def flip(self, mutant: Mutant) -> None:
        """Change one byte."""
        if mutant.content:
            at = self._rng.randrange(len(mutant.content))
            mutant.content = mutant.content[:at] + bytes([self._rng.randrange(256)]) + mutant.content[at + 1 :]

    def special(self, mutant: Mutant) -> None:
        """Put a byte that means something where it may not belong."""
        at = self._rng.randint(0, len(mutant.content))
        mutant.content = mutant.content[:at] + self._rng.choice(_SPECIAL) + mutant.content[at:]

    def cut_out(self, mutant: Mutant) -> None:
        """Lose a few bytes."""
        at = self._rng.randint(0, len(mutant.content))
        mutant.content = mutant.content[:at] + mutant.content[at + self._rng.randint(1, 12) :]

    def truncate(self, mutant: Mutant) -> None:
        """Lose the end."""
        mutant.content = mutant.content[: self._rng.randint(0, len(mutant.content))]

    def field(self, mutant: Mutant) -> None:
        """Replace a field."""
        lines = mutant.content.split(b"\r")
        at = self._rng.randrange(len(lines))
        fields = lines[at].split(b"|")
        fields[self._rng.randrange(len(fields))] = self._rng.choice(_FIELDS)
        lines[at] = b"|".join(fields)
        mutant.content = b"\r".join(lines)

    def drop_field(self, mutant: Mutant) -> None:
        """Lose a field, so that all behind it shift."""
        lines = mutant.content.split(b"\r")
        at = self._rng.randrange(len(lines))
        fields = lines[at].split(b"|")
        del fields[self._rng.randrange(len(fields))]
        lines[at] = b"|".join(fields)
        mutant.content = b"\r".join(lines)

    def drop_line(self, mutant: Mutant) -> None:
        """Lose a segment."""
        lines = mutant.content.split(b"\r")
        del lines[self._rng.randrange(len(lines))]
        mutant.content = b"\r".join(lines)

    def repeat_line(self, mutant: Mutant) -> None:
        """Say a segment again, somewhere."""
        lines = mutant.content.split(b"\r")
        lines.insert(self._rng.randint(0, len(lines)), self._rng.choice(lines))
        mutant.content, mutant.local = b"\r".join(lines), False

    def foreign_line(self, mutant: Mutant) -> None:
        """Take a segment of another message in."""
        lines = mutant.content.split(b"\r")
        lines.insert(self._rng.randint(0, len(lines)), self._rng.choice(self._lines))
        mutant.content, mutant.local = b"\r".join(lines), False

    def swap_lines(self, mutant: Mutant) -> None:
        """Put the segments out of order."""
        lines = mutant.content.split(b"\r")
        a, b = self._rng.randrange(len(lines)), self._rng.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]
        mutant.content, mutant.local = b"\r".join(lines), False

    def interleave(self, mutant: Mutant) -> None:
        """Let another message begin inside this one."""
        at = self._rng.randint(0, len(mutant.content))
        other = self._seeds[self._rng.choice(self._names)]
        mutant.content = mutant.content[:at] + other[: self._rng.randint(0, len(other))] + mutant.content[at:]
        mutant.local = False

    def line_ends(self, mutant: Mutant) -> None:
        """End segments otherwise."""
        mutant.content = mutant.content.replace(b"\r", self._rng.choice([b"\n", b"\r\n", b"\n\r", b"\r\r"]))

    def separators(self, mutant: Mutant) -> None:
        """Use other separators throughout."""
        old, new = self._rng.choice([(b"|", b"*"), (b"^", b"!"), (b"~", b"^"), (b"\\", b"/"), (b"&", b"%")])
        mutant.content, mutant.local = mutant.content.replace(old, new), False

    def recode(self, mutant: Mutant) -> None:
        """Send the text in another character set than is stated."""
        codec = self._rng.choice(["cp1251", "utf-16", "gb18030", "iso8859-5", "utf-8"])
        mutant.content = mutant.content.decode("utf-8", "replace").encode(codec, "replace")

    def swell(self, mutant: Mutant) -> None:
        """Grow, by a byte or a line repeated many times."""
        piece = self._rng.choice([b"|", b"^", b"\\", b"~", b"x", b"OBX|1\r", b"PID|1||7\r", b"\x00"])
        at = self._rng.randint(0, len(mutant.content))
        times = self._rng.choice([10, 100, 5_000] if self._rng.random() < 0.98 else [200_000])
        mutant.content = mutant.content[:at] + piece * times + mutant.content[at:]
        mutant.local = mutant.local and b"\r" not in piece


_STEPS = [
    *[Mutator.flip] * 6,
    *[Mutator.field] * 6,
    *[Mutator.special] * 3,
    *[Mutator.cut_out] * 2,
    *[Mutator.truncate, Mutator.drop_field, Mutator.drop_line, Mutator.repeat_line, Mutator.foreign_line],
    *[Mutator.swap_lines, Mutator.interleave, Mutator.line_ends, Mutator.separators, Mutator.recode, Mutator.swell],
]


class _Clock(ManualClock):
    """Stands at the moment of the seeds, but for what it is told to move."""

    def wall(self) -> datetime:
        return datetime(2026, 3, 4, 10, 15, 2, tzinfo=UTC)


class BrokenPromiseError(AssertionError):
    """A promise was not kept."""


class Harness:
    """A device under fire, and the oracles."""

    def __init__(self) -> None:
        self._rim = RecordingRim()
        self._clock = _Clock(86_400 * NS_PER_S)
        self._receiver = Receiver(self._rim, self._clock, CodeTable())
        self._origins = {name: _Origin(seed(name)) for name in names()}
        self.refused = self.taken = 0
        self.slowest_s = 0.0

    def check(self, mutant: Mutant, rng: random.Random) -> None:
        """Feed one mutant through blocks or as it is; raises ``BrokenPromiseError`` for a broken promise."""
        self._rim.readings.clear()
        self._clock.advance(0.01)
        begin = time.process_time()  # what else the machine does is no hang of ours
        blocked = not {0x0B, 0x1C} & set(mutant.content)
        if blocked and rng.random() < 0.2:
            answer = self._through_blocks(mutant.content, rng)
        else:
            answer = self._receiver.receive(mutant.content, "peer")
        took_s = time.process_time() - begin
        self.slowest_s = max(self.slowest_s, took_s)
        _hold(took_s < HANG_S, f"it took {took_s:.2f} s")
        _hold(self._receiver.counts.internal == 0, "an exception that should never be")
        readings = self._rim.readings
        whole = [r.code for reading in readings for r in reading.refusals if r.code in CONDITIONS]
        self.refused += bool(whole)
        self.taken += not whole
        _check_answer(mutant.content, answer, whole)
        for reading in readings:
            _check_reading(reading)
        self._origins[mutant.origin].check(mutant, readings)

    def _through_blocks(self, content: bytes, rng: random.Random) -> bytes:
        decoder = Decoder()
        stream = rng.choice([b"", b"\x00\x00", b"\r\n"]) + encode(content) + rng.choice([b"", b"\x00"])
        answer = b""
        while stream:
            cut = rng.randint(1, len(stream))
            for item in decoder.feed(stream[:cut]):
                _hold(not isinstance(item, Broken) or item.code == "mllp-oversize", "a whole block came out broken")
                if isinstance(item, Broken):
                    answer += self._receiver.broken(item, "peer")
                else:
                    answer += self._receiver.receive(item, "peer")
            stream = stream[cut:]
        return answer


class _Origin:
    """What a seed says of whom and where, worked out by hand-written means."""

    def __init__(self, content: bytes) -> None:
        self._lines = [line for line in content.split(b"\r") if line]
        self._naming = {name: [line for line in self._lines if line[:3] == name] for name in (b"PID", b"PV1", b"MRG")}
        text = content.decode("utf-8")
        self._numbers = set()
        for line in text.split("\r"):
            fields = line.split("|")
            wanted = {"PID": (3, 18, 19), "MRG": (1, 3, 4)}.get(fields[0], ())
            for at in wanted:
                if at < len(fields):
                    self._numbers |= {part.split("^")[0].strip() for part in fields[at].split("~")}
        self._places = {b"^".join(line.split(b"|")[3].split(b"^")[:3]).rstrip(b"^") for line in self._naming[b"PV1"]}
        self._places |= {
            b"^".join(line.split(b"|")[6].split(b"^")[:3]).rstrip(b"^")
            for line in self._naming[b"PV1"]
            if line.count(b"|") > 6
        }
        # Which patient each OBX value of a message with several patients belongs to.
        self._owner: dict[tuple[bytes, float], bytes] = {}
        patient = b""
        for line in self._lines:
            fields = line.split(b"|")
            if fields[0] == b"PID":
                patient = fields[3].split(b"^")[0]
            if fields[0] == b"OBX" and len(self._naming[b"PID"]) > 1:
                self._owner[fields[3], float(fields[5])] = patient

    def check(self, mutant: Mutant, readings: list[Reading]) -> None:
        """Identifiers and places are the seed's unless their own segment was mutated; numbers keep their patient."""
        lines = [line.strip(b" \t") for line in re.split(rb"[\r\n]+", mutant.content.replace(b"\x00", b""))]
        intact = {
            name: all(line in originals for line in lines if line[:3] == name)
            for name, originals in ((key, set(value)) for key, value in self._naming.items())
        }
        header = bool(lines) and lines[0].startswith(b"MSH|^~\\&|") and mutant.content.isascii()
        for reading in readings:
            if reading.patient is not None and mutant.local and header and intact[b"PID"]:
                strange = {i.split("^")[0] for i in reading.patient.identifiers} - self._numbers
                _hold(not strange, "an identifier that no PID states")
            if reading.place and mutant.local and header and intact[b"PV1"]:
                _hold(reading.place.encode() in self._places, "a place that no PV1 states")
            if self._owner and mutant.local and header:
                self._check_owner(reading, lines)

    def _check_owner(self, reading: Reading, lines: list[bytes]) -> None:
        for line in (line for line in lines if line in self._lines and line[:3] == b"OBX"):
            fields = line.split(b"|")
            owner = self._owner[fields[3], float(fields[5])]
            for numeric in reading.numerics:
                same = numeric.value == float(fields[5]) and numeric.kind.value in _KIND_OF[fields[3].split(b"^")[0]]
                if same and reading.patient is not None:
                    known = {i.split("^")[0].encode() for i in reading.patient.identifiers}
                    wrong = known & (set(self._owner.values()) - {owner})
                    _hold(not wrong, "a number went to another patient")


_KIND_OF = {b"147842": ("hr",), b"150456": ("spo2",)}


def _check_reading(reading: Reading) -> None:
    moments = [numeric.at_ns for numeric in reading.numerics]
    _hold(moments == sorted(moments), "numerics are out of order")
    _hold(all(at <= reading.received_ns for at in moments), "a numeric of the future")
    _hold(
        all(n.value is None or plausible(n.kind, n.value) for n in reading.numerics),
        "a value that nobody alive can show",
    )


_ACCEPTED = {"original": ["AA"], "accept": ["CA"], "application": ["AA"]}


def _check_answer(content: bytes, answer: bytes, refused: list[str]) -> None:
    """What is sent back is well formed and, where the header is beyond doubt, exactly what the rules ask for."""
    answers = Decoder().feed(answer)
    codes = []
    for item in answers:
        _hold(isinstance(item, bytes) and item.startswith(b"MSH") and len(item) < 4096, "an answer that is no message")
        assert isinstance(item, bytes)
        field_separator = item[3:4]
        msa = next((line for line in item.split(b"\r") if line.startswith(b"MSA")), b"").split(field_separator)
        _hold(len(msa) > 1 and msa[1] in {b"AA", b"AE", b"AR", b"CA", b"CE", b"CR"}, "an answer without MSA-1")
        codes.append(msa)
        positive = msa[1] in {b"AA", b"CA"}
        _hold(positive or b"\rERR" in item, "a refusal without its reason")
        _hold(not positive or b"\rERR" not in item, "an acceptance with an error")
    if content.count(b"MSH") != 1 or not content.startswith(b"MSH|^~\\&|"):
        return
    fields = re.split(rb"[\r\n]", content, maxsplit=1)[0].split(b"|")
    plain = all(char not in b"\\\x00~^&\x0b\x1c" and char < 128 for at in (9, 14, 15) for char in _at(fields, at))
    if not plain or (b"\r" in content and 0 <= content.find(b"\n") < content.find(b"\r")):
        return  # escapes, or a line feed that may be text: another reading of the header may be right
    accept, application = (_condition(_at(fields, at).strip(b" \t")) for at in (14, 15))
    expected = _expected(accept, application, taken=not refused)
    _hold([msa[1][:1] for msa in codes] == [e[:1] for e in expected], f"answered {codes}, the rules ask for {expected}")
    for msa, code in zip(codes, expected, strict=True):
        _hold((msa[1] in {b"AA", b"CA"}) == (code in {b"AA", b"CA"}), "an acceptance of what was refused, or not")
        _hold(
            (msa[2] if len(msa) > 2 else b"") == _at(fields, 9).strip(b" \t")[:199].rstrip(b"|"), "another control id"
        )


def _expected(accept: bytes, application: bytes, *, taken: bool) -> list[bytes]:
    """HL7 2.9, written down apart from the code under test; only the first letters and the sense count."""
    if not accept and not application:
        return [b"AA" if taken else b"AE"]
    wanted = {b"AL": True, b"NE": False, b"": False, b"ER": not taken, b"SU": taken}
    found = [b"CA" if taken else b"CR"] if wanted[accept] else []
    return found + ([b"AA" if taken else b"AE"] if wanted[application] else [])


def _condition(text: bytes) -> bytes:
    return text if text in {b"AL", b"NE", b"ER", b"SU"} else b""


def _at(fields: list[bytes], at: int) -> bytes:
    return fields[at] if at < len(fields) else b""


def _hold(kept: bool, promise: str) -> None:
    if not kept:
        raise BrokenPromiseError(promise)


def run(runs: int, number: int, *, report_s: float = 0.0) -> Harness:
    """``runs`` mutations from seed ``number``.

    Raises ``BrokenPromiseError`` after keeping the input that broke a promise.
    """
    rng = random.Random(number)
    mutator, harness = Mutator(rng), Harness()
    begin = last = time.monotonic()
    for count in range(1, runs + 1):
        mutant = mutator.draw()
        try:
            harness.check(mutant, rng)
        except Exception as error:
            FOUND.mkdir(exist_ok=True)
            path = FOUND / f"{mutant.origin}-{number}-{count}.bin"
            path.write_bytes(mutant.content)
            raise BrokenPromiseError(
                f"{error!r} after {' '.join(mutant.steps)} of {mutant.origin}; kept as {path.name}"
            ) from error
        now = time.monotonic()
        if report_s and now - last >= report_s:
            last = now
            print(f"{count:>9,} mutations, {count / (now - begin):,.0f}/s", flush=True)
    return harness


def main() -> int:
    """The long run; exit code 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    begin = time.monotonic()
    try:
        harness = run(arguments.runs, arguments.seed, report_s=30.0)
    except BrokenPromiseError as broke:
        print(f"BROKEN: {broke}")
        return 1
    print(
        f"{arguments.runs:,} mutations in {time.monotonic() - begin:,.0f} s: {harness.taken:,} taken, "
        f"{harness.refused:,} refused as a whole; slowest {1000 * harness.slowest_s:.0f} ms; every promise kept"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
