"""``edgeward cloud``: a scoring server for devices whose own engines fail."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import argparse

_HASH = re.compile(r"[0-9a-f]{64}")


def register(verbs: Any) -> None:
    """Add ``cloud`` to the command line."""
    parser = verbs.add_parser("cloud", help="a scoring server for devices whose own engines fail")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    serve = subjects.add_parser(
        "serve",
        help="score over HTTPS with the same bundles as the devices",
        description="Answers POST /v1/score: model inputs in, scores out. It keeps nothing of a request. Beyond "
        "loopback it needs a certificate and device tokens.",
        epilog="Example: edgeward cloud serve --bundle sepsis-risk.ewb --host 0.0.0.0 --certificate chain.pem "
        "--key key.pem --tokens tokens.txt",
    )
    serve.add_argument("--bundle", type=Path, action="append", required=True, help="bundle to serve; may be repeated")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8443, help="port, 0 for any free one (default: 8443)")
    serve.add_argument("--certificate", type=Path, help="PEM file of the server's certificate chain")
    serve.add_argument("--key", type=Path, help="PEM file of its private key")
    serve.add_argument("--tokens", type=Path, help="file with a SHA-256 per line of the tokens that devices show")
    serve.add_argument("--threads", type=int, default=1, help="threads of each model (default: 1)")
    serve.set_defaults(run=run_serve)
    token = subjects.add_parser(
        "token",
        help="make a device token: the token for the device, its hash for the server",
        description="Writes a new token to a file that only its owner can read, and prints the line for the server's "
        "--tokens file.",
    )
    token.add_argument("file", type=Path, help="where the device's token goes; must not exist")
    token.set_defaults(run=run_token)


def run_serve(arguments: argparse.Namespace) -> int:
    """The verb ``cloud serve``."""
    from edgeward.fleet.cloud import ScoringServer

    if (arguments.certificate is None) != (arguments.key is None):
        raise ConfigError("setting-incomplete", "--certificate and --key belong together: give both or neither")
    files = (arguments.certificate, arguments.key) if arguments.certificate is not None else None
    hashes = _hashes(arguments.tokens) if arguments.tokens is not None else []
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ScoringServer(
        arguments.bundle,
        host=arguments.host,
        port=arguments.port,
        certificate=files,
        token_hashes=hashes,
        threads=arguments.threads,
    ) as server:
        for sha256, engine in server.engines.items():
            sys.stdout.write(f"{engine.manifest.name} {engine.manifest.version} {sha256[:16]}\n")
        sys.stdout.write(f"scoring: {server.url}\n")
        sys.stdout.flush()
        stop.wait()
        counts = server.counts
    sys.stderr.write(f"answered {counts.answered}, refused {counts.refused}, failed {counts.failed}\n")
    return 0


def run_token(arguments: argparse.Namespace) -> int:
    """The verb ``cloud token``."""
    token = secrets.token_urlsafe(32)
    try:
        with os.fdopen(os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token + "\n")
    except FileExistsError as error:
        raise ConfigError("token-exists", f"{arguments.file} exists already; name a new file") from error
    except OSError as error:
        raise ConfigError("output-unwritable", f"cannot write {arguments.file}: {error.strerror}") from error
    print(hashlib.sha256(token.encode()).hexdigest())
    return 0


def _hashes(path: Path) -> list[str]:
    try:
        lines = [line.split("#")[0].strip() for line in path.read_text("ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("tokens-unreadable", f"cannot read the tokens file {path}; check it and its owner") from error
    hashes = [line for line in lines if line]
    if not hashes or not all(_HASH.fullmatch(line) for line in hashes):
        raise ConfigError(
            "tokens-unreadable", f"{path} must hold one SHA-256 in hex per line; 'edgeward cloud token' prints them"
        )
    return hashes
