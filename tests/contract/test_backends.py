"""Every backend keeps the contract of ``edgeward.testing.backends``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.bundle.manifest import BACKENDS
from edgeward.inference.backend import Array, Backend, backend
from edgeward.inference.backends import onnxruntime
from edgeward.inference.host import EngineHost
from edgeward.kernel.errors import ConfigError, EngineError
from edgeward.testing.backends import CHECKS, NETWORKS, TREES, Samples, samples_of
from edgeward.testing.bundles import tiny_bundle
from edgeward.testing.tree_bundles import tree_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

pytestmark = pytest.mark.workshop
pytest.importorskip("onnx", reason="the contract suite makes its models with onnx")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_backend_keeps_the_contract(name: str, check: Callable[[Backend, Samples], None]) -> None:
    """Each check holds for each backend whose library is installed."""
    try:
        loaded = backend(name)
    except ConfigError as error:
        pytest.skip(f"BACKEND ABSENT: {error}")
    check(loaded, samples_of(name))


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_backend_serves_from_its_own_process(name: str, tmp_path: Path) -> None:
    """A bundle made for the backend passes its golden vectors in a worker."""
    try:
        backend(name)
    except ConfigError as error:
        pytest.skip(f"BACKEND ABSENT: {error}")
    path = tmp_path / "tiny.ewb"
    path.write_bytes(tree_bundle() if name == "trees" else tiny_bundle(backend=name))
    with EngineHost(path, standby=False) as host:
        assert host.golden().passed


class _Deaf:
    """A wrong backend: it never writes scores."""

    def load(
        self, model: bytes, inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, threads: int = 1
    ) -> _Deaf:
        return self

    def run(self) -> None:
        return None


@pytest.mark.parametrize(
    "check",
    [
        check
        for check in CHECKS
        if check.__name__ not in ("check_a_session_keeps_its_buffers_alive", "check_sessions_do_not_share_state")
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("samples", [NETWORKS, TREES], ids=["networks", "trees"])
def test_checks_catch_a_wrong_backend(check: Callable[[Backend, Samples], None], samples: Samples) -> None:
    """A backend that does nothing fails the suite."""
    with pytest.raises(AssertionError):
        check(_Deaf(), samples)


def test_failure_inside_the_library_is_an_engine_error_without_payload() -> None:
    """Whatever ONNX Runtime raises while running becomes an EngineError that does not quote it."""

    class Binding:
        def bind_input(self, *args: object) -> None: ...

        bind_output = bind_input

    class Broken:
        def io_binding(self) -> Binding:
            return Binding()

        def run_with_iobinding(self, binding: Binding) -> None:
            raise RuntimeError("0.123 mV of bed 7")

    session = onnxruntime.OrtSession(Broken(), {}, {"scores": np.zeros((1, 5), np.float32)})
    with pytest.raises(EngineError) as raised:
        session.run()
    assert raised.value.code == "run-failed"
    assert "bed 7" not in str(raised.value)
