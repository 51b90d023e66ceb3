"""The inventory says what is there, and nothing that is only half there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.fleet_link.facts import Places, accelerator, facts_of, free_mib
from edgeward.exchange.checkin import Facts
from edgeward.exchange.typed import decode, encode
from edgeward.exchange.words import Accelerator

if TYPE_CHECKING:
    from pathlib import Path


def _machine(root: Path, *files: str) -> Places:
    for name in files:
        path = root / name.partition("=")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name.partition("=")[2])
    return Places(root / "proc", root / "dev", root / "sys")


CUDA = "site/onnxruntime/capi/libonnxruntime_providers_cuda.so"
TENSORRT = "site/onnxruntime/capi/libonnxruntime_providers_tensorrt.so"
INTEL = "sys/class/drm/renderD128/device/vendor=0x8086\n"
AMD = "sys/class/drm/renderD128/device/vendor=0x1002\n"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ((), Accelerator.NONE),
        (("site/onnxruntime/x",), Accelerator.NONE),
        ((CUDA,), Accelerator.NONE),  # the library without a card
        (("dev/nvidia0",), Accelerator.NONE),  # the card without the library
        ((CUDA, "dev/nvidia0"), Accelerator.CUDA),
        ((CUDA, TENSORRT, "dev/nvidia0"), Accelerator.CUDA),  # its library needs another that is not there
        ((CUDA, TENSORRT, "dev/nvmap", "site/tensorrt/x"), Accelerator.TENSORRT),
        ((INTEL,), Accelerator.NONE),
        ((INTEL, "site/openvino/x"), Accelerator.OPENVINO),
        ((AMD, "site/openvino/x"), Accelerator.NONE),  # OpenVINO on the processor is no accelerator
    ],
)
def test_an_accelerator_counts_where_all_of_it_is_there(
    tmp_path: Path, files: tuple[str, ...], found: Accelerator
) -> None:
    places = _machine(tmp_path, *files)

    def package(name: str) -> Path | None:
        folder = tmp_path / "site" / name
        return folder if folder.is_dir() else None

    assert accelerator(places, package) is found


def test_the_inventory_of_this_machine_fits_the_message(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, 6)
    assert decode(Facts, encode(facts), bytes_max=1_024) == facts
    assert facts.beds == 6
    assert facts.memory_mib > 0
    assert facts.disk_mib >= free_mib(tmp_path) > 0


def test_what_cannot_be_found_out_is_zero(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "nowhere", 100, _machine(tmp_path))
    assert (facts.memory_mib, facts.disk_mib, facts.beds) == (0, 0, 64)
    assert free_mib(tmp_path / "nowhere") == 0


def test_memory_is_what_the_system_says(tmp_path: Path) -> None:
    places = _machine(tmp_path, "proc/meminfo=MemTotal:        8145032 kB\nMemFree: 1 kB\n")
    assert facts_of(tmp_path, 1, places).memory_mib == 7_954
