"""Structured logs: one JSON object per line on stderr, of words and numbers.

No body, no query, no header and no name of a file is logged; a request's line has the route's own pattern, not the
path that was asked for.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("edgeward.fleet")


class JsonLines(logging.Formatter):
    """A record as one line; what stands in its ``facts`` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        row: dict[str, Any] = {
            "t": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "what": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            row["error"] = record.exc_info[0].__name__
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:  # where, never what: an exception's text may hold what was sent
                code = trace.tb_frame.f_code
                row["at"] = f"{code.co_filename.rpartition('edgeward/')[2]}:{trace.tb_lineno}"
        return json.dumps(row, separators=(",", ":"))


def set_up(level: int = logging.INFO) -> None:
    """Send this server's log, and the warnings of what it runs on, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, threshold in (("edgeward.fleet", level), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(threshold)
        logger.propagate = False


def log(what: str, *, level: int = logging.INFO, **facts: str | float | bool | None) -> None:
    """One line: ``what`` happened, with its facts."""
    LOGGER.log(level, what, extra={"facts": facts})
