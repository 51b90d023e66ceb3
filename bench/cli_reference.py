"""Print docs/cli.md: the help of every verb. Run by `make docs`; a tidy test holds the file to it."""

from __future__ import annotations

import argparse
import os

os.environ["COLUMNS"] = "110"

from edgeward.cli import tuf_client
from edgeward.cli.main import build_parser


def verbs(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parser and every verb below it, depth first."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                found.extend(verbs(child))
    return found


def main() -> None:
    print("# Command line\n\nWritten by `make docs` from `--help`; do not edit.")
    for parser in [*verbs(build_parser()), *verbs(tuf_client.build_parser())]:
        print(f"\n## `{parser.prog}`\n\n```\n{parser.format_help().rstrip()}\n```")


if __name__ == "__main__":
    main()
