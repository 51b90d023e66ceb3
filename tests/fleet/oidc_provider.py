"""A small OpenID Connect provider on loopback: discovery, authorization code with PKCE, ID tokens, keys."""

from __future__ import annotations

import base64
import json
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "edgeward", "a secret of the provider"


class Provider:
    """Serves from construction until ``close``. ``claims`` go into every ID token; ``changes`` after all others."""

    def __init__(self, now_s: int) -> None:
        self.now_s = now_s
        self.claims: dict[str, Any] = {"preferred_username": "olga", "groups": ["icu-operators"]}
        self.changes: dict[str, Any] = {}
        self.algorithm = "RS256"
        self.key_id = "k1"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.signing: Any = self.key
        self.codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self, None)

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                provider.answer(self, self.rfile.read(length))

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes | None) -> None:
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            self._say(handler, 200, self._discovery())
        elif parts.path == "/keys":
            public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
            self._say(handler, 200, {"keys": [{**public, "kid": self.key_id, "use": "sig"}]})
        elif parts.path == "/authorize":
            self._authorize(handler, query)
        elif parts.path == "/token" and body is not None:
            self._token(handler, {name: values[0] for name, values in parse_qs(body.decode()).items()})
        else:
            self._say(handler, 404, {})

    def _discovery(self) -> dict[str, str]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }

    def _authorize(self, handler: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        """Whoever comes is signed in already, as in a hospital's single sign-on."""
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        back = f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
        handler.send_response(302)
        handler.send_header("Location", back)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def _token(self, handler: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        asked = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        basic = base64.b64encode(f"{CLIENT}:{SECRET.replace(' ', '%20')}".encode()).decode()
        good = (
            asked is not None
            and challenge == asked["code_challenge"]
            and form["redirect_uri"] == asked["redirect_uri"]
            and handler.headers["authorization"] == f"Basic {basic}"
        )
        if asked is None or not good:
            self._say(handler, 400, {"error": "invalid_grant"})
            return
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "1234",
            "iat": self.now_s,
            "exp": self.now_s + 300,
            "nonce": asked["nonce"],
            **self.claims,
            **self.changes,
        }
        token = jwt.encode(claims, self.signing, algorithm=self.algorithm, headers={"kid": self.key_id})
        self._say(handler, 200, {"access_token": "x", "token_type": "Bearer", "id_token": token})

    def _say(self, handler: BaseHTTPRequestHandler, status: int, words: dict[str, Any]) -> None:
        body = json.dumps(words).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
