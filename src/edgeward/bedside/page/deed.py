"""The only requests that change anything: to acknowledge alerts, and to suspend a bed's alerts for some minutes. Pure.

Three things must hold, so that no other site can make a browser do it (cross-site request forgery): the request comes
from a page of this very origin, it carries the token that only such a page could read, and it names the stay that the
person saw. There is no login: whoever stands before a screen that may do this, may do it, as at a monitor.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from edgeward.bedside.page.datum import NOTES_KEPT_MAX
from edgeward.bedside.page.request import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.bedside.page.request import Request

ACKNOWLEDGE, SUSPEND = "acknowledge", "suspend"
SUSPEND_MINUTES_MAX = 60
"""No page offers more."""

_FORM = "application/x-www-form-urlencoded"
_FIELDS_MAX = NOTES_KEPT_MAX + 8


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody wants done. ``alerts``: ids to acknowledge; ``minutes``: of suspension, 0 ends one."""

    action: str
    stay: int
    alerts: tuple[str, ...] = ()
    minutes: int = 0


def read_deed(request: Request, token: str, minutes: Sequence[int]) -> Deed | Refusal:
    """The deed of a form that was sent; a Refusal where it may not be done or makes no sense."""
    if request.method != "POST":
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "only POST", "POST")
    if not _from_here(request.headers):
        return Refusal(HTTPStatus.FORBIDDEN, "not sent from a page of this device")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not a form")
    try:
        pairs = parse_qsl(request.body.decode("ascii"), max_num_fields=_FIELDS_MAX, errors="strict")
    except ValueError:
        return Refusal(HTTPStatus.BAD_REQUEST, "the form cannot be read")
    fields = dict(pairs)
    if not hmac.compare_digest(fields.get("token", "").encode(), token.encode()):
        return Refusal(HTTPStatus.FORBIDDEN, "this page is too old; load it again")
    return _deed(fields, tuple(value for name, value in pairs if name == "alert"), minutes)


def _deed(fields: Mapping[str, str], alerts: tuple[str, ...], allowed: Sequence[int]) -> Deed | Refusal:
    odd = Refusal(HTTPStatus.BAD_REQUEST, "the form makes no sense")
    stay, minutes = fields.get("stay", ""), fields.get("minutes", "0")
    if not all(text.isascii() and text.isdigit() and len(text) < 16 for text in (stay, minutes)):
        return odd
    deed = Deed(fields.get("action", ""), int(stay), alerts, int(minutes))
    if deed.action == ACKNOWLEDGE:
        return deed if alerts else odd
    if deed.action == SUSPEND:
        return deed if deed.minutes == 0 or deed.minutes in allowed else odd
    return odd


def _from_here(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that a page of this origin sent it, by every sign that it gives and at least one."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is None and site is None:
        return False
    host = headers.get("host", "").lower()
    own = {f"http://{host}", f"https://{host}"}
    return (origin is None or origin.lower() in own) and (site is None or site == "same-origin")
