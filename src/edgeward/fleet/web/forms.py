"""Reading what the console's forms send; ``api.shapes.fitting`` holds it to what the REST interface takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeward.fleet.refused import RefusedError

if TYPE_CHECKING:
    from starlette.datastructures import FormData


def words_of(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def text_of(form: FormData, name: str) -> str:
    """A field's text without blanks around it, "" where there is none."""
    value = form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def seen(form: FormData, pattern: str) -> str:
    """The revision that the person saw; ``RefusedError`` (422 ``request-unfit``) for a form that lacks it."""
    found = text_of(form, "revision")
    if not re.fullmatch(pattern, found):
        raise RefusedError(422, "request-unfit", "the form lacks what you saw; load the page anew")
    return found
