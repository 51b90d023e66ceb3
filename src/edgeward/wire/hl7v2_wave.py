"""Waves in ORU^R01 (IHE PCD waveform content module): recognised and described; none is used yet.

A wave is an OBX of type NA under an OBR for MDC_OBS_WAVE_CTS. Its samples are raw converter steps and its unit says
what a step is worth: ``10.mV/4096`` is ten millivolts over 4096 steps. ECG enters a device by another road (EWE1, SDC),
so the bedside leaves these aside and says so; ``edgeward hl7 explain`` shows what such a wave holds.

Source: IHE PCD Technical Framework supplement "Waveform Content Module" (WCM) rev. 1.2; HL7 v2.8.2 2A.46 (NA).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import HL7_WAVE_SAMPLES_MAX

if TYPE_CHECKING:
    from edgeward.wire.hl7v2 import Message, Row

WAVE_TYPES = frozenset({"NA", "MA"})
_RANGE = re.compile(r"(\d{1,9}\.?\d{0,9})([A-Za-zµμ%\[\]/]{1,16})/(\d{1,9})", re.ASCII)
_SAMPLE = re.compile(r"[+-]?\d{1,9}(?:\.\d{0,9})?", re.ASCII)


class Wave(NamedTuple):
    """Samples of one channel. ``samples``: steps, None where missing; ``per_step``: what one step is worth in ``unit``.

    ``per_step`` is None and ``unit`` as sent where the unit is not of the form "10.mV/4096".
    """

    samples: tuple[float | None, ...]
    per_step: float | None
    unit: str


def read_wave(message: Message, row: Row) -> Wave:
    """The wave in an OBX row of type NA or MA. Raises ``InputError``: ``wave-samples``, ``wave-too-long``."""
    raw = message.raw(row, 5)
    separator = message.separators.component or "^"
    texts = raw.replace(message.separators.repetition or separator, separator).split(separator)
    if len(texts) > HL7_WAVE_SAMPLES_MAX:
        raise InputError("wave-too-long", f"a wave has more than {HL7_WAVE_SAMPLES_MAX} samples; have it sent in parts")
    return Wave(tuple(_sample(text.strip()) for text in texts), *gain(message.text(row, 6)))


def gain(unit: str) -> tuple[float | None, str]:
    """What one step is worth and its unit: (0.00244140625, "mV") of "10.mV/4096"; (None, unit) of another form."""
    match = _RANGE.fullmatch(unit)
    if match is None or not int(match.group(3)):
        return None, unit
    return float(match.group(1)) / int(match.group(3)), match.group(2)


def _sample(text: str) -> float | None:
    if not text:
        return None
    if _SAMPLE.fullmatch(text) is None:
        raise InputError("wave-samples", "a sample of a wave is not a number (OBX-5); correct the source")
    return float(text)
