"""What a channel's browsers have been sent, and the least that brings them up to date. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.bedside.page.pieces import Cell


@dataclass(slots=True)
class View:
    """A page's changing parts by the ids of their elements.

    ``html``: what stands in an element; ``cells``: a vital sign in its place; ``attributes``: of an element; ``order``:
    of the tiles, by id; ``shape``: where it changes, everything is sent anew.
    """

    html: dict[str, str] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    attributes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    order: Sequence[str] = ()
    shape: Sequence[str] = ()

    def take(self, other: View) -> None:
        """Go on to what ``other`` says; what it does not name stays."""
        self.html.update(other.html)
        self.cells.update(other.cells)
        self.attributes.update(other.attributes)
        self.order, self.shape = other.order, other.shape


def patch(before: View, after: View) -> dict[str, Any]:
    """What must be sent for ``after`` where ``before`` is shown; empty where nothing changed.

    A cell of which only the number and its instant are new is ``put`` as those two.
    """
    if list(before.shape) != list(after.shape):
        before = View()
    html = {name: text for name, text in after.html.items() if before.html.get(name) != text}
    put: dict[str, list[Any]] = {}
    for name, cell in after.cells.items():
        held = before.cells.get(name)
        if held is None or held.frame != cell.frame or (held.at_ms is None) != (cell.at_ms is None):
            html[name] = cell.html()
        elif (held.text, held.at_ms) != (cell.text, cell.at_ms):
            put[name] = [cell.text, cell.at_ms]
    attributes = {name: wanted for name, wanted in after.attributes.items() if before.attributes.get(name) != wanted}
    said = {"html": html, "put": put, "attr": attributes}
    found: dict[str, Any] = {name: what for name, what in said.items() if what}
    if list(before.order) != list(after.order):
        found["order"] = list(after.order)
    return found
