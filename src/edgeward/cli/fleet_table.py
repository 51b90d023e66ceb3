"""Tables of plain text, aligned, for people; ``--json`` is for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def say_json(value: Any) -> None:
    """As the server answered."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, none: str) -> None:
    """Columns as wide as their longest cell; numbers to the right; ``none`` where there is no row."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not cells:
        print(none)
        return
    right = [all(_is_number(row[place]) for row in cells) for place in range(len(columns))]
    widths = [max(len(columns[place]), *(len(row[place]) for row in cells)) for place in range(len(columns))]
    for line in (columns, *cells):
        shown = [
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, right, strict=True)
        ]
        print("  ".join(shown).rstrip())


def say_facts(facts: Mapping[str, Any]) -> None:
    """Names and values, one a line."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        print(f"{name.ljust(width)}  {value}".rstrip())


def moment(then_s: int | None) -> str:
    """Date and time, UTC."""
    return f"{datetime.fromtimestamp(then_s, UTC):%Y-%m-%d %H:%M:%S}Z" if then_s else "never"


def _is_number(text: str) -> bool:
    return text.replace(",", "").isdigit()
