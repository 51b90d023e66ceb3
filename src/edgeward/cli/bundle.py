"""``edgeward bundle``: look into a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli.shipped import shipped_bundle
from edgeward.kernel.errors import BundleError

if TYPE_CHECKING:
    import argparse


def register(verbs: Any) -> None:
    """Add ``bundle`` to the command line."""
    parser = verbs.add_parser("bundle", help="look into a bundle")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    show = subjects.add_parser("show", help="check every hash and print what the bundle says of itself")
    show.add_argument("bundle", nargs="?", help="bundle file, or the name of a shipped one (default: ecg-beat)")
    show.add_argument("--member", help="print this text member instead, such as card.md or evidence.json")
    show.add_argument("--json", action="store_true", help="print the manifest as JSON")
    show.set_defaults(run=run_show)


def run_show(arguments: argparse.Namespace) -> int:
    """The verb ``bundle show``."""
    from edgeward.bundle.archive import read_bundle

    named = arguments.bundle or "ecg-beat"
    path = Path(named) if Path(named).is_file() or "." in named else shipped_bundle(named)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BundleError("bundle-unreadable", f"cannot read {path}: {error.strerror}") from error
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
