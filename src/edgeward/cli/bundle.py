"""``edgeward bundle``: look into a bundle, and send only what changed between two."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli.shipped import shipped_bundle
from edgeward.kernel.errors import BundleError, ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_HASH = re.compile(r"[0-9a-f]{64}")
_LONG_BYTES = 32 << 20
"""From so many bytes on, the progress is shown."""


def register(verbs: Any) -> None:
    """Add ``bundle`` to the command line."""
    parser = verbs.add_parser("bundle", help="look into a bundle, or send only what changed between two")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    show = subjects.add_parser("show", help="check every hash and print what the bundle says of itself")
    show.add_argument("bundle", nargs="?", help="bundle file, or the name of a shipped one (default: ecg-beat)")
    show.add_argument("--member", help="print this text member instead, such as card.md or evidence.json")
    show.add_argument("--json", action="store_true", help="print the manifest as JSON")
    show.set_defaults(run=run_show)
    diff = subjects.add_parser(
        "diff",
        help="make the delta from one bundle to another",
        description="Writes what a device that has OLD needs to make NEW, byte for byte. It is never longer than NEW "
        "packed: where little is alike, it holds the whole of it. Both bundles are checked first.",
        epilog="Example: edgeward bundle diff ecg-beat-1.0.0.ewb ecg-beat-1.0.1.ewb --out ecg-beat-1.0.1.ewd",
    )
    diff.add_argument("old", type=Path, help="the installed bundle")
    diff.add_argument("new", type=Path, help="the bundle that shall replace it")
    diff.add_argument("--out", type=Path, required=True, help="where the delta goes (.ewd)")
    diff.set_defaults(run=run_diff)
    patch = subjects.add_parser(
        "patch",
        help="make the new bundle from the installed one and a delta",
        description="Writes the new bundle and checks its hash. A delta is not trusted: give --sha256 from signed "
        "metadata where it comes from elsewhere.",
        epilog="Example: edgeward bundle patch ecg-beat-1.0.0.ewb ecg-beat-1.0.1.ewd --out ecg-beat-1.0.1.ewb",
    )
    patch.add_argument("old", type=Path, help="the installed bundle")
    patch.add_argument("delta", type=Path, help="the delta")
    patch.add_argument(
        "--out", type=Path, required=True, help="where the new bundle goes; replaced whole or not at all"
    )
    patch.add_argument("--sha256", help="hash that the new bundle must have (default: the one that the delta names)")
    patch.set_defaults(run=run_patch)


def run_show(arguments: argparse.Namespace) -> int:
    """The verb ``bundle show``."""
    from edgeward.bundle.archive import read_bundle

    named = arguments.bundle or "ecg-beat"
    path = Path(named) if Path(named).is_file() or "." in named else shipped_bundle(named)
    raw = _read(path)
    bundle = read_bundle(raw)
    manifest = bundle.manifest
    if arguments.member:
        if arguments.member not in bundle.members:
            raise BundleError("member-missing", f"the bundle holds: {', '.join(sorted(bundle.members))}")
        print(bundle.members[arguments.member].decode("utf-8", "replace"))
        return 0
    if arguments.json:
        print(json.dumps(json.loads(manifest.to_json())))
        return 0
    print(f"{manifest.name} {manifest.version}  {manifest.task}  {len(raw):,} bytes  sha256 {bundle.sha256}")
    for model in manifest.models:
        size = len(bundle.members[model.member])
        mark = "default" if model.key == manifest.default_model else ""
        print(f"  model  {model.key:6} {model.precision} {model.backend}  {size:,} bytes  {mark}")
    for tensor in manifest.inputs:
        print(f"  input  {tensor.name:6} {tensor.shape} {tensor.dtype} {tensor.unit}")
    print(f"  golden {manifest.golden.count} vectors, tolerance {dict(manifest.golden.tolerance)}")
    print(f"  deadline {manifest.deadline_ms:g} ms, classes {' '.join(manifest.classes)}")
    for member in sorted(bundle.members):
        print(f"  member {member:24} {len(bundle.members[member]):>10,} bytes")
    return 0


def run_diff(arguments: argparse.Namespace) -> int:
    """The verb ``bundle diff``."""
    from edgeward.bundle.archive import read_bundle
    from edgeward.bundle.delta.diff import make_delta
    from edgeward.trust.durable import storage_error, write_durably

    old, new = _read(arguments.old), _read(arguments.new)
    before, after = read_bundle(old).manifest, read_bundle(new).manifest
    delta = make_delta(old, new, _shown("comparing"))
    try:
        write_durably(arguments.out, delta)
    except OSError as error:
        raise storage_error(error, f"writing {arguments.out}") from error
    print(
        f"{before.name} {before.version} → {after.name} {after.version}: {len(delta):,} bytes, "
        f"{len(delta) / len(new):.4f} of {len(new):,}"
    )
    return 0


def run_patch(arguments: argparse.Namespace) -> int:
    """The verb ``bundle patch``."""
    from edgeward.bundle.delta.patch import apply_delta
    from edgeward.trust.durable import replacing, storage_error

    if arguments.sha256 is not None and not _HASH.fullmatch(arguments.sha256):
        raise ConfigError("setting-malformed", "--sha256 takes the 64 lower-case hex digits of a SHA-256")
    with contextlib.ExitStack() as opened:
        try:
            old, delta = (opened.enter_context(path.open("rb")) for path in (arguments.old, arguments.delta))
        except OSError as error:
            raise BundleError("bundle-unreadable", f"cannot read {error.filename}: {error.strerror}") from error
        try:
            with replacing(arguments.out) as draft:
                made = apply_delta(old, delta, draft, sha256=arguments.sha256, progress=_shown("writing"))
        except OSError as error:
            raise storage_error(error, f"writing {arguments.out}") from error
    print(f"{arguments.out}  sha256 {made}")
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError("bundle-unreadable", f"cannot read {path}: {error.strerror}") from error


def _shown(what: str) -> Callable[[int, int], None] | None:
    """Progress on a terminal, for what takes long; ``None`` where nobody watches."""
    if not sys.stderr.isatty():
        return None
    last = -1

    def show(done: int, total: int) -> None:
        nonlocal last
        percent = 100 * done // max(1, total)
        if total >= _LONG_BYTES and percent != last:
            last = percent
            sys.stderr.write(f"\r{what} {percent:3d} %" + ("\n" if done >= total else ""))

    return show
