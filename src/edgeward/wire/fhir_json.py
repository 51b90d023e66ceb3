"""FHIR's JSON, read strictly, and a walker that says where in a resource something is wrong. Pure.

Strict: UTF-8, no member twice or null, no NaN or Infinity, a bounded depth. A walker (``At``) never trusts the type of
what it meets; a wrong one is a ``FhirError`` with the FHIRPath of the place, which is safe to show: it holds names of
elements and positions, and no values.

Source: FHIR R4 (4.0.1), 2.1.6 (JSON), 2.24 (data types).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPTH_MAX = 32
TEXT_MAX = 1_024
"""Characters of a code, a name, a reference; what is longer is no such thing."""
LIST_MAX = 64
"""Elements of any list but a Bundle's entries."""


class FhirError(InputError):
    """Something in a resource that is not taken: ``where`` as FHIRPath, ``issue``: FHIR's IssueType."""

    def __init__(self, code: str, where: str, why: str, *, issue: str = "invalid") -> None:
        super().__init__(code, f"{where}: {why}")
        self.where = where
        self.issue = issue


def parse(data: bytes) -> dict[str, Any]:
    """The resource of one JSON document; ``FhirError`` (``fhir-json``) for anything else."""
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_members, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise FhirError("fhir-json", "Resource", "it is not JSON as FHIR writes it", issue="structure") from error
    if not isinstance(document, dict) or _depth(document) > DEPTH_MAX:
        raise FhirError("fhir-json", "Resource", f"it is no object of at most {DEPTH_MAX} levels", issue="structure")
    return document


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs) or None in members.values():
        raise ValueError("a member stands twice, or is null")
    return members


def _constant(_: str) -> float:
    raise ValueError("not a JSON number")


def _depth(document: object) -> int:
    depth, level = 0, [document]
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
        if depth > DEPTH_MAX + 1:
            break
    return depth


@dataclass(frozen=True, slots=True)
class At:
    """One element, and where it stands. Its getters give typed values, or None (empty) where a member is absent."""

    value: dict[str, Any]
    where: str

    def has(self, name: str) -> bool:
        """Whether the member is there at all."""
        return name in self.value

    def element(self, name: str) -> At | None:
        """An element of its own."""
        found = self.value.get(name)
        if found is None:
            return None
        if not isinstance(found, dict):
            raise self.wrong(name, "is no object")
        return At(found, f"{self.where}.{name}")

    def elements(self, name: str, most: int = LIST_MAX) -> Iterator[At]:
        """The elements of a list."""
        found = self.value.get(name, [])
        if not isinstance(found, list) or len(found) > most:
            raise self.wrong(name, f"is no list of at most {most}")
        for index, item in enumerate(found):
            where = f"{self.where}.{name}[{index}]"
            if not isinstance(item, dict):
                raise FhirError("fhir-structure", where, "is no object", issue="structure")
            yield At(item, where)

    def text(self, name: str) -> str:
        """A string, code, uri or the like."""
        found = self.value.get(name, "")
        if not isinstance(found, str) or len(found) > TEXT_MAX:
            raise self.wrong(name, f"is no text of at most {TEXT_MAX} characters")
        return found

    def number(self, name: str) -> float | None:
        """A decimal or integer."""
        found = self.value.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or abs(found) > 1e15:
            raise self.wrong(name, "is no number of a sensible size")
        return float(found)

    def wrong(self, name: str, why: str) -> FhirError:
        """What to raise of a member whose type is not FHIR's."""
        return FhirError("fhir-structure", f"{self.where}.{name}", why, issue="structure")
