"""Signing in by an OpenID Connect provider: authorization code with PKCE (OpenID Connect Core 1.0, RFC 7636).

The provider says who somebody is and, by one claim, which role they have; it is asked at each sign-in. Its ID token is
verified with its published keys: signature by an asymmetric algorithm, issuer, audience, expiry, and the nonce of this
very sign-in. What is under way lies in the database, so that any worker may finish it.
"""

from __future__ import annotations

import base64
import json
import secrets
import urllib.error
import urllib.request
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import jwt
from sqlalchemy import delete

from edgeward.fleet.accounts import Role, same
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store.models import OidcFlow
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.hosts import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeward.fleet.accounts import Accounts, SignedIn
    from edgeward.fleet.settings import OidcSettings
    from edgeward.fleet.store.engine import Store

FLOW_S = 600
"""A sign-in that is not finished by then begins anew."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_S = 60
KNOWN_S = 3_600
"""How long the provider's addresses and keys are taken as known."""
TIMEOUT_S = 10.0
_ANSWER_BYTES_MAX = 1 << 20


class Oidc:
    """Sign-ins by the provider of ``settings``; it sends browsers back to ``redirect_url``.

    ``ConfigError`` (``oidc-url``, ``oidc-secret``). Nothing is asked before somebody signs in.
    """

    def __init__(
        self,
        settings: OidcSettings,
        store: Store,
        accounts: Accounts,
        *,
        redirect_url: str,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._settings = settings
        self._store = store
        self._accounts = accounts
        self._redirect_url = redirect_url
        self._random = random
        self._known: tuple[int, dict[str, Any], jwt.PyJWKSet] | None = None
        _require_https(settings.issuer)
        try:
            self._secret = settings.secret_file.read_text("utf-8").strip() if settings.secret_file else ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("oidc-secret", f"cannot read the secret file {settings.secret_file}") from error

    def begin(self, now_s: int) -> tuple[str, str]:
        """Where to send the browser, and the ``state`` that it must bring back in a cookie."""
        about, _ = self._provider(now_s)
        state, nonce, verifier = (self._random(32).hex() for _ in range(3))
        with self._store.writing() as session:
            session.execute(delete(OidcFlow).where(OidcFlow.expires_s <= now_s))
            session.add(OidcFlow(state=_digest(state), nonce=nonce, verifier=verifier, expires_s=now_s + FLOW_S))
        challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect_url,
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        mark = "&" if "?" in about["authorization_endpoint"] else "?"
        return f"{about['authorization_endpoint']}{mark}{urlencode(query)}", state

    def finish(self, *, code: str, state: str, cookie: str, now_s: int) -> SignedIn:
        """The session of whoever comes back from the provider.

        ``RefusedError``: 403 ``oidc-state``, ``oidc-token``, ``role-missing``, and as ``Accounts.sign_in_as``;
        502 ``oidc-unreachable``.
        """
        if not state or not same(state, cookie):
            raise _begin_anew("this browser did not begin this sign-in")
        with self._store.writing() as session:
            flow = session.get(OidcFlow, _digest(state), with_for_update=True)
            if flow is None or now_s >= flow.expires_s:
                raise _begin_anew("it has taken too long, or was finished already")
            nonce, verifier = flow.nonce, flow.verifier
            session.delete(flow)
        about, _ = self._provider(now_s)
        answer = self._exchange(about, code, verifier)
        claims = self._verified(str(answer.get("id_token", "")), now_s)
        if not same(str(claims.get("nonce", "")), nonce):
            raise _no_token("its nonce is another sign-in's")
        name = claims.get(self._settings.name_claim)
        if not isinstance(name, str):
            raise _no_token(f"it has no claim {self._settings.name_claim}")
        return self._accounts.sign_in_as(name, self._role(claims), now_s=now_s)

    def _role(self, claims: Mapping[str, Any]) -> Role:
        value = claims.get(self._settings.claim, [])
        held = {value} if isinstance(value, str) else set(map(str, value)) if isinstance(value, list) else set()
        for name, role in self._settings.roles:
            if name in held:
                return Role(role)
        raise RefusedError(
            403, "role-missing", "the identity provider gives you no role of this fleet; ask who runs it"
        )

    def _exchange(self, about: Mapping[str, Any], code: str, verifier: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_url,
            "code_verifier": verifier,
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if self._secret:
            pair = f"{quote(self._settings.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = self._settings.client_id
        try:
            return _asked(about["token_endpoint"], urlencode(form).encode(), headers)
        except urllib.error.HTTPError as error:
            raise _no_token("the provider does not take the code back") from error

    def _verified(self, token: str, now_s: int) -> dict[str, Any]:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = self._key(key_id, now_s)
            # Expiry is judged by the server's clock as everything else is, below.
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._settings.client_id,
                issuer=self._settings.issuer,
                options={
                    "require": ["exp", "iat", "sub"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            fresh = float(claims["exp"]) > now_s - LEEWAY_S and float(claims["iat"]) < now_s + LEEWAY_S
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _no_token(type(error).__name__) from error
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != self._settings.client_id:
            raise _no_token("it was made for somebody else")
        if not fresh:
            raise _no_token("it has expired, or a clock is wrong")
        return claims

    def _key(self, key_id: str | None, now_s: int) -> jwt.PyJWK:
        for is_last in (False, True):
            _, keys = self._provider(now_s)
            usable = [one for one in keys.keys if key_id is None or one.key_id == key_id]
            if usable and (key_id is not None or len(usable) == 1):
                return usable[0]
            if not is_last:
                self._known = None  # the provider may have exchanged its keys
        raise _no_token("it is signed by a key that the provider does not publish")

    def _provider(self, now_s: int) -> tuple[dict[str, Any], jwt.PyJWKSet]:
        if self._known is None or now_s - self._known[0] >= KNOWN_S:
            try:
                about = _asked(f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
                if about.get("issuer") != self._settings.issuer:
                    raise _unreachable("its discovery document is another issuer's")
                keys = jwt.PyJWKSet.from_dict(_asked(str(about["jwks_uri"])))
                for name in ("authorization_endpoint", "token_endpoint"):
                    _require_https(str(about[name]))
            except (urllib.error.HTTPError, jwt.PyJWTError, KeyError, ConfigError) as error:
                raise _unreachable("its discovery document or keys cannot be used") from error
            self._known = (now_s, about, keys)
        return self._known[1], self._known[2]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """What the settings name is asked, and nobody else."""
        return


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())


def _asked(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """JSON from the provider. ``HTTPError`` for a status; ``RefusedError`` (502) when there is no answer."""
    _require_https(url)
    request = urllib.request.Request(url, body, dict(headers or {}))  # noqa: S310 - http is for loopback alone
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            found = json.loads(answer.read(_ANSWER_BYTES_MAX))
    except urllib.error.HTTPError as error:
        error.close()
        raise
    except (OSError, ValueError) as error:
        raise _unreachable(type(error).__name__) from error
    if not isinstance(found, dict):
        raise _unreachable("its answer is not a JSON object")
    return found


def _require_https(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    except ValueError:
        good = False
    if not good:
        raise ConfigError("oidc-url", "an identity provider is reached by https:// alone")


def _digest(state: str) -> str:
    return sha256(state.encode()).hexdigest()


def _begin_anew(why: str) -> RefusedError:
    return RefusedError(403, "oidc-state", f"the sign-in cannot be finished: {why}; begin it anew")


def _no_token(why: str) -> RefusedError:
    return RefusedError(403, "oidc-token", f"the identity provider's answer cannot be taken: {why}; begin anew")


def _unreachable(why: str) -> RefusedError:
    return RefusedError(502, "oidc-unreachable", f"the identity provider does not answer as it should ({why})")
