"""Waves in ORU^R01 are recognised, and their gain is read."""

from __future__ import annotations

import pytest
from hl7_seeds import seed

from edgeward.kernel.errors import InputError
from edgeward.wire.hl7v2 import STANDARD, Message, parse
from edgeward.wire.hl7v2_wave import gain, read_wave


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("10.mV/4096", (10 / 4096, "mV")),
        ("5mV/2048", (5 / 2048, "mV")),
        ("0.5uV/1", (0.5, "uV")),
        ("100%/4095", (100 / 4095, "%")),
        ("mV", (None, "mV")),
        ("10.mV/0", (None, "10.mV/0")),
        ("", (None, "")),
    ],
)
def test_a_gain_is_a_range_over_its_steps(unit: str, expected: tuple[float | None, str]) -> None:
    """``10.mV/4096`` as PhysioNet and gateways write it."""
    assert gain(unit) == expected


def test_a_wave_of_a_gateway() -> None:
    """Samples in steps, a missing one kept as missing."""
    message = parse(seed("information_center_wave"))
    wave = read_wave(message, message.rows[-1])
    assert wave.samples[:3] == (-8.0, -9.0, -5.0)
    assert wave.samples[14] is None
    assert len(wave.samples) == 17
    assert (wave.per_step, wave.unit) == (10 / 4096, "mV")


@pytest.mark.parametrize(
    ("raw", "code"), [("1^x", "wave-samples"), ("1^1e3", "wave-samples"), ("1^" * 70_000, "wave-too-long")]
)
def test_what_is_no_wave_is_refused(raw: str, code: str) -> None:
    """Bounded, and numbers only."""
    with pytest.raises(InputError) as refused:
        read_wave(Message(STANDARD, []), ["OBX", "1", "NA", "", "", raw])
    assert refused.value.code == code
