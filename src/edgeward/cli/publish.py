"""The verb ``publish``: put a bundle in a signed repository, sign it anew, serve it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli.people import key_arguments, passphrases
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from edgeward.trust.publish import Publisher

_REFRESH_EVERY_S = 86_400


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "publish",
        help="put a bundle in a signed TUF repository, on disk or served over HTTP",
        description="Publish a bundle in a signed TUF repository, which is made when REPO is empty. Give the printed "
        "root metadata to devices by another way than this repository.",
        epilog="Example: edgeward publish build/ecg-beat/pack/ecg-beat-0.1.0.ewb --repo repo --keys keys --serve 8440",
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="bundle file (.ewb); none with --refresh or --serve alone")
    parser.add_argument("--repo", type=Path, required=True, help="the repository's folder")
    parser.add_argument("--keys", type=Path, required=True, help="its private keys, a folder outside the repository")
    parser.add_argument("--allow-return", action="store_true", help="publish an older version as the current one")
    parser.add_argument(
        "--with-return",
        nargs="?",
        const="",
        metavar="VERSION",
        help="also sign the return to VERSION (default: the one published before), kept beside the online keys until a "
        "rollout fails",
    )
    parser.add_argument(
        "--release-return", metavar="NAME", help="put the prepared return of NAME in force, with the online keys alone"
    )
    parser.add_argument(
        "--refresh", action="store_true", help="sign anew: without it devices refuse the repository after a week"
    )
    parser.add_argument(
        "--serve", metavar="[HOST:]PORT", help="serve the repository afterwards, signed anew every day, until Ctrl-C"
    )
    key_arguments(parser)
    parser.set_defaults(run=run_publish)


def run_publish(arguments: argparse.Namespace) -> int:
    """The verb ``publish``."""
    from edgeward.trust.publish import Publisher

    address = _address(arguments.serve) if arguments.serve else None
    publisher = publisher_of(arguments, arguments.repo)
    if arguments.bundle is not None:
        if arguments.release_return:
            raise ConfigError("publish-arguments", "publish a bundle or put a return in force, not both at once")
        publish(arguments.bundle, publisher, allow_return=arguments.allow_return, with_return=arguments.with_return)
    elif arguments.release_return:
        back = publisher.returns.release(arguments.release_return)
        print(f"{back.name} goes back to {back.version} (sha256 {back.sha256}): it is what devices may install now")
    elif not arguments.refresh and address is None:
        raise ConfigError(
            "publish-arguments",
            "name the bundle to publish, or --release-return, --refresh or --serve a repository",
        )
    if arguments.refresh or (address is not None and arguments.bundle is None):
        _refresh(publisher)
    if address is not None:
        from edgeward.workshop.serve import RepositoryServer

        with RepositoryServer(arguments.repo, *address) as server:
            print(f"serving {server.url} until Ctrl-C", flush=True)
            while True:
                time.sleep(_REFRESH_EVERY_S)
                _refresh(Publisher(arguments.repo, arguments.keys))  # the online keys alone, for as long as it serves
    return 0


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ConfigError("serve-address", "--serve takes PORT or HOST:PORT")
    return host or "127.0.0.1", int(port)


def publisher_of(arguments: argparse.Namespace, repo: Path) -> Publisher:
    """The publisher of ``repo`` with the keys that the arguments name."""
    from edgeward.trust.publish import Publisher

    return Publisher(repo, arguments.keys, offline_keys=arguments.offline_keys, passphrases=passphrases(arguments))


def _refresh(publisher: Publisher) -> None:
    waiting = publisher.refresh()
    print("signed anew: devices take this repository for another week", flush=True)
    if waiting:
        print(
            f"over half the time of {', '.join(waiting)} is gone and no key is at hand; bring the keys and run "
            "edgeward publish --refresh, or devices will refuse new bundles",
            flush=True,
        )


def publish(bundle: Path, publisher: Publisher, *, allow_return: bool, with_return: str | None = None) -> None:
    """Publish one bundle and say so; an empty folder becomes a small repository."""
    publisher.folder.require_in_force()
    if not publisher.root_path.exists():
        if publisher.folder.keys.are_of_a_ceremony:
            raise ConfigError(
                "repository-missing",
                "there is no repository in this folder; correct --repo, or make one with trust init",
            )
        print(f"made a repository; its root metadata for devices: {publisher.init()}")
    published = publisher.add(bundle, allow_return=allow_return, with_return=with_return)
    offer = published.offer
    words = "published" if published.changed else "already published:"
    print(f"{words} {offer.name} {offer.version} ({offer.length:,} bytes, sha256 {offer.sha256})")
    back = publisher.returns.prepared(offer.name) if with_return is not None else None
    if back is not None:
        print(f"prepared the return to {back.version}, kept beside the online keys until a rollout fails")
