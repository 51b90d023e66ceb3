"""The ``edgeward`` command.

Exit codes: 0 done; 1 measured, and a gate or bound does not hold; 2 arguments or settings; 3 input; 4 trust; 5 bundle;
6 engine; 7 rollout; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

# Everything else is imported inside ``main``: Ctrl-C while Python is still importing must not end in a traceback.
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every verb sets ``run``, which takes the parsed arguments and returns the exit code."""
    import argparse

    import edgeward
    from edgeward.cli import (
        bedside,
        bundle,
        cloud,
        demo,
        device,
        evaluate,
        fleet,
        hl7,
        publish,
        sdc,
        simulate,
        trust,
        ward,
        workshop,
    )

    parser = argparse.ArgumentParser(
        prog="edgeward",
        description="Carries clinical AI from training to the bedside and keeps it running there.",
        epilog="Exit codes: 0 done, 1 a gate or bound does not hold, 2 arguments or settings, 3 input, 4 trust, "
        "5 bundle, 6 engine, 130 stopped by Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"edgeward {edgeward.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for part in (
        demo,
        bedside,
        ward,
        device,
        hl7,
        sdc,
        evaluate,
        simulate,
        bundle,
        cloud,
        fleet,
        workshop,
        publish,
        trust,
    ):
        part.register(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    try:
        return _run(argv)
    except KeyboardInterrupt:
        sys.stderr.write("edgeward: stopped by Ctrl-C; nothing is left half done\n")
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (edgeward … | head): say nothing, and keep the interpreter from flushing into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(argv: Sequence[str] | None) -> int:
    from edgeward.kernel.errors import EdgewardError

    arguments = build_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        if sys.stdout is not None:  # None where it was closed before the start
            sys.stdout.flush()
    except EdgewardError as error:
        sys.stderr.write(f"edgeward: {error} [{error.code}]\n")
        return error.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main())
