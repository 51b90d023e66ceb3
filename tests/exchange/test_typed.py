"""Messages between device and fleet: what is declared passes, everything else is refused, and PHI has no place."""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

import pytest

from edgeward.exchange import checkin, enrol
from edgeward.exchange.checkin import Answer, CheckIn, Deed, Evidence, Facts, FamilyReport, Held, Order, Progress
from edgeward.exchange.typed import Form, Range, decode, encode
from edgeward.exchange.words import Accelerator, Machine, Rung, UpdateState, Why
from edgeward.kernel.errors import InputError

SHA = "ab" * 32
FACTS = Facts(Machine.AARCH64, Accelerator.NONE, 4, 8_192, 60_000, 12, "0.4.0")
PROGRESS = Progress(7, SHA, UpdateState.FAILED, 2, Why.SHADOW_DISAGREES, 100, Evidence(golden_vectors=16))
REPORT = FamilyReport("ecg-beat", Held("1.1.0", SHA), None, PROGRESS, Rung.LOCAL, scores=12)
CHECK_IN = CheckIn(3, 9, 61, 1_790_000_000, 2_048, FACTS, (REPORT,))
ANSWER = Answer(9, 60, False, (Order(7, "ecg-beat", Deed.INSTALL, "1.2.0", SHA, soak_s=600),))


@pytest.mark.parametrize("message", [CHECK_IN, ANSWER, FACTS, replace(CHECK_IN, families=())])
def test_a_message_comes_back_as_it_was(message: object) -> None:
    assert decode(type(message), encode(message), bytes_max=1 << 16) == message


def _changed(path: str, value: object) -> bytes:
    whole = json.loads(encode(CHECK_IN))
    at = whole
    *folders, last = path.split(".")
    for folder in folders:
        at = at[int(folder)] if folder.isdigit() else at[folder]
    at[last] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("boot", 0),
        ("boot", True),
        ("boot", 1.0),
        ("boot", "1"),
        ("sequence", 1 << 60),
        ("patient", "Doe^Jane"),
        ("facts.machine", "Jane Doe"),
        ("facts.software", "1.0.0 for Jane"),
        ("facts.software", "1.0.0\n"),
        ("families", [{}] * 17),
        ("families", {}),
        ("families.0.family", "Ward 3"),
        ("families.0.current.sha256", "zz" * 32),
        ("families.0.current", []),
        ("families.0.progress.why", "patient Doe moved"),
        ("families.0.progress.evidence.latency_us", -1),
        ("families.0.rung", None),
    ],
)
def test_what_is_not_as_declared_is_refused_and_never_repeated(path: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        decode(CheckIn, _changed(path, value), bytes_max=1 << 16)
    assert caught.value.code == "message-unfit"
    assert "Doe" not in str(caught.value)
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"boot":1}', b"[" * 50_000, b"\xff"])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(InputError):
        decode(CheckIn, body, bytes_max=1 << 16)


def test_a_body_longer_than_allowed_is_not_even_read() -> None:
    with pytest.raises(InputError, match="longer than 10 bytes"):
        decode(CheckIn, encode(CHECK_IN), bytes_max=10)


def test_a_message_that_breaks_its_own_declaration_is_not_sent() -> None:
    with pytest.raises(InputError):
        encode(replace(CHECK_IN, facts=replace(FACTS, software="the ward of Dr Doe")))


def test_free_text_cannot_be_declared() -> None:
    @dataclass(frozen=True)
    class Loose:
        note: str

    with pytest.raises(TypeError):
        encode(Loose("anything"))


def _leaves(kind: object, seen: set[type]) -> typing.Iterator[object]:
    """Every scalar that a message type can hold, as declared."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated and typing.get_origin(args[0]) is tuple:
        yield from _leaves(typing.get_args(args[0])[0], seen)
    elif origin is Annotated:
        yield args[1]
    elif args:
        for one in args:
            if one is not type(None):
                yield from _leaves(one, seen)
    elif dataclasses.is_dataclass(kind):
        for one in typing.get_type_hints(kind, include_extras=True).values():
            yield from _leaves(one, seen)
    else:
        yield kind


def test_nothing_a_device_can_send_has_room_for_a_name() -> None:
    """No string of a check-in can hold a space or a capital letter, so none can hold a person."""
    for leaf in _leaves(CheckIn, set()):
        if isinstance(leaf, Form):
            assert not any(sign in leaf.pattern for sign in (".", " ", "A-Z", r"\w", r"\S")) or leaf.pattern.startswith(
                r"\d"
            )
        else:
            assert isinstance(leaf, Range) or (isinstance(leaf, type) and issubclass(leaf, (StrEnum, bool)))


def test_words_of_the_fleet_are_those_of_the_ladder() -> None:
    from edgeward.bedside.fallback import Mode

    assert [rung.value for rung in Rung] == [mode.value for mode in Mode if mode is not Mode.NOT_ASKED]


def test_an_application_and_a_credential_travel() -> None:
    pem = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA+/=\n-----END CERTIFICATE REQUEST-----\n"
    application = enrol.Application(pem, FACTS, "one-time_TOKEN")
    assert decode(enrol.Application, encode(application), bytes_max=enrol.ENROL_BYTES_MAX) == application
    credential = enrol.Credential(enrol.Standing.ACCEPTED, SHA, "d-0123456789abcdef", pem, 60)
    assert decode(enrol.Credential, encode(credential), bytes_max=enrol.ENROL_BYTES_MAX) == credential


def test_a_full_check_in_fits_its_limit() -> None:
    full = replace(CHECK_IN, families=(REPORT,) * checkin.FAMILIES_MAX)
    assert len(encode(full)) < checkin.CHECK_IN_BYTES_MAX


def test_a_fingerprint_is_read_as_it_is_shown() -> None:
    shown = enrol.grouped(SHA)
    assert shown.split() == ["abab"] * 16
    assert enrol.ungrouped(shown.upper()) == SHA
