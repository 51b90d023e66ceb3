"""Answers of the FHIR endpoint: what was wrong, and where, and nothing of what was sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgeward.wire.fhir import Refused
from edgeward.wire.http1 import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from http import HTTPStatus

JSON_TYPE = "application/fhir+json; charset=utf-8"
ISSUES_MAX = 64
_ALL_WELL = {"severity": "information", "code": "informational", "details": {"text": "taken"}}


def outcome(refused: Sequence[Refused]) -> dict[str, object]:
    """An OperationOutcome: an error for each thing refused, else one line that all is well."""
    issues: list[dict[str, object]] = [
        {"severity": "error", "code": one.issue, "details": {"text": one.code}, "expression": [one.where]}
        for one in refused[:ISSUES_MAX]
    ]
    return {"resourceType": "OperationOutcome", "issue": issues or [_ALL_WELL]}


def answer(status: HTTPStatus, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
    """A response with a resource."""
    return Response(status, json.dumps(body, separators=(",", ":")).encode(), JSON_TYPE, dict(headers or {}))


def refusal(
    status: HTTPStatus, code: str, issue: str, headers: Mapping[str, str] | None = None, *, where: str = ""
) -> Response:
    """A response to a request that is not taken."""
    body = outcome([Refused(code, where, issue)])
    if not where:
        issues = body["issue"]
        assert isinstance(issues, list)
        issues[0].pop("expression")
    return answer(status, body, headers)
