"""Messages as frozen dataclasses of whole numbers, words of closed lists, and short strings of a stated form.

Nothing else can be declared (``TypeError`` when it is met), so nothing else can be sent by mistake: no free text, no
time of a measurement, no identifier of a person. Reading is strict: a field too many, one missing, a number out of its
range or a word that is not on its list is refused. Pure.

What may be declared: ``Annotated[int, Range(…)]``, ``Annotated[str, Form(…)]``, ``bool``, a ``StrEnum``, another such
dataclass, ``X | None`` of these, and ``Annotated[tuple[X, ...], Most(…)]``.
"""

from __future__ import annotations

import json
import re
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """A whole number from ``least`` to ``most``."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Form:
    """A string of ASCII that ``pattern`` matches whole."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Most:
    """A tuple of at most ``items``."""

    items: int


Count = Annotated[int, Range(0, (1 << 53) - 1)]
Share = Annotated[int, Range(0, 1_000_000)]
"""In millionths."""
Sha256 = Annotated[str, Form(r"[0-9a-f]{64}")]
Family = Annotated[str, Form(r"[a-z][a-z0-9-]{0,63}")]
"""The name of all versions of one bundle."""
Version = Annotated[str, Form(r"\d{1,6}\.\d{1,6}\.\d{1,6}")]
DeviceId = Annotated[str, Form(r"d-[0-9a-f]{16}")]
"""Given by the fleet at enrolment; says nothing of a place."""


def encode(message: Any) -> bytes:
    """A message as JSON. ``InputError`` (``message-unfit``) when it does not keep to its own declaration."""
    return json.dumps(_plain(type(message), message, type(message).__name__), separators=(",", ":")).encode()


def decode(kind: type[T], body: bytes, *, bytes_max: int) -> T:
    """Read a message strictly; ``InputError`` (``message-unfit``) names the field that is not as declared."""
    if len(body) > bytes_max:
        raise _unfit(kind.__name__, f"it is longer than {bytes_max} bytes")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _unfit(kind.__name__, "it is not JSON") from error
    try:
        made: T = _reader(typing.cast("Any", kind))(value)
    except _MisfitError as misfit:
        raise _unfit(kind.__name__ + misfit.at, misfit.why) from None
    return made


def _plain(declared: Any, value: Any, at: str) -> Any:
    """``value`` as JSON has it, checked against its declaration on the way."""
    base, rules = _parts(declared)
    if _is_optional(base):
        return None if value is None else _plain(_of_optional(base), value, at)
    if typing.get_origin(base) is tuple:
        most = _most_of(rules)
        _require(isinstance(value, tuple) and len(value) <= most, at, _too_many(most))
        return [_plain(typing.get_args(base)[0], item, f"{at}[{number}]") for number, item in enumerate(value)]
    if is_dataclass(base):
        _require(isinstance(value, typing.cast("type", base)), at, "it is not of its declared type")
        return {
            name: _plain(kind, getattr(value, name), f"{at}.{name}")
            for name, kind in _declared(typing.cast("type", base)).items()
        }
    try:
        return _scalar(base, rules)(value)
    except _MisfitError as misfit:
        raise _unfit(at, misfit.why) from None


class _MisfitError(Exception):
    """What is not as declared, and ``at`` which place below the one that is read."""

    def __init__(self, why: str, at: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.at = at


@cache
def _reader(declared: Any) -> Callable[[Any], Any]:
    """How a declaration is read, made once: a fleet reads as many messages as it has devices, every minute."""
    base, rules = _parts(declared)
    if _is_optional(base):
        inner = _reader(_of_optional(base))
        return lambda value: None if value is None else inner(value)
    if typing.get_origin(base) is tuple:
        return _tuple_reader(_reader(typing.get_args(base)[0]), _most_of(rules))
    if is_dataclass(base):
        return _message_reader(typing.cast("type", base))
    return _scalar(base, rules)


def _tuple_reader(inner: Callable[[Any], Any], most: int) -> Callable[[Any], Any]:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise _MisfitError(_too_many(most))
        made: list[Any] = []
        try:
            for item in value:
                made.append(inner(item))  # noqa: PERF401 - how far it came says where it failed
        except _MisfitError as misfit:
            raise _MisfitError(misfit.why, f"[{len(made)}]{misfit.at}") from None
        return tuple(made)

    return read


def _message_reader(kind: type) -> Callable[[Any], Any]:
    named = {name: _reader(inner) for name, inner in _declared(kind).items()}
    must_hold = f"it must hold {', '.join(named)}"

    def read(value: Any) -> Any:
        if not isinstance(value, dict) or value.keys() != named.keys():
            raise _MisfitError(must_hold)
        made = {}
        name = ""
        try:
            for name, inner in named.items():
                made[name] = inner(value[name])
        except _MisfitError as misfit:
            raise _MisfitError(misfit.why, f".{name}{misfit.at}") from None
        return kind(**made)

    return read


@cache
def _scalar(base: Any, rules: tuple[Any, ...]) -> Callable[[Any], Any]:
    if base is bool:
        return _checked(lambda value: isinstance(value, bool), "it is not true or false")
    if isinstance(base, type) and issubclass(base, StrEnum):
        words = base._value2member_map_

        def word(value: Any) -> Any:
            if not isinstance(value, str) or value not in words:
                raise _MisfitError("it is not on its list of words")
            return words[value]

        return word
    if base is int and rules and isinstance(rules[0], Range):
        least, most = rules[0].least, rules[0].most
        return _checked(
            lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
            f"it is not a whole number from {least} to {most}",
        )
    if base is str and rules and isinstance(rules[0], Form):
        matches = re.compile(rules[0].pattern, re.ASCII).fullmatch
        return _checked(
            lambda value: isinstance(value, str) and matches(value) is not None, "it has not the form that is asked for"
        )
    raise TypeError(f"a message cannot hold {base}")


def _checked(holds: Callable[[Any], bool], why: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not holds(value):
            raise _MisfitError(why)
        return value

    return read


def _most_of(rules: tuple[Any, ...]) -> int:
    if not rules or not isinstance(rules[0], Most):
        raise TypeError("a tuple in a message needs Most(…)")
    return rules[0].items


def _too_many(most: int) -> str:
    return f"it is not a list of ≤ {most}"


@cache
def _declared(kind: type) -> Mapping[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {one.name: hints[one.name] for one in fields(kind)}


def _parts(declared: Any) -> tuple[Any, tuple[Any, ...]]:
    if typing.get_origin(declared) is Annotated:
        base, *rules = typing.get_args(declared)
        return base, tuple(rules)
    return declared, ()


def _is_optional(base: Any) -> bool:
    return typing.get_origin(base) in {types.UnionType, typing.Union}


def _of_optional(base: Any) -> Any:
    return next(one for one in typing.get_args(base) if one is not type(None))


def _require(held: bool, at: str, why: str) -> None:
    if not held:
        raise _unfit(at, why)


def _unfit(at: str, why: str) -> InputError:
    return InputError("message-unfit", f"{at} cannot be taken: {why}; bring device and fleet to matching versions")
