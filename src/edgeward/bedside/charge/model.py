"""A bundle at work, whatever its task: what it is, how it is asked, the engine that runs it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from edgeward.bundle.archive import read_bundle
from edgeward.inference.golden import read_golden
from edgeward.kernel.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bundle.archive import Bundle
    from edgeward.inference.golden import GoldenVectors
    from edgeward.inference.host import EngineHost

P_co = TypeVar("P_co", covariant=True)
"""How a task asks a bundle and reads its answers."""


@dataclass(frozen=True)  # no slots: an alias of it for one plan could not be called then
class Model(Generic[P_co]):
    """A plan with its bundle's hash, version and golden vectors; ``engine`` where one was started."""

    plan: P_co
    sha256: str = ""
    version: str = "-"
    vectors: GoldenVectors | None = None
    engine: EngineHost | None = None


def read_model(plan_of: Callable[[Bundle], P_co], name: str, sha256: str) -> Model[P_co]:
    """The bundle in the file ``name``; ``plan_of`` raises ``BundleError`` for one of another task.

    Raises ``OSError``; ``BundleError``: any, ``slot-damaged`` for other bytes.
    """
    bundle = read_bundle(Path(name).read_bytes())
    if bundle.sha256 != sha256:
        raise BundleError("slot-damaged", "the slot holds another bundle than was named; install it again")
    plan = plan_of(bundle)
    vectors = None
    with contextlib.suppress(BundleError):  # whoever runs them says so
        vectors = read_golden(bundle)
    return Model(plan, bundle.sha256, bundle.manifest.version, vectors)
