"""A bundle at work in the assessment."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from edgeward.bedside.assess.plans import NoBundle, plan_of
from edgeward.bedside.assess.port import Plan
from edgeward.bedside.charge import model
from edgeward.kernel.errors import EdgewardError

if TYPE_CHECKING:
    from edgeward.bundle.archive import Bundle

Model = model.Model[Plan]


def read_model(task: str, name: str, sha256: str) -> Model:
    """The bundle in the file ``name``. Raises as ``charge.model.read_model``."""

    def plan(bundle: Bundle) -> Plan:
        return plan_of(bundle.manifest, task)

    return model.read_model(plan, name, sha256)


def model_or_none(task: str, name: str, sha256: str) -> Model:
    """As ``read_model``; that of no bundle where there is none or it cannot be read."""
    if name:
        with contextlib.suppress(OSError, EdgewardError):
            return read_model(task, name, sha256)
    return Model(NoBundle(task))
