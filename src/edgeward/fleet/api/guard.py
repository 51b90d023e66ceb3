"""Who calls, and what they may: devices by certificate, people by session cookie, programs by bearer token."""

from hashlib import sha256
from typing import Annotated, cast
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from edgeward.fleet.accounts import Caller, Permission, same
from edgeward.fleet.parts import Fleet
from edgeward.fleet.refused import RefusedError

PEER = "peer_certificate"
"""Where the connection's client certificate (DER) stands in a request's state: ``fleet.serve`` puts it there."""
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def fleet_of(request: Request) -> Fleet:
    """The parts that the application was made of."""
    return cast("Fleet", request.app.state.fleet)


TheFleet = Annotated[Fleet, Depends(fleet_of)]


def cookie_name(fleet: Fleet) -> str:
    """The session cookie's name: bound to this host and to TLS, except on plain loopback."""
    return "__Host-edgeward" if is_secure(fleet) else "edgeward"


def is_secure(fleet: Fleet) -> bool:
    """Whether browsers reach the server by TLS."""
    return fleet.settings.tls or bool(fleet.settings.trusted_proxies)


def address_of(request: Request) -> str:
    """The client's address; behind a trusted proxy, the one that the proxy names last."""
    direct = request.client.host if request.client is not None else "unknown"
    if direct in fleet_of(request).settings.trusted_proxies:
        named = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        return named[:64] or direct
    return direct


def shown_certificate(request: Request) -> str:
    """Fingerprint of the client certificate; ``RefusedError`` (401 ``certificate-missing``) without one.

    A trusted proxy says it in ``proxy_header``: the SHA-256 in hex, or the certificate itself in PEM, URL-encoded.
    """
    settings = fleet_of(request).settings
    der = request.scope.get("state", {}).get(PEER)
    if der is not None:
        return sha256(der).hexdigest()
    if request.client is not None and request.client.host in settings.trusted_proxies:
        named = request.headers.getlist(settings.proxy_header)
        # Two of them: the proxy added its own to one that the client brought along.
        found = _fingerprint(named[0]) if len(named) == 1 else ""
        if found:
            return found
    raise RefusedError(
        401, "certificate-missing", "show the device's certificate (mutual TLS); a device without one enrols first"
    )


def _fingerprint(named: str) -> str:
    if named.startswith("-----BEGIN"):
        try:
            certificate = x509.load_pem_x509_certificate(unquote(named).encode("ascii"))
        except ValueError:
            return ""
        return sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
    text = named.replace(":", "").lower()
    return text if len(text) == 64 and all(digit in "0123456789abcdef" for digit in text) else ""


async def find_caller(request: Request) -> Caller | None:
    """Who a person's or program's request is from, None for nobody. A browser's changing request must show its token.

    ``RefusedError`` 403 ``csrf`` for one that does not.
    """
    fleet = fleet_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return await run_in_threadpool(fleet.accounts.caller, token.strip(), "token", fleet.now_s())
    secret = request.cookies.get(cookie_name(fleet), "")
    if not secret:
        return None
    caller = await run_in_threadpool(fleet.accounts.caller, secret, "session", fleet.now_s())
    if caller is not None and request.method not in _SAFE:
        shown = request.headers.get(CSRF_HEADER, "")
        if not shown and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            value = (await request.form()).get(CSRF_FIELD)
            shown = value if isinstance(value, str) else ""
        if not same(shown, caller.csrf):
            raise RefusedError(403, "csrf", "the form has grown old or came from elsewhere; load the page anew")
    return caller


class Needs:
    """A dependency: the caller, who must have ``permission``.

    ``RefusedError``: 401 ``sign-in-needed``, 403 ``not-permitted``.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> Caller:
        """The caller."""
        caller = await find_caller(request)
        if caller is None:
            raise RefusedError(401, "sign-in-needed", "sign in, or show an API token (Authorization: Bearer …)")
        if not caller.may(self.permission):
            raise RefusedError(403, "not-permitted", f"this takes the right to {self.permission.value}; ask who has it")
        request.state.caller = caller
        return caller


READS = Depends(Needs(Permission.READ))
"""For a route that any user may call and that does not care who it is; so below."""
OPERATES = Depends(Needs(Permission.OPERATE))
AUDITS = Depends(Needs(Permission.AUDIT))
Reader = Annotated[Caller, Depends(Needs(Permission.READ))]
Operator = Annotated[Caller, Depends(Needs(Permission.OPERATE))]
Approver = Annotated[Caller, Depends(Needs(Permission.APPROVE))]
Auditor = Annotated[Caller, Depends(Needs(Permission.AUDIT))]


async def body_of(request: Request, bytes_max: int) -> bytes:
    """The request's body; ``RefusedError`` (413 ``body-too-large``) as soon as it grows past ``bytes_max``."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > bytes_max:
            raise RefusedError(413, "body-too-large", f"the request may have {bytes_max} bytes")
        parts.append(part)
    return b"".join(parts)
