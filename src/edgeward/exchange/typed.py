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
    from collections.abc import Mapping

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
    made: T = _read(kind, value, kind.__name__)
    return made


def _plain(declared: Any, value: Any, at: str) -> Any:
    """``value`` as JSON has it, checked against its declaration on the way."""
    base, rules = _parts(declared)
    if _is_optional(base):
        return None if value is None else _plain(_of_optional(base), value, at)
    if typing.get_origin(base) is tuple:
        _require_items(value, rules, at, tuple)
        return [_plain(typing.get_args(base)[0], item, f"{at}[{number}]") for number, item in enumerate(value)]
    if is_dataclass(base):
        _require(isinstance(value, typing.cast("type", base)), at, "it is not of its declared type")
        return {
            name: _plain(kind, getattr(value, name), f"{at}.{name}")
            for name, kind in _declared(typing.cast("type", base)).items()
        }
    return _scalar(base, rules, value, at)


def _read(declared: Any, value: Any, at: str) -> Any:
    base, rules = _parts(declared)
    if _is_optional(base):
        return None if value is None else _read(_of_optional(base), value, at)
    if typing.get_origin(base) is tuple:
        _require_items(value, rules, at, list)
        return tuple(_read(typing.get_args(base)[0], item, f"{at}[{number}]") for number, item in enumerate(value))
    if is_dataclass(base):
        named = _declared(typing.cast("type", base))
        _require(isinstance(value, dict) and set(value) == set(named), at, f"it must hold {', '.join(named)}")
        made = {name: _read(kind, value[name], f"{at}.{name}") for name, kind in named.items()}
        return typing.cast("Any", base)(**made)
    return _scalar(base, rules, value, at)


def _scalar(base: Any, rules: tuple[Any, ...], value: Any, at: str) -> Any:
    if base is bool:
        _require(isinstance(value, bool), at, "it is not true or false")
        return value
    if isinstance(base, type) and issubclass(base, StrEnum):
        _require(isinstance(value, str) and value in base._value2member_map_, at, "it is not on its list of words")
        return base(value)
    if base is int and rules and isinstance(rules[0], Range):
        good = isinstance(value, int) and not isinstance(value, bool) and rules[0].least <= value <= rules[0].most
        _require(good, at, f"it is not a whole number from {rules[0].least} to {rules[0].most}")
        return value
    if base is str and rules and isinstance(rules[0], Form):
        good = isinstance(value, str) and bool(re.fullmatch(rules[0].pattern, value, re.ASCII))
        _require(good, at, "it has not the form that is asked for")
        return value
    raise TypeError(f"{at}: a message cannot hold {base}")


def _require_items(value: Any, rules: tuple[Any, ...], at: str, kind: type[list[Any]] | type[tuple[Any, ...]]) -> None:
    if not rules or not isinstance(rules[0], Most):
        raise TypeError(f"{at}: a tuple in a message needs Most(…)")
    _require(isinstance(value, kind) and len(value) <= rules[0].items, at, f"it is not a list of ≤ {rules[0].items}")


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
