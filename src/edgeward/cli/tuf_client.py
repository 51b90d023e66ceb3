"""``edgeward-tuf-client``: the client that devices use, behind the command line of theupdateframework/tuf-conformance.

Anybody can run that suite against it: ``pytest tuf_conformance --entrypoint edgeward-tuf-client``. Exit codes: 0 done;
1 any part of it failed, and stderr says which; 2 arguments; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from edgeward.trust.client import MetadataClient, SignedFile

_STATE = ".edgeward"
"""Folder inside the metadata folder for the pinned root, the proven time and the lock."""


def build_parser() -> argparse.ArgumentParser:
    """The command line that the suite's CLIENT-CLI.md describes."""
    parser = argparse.ArgumentParser(
        prog="edgeward-tuf-client",
        description="A TUF client: proves a repository's metadata and downloads what they name.",
        epilog="Exit codes: 0 done, 1 refused or failed, 2 arguments, 130 stopped by Ctrl-C.",
    )
    parser.add_argument("--metadata-dir", type=Path, required=True, metavar="D", help="where proven metadata are kept")
    parser.add_argument("--metadata-url", metavar="URL", help="the repository's metadata")
    parser.add_argument(
        "--target-name",
        action="append",
        metavar="PATH",
        help="signed path of a file to download; given again, files follow in this order up to the first that fails",
    )
    parser.add_argument("--target-base-url", metavar="URL", help="the repository's files")
    parser.add_argument("--target-dir", type=Path, metavar="D", help="where downloaded files are put")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    init = verbs.add_parser("init", help="trust this root file; nothing is asked of the repository")
    init.add_argument("root", type=Path, metavar="ROOT", help="root metadata that came by another way")
    init.set_defaults(run=_init, needs=())
    refresh = verbs.add_parser("refresh", help="prove the repository's metadata anew")
    refresh.set_defaults(run=_refresh, needs=("metadata_url",))
    download = verbs.add_parser("download", help="prove the metadata anew for each file, then download it")
    download.set_defaults(run=_download, needs=("metadata_url", "target_name", "target_base_url", "target_dir"))
    return parser


def main(argv: Sequence[str] | None = None, *, wall: Callable[[], datetime] | None = None) -> int:
    """Run one verb; returns the exit code. ``wall`` gives the time for expiry, the system's clock by default."""
    from edgeward.kernel.errors import EdgewardError
    from edgeward.trust.roles import wall_now

    parser = build_parser()
    arguments = parser.parse_args(argv)
    missing = [f"--{name.replace('_', '-')}" for name in arguments.needs if getattr(arguments, name) is None]
    if missing:
        parser.error(f"this verb needs {', '.join(missing)}")
    arguments.wall = wall or wall_now
    try:
        arguments.run(arguments)
    except EdgewardError as error:
        sys.stderr.write(f"edgeward-tuf-client: {error} [{error.code}]\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("edgeward-tuf-client: stopped by Ctrl-C; nothing is left half done\n")
        return 130
    return 0


def _client(arguments: argparse.Namespace, root: bytes | None = None) -> MetadataClient:
    from edgeward.trust.client import MetadataClient

    folder: Path = arguments.metadata_dir
    url = arguments.metadata_url or folder  # ``init`` asks nothing of any address
    return MetadataClient(url, folder, folder / _STATE, root=root, wall=arguments.wall)


def _init(arguments: argparse.Namespace) -> None:
    from edgeward.kernel.errors import ConfigError

    try:
        root = arguments.root.read_bytes()
    except OSError as error:
        raise ConfigError("root-file", "the root file cannot be read; check its path and permissions") from error
    _client(arguments, root).pin()


def _refresh(arguments: argparse.Namespace) -> None:
    _client(arguments).refresh()


def _download(arguments: argparse.Namespace) -> None:
    from edgeward.kernel.errors import TrustError
    from edgeward.trust.download import download

    client = _client(arguments)
    for path in arguments.target_name:
        found = client.refresh(path)
        if found is None:
            raise TrustError("file-not-published", f"the repository signs no file {path!r}; check the name")
        download(found.blob(arguments.target_base_url), arguments.target_dir / _file_name(found))


def _file_name(found: SignedFile) -> str:
    """One name for one signed path, with every character that leads elsewhere escaped."""
    from urllib.parse import quote

    from edgeward.kernel.errors import TrustError

    name = quote(found.path, "")
    if name in {"", ".", ".."}:
        raise TrustError(
            "file-name", f"the signed path {found.path!r} cannot be a file's name; publish it under another"
        )
    return name


if __name__ == "__main__":
    sys.exit(main())
