"""A bundle at work in the assessment: what it is, how it is asked, the engine that runs it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.bedside.assess.plans import NoBundle, plan_of
from edgeward.bundle.archive import read_bundle
from edgeward.inference.golden import read_golden
from edgeward.kernel.errors import BundleError, EdgewardError

if TYPE_CHECKING:
    from edgeward.bedside.assess.port import Plan
    from edgeward.inference.golden import GoldenVectors
    from edgeward.inference.host import EngineHost


@dataclass(frozen=True, slots=True)
class Model:
    """A plan with its bundle's hash, version and golden vectors; ``engine`` where one was started."""

    plan: Plan
    sha256: str = ""
    version: str = "-"
    vectors: GoldenVectors | None = None
    engine: EngineHost | None = None


def read_model(task: str, name: str, sha256: str) -> Model:
    """The bundle in the file ``name``. Raises ``OSError``; ``BundleError``: any, ``slot-damaged`` for other bytes."""
    bundle = read_bundle(Path(name).read_bytes())
    if bundle.sha256 != sha256:
        raise BundleError("slot-damaged", "the slot holds another bundle than was named; install it again")
    plan = plan_of(bundle.manifest, task)
    vectors = None
    with contextlib.suppress(BundleError):  # whoever runs them says so
        vectors = read_golden(bundle)
    return Model(plan, bundle.sha256, bundle.manifest.version, vectors)


def model_or_none(task: str, name: str, sha256: str) -> Model:
    """As ``read_model``; that of no bundle where there is none or it cannot be read."""
    if name:
        with contextlib.suppress(OSError, EdgewardError):
            return read_model(task, name, sha256)
    return Model(NoBundle(task))
