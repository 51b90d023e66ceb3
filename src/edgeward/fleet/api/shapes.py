"""The bodies of ``/api/v1``: what OpenAPI shows, and what forms and the command line are held to."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeward.fleet.devices import TAGS_MAX, revision_of
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store.models import (
    AuditEntry,
    Certificate,
    Device,
    DeviceFamily,
    Enrolment,
    EnrolmentToken,
    Login,
    Release,
    User,
)
from edgeward.fleet.words import why_words

Label = Annotated[str, Field(max_length=128, description="Free text for people; no patient's name")]
Word = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$")]
Group = Annotated[str, Field(max_length=64, pattern=r"^([A-Za-z0-9][A-Za-z0-9._ -]*)?$", description="Empty: none")]
Tags = Annotated[list[Word], Field(max_length=TAGS_MAX)]
DeviceId = Annotated[str, Field(pattern=r"^d-[0-9a-f]{16}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_WORD = "letters (A to Z), digits, spaces, dots, dashes and underscores, a letter or digit first, 64 at most"
_FITS = {
    "family": "choose a bundle",
    "sha256": "choose a bundle",
    "label": "a label has 128 characters at most",
    "group": f"a group's name is made of {_WORD}",
    "tags": f"a device has {TAGS_MAX} tags at most, and each is made of {_WORD}",
    "device_id": "a device's id is d- and 16 digits of 0 to 9 and a to f",
}
"""What each field must be, for the person who filled it in."""
_Shape = TypeVar("_Shape", bound=BaseModel)


def fitting(shape: type[_Shape], given: Mapping[str, Any]) -> _Shape:
    """``given`` as ``shape``; ``RefusedError`` (422 ``request-unfit``) that says which fields must be what."""
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        raise RefusedError(422, "request-unfit", unfit(error.errors())) from error


def unfit(errors: Sequence[Any]) -> str:
    """What the fields at fault must be; where they stand, for those that have no words. Never a value."""
    said = []
    for one in errors:
        place = [str(part) for part in one["loc"]]
        known = next((_FITS[part] for part in place if part in _FITS), "")
        said.append(known or f"{'.'.join(place)} is not as declared (see /openapi.json)")
    return "; ".join(dict.fromkeys(said))[:600]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorBody(BaseModel):
    """Every refusal: a stable word for programs, a sentence for people."""

    code: str
    message: str


class FamilyView(BaseModel):
    """One model family on a device, as its newest check-in says; ``why_words``: the sentence for ``why``."""

    family: str
    version: str
    sha256: str
    previous_version: str
    rung: str
    rollout: int
    update_state: str
    why: str
    why_words: str

    @classmethod
    def of(cls, row: DeviceFamily) -> "FamilyView":
        """From its row."""
        plain = {name: getattr(row, name) for name in cls.model_fields if name != "why_words"}
        return cls(**plain, why_words=why_words(row.why) if row.why else "")


class DeviceView(BaseModel):
    """A device. Times are seconds since 1970; ``skew_s``: its clock minus the server's at the newest check-in.

    ``revision`` is another after every change of state, label, group or tags.
    """

    id: str
    revision: str
    state: str
    label: str
    group: str
    tags: list[str]
    key_fingerprint: str
    certificate: str
    certificate_expires_s: int
    enrolled_s: int
    seen_s: int | None
    silent: bool
    skew_s: int
    boot: int
    sequence: int
    machine: str
    accelerator: str
    cores: int
    memory_mib: int
    disk_mib: int
    free_mib: int
    beds: int
    software: str
    families: list[FamilyView]

    @classmethod
    def of(cls, row: Device, tags: list[str], families: list[DeviceFamily], silent_since_s: int) -> "DeviceView":
        """From its rows."""
        plain = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        return cls(
            **plain,
            revision=revision_of(row, tags),
            tags=tags,
            certificate_expires_s=row.expires_s,
            silent=row.state == "active" and (row.seen_s or 0) < silent_since_s,
            families=[FamilyView.of(one) for one in families],
        )


class DevicePage(BaseModel):
    """``next``: give it as ``after`` for the next page."""

    devices: list[DeviceView]
    total: int
    next: str | None


class CertificateView(BaseModel):
    """A certificate of a device."""

    fingerprint: str
    serial: str
    issued_s: int
    expires_s: int
    state: str

    @classmethod
    def of(cls, row: Certificate) -> "CertificateView":
        """From its row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class DeviceDetail(BaseModel):
    """A device with its newest check-in whole and every certificate it had."""

    device: DeviceView
    report: dict[str, Any] | None
    certificates: list[CertificateView]


class DeviceDecision(_Body):
    """``revision``: what the person saw; the deed is refused (409 ``device-changed``) when it is another by now."""

    revision: Annotated[str, Field(max_length=16)] | None = None


class DeviceChange(DeviceDecision):
    """What is left out stays."""

    label: Label | None = None
    group: Group | None = None
    tags: Tags | None = None


class EnrolmentView(BaseModel):
    """An application."""

    fingerprint: str
    state: str
    first_s: int
    asked_s: int
    device_id: str | None
    decided_by: str
    decided_s: int | None
    facts: dict[str, str | int]

    @classmethod
    def of(cls, row: Enrolment) -> "EnrolmentView":
        """From its row."""
        plain = {name: getattr(row, name) for name in cls.model_fields if name != "facts"}
        return cls(**plain, facts=json.loads(row.facts))


class Accept(_Body):
    """How a device is taken in. ``device_id``: the one that it is already, where it lost its key."""

    label: Label = ""
    group: Group = ""
    tags: Tags = []
    device_id: DeviceId | None = None


class Accepted(BaseModel):
    """The device that an application became."""

    device_id: str


class TokenMake(_Body):
    """A one-time enrolment token: what the device that uses it gets."""

    label: Label = ""
    group: Group = ""
    tags: Tags = []
    days: Annotated[float, Field(gt=0, le=90)] = 1.0


class ApiTokenMake(_Body):
    """An API token for the caller."""

    label: Label = ""
    days: Annotated[float, Field(gt=0, le=366)] = 30.0


class Made(BaseModel):
    """A secret, shown this once, and the id by which it is ended."""

    id: str
    token: str


class TokenView(BaseModel):
    """An enrolment token, without its secret."""

    id: str
    label: str
    group: str
    made_by: str
    made_s: int
    expires_s: int
    used_s: int | None
    used_by: str
    revoked_s: int | None

    @classmethod
    def of(cls, row: EnrolmentToken) -> "TokenView":
        """From its row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class LoginView(BaseModel):
    """A session or API token of a user."""

    id: str
    kind: str
    label: str
    made_s: int
    seen_s: int
    expires_s: int

    @classmethod
    def of(cls, row: Login) -> "LoginView":
        """From its row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class UserView(BaseModel):
    """A user."""

    name: str
    role: str
    source: str
    made_s: int
    disabled: bool

    @classmethod
    def of(cls, row: User) -> "UserView":
        """From its row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class SignIn(_Body):
    """A local user's name and password."""

    name: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=1024)]


class Me(BaseModel):
    """Who the caller is. ``csrf``: what a browser repeats in ``X-CSRF-Token``."""

    name: str
    role: str
    permissions: list[str]
    csrf: str


class EntryView(BaseModel):
    """An entry of the audit."""

    seq: int
    time_s: int
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous: str
    hash: str

    @classmethod
    def of(cls, row: AuditEntry) -> "EntryView":
        """From its row."""
        plain = {name: getattr(row, name) for name in cls.model_fields if name != "detail"}
        return cls(**plain, detail=json.loads(row.detail))


class AuditPage(BaseModel):
    """Entries, newest first. ``next``: give it as ``before`` for older ones."""

    entries: list[EntryView]
    next: int | None


class HeadView(BaseModel):
    """A head of the audit that was verified; note it elsewhere."""

    seq: int
    hash: str


class ReleaseView(BaseModel):
    """A bundle that signed metadata named. ``current``: they name it now."""

    sha256: str
    family: str
    version: str
    length: int
    first_s: int
    seen_s: int
    current: bool

    @classmethod
    def of(cls, row: Release) -> "ReleaseView":
        """From its row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class Overview(BaseModel):
    """The fleet in numbers."""

    devices: dict[str, int]
    rungs: dict[str, int]
    waiting: dict[str, int]
