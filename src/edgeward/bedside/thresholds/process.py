"""The thresholds process: ``python -m edgeward.bedside.thresholds.process '{…}'``, started by ``SideProcess`` only.

It reads numerics from a pipe and needs nothing else: no bundle, no model, no disk, no network.
"""

from __future__ import annotations

import sys

from edgeward.bedside.behind import run
from edgeward.bedside.thresholds.core import ThresholdCore
from edgeward.bedside.thresholds.settings import ThresholdSettings

MODULE = "edgeward.bedside.thresholds.process"


def main(arguments: list[str]) -> int:
    """Serve until the rim hangs up."""
    return run(lambda settings: ThresholdCore(ThresholdSettings.from_json(settings)), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
