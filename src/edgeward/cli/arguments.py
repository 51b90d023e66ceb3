"""Options that more than one verb takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def repository_arguments(parser: argparse.ArgumentParser) -> None:
    """Where bundles come from."""
    parser.add_argument("--repository", help="folder or URL of the signed repository")
    parser.add_argument("--trusted-root", help="the repository's root.json, brought by hand at first use")


def page_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether a page is served, where, and by which names browsers may ask for it."""
    parser.add_argument("--page-host", help="address of the page (default: 127.0.0.1)")
    parser.add_argument("--page-port", type=int, help="port of the page, 0 for any free one (default: 8080)")
    parser.add_argument(
        "--page-name",
        dest="page_names",
        action="append",
        metavar="NAME",
        help="a further name or address by which browsers ask for the page; may be repeated",
    )
    parser.add_argument("--no-page", dest="page", action="store_const", const=False, help="do not serve the page")
